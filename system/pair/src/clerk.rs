//! Answers requests: from the control socket, from the program that runs the daemon, and from the peer.
//!
//! Contract: an order is followed or refused with all reasons, and what must outlive a restart is kept before it is confirmed. An order that
//! concerns both nodes is passed on to the peer once. The heart's thread is asked short questions only.

use crate::api::{Alarm, Answer, FailBack, Leaving, OrderName, Refusal, Request, Status, Text};
use crate::door::{Ask, Door, Knock, Origin};
use crate::input::Input;
use crate::memory::Memory;
use crate::settings::{Desk, PeerChannel, Settings};
use crate::snapshot::Snapshot;
use crate::status::{self, Around};
use crate::words::{self, refusal_of};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use twinpost_fencing::PowerSwitch;
use twinpost_group::Group;
use twinpost_heartbeat::{Flags, Mirror, NodeState, Order, Phase, Reasons};
use twinpost_storage::Storage;
use twinpost_witness::Witness;

/// A week, as the heart takes it.
const MAINTENANCE_MAX_S: u64 = 7 * 24 * 3600;
/// The longest wait before going back.
const FAIL_BACK_MAX_S: u32 = 7 * 24 * 3600;

/// See the module.
pub(crate) struct Clerk {
    pub(crate) set: Arc<Settings>,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) changed: Arc<watch::Sender<u64>>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) group: Arc<Group>,
    pub(crate) power: Option<Arc<dyn PowerSwitch>>,
    pub(crate) witness: Option<watch::Receiver<bool>>,
    pub(crate) channel: Option<Arc<dyn PeerChannel>>,
    pub(crate) desk: Option<Arc<dyn Desk>>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    /// Why there is no heart yet.
    pub(crate) before: Arc<Mutex<Option<Text>>>,
}

