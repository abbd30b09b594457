//! Alarms of the pair on their way to people: by text message to the administrators' telephones, by mail to the operators.
//!
//! Contract: [`Teller::raise`] never waits. Every alarm but a mere note becomes a text by this node's own modem process (which keeps it on disk), and so
//! does the note that a trouble is over; the same become a mail, once a mail process answers here. What cannot be told yet waits, the newest
//! [`WAITING_MAX`]; the daemon's own journal keeps them all.
//!
//! Failure classes: no modem, no mail process: tried again every [`AGAIN`]; logged once for each alarm.

use super::Plan;
use crate::cli::Order;
use crate::control::{CallError, Request, call};
use crate::node::Folder;
use crate::operators::{Notice, Words};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use twinpost_config::{Document, SmsLanguage};
use twinpost_pair::Alarms;
use twinpost_pair::api::{Alarm, Severity};
use twinpost_sms::Client;
use twinpost_sms::api::{Class, Submit};

/// Alarms that wait for a way out.
const WAITING_MAX: usize = 200;
/// Codes of the notes that a trouble is over: both nodes hold every byte again, both disks of an array do, the machine is well.
const WHOLE_AGAIN: [&str; 3] = ["synced", "array_whole", "machine_well"];
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(5);
/// A mail about something older than this would only confuse: it stands in `twinpost ctl pair alarms`.
const MAIL_MAX_AGE_S: i64 = 3600;
/// A text is told no later than this.
const TEXT_VALIDITY_S: u32 = 24 * 3600;

/// Takes alarms and tells them.
pub struct Teller(mpsc::UnboundedSender<Alarm>);

impl Alarms for Teller {
    fn raise(&self, alarm: &Alarm) {
        // Nobody listens only when the daemon is ending.
        let _ = self.0.send(alarm.clone());
    }
}

impl Teller {
    /// Starts telling, until `stop`.
    pub fn start(plan: &Plan, stop: CancellationToken) -> Self {
        let (send, heard) = mpsc::unbounded_channel();
        let desk = Desk { folder: plan.folder.clone(), document: plan.document.clone(), troubled: false };
        tokio::spawn(desk.run(heard, stop));
        Self(send)
    }
}

struct Desk {
    folder: Folder,
    document: Document,
    /// People were told of a trouble, and not yet that all is well.
    troubled: bool,
}

/// One alarm and one way to tell it.
struct Errand {
    alarm: Alarm,
    /// A telephone number; none: mail.
    number: Option<String>,
    /// Names the text over repetitions, so that it is sent once.
    key: String,
    complained: bool,
}

impl Desk {
    async fn run(mut self, mut heard: mpsc::UnboundedReceiver<Alarm>, stop: CancellationToken) {
        let mut waiting: VecDeque<Errand> = VecDeque::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                alarm = heard.recv() => match alarm {
                    None => return,
                    Some(alarm) => waiting.extend(self.errands(&alarm)),
                },
                () = tokio::time::sleep(AGAIN), if !waiting.is_empty() => {}
            }
            while let Ok(alarm) = heard.try_recv() {
                waiting.extend(self.errands(&alarm));
            }
            let surplus = waiting.len().saturating_sub(WAITING_MAX);
            waiting.drain(..surplus);
            for mut errand in std::mem::take(&mut waiting) {
                if errand.number.is_none() && crate::adapter::now_s() - errand.alarm.at > MAIL_MAX_AGE_S {
                    continue;
                }
                if let Err(why) = self.carry(&errand).await {
                    if !std::mem::replace(&mut errand.complained, true) {
                        tracing::info!(code = errand.alarm.code, to = ?errand.number, why, "an alarm waits for a way out");
                    }
                    waiting.push_back(errand);
                }
            }
        }
    }

    fn errands(&mut self, alarm: &Alarm) -> Vec<Errand> {
        let trouble = alarm.severity != Severity::Info;
        // The first good news after a trouble ends it for people.
        let over = self.troubled && WHOLE_AGAIN.contains(&alarm.code.as_str());
        if !trouble && !over {
            return Vec::new();
        }
        self.troubled = trouble;
        let numbers = if self.document.sms.enabled { self.document.sms.orders.numbers.as_slice() } else { &[] };
        let id = format!("pair-{:016x}", rand::random::<u64>());
        let to = numbers.iter().cloned().map(Some).chain([None]);
        to.enumerate()
            .map(|(n, number)| Errand { alarm: alarm.clone(), number, key: format!("{id}-{n}"), complained: false })
            .collect()
    }

    async fn carry(&self, errand: &Errand) -> Result<(), String> {
        match &errand.number {
            Some(number) => self.text(errand, number).await,
            None => self.mail(&errand.alarm).await,
        }
    }

    async fn text(&self, errand: &Errand, number: &str) -> Result<(), String> {
        let chinese = self.document.sms.gateway.language == SmsLanguage::Chinese;
        let said = if chinese { &errand.alarm.text.zh } else { &errand.alarm.text.en };
        let submit = Submit {
            key: errand.key.clone(),
            class: Class::Alarm,
            to: number.to_owned(),
            text: format!("Twinpost {}: {said}", self.document.node.name),
            validity_s: Some(TEXT_VALIDITY_S),
            report: false,
            flash: false,
            durable: true,
            account: None,
            domain: None,
            parts_max: None,
        };
        Client::new(self.folder.sms_socket()).submit(submit).await.map(drop).map_err(|e| e.to_string())
    }

    async fn mail(&self, alarm: &Alarm) -> Result<(), String> {
        let (host, node) = (&self.document.node.host_name, &self.document.node.name);
        let subject = if alarm.severity == Severity::Serious {
            Words { en: format!("Alarm: the pair of {host}, node {node}"), zh: format!("告警：{host} 双机，节点 {node}") }
        } else {
            Words { en: format!("The pair of {host}, node {node}"), zh: format!("{host} 双机，节点 {node}") }
        };
        let text = Words {
            en: format!("{}\n\nLook closer with: twinpost ctl pair status", alarm.text.en),
            zh: format!("{}\n\n查看状态：twinpost ctl pair status", alarm.text.zh),
        };
        let order = Order::Notice(Notice { subject, text });
        let request = Request { order, actor: "pair".to_owned(), attachment_bytes: 0 };
        match call(&self.folder.socket(), &request, &[], |_| {}).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused(failure)) => Err(failure.message),
            Err(CallError::NotRunning) => Err("no mail process here".to_owned()),
            Err(CallError::Broken(why)) => Err(why),
        }
    }
}
