//! Words for people, English and Chinese: alarms, reasons, proofs.

use crate::api::{Alarm, Refusal, Severity, Text};
use crate::clock;
use crate::links::{name, name_zh};
use twinpost_heartbeat::{Alarm as Word, NodeState, Proof, Reason, Reasons};

/// An alarm of now.
pub(crate) fn alarm(code: &str, severity: Severity, en: impl Into<String>, zh: impl Into<String>) -> Alarm {
    Alarm { at: clock::wall_s(), code: code.to_owned(), severity, text: Text::new(en, zh) }
}

/// For programs.
pub(crate) const fn proof_code(proof: Proof) -> &'static str {
    match proof {
        Proof::Release => "release",
        Proof::Fenced => "fenced",
        Proof::Witness => "witness",
        Proof::Reservation => "reservation",
        Proof::Evidence => "evidence",
        Proof::Forced => "forced",
    }
}

/// For people.
pub(crate) const fn proof_words(proof: Proof) -> (&'static str, &'static str) {
    match proof {
        Proof::Release => ("the peer's own word that it does not serve", "对方节点自己声明不再提供服务"),
        Proof::Fenced => ("the peer's power was read back as off", "已回读确认对方节点断电"),
        Proof::Witness => ("the witness gave the reign to this node", "见证服务器把任期授予本节点"),
        Proof::Reservation => ("the exclusive reservation of the storage", "取得存储的独占锁"),
        Proof::Evidence => ("no carrier, no modem lines and a silent LAN", "直连线无载波、串口信号线无电平且局域网静默"),
        Proof::Forced => ("the administrator's order", "管理员强制命令"),
    }
}

/// For programs: the words of HA.md.
pub(crate) const fn state_code(state: NodeState) -> &'static str {
    match state {
        NodeState::Boot => "boot",
        NodeState::StandbyIneligible | NodeState::StandbyEligible => "standby",
        NodeState::TakingOver => "taking_over",
        NodeState::ActiveSynced => "active",
        NodeState::ActiveAlone => "alone",
        NodeState::Resync => "resync",
        NodeState::Draining => "draining",
        NodeState::Conflict => "conflict",
        NodeState::Maintenance => "maintenance",
    }
}