impl Clerk {
    /// Bumped whenever something that people see has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The witness keeps its own handle.
    pub(crate) fn witness_state(witness: Option<&Arc<dyn Witness>>) -> Option<watch::Receiver<bool>> {
        witness.map(|witness| witness.state())
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Input) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(question(reply)).await.ok()?;
        answer.await.ok()
    }

    pub(crate) async fn snapshot(&self) -> Option<Box<Snapshot>> {
        if self.before.lock().is_some() {
            return None;
        }
        self.ask(Input::Look).await
    }

    /// The status.
    pub(crate) async fn status(&self) -> Status {
        let Some(seen) = self.snapshot().await else {
            let text = self.before.lock().clone().unwrap_or_else(|| ending_words(&self.set));
            return status::before(&self.set, text, self.storage.status());
        };
        let about = self.channel.as_ref().and_then(|channel| channel.about());
        let around = Around {
            storage: self.storage.status(),
            ready: self.group.status().iter().any(|service| service.state == twinpost_group::ServiceState::Waiting),
            pids: self.group.pids().into_iter().map(|(_, pid)| pid).collect(),
            witness: self.witness.as_ref().map(|state| *state.borrow()),
            fencing: self.power.as_ref().map(|power| power.name().to_owned()),
            channel: self.channel.as_ref().map(|channel| channel.connected()),
            peer_version: about.map(|about| about.program).filter(|version| !version.is_empty()),
        };
        status::build(&self.set, &seen, around)
    }

    /// Answers the door until it is closed.
    pub(crate) async fn serve_door(self: Arc<Self>, mut door: Door) {
        let mut answers = JoinSet::new();
        while let Some(knock) = door.knocks.recv().await {
            let Ask { request, origin, reply } = match knock {
                Knock::Ask(ask) => ask,
                Knock::Alarm(alarm) => {
                    let _ = self.inputs.send(Input::Alarm { alarm, lasting: None }).await;
                    continue;
                }
            };
            while answers.try_join_next().is_some() {}
            let clerk = Arc::clone(&self);
            answers.spawn(async move {
                let _ = reply.send(clerk.answer(request, origin).await);
            });
        }
    }

    /// The answer; [`Request::Watch`] gets the present status.
    pub(crate) async fn answer(&self, request: Request, origin: Origin) -> Answer {
        match request {
            Request::Status | Request::Watch => Answer::Status(Box::new(self.status().await)),
            Request::Standby => self.order(Order::Standby, standby_words(&self.set)).await,
            Request::Takeover => self.takeover().await,
            Request::Maintenance { for_s } => self.maintenance(for_s, origin).await,
            Request::FailBack { rule } => self.fail_back(rule, origin).await,
            Request::Resync => self.resync().await,
            Request::Force { confirm } => self.force(confirm).await,
            Request::GiveWay => self.order(Order::GiveWay, give_way_words(&self.set)).await,
            Request::Preview { order } => self.preview(order).await,
            Request::Leaving { what } => self.leaving(what, origin).await,
            Request::Alarm { severity, code, text } => {
                let alarm = Alarm { at: crate::clock::wall_s(), code, severity, text };
                let _ = self.inputs.send(Input::Alarm { alarm, lasting: None }).await;
                Answer::Done { text: Text::new("people will be told", "已转告") }
            }
            other @ (Request::Config { .. }
            | Request::Conflict { .. }
            | Request::PairOffer
            | Request::PairJoin { .. }
            | Request::Mail { .. }
            | Request::System { .. }
            | Request::Unpair) => match &self.desk {
                Some(desk) => desk.ask(other).await,
                None => Answer::Error {
                    text: Text::new("this program cannot do that here", "本程序在此处无法执行该操作")
                },
            },
        }
    }

    async fn order(&self, order: Order, done: Text) -> Answer {
        match self.ask(|reply| Input::Order { order, reply }).await {
            None => ending(&self.set),
            Some(reasons) if reasons.is_empty() => Answer::Done { text: done },
            Some(reasons) => self.refused(reasons),
        }
    }

    fn refused(&self, reasons: Reasons) -> Answer {
        Answer::Refused { reasons: words::refusals(reasons, self.set.name(), self.set.peer_name()) }
    }

    async fn weigh(&self, order: Order) -> Vec<Refusal> {
        let reasons = self.ask(|reply| Input::Weigh { order, reply }).await.unwrap_or_default();
        words::refusals(reasons, self.set.name(), self.set.peer_name())
    }

    /// What stands against a takeover on this side.
    async fn takeover_reasons(&self) -> Vec<Refusal> {
        let mut reasons = self.weigh(Order::Takeover).await;
        let already = reasons.iter().any(|reason| reason.code == "already_active");
        match &self.channel {
            _ if already => {}
            Some(channel) if channel.connected() => {}
            Some(_) => reasons.push(refusal_of(
                "channel_down",
                format!(
                    "the channel to node {} is down: give the order standby on that node, or check eth1",
                    self.set.peer_name()
                ),
                format!("到节点 {} 的通道已断开：请在该节点执行让出命令，或检查 eth1", self.set.peer_name()),
            )),
            None => reasons.push(refusal_of(
                "no_channel",
                format!("this node has no channel to its peer: give the order standby on node {}", self.set.peer_name()),
                format!("本节点没有到对方的通道：请在节点 {} 上执行让出命令", self.set.peer_name()),
            )),
        }
        reasons
    }

    async fn takeover(&self) -> Answer {
        let reasons = self.takeover_reasons().await;
        if !reasons.is_empty() {
            return Answer::Refused { reasons };
        }
        let Some(channel) = &self.channel else { return ending(&self.set) };
        let why = format!("node {} was told to take over", self.set.name());
        match channel.call(twinpost_peer::Request::Standby { why }).await {
            Ok(_) => Answer::Done { text: takeover_words(&self.set) },
            Err(twinpost_peer::Error::Refused(refusal)) => {
                let peer = self.set.peer_name();
                let said = |reason: String| {
                    refusal_of("peer_refused", format!("node {peer}: {reason}"), format!("节点 {peer}：{reason}"))
                };
                Answer::Refused { reasons: refusal.reasons.into_iter().map(said).collect() }
            }
            Err(e) => Answer::Error {
                text: Text::new(
                    format!("node {} could not be asked: {e}", self.set.peer_name()),
                    format!("无法请求节点 {}：{e}", self.set.peer_name()),
                ),
            },
        }
    }

    /// Passes an order on that concerns both. What the peer does not take is said, not undone.
    async fn tell_peer(&self, request: &Request, origin: Origin) -> Option<Text> {
        let (Some(channel), Origin::Here) = (&self.channel, origin) else { return None };
        let peer = self.set.peer_name();
        let told = async {
            let mut value = serde_json::to_value(request).map_err(|e| e.to_string())?;
            let object = value.as_object_mut().ok_or("no object")?;
            let Some(serde_json::Value::String(name)) = object.remove("op") else { return Err("no name".to_owned()) };
            let order = twinpost_peer::Request::Order { name, arguments: value };
            channel.call(order).await.map(|_| ()).map_err(|e| e.to_string())
        };
        let e = told.await.err()?;
        Some(Text::new(format!(" Node {peer} was not told: {e}."), format!(" 未能通知节点 {peer}：{e}。")))
    }

    async fn keep(&self, what: impl FnOnce(&mut Memory) -> std::io::Result<()> + Send + 'static) -> Result<(), Answer> {
        let memory = Arc::clone(&self.memory);
        let kept = tokio::task::spawn_blocking(move || what(&mut memory.lock())).await;
        let e = match kept {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) => e.to_string(),
            Err(e) => e.to_string(),
        };
        Err(Answer::Error {
            text: Text::new(
                format!(
                    "the order cannot be kept over a restart ({e}): nothing was changed; make room in {}",
                    self.set.state_dir.display()
                ),
                format!("该命令无法持久保存（{e}）：未做任何更改；请清理 {} 的空间", self.set.state_dir.display()),
            ),
        })
    }

    async fn maintenance(&self, for_s: Option<u64>, origin: Origin) -> Answer {
        let order = match for_s {
            Some(s) => Order::Maintenance { for_ms: maintenance_ms(s) },
            None => Order::MaintenanceEnd,
        };
        let reasons = self.weigh(order).await;
        // The peer may be in a maintenance that this node is not in.
        if !reasons.is_empty() && (for_s.is_some() || origin == Origin::Peer || self.channel.is_none()) {
            return Answer::Refused { reasons };
        }
        let for_ms = for_s.map_or(0, |s| u64::from(maintenance_ms(s)));
        if let Err(answer) = self.keep(move |memory| memory.keep_maintenance(for_ms)).await {
            return answer;
        }
        let text = match for_s {
            Some(s) => Text::new(
                format!("Nothing switches by itself for {}.", span(s, ["s", "min"])),
                format!("{}内不会自动切换。", span(s, ["秒", "分钟"])),
            ),
            None => Text::new("The maintenance is over.", "维护时段已结束。"),
        };
        if reasons.is_empty()
            && let refused @ (Answer::Refused { .. } | Answer::Error { .. }) = self.order(order, text.clone()).await
        {
            return refused;
        }
        self.confirm(text, &Request::Maintenance { for_s }, origin).await
    }

    async fn confirm(&self, mut text: Text, request: &Request, origin: Origin) -> Answer {
        if let Some(but) = self.tell_peer(request, origin).await {
            text.en.push_str(&but.en);
            text.zh.push_str(&but.zh);
        }
        Answer::Done { text }
    }

    /// Here: the peer is told. From the peer: it is noted.
    async fn leaving(&self, what: Leaving, origin: Origin) -> Answer {
        if origin == Origin::Peer {
            if self.inputs.send(Input::PeerLeaves(what)).await.is_err() {
                return ending(&self.set);
            }
            return Answer::Done { text: Text::new("noted", "已记录") };
        }
        match self.tell_peer(&Request::Leaving { what }, origin).await {
            None => Answer::Done { text: Text::new("The other node was told.", "已通知对方节点。") },
            Some(why) => Answer::Error { text: why },
        }
    }

    async fn fail_back(&self, rule: FailBack, origin: Origin) -> Answer {
        let mut reasons = Vec::new();
        if let FailBack::Node { node, after_s } = &rule {
            if !self.set.names.contains(node) {
                let names = self.set.names.join(", ");
                reasons.push(refusal_of(
                    "no_such_node",
                    format!("{node:.40} is no node of this pair: {names}"),
                    format!("{node:.40} 不是本对节点之一：{names}"),
                ));
            }
            if *after_s > FAIL_BACK_MAX_S {
                reasons.push(refusal_of("duration", "at most a week", "最长一周"));
            }
        }
        if !reasons.is_empty() {
            return Answer::Refused { reasons };
        }
        let kept = rule.clone();
        if let Err(answer) = self.keep(move |memory| memory.keep_fail_back(kept)).await {
            return answer;
        }
        if self.inputs.send(Input::FailBack(rule.clone())).await.is_err() {
            return ending(&self.set);
        }
        let text = match &rule {
            FailBack::Never => Text::new("Whoever serves goes on.", "由当前服务的节点继续服务。"),
            FailBack::Node { node, after_s } => Text::new(
                format!(
                    "The service goes back to node {node} once it was current for {}.",
                    span(u64::from(*after_s), ["s", "min"])
                ),
                format!("节点 {node} 数据保持最新 {}后，服务切回该节点。", span(u64::from(*after_s), ["秒", "分钟"])),
            ),
        };
        self.confirm(text, &Request::FailBack { rule }, origin).await
    }

    /// The peer's copy is overwritten only when this node serves, and never while the peer holds what this node lacks.
    async fn resync_reasons(&self) -> Vec<Refusal> {
        let Some(seen) = self.snapshot().await else { return Vec::new() };
        let (me, peer) = (self.set.name(), self.set.peer_name());
        let s = &seen.state;
        let mut reasons = Vec::new();
        if s.phase != Phase::Active {
            reasons.push(refusal_of(
                "not_active",
                format!("node {me} does not serve: only the copy of the node that serves may be the source"),
                format!("节点 {me} 未在提供服务：只有正在服务的节点的副本可以作为数据源"),
            ));
        } else if s.mirror == Mirror::Synced {
            reasons.push(refusal_of(
                "synced",
                format!("node {peer} holds every byte already"),
                format!("节点 {peer} 已拥有全部数据"),
            ));
        }
        match s.peer_within(seen.heart.lease_ms) {
            None => reasons.push(refusal_of(
                "peer_silent",
                format!("node {peer} is not heard"),
                format!("收不到节点 {peer} 的信号"),
            )),
            Some(frame) if frame.flags.has(Flags::UNSHARED) || frame.state == NodeState::Conflict => reasons.push(refusal_of(
                "conflict",
                format!("node {peer} holds mail that node {me} lacks: let it give way first (`twinpost ctl pair conflict give-way` on node {peer}), which keeps that mail"),
                format!("节点 {peer} 有节点 {me} 没有的邮件：请先在节点 {peer} 上执行 `twinpost ctl pair conflict give-way`，其邮件会被保留"),
            )),
            Some(_) => {}
        }
        reasons
    }

    async fn resync(&self) -> Answer {
        let reasons = self.resync_reasons().await;
        if !reasons.is_empty() {
            return Answer::Refused { reasons };
        }
        if self.inputs.send(Input::Resync).await.is_err() {
            return ending(&self.set);
        }
        Answer::Done { text: resync_words(&self.set) }
    }

    async fn force(&self, confirm: bool) -> Answer {
        if confirm {
            return self
                .order(Order::Force, Text::new("This node takes over without a proof.", "本节点在没有依据的情况下强制接管。"))
                .await;
        }
        self.preview(OrderName::Force).await
    }

    async fn preview(&self, order: OrderName) -> Answer {
        let Some(seen) = self.snapshot().await else { return ending(&self.set) };
        let set = &self.set;
        let (text, reasons) = match order {
            OrderName::Standby => (standby_words(set), self.weigh(Order::Standby).await),
            OrderName::Takeover => (takeover_words(set), self.takeover_reasons().await),
            OrderName::Maintenance => (
                Text::new(
                    "Nothing is taken over or handed over by itself until the time is over; a node that fails then stays down.",
                    "在时段结束前不会自动接管或让出；此间若节点故障，服务将中断。",
                ),
                Vec::new(),
            ),
            OrderName::MaintenanceEnd => {
                (Text::new("The pair switches by itself again.", "恢复自动切换。"), self.weigh(Order::MaintenanceEnd).await)
            }
            OrderName::Resync => (resync_words(set), self.resync_reasons().await),
            OrderName::Force => (force_words(set, &seen), self.weigh(Order::Force).await),
            OrderName::GiveWay => (give_way_words(set), self.weigh(Order::GiveWay).await),
        };
        Answer::Preview { text, reasons }
    }
}

