//! What comes in: parts of messages, delivery reports; and orders among them.
//!
//! Contract: nothing is confirmed to its way before it is stored. While nobody takes incoming messages, or the disk
//! refuses them, they are held back here up to [`HELD_MAX`], and then in the way itself, which keeps them on the SIM.

use super::asks::{After, Waiter};
use super::{Engine, OrderDone};
use crate::api::{Class, Incoming, Submit};
use crate::book::{self, Fragment, Op};
use crate::orders::{Language, Order, Orders, Verdict, words};
use crate::submit;
use crate::transport::{Inbound, Token, Transport};

/// Parts held back in memory.
pub(super) const HELD_MAX: usize = 32;
/// So often are they tried again.
const AGAIN_MS: i64 = 2_000;

/// A part that is not stored yet.
#[derive(Debug)]
pub(super) struct Held {
    way: usize,
    fragment: Box<Fragment>,
    token: Token,
    not_before_ms: i64,
}

impl<T: Transport, O: Orders> Engine<T, O> {
    pub(super) fn came_in(&mut self, way: usize, inbound: Inbound) {
        let now = self.clock.now_ms();
        match inbound {
            Inbound::Fragment(mut fragment, token) => {
                fragment.received_s = now / 1000;
                self.store(Held { way, fragment, token, not_before_ms: 0 });
            }
            Inbound::Report(report, token) => self.desk.report(now, way, report, token),
            Inbound::Nothing(token) => {
                let transport = self.ways[way].1.clone();
                tokio::spawn(async move { transport.confirm(token).await });
            }
        }
    }

    fn store(&mut self, held: Held) {
        if self.incoming >= u64::from(self.settings.limits.incoming) {
            return self.hold(held);
        }
        let mut ops = vec![Op::Fragment(held.fragment.clone())];
        if held.fragment.total > 1 {
            ops.push(Op::GiveOut { before_s: i64::MIN, most: self.settings.limits.fragments });
        }
        self.own_job(ops, false, After::Stored(held));
    }

    pub(super) fn hold(&mut self, mut held: Held) {
        held.not_before_ms = self.clock.now_ms() + AGAIN_MS;
        self.held.push_back(held);
    }

    /// Tries again to store what is held back.
    pub(super) fn try_held(&mut self, now: i64) {
        if self.incoming >= u64::from(self.settings.limits.incoming) {
            return;
        }
        while self.held.front().is_some_and(|h| h.not_before_ms <= now)
            && let Some(held) = self.held.pop_front()
        {
            self.store(held);
        }
    }

    /// When something held back is tried again.
    pub(super) fn held_wake(&self) -> Option<i64> {
        self.held.front().map(|h| h.not_before_ms)
    }

    pub(super) fn stored(&mut self, now: i64, held: Held, result: Result<Vec<book::Answer>, String>) {
        let answers = match result {
            Ok(answers) => answers,
            Err(what) => {
                tracing::error!(error = %what, from = %held.fragment.from, "a received text message cannot be stored yet");
                return self.hold(held);
            }
        };
        let transport = self.ways[held.way].1.clone();
        let (token, f) = (held.token, held.fragment);
        let mut new = false;
        let mut given = Vec::new();
        for answer in answers {
            match answer {
                book::Answer::Stored(stored) => {
                    new = stored.new;
                    given.extend(stored.given);
                }
                book::Answer::Given(more) => given.extend(more),
                _ => {}
            }
        }
        tracing::info!(from = %f.from, part = f.number, of = f.total, new, way = %self.ways[held.way].0, "received");
        tokio::spawn(async move { transport.confirm(token).await });
        if f.until_confirmed {
            // From now on the same words are another message. A crash before it is confirmed shows it again at once,
            // and the digest is still there.
            self.own_job(vec![Op::Confirmed { digest: f.digest }], false, After::Nothing);
        }
        for message in given {
            self.arrived(now, &message);
        }
    }

    /// A whole message is in the book.
    pub(super) fn arrived(&mut self, now: i64, message: &Incoming) {
        self.incoming += 1;
        if self.is_order(message) {
            self.order(now, message);
        } else {
            if words(&message.text).is_some() {
                tracing::warn!(from = %message.from, "an order from a number that may give none: no answer");
            }
            self.newest = self.newest.max(message.id);
            self.arrivals.send_replace(self.newest);
        }
    }