/// The alarm of the heart; `me` and `peer` are the nodes' names.
pub(crate) fn of_heart(word: Word, me: &str, peer: &str) -> Alarm {
    use Severity::{Info, Serious, Warning};
    let (code, severity, en, zh) = match word {
        Word::TookOver(proof) => {
            let (en, zh) = proof_words(proof);
            (
                "took_over",
                Warning,
                format!("Node {me} has taken over and serves. Proof: {en}."),
                format!("节点 {me} 已接管并提供服务。依据：{zh}。"),
            )
        }
        Word::Alone(proof) => {
            let (en, zh) = proof_words(proof);
            (
                "alone",
                Warning,
                format!("Node {me} has lost its mirror and serves alone. Proof: {en}. Bring node {peer} back: until then a second fault stops the mail."),
                format!("节点 {me} 失去镜像，现单独提供服务。依据：{zh}。请恢复节点 {peer}：在此之前再出一次故障邮件就会中断。"),
            )
        }
        Word::MailWaits => (
            "mail_waits",
            Serious,
            format!("Node {me} has lost its mirror and has no proof that {peer} does not serve: new mail waits, reading goes on. If {peer} is off for certain, say so: `twinpost ctl pair takeover --force`."),
            format!("节点 {me} 失去镜像，且无法证明 {peer} 已停止服务：新邮件暂缓接收，读取照常。若确定 {peer} 已关机，请执行 `twinpost ctl pair takeover --force`。"),
        ),
        Word::Synced => (
            "synced",
            Info,
            format!("The mirror is whole again: node {peer} has every byte and may take over."),
            format!("镜像已恢复完整：节点 {peer} 拥有全部数据，可以接管。"),
        ),
        Word::LeaseEnded => (
            "lease_ended",
            Serious,
            format!("Node {me} heard neither {peer} nor the witness in time and has stopped serving, so that two never serve."),
            format!("节点 {me} 未能及时收到 {peer} 或见证服务器的应答，已停止服务，以保证不会两个节点同时服务。"),
        ),
        Word::Deposed => (
            "deposed",
            Warning,
            format!("Node {peer} holds a newer reign; node {me} has stopped serving."),
            format!("节点 {peer} 持有更新的任期；节点 {me} 已停止服务。"),
        ),
        Word::Conflict => (
            "conflict",
            Serious,
            "Both nodes hold mail that the other lacks. Nothing is overwritten. Look with `twinpost ctl pair conflict list`, then let one node give way: its mail is kept and merged.".to_owned(),
            "两个节点各有对方没有的邮件。不会覆盖任何数据。请用 `twinpost ctl pair conflict list` 查看，再让一方让出：其邮件会保留并合并。".to_owned(),
        ),
        Word::PromoteFailed => (
            "promote_failed",
            Serious,
            format!("Node {me} had the right to serve but its storage could not be opened; node {peer} may try."),
            format!("节点 {me} 有权提供服务，但无法打开其存储；节点 {peer} 可以尝试接管。"),
        ),
        Word::ServicesFail => (
            "services_fail",
            Serious,
            format!("The services of node {me} fail their check and node {peer} cannot take them; they are restarted again and again."),
            format!("节点 {me} 的服务检查失败，而节点 {peer} 无法接管；服务正在反复重启。"),
        ),
        Word::Switching => (
            "switching",
            Warning,
            format!("The services of node {me} still fail after restarts in place; node {peer} takes over."),
            format!("节点 {me} 的服务原地重启后仍然失败；由节点 {peer} 接管。"),
        ),
        Word::Healthier => (
            "healthier",
            Warning,
            format!("Node {peer} sees the network and node {me} does not; {peer} takes over."),
            format!("节点 {peer} 网络正常而节点 {me} 不正常；由 {peer} 接管。"),
        ),
        Word::SelfFenced => (
            "self_fenced",
            Serious,
            format!("Something on node {me} did not stop; the node cuts its own power by its watchdog."),
            format!("节点 {me} 上有程序无法停止；该节点将由看门狗自行断电。"),
        ),
        Word::FenceFailed => (
            "fence_failed",
            Serious,
            format!("The power of node {peer} could not be switched off, or not be read back. Check the switch, its address and password."),
            format!("无法关闭节点 {peer} 的电源，或无法回读状态。请检查电源开关及其地址和密码。"),
        ),
        Word::LinkSilent(link) => (
            "link_silent",
            Warning,
            format!("Nothing comes from node {peer} over {}. Check the cable.", name(link)),
            format!("{} 上收不到节点 {peer} 的任何信号。请检查线缆。", name_zh(link)),
        ),
        Word::MaintenanceEnded => (
            "maintenance_ended",
            Info,
            format!("The maintenance of node {me} has ended by itself."),
            format!("节点 {me} 的维护时段已自动结束。"),
        ),
    };
    alarm(code, severity, en, zh)
}

/// All reasons, in words.
pub(crate) fn refusals(reasons: Reasons, me: &str, peer: &str) -> Vec<Refusal> {
    reasons.iter().map(|reason| refusal(reason, me, peer)).collect()
}

fn refusal(reason: Reason, me: &str, peer: &str) -> Refusal {
    let (code, en, zh) = match reason {
        Reason::NotActive => (
            "not_active",
            format!("node {me} does not serve: give the order to the node that does"),
            format!("节点 {me} 未在提供服务：请对正在服务的节点下达命令"),
        ),
        Reason::AlreadyActive => ("already_active", format!("node {me} serves already"), format!("节点 {me} 已在提供服务")),
        Reason::PeerSilent => (
            "peer_silent",
            format!("node {peer} is not heard: look whether it has power and whether the cables are plugged in"),
            format!("收不到节点 {peer} 的信号：请检查其电源和线缆"),
        ),
        Reason::PeerNotCurrent => (
            "peer_not_current",
            format!("node {peer} does not hold every byte yet, or may not take over: wait until it is eligible"),
            format!("节点 {peer} 的数据尚不完整或无权接管：请等待其具备接管资格"),
        ),
        Reason::NotCurrent => (
            "not_current",
            format!("node {me} does not hold every byte: wait until it is eligible"),
            format!("节点 {me} 的数据尚不完整：请等待其具备接管资格"),
        ),
        Reason::Maintenance => (
            "maintenance",
            "a maintenance runs: end it first (`twinpost ctl pair maintenance off`)".to_owned(),
            "正在维护时段内：请先结束维护（`twinpost ctl pair maintenance off`）".to_owned(),
        ),
        Reason::Conflict => (
            "conflict",
            "both nodes hold mail that the other lacks: settle that first (`twinpost ctl pair conflict list`)".to_owned(),
            "两个节点各有对方没有的邮件：请先解决冲突（`twinpost ctl pair conflict list`）".to_owned(),
        ),
        Reason::Busy => {
            ("busy", "a switch is under way already: wait until it is over".to_owned(), "切换正在进行：请等待其完成".to_owned())
        }
        Reason::NoConflict => (
            "no_conflict",
            format!("node {me} is not in a conflict: nothing has to give way"),
            format!("节点 {me} 不存在冲突：无需让出"),
        ),
        Reason::Resync => (
            "resync",
            format!("the copy of node {me} is being overwritten right now: wait until it is whole"),
            format!("节点 {me} 的副本正在被同步覆盖：请等待其完整"),
        ),
        Reason::PeerActive => (
            "peer_active",
            format!("node {peer} serves and is heard: two would serve; use takeover instead"),
            format!("节点 {peer} 正在提供服务且可以联系：强制会导致两个节点同时服务；请改用接管"),
        ),
        Reason::NoMaintenance => ("no_maintenance", "no maintenance runs".to_owned(), "当前没有维护时段".to_owned()),
        Reason::Duration => (
            "duration",
            "a maintenance lasts at least a second and at most a week".to_owned(),
            "维护时段至少一秒，最长一周".to_owned(),
        ),
    };
    refusal_of(code, en, zh)
}