fn maintenance_ms(s: u64) -> u32 {
    // More than a week stays more than a week, and is refused.
    u32::try_from(s.min(MAINTENANCE_MAX_S + 1) * 1000).unwrap_or(u32::MAX)
}

fn ending_words(set: &Settings) -> Text {
    Text::new(format!("the pair daemon of node {} is ending", set.name()), format!("节点 {} 的双机守护进程正在退出", set.name()))
}

fn ending(set: &Settings) -> Answer {
    Answer::Error { text: ending_words(set) }
}

fn standby_words(set: &Settings) -> Text {
    let (me, peer) = (set.name(), set.peer_name());
    Text::new(
        format!(
            "Node {me} finishes its clients, stops its services and hands over to node {peer}. Clients are disconnected once and reconnect within about a second."
        ),
        format!("节点 {me} 结束现有客户端会话、停止服务并让出给节点 {peer}。客户端断开一次，约一秒内可重连。"),
    )
}

fn takeover_words(set: &Settings) -> Text {
    let (me, peer) = (set.name(), set.peer_name());
    Text::new(
        format!(
            "Node {peer} finishes its clients and hands over to node {me}. Clients are disconnected once and reconnect within about a second."
        ),
        format!("节点 {peer} 结束现有客户端会话并让出给节点 {me}。客户端断开一次，约一秒内可重连。"),
    )
}