    /// It comes from an administrator's number and has an order's word.
    pub(super) fn is_order(&self, message: &Incoming) -> bool {
        self.gate.as_ref().is_some_and(|g| g.knows(&message.from).is_some()) && words(&message.text).is_some()
    }

    /// Orders that were not done when the process ended.
    pub(super) fn orders_left_over(&mut self) {
        if self.gate.is_some() && self.incoming > 0 {
            self.own_job(vec![Op::List { after: 0, most: u32::MAX }], false, After::OrdersLeft);
        }
    }

    pub(super) fn take_up_orders(&mut self, now: i64, found: Vec<(Incoming, bool)>) {
        for (message, begun) in found {
            if !self.is_order(&message) {
                continue;
            }
            if begun {
                let language = words(&message.text).map_or(Language::English, |w| w.language);
                let text = language.say(
                    "The order was begun when the system restarted. Ask STATUS.",
                    "执行指令时系统重启，结果未知，请发送“状态”查询。",
                );
                let to = self.gate.as_ref().and_then(|g| g.knows(&message.from)).unwrap_or(&message.from).to_owned();
                self.answer_order(now, message.id, &to, text.to_owned());
            } else {
                self.order(now, &message);
            }
        }
    }

    fn order(&mut self, now: i64, message: &Incoming) {
        let (Some(words), Some(gate)) = (words(&message.text), &mut self.gate) else { return };
        let Some(from) = gate.knows(&message.from).map(str::to_owned) else { return };
        let language = words.language;
        match gate.judge(now, &from, &words, || rand::random_range(0..1_000_000)) {
            Verdict::Silence(why) => {
                tracing::warn!(from = %from, order = ?words.order, "order refused: {why}");
                self.own_job(vec![Op::Take { id: message.id }], true, After::Take(None));
            }
            Verdict::Say(text) => {
                tracing::info!(from = %from, order = ?words.order, "order asks for a code or help");
                self.answer_order(now, message.id, &from, text);
            }
            Verdict::Do(Order::Switch(_)) => {
                tracing::warn!(from = %from, "order to switch, with a good code");
                let after = After::Switch { incoming: message.id, from, language };
                self.own_job(vec![Op::Begun { id: message.id }], false, after);
            }
            Verdict::Do(order) => {
                tracing::info!(from = %from, ?order, "order");
                let (orders, state, done, incoming) =
                    (self.orders.clone(), self.state_now(), self.ordered_in.clone(), message.id);
                tokio::spawn(async move {
                    let text = match order {
                        Order::Acknowledge(n) => orders.acknowledge(n, &from, language).await.unwrap_or_else(|refusal| refusal),
                        _ => orders.status(&state, language).await,
                    };
                    // The engine has ended: the order is taken up again at the next start.
                    let _ = done.send(OrderDone { incoming, to: from, text });
                });
            }
        }
    }

    pub(super) fn carry_out_switch(&mut self, incoming: u64, from: String, language: Language) {
        let (orders, done) = (self.orders.clone(), self.ordered_in.clone());
        tokio::spawn(async move {
            let text = orders.switch(&from, language).await.unwrap_or_else(|refusal| refusal);
            let _ = done.send(OrderDone { incoming, to: from, text });
        });
    }

    pub(super) fn order_done(&mut self, done: OrderDone) {
        let now = self.clock.now_ms();
        self.answer_order(now, done.incoming, &done.to, done.text);
    }

    /// Puts the answer into the queue, kept on disk; the order is done when it is there.
    fn answer_order(&mut self, now: i64, incoming: u64, to: &str, text: String) {
        let answer = Submit {
            key: format!("order-{incoming}"),
            class: Class::Alarm,
            to: to.to_owned(),
            text,
            validity_s: Some(3600),
            report: false,
            flash: false,
            durable: true,
            account: None,
            domain: None,
            parts_max: None,
        };
        match submit::draft(answer, &self.settings.pace, &self.settings.limits, now) {
            Ok(draft) => {
                let ticket = self.ticket(Waiter::Order { incoming });
                self.desk.submit(now, ticket, draft);
            }
            Err(reason) => {
                tracing::error!(to, reason = %reason.text, "the answer to an order cannot be sent");
                self.own_job(vec![Op::Take { id: incoming }], true, After::Take(None));
            }
        }
    }
}