/// One reason of the daemon's own.
pub(crate) fn refusal_of(code: &str, en: impl Into<String>, zh: impl Into<String>) -> Refusal {
    Refusal { code: code.to_owned(), text: Text::new(en, zh) }
}

/// The watchdog cannot be fed.
pub(crate) fn watchdog_gone(path: &std::path::Path, error: &std::io::Error) -> Alarm {
    let path = path.display();
    alarm(
        "watchdog",
        Severity::Serious,
        format!(
            "The hardware watchdog {path} cannot be fed ({error}): a node that hangs is not reset. Check the driver and that no other program has it."
        ),
        format!("无法喂硬件看门狗 {path}（{error}）：节点死机时不会自动复位。请检查驱动，并确认没有其他程序占用。"),
    )
}

/// Nothing comes over any path.
pub(crate) fn peer_silent(me: &str, peer: &str) -> Alarm {
    alarm(
        "peer_silent",
        Severity::Serious,
        format!("Node {me} hears nothing of node {peer} over any path. Look whether {peer} has power."),
        format!("节点 {me} 在所有通道上都收不到节点 {peer} 的信号。请检查 {peer} 是否通电。"),
    )
}

/// The peer goes down by a person's order.
pub(crate) fn peer_leaves(what: crate::api::Leaving, peer: &str) -> Alarm {
    match what {
        crate::api::Leaving::Off => alarm(
            "peer_off_by_order",
            Severity::Info,
            format!(
                "Node {peer} is switched off by a person's order and stays off until somebody switches it on. Until then a second fault stops the mail."
            ),
            format!("节点 {peer} 已按人工命令关机，在有人开机之前保持关机。在此期间再出一处故障，邮件服务将中断。"),
        ),
        crate::api::Leaving::Restart => alarm(
            "peer_restarts_by_order",
            Severity::Info,
            format!("Node {peer} starts again by a person's order. Until it is back a second fault stops the mail."),
            format!("节点 {peer} 正按人工命令重新启动。恢复之前再出一处故障，邮件服务将中断。"),
        ),
    }
}

/// One path is silent, the others carry.
pub(crate) fn link_silent(link: twinpost_heartbeat::Link, others: &[twinpost_heartbeat::Link], peer: &str) -> Alarm {
    let mut told = of_heart(Word::LinkSilent(link), "", peer);
    if let [only] = others {
        told.text.en.push_str(&format!(" Only {} is left: one more fault and the nodes do not hear each other.", name(*only)));
        told.text.zh.push_str(&format!(" 目前只剩{}可用：再出一处故障，两个节点将失去联系。", name_zh(*only)));
    }
    told
}

/// The first takeover of a node that found nobody serving.
pub(crate) fn began(me: &str, proof: Proof) -> Alarm {
    let (en, zh) = proof_words(proof);
    alarm(
        "took_over",
        Severity::Info,
        format!("Node {me} serves; nobody served before. Proof: {en}."),
        format!("节点 {me} 开始提供服务；此前没有节点在服务。依据：{zh}。"),
    )
}

/// A modem is in the place of the peer.
pub(crate) fn serial_is_modem(said: &str) -> Alarm {
    alarm(
        "serial_is_modem",
        Severity::Serious,
        format!(
            "The serial cable is on the modem's port: it answers {said:?} like a modem. Plug the null-modem cable into the other port."
        ),
        format!("串口线接到了调制解调器的端口：对端像调制解调器一样回答 {said:?}。请把直连串口线换到另一个端口。"),
    )
}