fn resync_words(set: &Settings) -> Text {
    let (me, peer) = (set.name(), set.peer_name());
    Text::new(
        format!(
            "The copy of node {peer} is overwritten from node {me}. Nobody is disconnected; until it is whole, {peer} cannot take over."
        ),
        format!("节点 {peer} 的副本将被节点 {me} 的数据覆盖。不影响客户端；完成之前 {peer} 不能接管。"),
    )
}

fn give_way_words(set: &Settings) -> Text {
    let (me, peer) = (set.name(), set.peer_name());
    Text::new(
        format!(
            "The mail of node {me} that {peer} lacks is kept aside for the merge; then its copy is overwritten from node {peer}."
        ),
        format!("节点 {me} 上 {peer} 没有的邮件先另行保存以备合并；随后其副本由节点 {peer} 的数据覆盖。"),
    )
}

fn force_words(set: &Settings, seen: &Snapshot) -> Text {
    let (me, peer) = (set.name(), set.peer_name());
    let last = match (seen.peer_silent_ms, seen.state.peer) {
        (Some(ms), Some(heard)) if heard.frame.reign > seen.state.record.reign => {
            format!("Node {peer} was heard {} s ago with newer mail.", ms / 1000)
        }
        (Some(ms), _) => format!("Node {peer} was heard {} s ago.", ms / 1000),
        (None, _) => format!("Node {peer} was not heard since this node started."),
    };
    let last_zh = match seen.peer_silent_ms {
        Some(ms) => format!("最近一次收到节点 {peer} 的信号是 {} 秒前。", ms / 1000),
        None => format!("本节点启动以来未收到节点 {peer} 的信号。"),
    };
    Text::new(
        format!(
            "Node {me} serves without a proof. {last} Mail that only {peer} has is missing until {peer} comes back and is merged. Make sure that {peer} has no power: if it serves too, mail goes to both. Nothing was done; repeat it with `confirm`."
        ),
        format!(
            "节点 {me} 将在没有依据的情况下提供服务。{last_zh}只存在于 {peer} 的邮件在其恢复并合并之前会缺失。请确认 {peer} 已断电：若它也在服务，邮件会分散到两边。尚未执行；确认请加 `confirm` 重试。"
        ),
    )
}

/// Seconds as people read them.
fn span(s: u64, [second, minute]: [&str; 2]) -> String {
    if s < 120 { format!("{s} {second}") } else { format!("{} {minute}", s.div_ceil(60)) }
}
