//! The status for people and programs, made from what the heart's thread sees and what the drivers say.

use crate::api::{
    FencingStatus, Leaving, LinkStatus, NodeStatus, ServicesStatus, Status, StorageStatus, Text, WatchdogStatus, WitnessStatus,
};
use crate::links::name;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::words;
use twinpost_heartbeat::{Link, Mirror, NodeState, Phase, Writes};

/// The peer counts as heard for so long after a frame.
pub(crate) fn heard_limit_ms(heart: &twinpost_heartbeat::Settings) -> u64 {
    u64::from(heart.lease_ms.max(heart.serial_keepalive_ms.saturating_mul(2)))
}

/// A path counts as up for so long after a frame.
pub(crate) fn link_limit_ms(heart: &twinpost_heartbeat::Settings, link: Link) -> u64 {
    u64::from(match link {
        Link::Serial => heart.serial_keepalive_ms.saturating_mul(3),
        Link::Eth1 | Link::Lan => heart.lease_ms.max(heart.keepalive_ms.saturating_mul(3)),
    })
}

/// What is known beside the snapshot.
#[derive(Debug, Default)]
pub(crate) struct Around {
    pub(crate) storage: StorageStatus,
    pub(crate) pids: Vec<u32>,
    pub(crate) ready: bool,
    pub(crate) witness: Option<bool>,
    pub(crate) fencing: Option<String>,
    pub(crate) channel: Option<bool>,
    pub(crate) peer_version: Option<String>,
}

/// While the heart does not beat yet, or not any more.
pub(crate) fn before(set: &Settings, text: Text, storage: StorageStatus) -> Status {
    let node = |name: &str, state: &str| NodeStatus { name: name.to_owned(), state: state.to_owned(), ..NodeStatus::default() };
    let mut nodes = vec![node(set.name(), "boot"), node(set.peer_name(), "unheard")];
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let on = [set.eth1.is_some(), set.lan.is_some(), set.serial.is_some()];
    let link = |(link, on): (Link, bool)| LinkStatus {
        name: name(link).to_owned(),
        state: if on { "silent" } else { "off" }.to_owned(),
        ..LinkStatus::default()
    };
    Status {
        sentence: text.en,
        sentence_zh: text.zh,
        node: set.name().to_owned(),
        takeover: if set.heart.evidence { "evidence" } else { "proof" }.to_owned(),
        nodes,
        links: Link::ALL.into_iter().zip(on).map(link).collect(),
        storage: Some(storage),
        services: ServicesStatus { state: "stopped".to_owned(), ..ServicesStatus::default() },
        ..Status::default()
    }
}

/// The whole.
pub(crate) fn build(set: &Settings, seen: &Snapshot, around: Around) -> Status {
    let s = &seen.state;
    let heart = &seen.heart;
    let (me, peer) = (set.name(), set.peer_name());
    let peer_heard = seen.peer_silent_ms.is_some_and(|ms| ms < heard_limit_ms(heart)) && s.peer.is_some();
    let own = NodeStatus {
        name: me.to_owned(),
        state: words::state_code(s.node_state()).to_owned(),
        eligible: s.eligible,
        reign: s.record.reign,
        boot: s.record.boot,
        position: s.position,
        health: heart.health,
        config_generation: heart.config,
        version: (!set.version.is_empty()).then(|| set.version.clone()),
        since_ms: seen.since_ms,
        silent_ms: Some(0),
    };
    let other = match s.peer {
        Some(heard) => NodeStatus {
            name: peer.to_owned(),
            state: if peer_heard { words::state_code(heard.frame.state) } else { gone(seen, "silent") }.to_owned(),
            eligible: peer_heard && heard.frame.state == NodeState::StandbyEligible,
            reign: heard.frame.reign,
            boot: heard.frame.boot,
            position: heard.frame.position,
            health: heard.frame.health,
            config_generation: heard.frame.config,
            version: around.peer_version,
            since_ms: if peer_heard { seen.peer_since_ms } else { seen.peer_silent_ms.unwrap_or(0) },
            silent_ms: seen.peer_silent_ms,
        },
        None => NodeStatus {
            name: peer.to_owned(),
            state: gone(seen, "unheard").to_owned(),
            boot: s.peer_boot,
            since_ms: seen.up_ms,
            version: around.peer_version,
            ..NodeStatus::default()
        },
    };
    let active = if s.phase == Phase::Active {
        Some(me.to_owned())
    } else if peer_heard && s.peer.is_some_and(|heard| heard.frame.state.is_active()) {
        Some(peer.to_owned())
    } else {
        None
    };
    let (sentence, sentence_zh) = sentence(set, seen, peer_heard, &around.storage);
    let mut nodes = vec![own, other];
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Status {
        sentence,
        sentence_zh,
        node: me.to_owned(),
        active,
        reign: s.record.reign.max(s.peer.map_or(0, |heard| heard.frame.reign)),
        takeover: if heart.evidence { "evidence" } else { "proof" }.to_owned(),
        nodes,
        links: links(seen),
        storage: Some(around.storage),
        writes: seen.writes.filter(|_| s.is_active()).map(|how| {
            match how {
                Writes::Mirrored => "mirrored",
                Writes::Held => "held",
                Writes::Alone => "alone",
            }
            .to_owned()
        }),
        address: s.address,
        services: ServicesStatus {
            state: seen.services.to_owned(),
            why: seen.services_why.clone(),
            ready: around.ready,
            restarts: s.restarts,
            pids: around.pids,
        },
        witness: around.witness.map(|reachable| WitnessStatus { reachable }),
        fencing: around.fencing.map(|name| FencingStatus { name, last: seen.fence_said.map(str::to_owned) }),
        watchdog: set.watchdog.as_ref().map(|_| WatchdogStatus { open: seen.watchdog_open, timeout_ms: heart.watchdog_ms }),
        channel: around.channel,
        maintenance_left_s: (s.maintenance_left_ms > 0).then(|| u64::from(s.maintenance_left_ms).div_ceil(1000)),
        fail_back: seen.fail_back.clone(),
        proof: s.proof.map(|proof| words::proof_code(proof).to_owned()),
        last_switch: seen.last_switch.clone(),
        alarms: seen.alarms.clone(),
        up_ms: seen.up_ms,
        stall_max_ms: seen.stall_max_ms,
    }
}