/// Frames that cannot be the peer's.
pub(crate) fn wrong_frames(wrong: crate::links::sides::Wrong, me: &str, peer: &str) -> Alarm {
    use crate::links::sides::Wrong;
    let (code, link, en, zh) = match wrong {
        Wrong::Cluster(link) => (
            "another_pair",
            link,
            format!(
                "Over {} comes another pair: the cable leads to the wrong machine, or the nodes were paired anew. Check the cable, or pair again.",
                name(link)
            ),
            format!("{} 上收到的是另一对节点：线缆接错机器，或节点重新配对过。请检查线缆或重新配对。", name_zh(link)),
        ),
        Wrong::Version(link) => (
            "peer_version",
            link,
            format!("Node {peer} speaks another version of the heartbeat over {}: upgrade the older node.", name(link)),
            format!("节点 {peer} 在 {} 上使用另一版本的心跳协议：请升级较旧的节点。", name_zh(link)),
        ),
        Wrong::Forged(link) => (
            "forged",
            link,
            format!(
                "Frames over {} carry this pair's number but not its key: the keys differ (pair again), or somebody forges.",
                name(link)
            ),
            format!("{} 上的帧带有本对节点的编号但密钥不符：密钥不同（请重新配对），或有人伪造。", name_zh(link)),
        ),
        Wrong::Own(link) => (
            "same_node",
            link,
            format!(
                "Over {} comes a node that is also {me}: both sides have the same name, or the cable returns to this machine. Give the other node its own name.",
                name(link)
            ),
            format!("{} 上收到同样名为 {me} 的节点：两侧名称相同，或线缆接回了本机。请给另一节点设置自己的名称。", name_zh(link)),
        ),
    };
    let severity = if link == twinpost_heartbeat::Link::Lan { Severity::Warning } else { Severity::Serious };
    alarm(code, severity, en, zh)
}

/// Both run with different documents.
pub(crate) fn config_differs(own: u32, peer: u32, name: &str) -> Alarm {
    alarm(
        "config_differs",
        Severity::Warning,
        format!(
            "The configurations differ: generation {own} here, {peer} on node {name}. Look with `twinpost ctl pair status`; the channel to the peer may be down."
        ),
        format!(
            "两个节点的配置不一致：本节点第 {own} 代，节点 {name} 第 {peer} 代。请用 `twinpost ctl pair status` 查看；到对方的通道可能已断开。"
        ),
    )
}

/// The record cannot be kept.
pub(crate) fn store_failed(dir: &std::path::Path, error: &str) -> Alarm {
    let dir = dir.display();
    alarm(
        "state_not_stored",
        Severity::Serious,
        format!(
            "The state in {dir} cannot be stored ({error}): this node neither takes over nor hands out rights until it can. Make room on that partition."
        ),
        format!("无法在 {dir} 保存状态（{error}）：在能够保存之前，本节点既不接管也不授予资格。请清理该分区空间。"),
    )
}

/// The storage refused.
pub(crate) fn storage_failed(me: &str, what: &str, error: &str) -> Alarm {
    alarm(
        "storage",
        Severity::Serious,
        format!("Node {me} could not {what}: {error}."),
        format!("节点 {me} 的存储操作失败（{what}）：{error}。"),
    )
}

/// The active's disks failed under its copy of the volume.
pub(crate) fn copy_lost(me: &str, peer: &str) -> Alarm {
    alarm(
        "copy_lost",
        Severity::Serious,
        format!(
            "The disks under the mail volume of node {me} failed. It serves from the copy of node {peer} and hands the service over to it \
             as soon as {peer} can take it. Replace the disks of {me}."
        ),
        format!(
            "节点 {me} 邮件卷的磁盘已失效，目前使用节点 {peer} 的副本提供服务；{peer} 一旦可以接管，服务就切换过去。请更换 {me} 的磁盘。"
        ),
    )
}

/// The service address is not here.
pub(crate) fn address_failed(error: &str) -> Alarm {
    alarm(
        "address",
        Severity::Serious,
        format!("The service address cannot be used: {error}."),
        format!("服务地址无法使用：{error}。"),
    )
}

/// Diverged data was kept.
pub(crate) fn kept_aside(me: &str, path: &str) -> Alarm {
    alarm(
        "kept_aside",
        Severity::Warning,
        format!(
            "The mail of node {me} that its peer lacks was kept in {path}. Merge it with `twinpost ctl pair conflict merge`."
        ),
        format!("节点 {me} 上对方没有的邮件已保存在 {path}。请用 `twinpost ctl pair conflict merge` 合并。"),
    )
}