/// What a peer is that is not heard.
const fn gone(seen: &Snapshot, otherwise: &'static str) -> &'static str {
    match seen.away {
        Some(Leaving::Off) => "off",
        Some(Leaving::Restart) => "restarting",
        None => otherwise,
    }
}

fn links(seen: &Snapshot) -> Vec<LinkStatus> {
    Link::ALL
        .into_iter()
        .zip(&seen.links)
        .map(|(link, held)| {
            let up = held.heard_ms.is_some_and(|ms| ms < link_limit_ms(&seen.heart, link));
            LinkStatus {
                name: name(link).to_owned(),
                state: if !held.on {
                    "off"
                } else if up {
                    "up"
                } else {
                    "silent"
                }
                .to_owned(),
                heard_ms: held.heard_ms,
                sent: held.sent,
                received: held.received,
                dropped: held.dropped,
                trouble: held.trouble.clone(),
            }
        })
        .collect()
}

/// The whole in one sentence.
fn sentence(set: &Settings, seen: &Snapshot, peer_heard: bool, storage: &StorageStatus) -> (String, String) {
    let s = &seen.state;
    let (me, peer) = (set.name(), set.peer_name());
    let peer_state = s.peer.filter(|_| peer_heard).map(|heard| heard.frame.state);
    let percent = storage.done_percent.map(|done| format!(" ({done:.0} %)")).unwrap_or_default();
    let (mut en, mut zh) = match s.phase {
        Phase::Active => match (s.mirror, peer_state) {
            (Mirror::Held, _) => (
                format!("Node {me} serves, but new mail waits: node {peer} is lost and nothing proves that it does not serve."),
                format!("节点 {me} 在提供服务，但新邮件暂缓：节点 {peer} 失联，且无法证明其已停止服务。"),
            ),
            (_, Some(NodeState::StandbyEligible)) => (
                format!("Node {me} serves; node {peer} is current and can take over at any time."),
                format!("节点 {me} 在提供服务；节点 {peer} 数据最新，可随时接管。"),
            ),
            (_, Some(NodeState::Conflict)) => (
                format!("Node {me} serves; node {peer} holds mail that {me} lacks and waits for a decision."),
                format!("节点 {me} 在提供服务；节点 {peer} 有 {me} 没有的邮件，等待处理。"),
            ),
            (_, Some(NodeState::Maintenance)) => (
                format!("Node {me} serves; node {peer} is in maintenance."),
                format!("节点 {me} 在提供服务；节点 {peer} 处于维护中。"),
            ),
            (_, Some(_)) => (
                format!("Node {me} serves; node {peer} is catching up{percent} and cannot take over yet."),
                format!("节点 {me} 在提供服务；节点 {peer} 正在追赶数据{percent}，暂时不能接管。"),
            ),
            (_, None) if seen.away == Some(Leaving::Off) => (
                format!("Node {me} serves alone; node {peer} is off by a person's order: switch it on."),
                format!("节点 {me} 单独提供服务；节点 {peer} 已按人工命令关机：请开机。"),
            ),
            (_, None) if seen.away.is_some() => (
                format!("Node {me} serves alone; node {peer} starts again by a person's order."),
                format!("节点 {me} 单独提供服务；节点 {peer} 正按人工命令重新启动。"),
            ),
            (_, None) => (
                format!("Node {me} serves alone; node {peer} does not answer."),
                format!("节点 {me} 单独提供服务；节点 {peer} 没有应答。"),
            ),
        },
        Phase::Claim => (
            format!("Nobody serves: node {me} asks for a proof that node {peer} does not serve."),
            format!("没有节点在服务：节点 {me} 正在求证节点 {peer} 已停止服务。"),
        ),
        Phase::Wait => (
            format!("Node {me} takes over as soon as the lease of node {peer} is over."),
            format!("节点 {peer} 的租约到期后，节点 {me} 即接管。"),
        ),
        Phase::Store | Phase::Promote => (format!("Node {me} is taking over."), format!("节点 {me} 正在接管。")),
        Phase::Stop | Phase::Demote => (format!("Node {me} is stopping its services."), format!("节点 {me} 正在停止服务。")),
        Phase::Fenced => (
            format!("Something on node {me} did not stop: it cuts its own power."),
            format!("节点 {me} 上有程序无法停止：正在自行断电。"),
        ),
        Phase::Conflict => (
            format!("Nodes {me} and {peer} each hold mail that the other lacks; nothing is overwritten until you decide."),
            format!("节点 {me} 和 {peer} 各有对方没有的邮件；在您决定之前不会覆盖任何数据。"),
        ),
        Phase::Boot | Phase::Standby => match peer_state {
            Some(state) if state.is_active() && s.eligible => (
                format!("Node {peer} serves; node {me} is current and can take over at any time."),
                format!("节点 {peer} 在提供服务；节点 {me} 数据最新，可随时接管。"),
            ),
            Some(state) if state.is_active() => (
                format!("Node {peer} serves; node {me} is catching up{percent} and cannot take over yet."),
                format!("节点 {peer} 在提供服务；节点 {me} 正在追赶数据{percent}，暂时不能接管。"),
            ),
            Some(NodeState::TakingOver) => (format!("Node {peer} is taking over."), format!("节点 {peer} 正在接管。")),
            Some(NodeState::Conflict) => (
                format!("Nobody serves: node {peer} holds mail that {me} lacks and waits for a decision."),
                format!("没有节点在服务：节点 {peer} 有 {me} 没有的邮件，等待处理。"),
            ),
            Some(_) => (
                format!("Nobody serves yet: nodes {me} and {peer} are agreeing who does."),
                format!("暂无节点服务：节点 {me} 和 {peer} 正在协商。"),
            ),
            None if s.phase == Phase::Boot => (
                format!(
                    "Nobody serves: node {me} has started and waits for node {peer}, which may hold newer mail. If {peer} is gone for good: `twinpost ctl pair takeover --force`."
                ),
                format!(
                    "没有节点在服务：节点 {me} 已启动，正等待可能持有更新邮件的节点 {peer}。若 {peer} 已无法恢复，请执行 `twinpost ctl pair takeover --force`。"
                ),
            ),
            None => (
                format!("Nobody serves as far as node {me} knows: node {peer} does not answer, and {me} is not current."),
                format!("就节点 {me} 所知没有节点在服务：节点 {peer} 没有应答，而 {me} 的数据不是最新。"),
            ),
        },
    };
    if s.phase == Phase::Active
        && let Some(why) = &seen.services_why
    {
        en.push_str(&format!(" Its services fail: {why}."));
        zh.push_str(&format!(" 其服务异常：{why}。"));
    }
    if s.maintenance_left_ms > 0 {
        let minutes = s.maintenance_left_ms.div_ceil(60_000);
        en.push_str(&format!(" Maintenance for {minutes} min more: nothing switches by itself."));
        zh.push_str(&format!(" 维护时段还剩 {minutes} 分钟：不会自动切换。"));
    }
    (en, zh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FailBack;
    use crate::snapshot::LinkSnapshot;
    use twinpost_heartbeat::{Flags, Frame, Keys, Peer, State};

    fn seen(change: impl FnOnce(&mut State)) -> Snapshot {
        let mut state = State::start(None, 0);
        change(&mut state);
        Snapshot {
            state,
            heart: twinpost_heartbeat::Settings::default(),
            links: std::array::from_fn(|_| LinkSnapshot::default()),
            up_ms: 60_000,
            since_ms: 1000,
            peer_since_ms: 500,
            peer_silent_ms: state.peer.map(|peer| peer.silent_ms.into()),
            stall_max_ms: 0,
            last_switch: None,
            alarms: Vec::new(),
            writes: Some(Writes::Held),
            services: "stopped",
            services_why: None,
            away: None,
            fence_said: None,
            watchdog_open: false,
            fail_back: FailBack::Never,
        }
    }

    fn peer(state: NodeState, silent_ms: u32) -> Option<Peer> {
        let frame = Frame {
            link: Link::Eth1,
            node: 1,
            state,
            boot: 4,
            seq: 9,
            echo_boot: 1,
            echo_seq: 1,
            reign: 6,
            ballot: 0,
            position: 3,
            lease_ms: 0,
            health: 255,
            flags: Flags::default(),
            config: 0,
        };
        Some(Peer { frame, silent_ms })
    }

    fn told(seen: &Snapshot) -> Status {
        let keys = Keys { current: [0; 32], next: None };
        let set = Settings::new(0, 1, keys, "/state".into(), "/socket".into());
        let status = build(&set, seen, Around::default());
        assert!(!status.sentence.is_empty() && !status.sentence_zh.is_ascii() && status.nodes.len() == 2, "{status:?}");
        status
    }

    #[test]
    fn a_peer_that_was_never_heard() {
        let status = told(&seen(|_| {}));
        assert_eq!((status.active, status.nodes[1].state.as_str(), status.nodes[1].silent_ms), (None, "unheard", None));
        assert!(status.sentence.contains("waits for node b"), "{}", status.sentence);
        assert_eq!(status.writes, None, "a node that does not serve answers nothing");
    }

    #[test]
    fn a_peer_that_fell_silent_serves_no_more_as_far_as_is_known() {
        let heard = told(&seen(|s| (s.phase, s.eligible, s.peer) = (Phase::Standby, true, peer(NodeState::ActiveSynced, 100))));
        assert_eq!((heard.active.as_deref(), heard.reign), (Some("b"), 6));
        let silent = told(&seen(|s| (s.phase, s.eligible, s.peer) = (Phase::Claim, true, peer(NodeState::ActiveSynced, 5000))));
        assert_eq!((silent.active, silent.nodes[1].state.as_str(), silent.nodes[1].silent_ms), (None, "silent", Some(5000)));
        let standby = told(&seen(|s| (s.phase, s.peer) = (Phase::Active, peer(NodeState::StandbyEligible, 5000))));
        assert!(!standby.nodes[1].eligible, "who is silent is not known to be current");
        assert!(standby.sentence.contains("alone"), "{}", standby.sentence);
    }

    #[test]
    fn a_conflict_and_mail_that_waits_are_said_first() {
        let status = told(&seen(|s| (s.phase, s.peer) = (Phase::Conflict, peer(NodeState::Conflict, 10))));
        assert!(status.sentence.contains("nothing is overwritten") && status.active.is_none(), "{}", status.sentence);
        assert_eq!(status.nodes.iter().filter(|node| node.state == "conflict").count(), 2);
        let status = told(&seen(|s| (s.phase, s.mirror) = (Phase::Active, Mirror::Held)));
        assert!(status.sentence.contains("new mail waits"), "{}", status.sentence);
        assert_eq!(status.writes.as_deref(), Some("held"));
        let status = told(&seen(|s| (s.phase, s.peer) = (Phase::Active, peer(NodeState::Conflict, 10))));
        assert!(status.sentence.contains("waits for a decision"), "{}", status.sentence);
    }

    #[test]
    fn every_state_has_its_sentence() {
        let phases = [
            Phase::Boot,
            Phase::Standby,
            Phase::Claim,
            Phase::Wait,
            Phase::Store,
            Phase::Promote,
            Phase::Active,
            Phase::Stop,
            Phase::Demote,
            Phase::Conflict,
            Phase::Fenced,
        ];
        for phase in phases {
            for mirror in [Mirror::Alone, Mirror::Resync, Mirror::Granting, Mirror::Synced, Mirror::Held] {
                for state in [NodeState::Boot, NodeState::TakingOver, NodeState::Draining, NodeState::Maintenance] {
                    told(&seen(|s| (s.phase, s.mirror, s.peer) = (phase, mirror, peer(state, 10))));
                }
                told(&seen(|s| (s.phase, s.mirror, s.maintenance_left_ms) = (phase, mirror, 90_000)));
            }
        }
    }
}
