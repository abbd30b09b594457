//! From start to end.
//!
//! Order of a start: lock and state file, control socket, what a predecessor left of the service group, how far the data is, then the heart.
//! Order of an end: hand over if the peer can take it; otherwise services, address and storage stop by hand; the watchdog is disarmed last.
//! Whoever drops the future kills the daemon as a crash does: nothing is stopped, nothing is told.

use crate::alarms::{Board, Journal, keep};
use crate::api::{Severity, Text};
use crate::clerk::Clerk;
use crate::engine::{Ended, Engine, Start};
use crate::error::Error;
use crate::input::{INPUTS_MAX, Input};
use crate::links::hints;
use crate::memory::Memory;
use crate::settings::{Parts, Settings};
use crate::state_file::{Found, StateFile};
use crate::workers::{Hands, Workers};
use crate::{real_time, server, watchdog, words};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use twinpost_heartbeat::{NodeState, State};

/// Between two tries of what must be there before the heart begins.
const AGAIN: Duration = Duration::from_secs(1);
/// A witness that is away for less is no alarm.
const WITNESS_AWAY: Duration = Duration::from_secs(30);
/// Between two readings of the peer's power switch.
const POWER_READ_EVERY: Duration = Duration::from_secs(600);
/// Each step of an end by hand.
const END_STEP_MAX: Duration = Duration::from_secs(25);
/// Each step of a standby's leaving.
const LEAVE_STEP_MAX: Duration = Duration::from_secs(4);
/// A takeover of the peer is waited for no longer.
const LEAVE_TAKEOVER_MAX: Duration = Duration::from_secs(8);
/// DRBD tells the peer's daemon of a lost mirror within this.
const LEAVE_NEWS: Duration = Duration::from_millis(500);
/// Between two looks at the peer then.
const LEAVE_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the pair daemon of one node until `shutdown` is cancelled.
///
/// # Errors
/// As [`Error`] says; with [`Error::SelfFenced`] the process must exit with [`crate::SELF_FENCED_EXIT`] at once.
pub async fn serve(settings: Settings, parts: Parts, shutdown: CancellationToken) -> Result<(), Error> {
    examine(&settings)?;
    let kill = CancellationToken::new();
    let _killer = kill.clone().drop_guard();
    let (file, found) = StateFile::open(&settings.state_dir)?;
    let journal_path = settings.state_dir.join("journal.json");
    let memory = Memory::load(settings.state_dir.join("rules.json"));
    let listener = server::bind(&settings.socket).await?;

    let Parts { storage, address, group, group_events, power, witness, channel, alarms, desk, door, changes } = parts;
    let mut heart = settings.heart;
    (heart.witness, heart.fencing) = (witness.is_some(), power.is_some());
    heart.watchdog_ms = match &settings.watchdog {
        // A device that was loaded with a longer time than the settings say resets later than the peer would wait for.
        Some(path) => settings.watchdog_ms.max(watchdog::timeout_ms(path).unwrap_or(0)),
        None => 0,
    };
    let fail_back = memory.fail_back().cloned().unwrap_or_else(|| settings.fail_back.clone());
    let set = Arc::new(settings);
    let group = Arc::new(group);
    let (inputs, queue) = mpsc::channel(INPUTS_MAX);
    let changed = Arc::new(watch::channel(0).0);
    let (mut board, journal) = Board::new(Journal::load(&journal_path), alarms);
    let clerk = Arc::new(Clerk {
        set: Arc::clone(&set),
        inputs: inputs.clone(),
        changed: Arc::clone(&changed),
        storage: Arc::clone(&storage),
        group: Arc::clone(&group),
        power: power.clone(),
        witness: Clerk::witness_state(witness.as_ref()),
        channel: channel.clone(),
        desk,
        memory: Arc::new(Mutex::new(memory)),
        before: Arc::new(Mutex::new(Some(Text::new("The pair daemon is starting.", "双机守护进程正在启动。")))),
    });
    // All of them end when this is dropped.
    let mut tasks = JoinSet::new();
    tasks.spawn(keep(journal_path, journal));
    tasks.spawn(server::serve(listener, Arc::clone(&clerk)));
    if let Some(door) = door {
        tasks.spawn(Arc::clone(&clerk).serve_door(door));
    }
    tasks.spawn(tell_systemd(Arc::clone(&clerk)));
    tell_found(&set, found, &mut board);

    let begun = begin(&clerk, &mut board);
    let position = tokio::select! {
        position = begun => position,
        () = shutdown.cancelled() => return Ok(()),
    };
    let record = match found {
        Found::Record { record, .. } => Some(record),
        Found::Fresh | Found::Lost => None,
    };
    let maintenance_left_ms = u32::try_from(clerk.memory.lock().maintenance_left_ms()).unwrap_or(u32::MAX);

    let hands = Hands { storage, address, group: Arc::clone(&group), power, witness };
    let (peer_off, peer_is_off) = watch::channel(clerk.memory.lock().peer_off());
    let workers = Workers::start(&hands, file, set.power_on_after_ms, &peer_is_off, &inputs, &mut tasks);
    tasks.spawn(keep_peer_off(Arc::clone(&clerk), peer_is_off));
    listen(&set, &hands, group_events, changes, &inputs, &mut tasks);
    if let Some(channel) = channel {
        tasks.spawn(mind_channel(Arc::clone(&clerk), channel));
    }
    if set.realtime {
        real_time::lock_memory();
    }
    let (done, mut ended) = oneshot::channel();
    let start = Start {
        set: Arc::clone(&set),
        heart,
        state: State::start(record, position),
        workers,
        group,
        board,
        fail_back,
        peer_off,
        inputs: queue,
        changed,
        kill,
    };
    spawn_heart(start, maintenance_left_ms, done)?;
    clerk.before.lock().take();
    clerk.changed.send_modify(|count| *count += 1);
    tracing::info!(node = set.name(), reign = record.map_or(0, |r| r.reign), position, "the pair daemon runs");

    tokio::select! {
        how = &mut ended => return end_of(&how),
        () = shutdown.cancelled() => {}
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let (reply, still_serving) = oneshot::channel();
    if inputs.send(Input::Leave(reply)).await.is_ok() {
        tokio::select! {
            how = &mut ended => return end_of(&how),
            serving = still_serving => if serving.unwrap_or(true) {
                stop_by_hand(&hands).await?;
            } else {
                leave_the_mirror(&clerk, &hands).await;
                if let Err(error) = hands.group.stop().await {
                    // It served nobody and had no data; systemd kills it after this daemon's end.
                    tracing::warn!(%error, "what waited to serve did not end");
                }
            }
        }
    }
    let _ = inputs.send(Input::End).await;
    end_of(&ended.await)
}

fn end_of(how: &Result<Ended, oneshot::error::RecvError>) -> Result<(), Error> {
    match how {
        Ok(Ended::Orderly) => Ok(()),
        Ok(Ended::SelfFenced) => Err(Error::SelfFenced),
        Ok(Ended::Killed) => Err(Error::Heart("its inputs were closed".to_owned())),
        Err(_) => Err(Error::Heart("its thread panicked; the log says where".to_owned())),
    }
}

fn examine(set: &Settings) -> Result<(), Error> {
    let wrong = |what: &str| Err(Error::Settings(what.to_owned()));
    let heart = &set.heart;
    if heart.node > 1 {
        return wrong("the node's number is 0 or 1");
    }
    if set.names[0] == set.names[1] || set.names.iter().any(String::is_empty) {
        return wrong("both nodes need a name of their own");
    }
    if !(heart.keepalive_ms < heart.warn_ms && heart.warn_ms < heart.lease_ms && heart.lease_ms < heart.first_contact_ms) {
        return wrong("keepalive < warn < lease < first contact must hold");
    }
    if set.eth1.is_none() && set.lan.is_none() && set.serial.is_none() {
        return wrong("no path to the peer: eth1, LAN or serial line is needed, better all three");
    }
    Ok(())
}

fn tell_found(set: &Settings, found: Found, board: &mut Board) {
    match found {
        Found::Fresh => tracing::info!("no state is kept: the first start of this node"),
        Found::Record { record, torn } => tracing::info!(?record, torn, "the state as it was kept"),
        Found::Lost => board.raise(words::alarm(
            "state_lost",
            Severity::Serious,
            format!(
                "Both state files in {} are damaged: node {} does not know any more whose mail is newer and waits for its peer.",
                set.state_dir.display(),
                set.name()
            ),
            format!(
                "{} 中的两个状态文件均已损坏：节点 {} 无法判断谁的邮件更新，正等待对方节点。",
                set.state_dir.display(),
                set.name()
            ),
        )),
    }
}

/// What must be so before the heart begins: nothing of a predecessor runs, and it is known how far the data is.
async fn begin(clerk: &Clerk, board: &mut Board) -> u64 {
    loop {
        let what = match clerk.group.clear().await {
            Err(e) => format!("what an earlier start left running cannot be stopped: {e}"),
            Ok(()) => match clerk.storage.position().await {
                Ok(position) => {
                    board.over("begin");
                    return position;
                }
                Err(e) => format!("the storage cannot say how far its data is: {e}"),
            },
        };
        let (me, zh) = (clerk.set.name(), format!("节点 {} 无法启动双机：{what}", clerk.set.name()));
        let en = format!("Node {me} does not take part in the pair yet: {what}");
        *clerk.before.lock() = Some(Text::new(en.clone(), zh.clone()));
        clerk.changed.send_modify(|count| *count += 1);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        board.lasting("begin", || words::alarm("not_begun", Severity::Serious, en, zh));
        tokio::time::sleep(AGAIN).await;
    }
}

fn spawn_heart(start: Start, maintenance_left_ms: u32, done: oneshot::Sender<Ended>) -> Result<(), Error> {
    let heart = move || {
        if start.set.realtime {
            real_time::raise_thread();
        }
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let ended = runtime.block_on(Engine::run(start, maintenance_left_ms));
                let _ = done.send(ended);
            }
            Err(e) => tracing::error!(error = %e, "the heart got no runtime"),
        }
    };
    let thread = std::thread::Builder::new().name("pair-heart".to_owned()).spawn(heart);
    thread.map(|_| ()).map_err(|e| Error::Heart(e.to_string()))
}

/// Those who notice something by themselves.
fn listen(
    set: &Settings,
    hands: &Hands,
    group_events: mpsc::Receiver<twinpost_group::GroupEvent>,
    changes: Option<watch::Receiver<crate::settings::Changes>>,
    inputs: &mpsc::Sender<Input>,
    tasks: &mut JoinSet<()>,
) {
    let (mut events, to) = (hands.storage.events(), inputs.clone());
    tasks.spawn(async move {
        use twinpost_heartbeat::Event;
        while let Some(event) = events.recv().await {
            let input = match event {
                twinpost_storage::Event::Replication(word) => Input::Event(Event::Replication(word)),
                twinpost_storage::Event::Position(position) => Input::Event(Event::Position(position)),
                twinpost_storage::Event::Reservation(mine) => Input::Event(Event::Reservation(mine)),
                twinpost_storage::Event::OwnCopyLost(lost) => Input::OwnCopyLost(lost),
            };
            if to.send(input).await.is_err() {
                return;
            }
        }
    });
    let (mut events, to) = (group_events, inputs.clone());
    tasks.spawn(async move {
        while let Some(event) = events.recv().await {
            if to.send(Input::GroupEvent(event)).await.is_err() {
                return;
            }
        }
    });
    if let Some(interface) = set.eth1.as_ref().and_then(|link| link.interface.clone()) {
        let (tell, mut carrier) = watch::channel(true);
        tasks.spawn(hints::carrier(interface, tell));
        let to = inputs.clone();
        tasks.spawn(async move {
            while carrier.changed().await.is_ok() {
                let up = *carrier.borrow_and_update();
                tracing::warn!(up, "carrier of eth1");
                if to.send(Input::Carrier(up)).await.is_err() {
                    return;
                }
            }
        });
    }
    // A LAN cable without carrier is a gateway that does not answer.
    let (mut lan, (tell, mut gateway)) = (hands.address.carrier(), watch::channel(true));
    if let Some(address) = set.gateway {
        tasks.spawn(hints::ping(address, tell));
    }
    let to = inputs.clone();
    tasks.spawn(async move {
        let mut told = true;
        let (mut lan_ends, mut gateway_ends) = (false, false);
        while !(lan_ends && gateway_ends) {
            let outside = *lan.borrow_and_update() && *gateway.borrow_and_update();
            if std::mem::replace(&mut told, outside) != outside {
                tracing::warn!(outside, "the network beyond the LAN cable");
                if to.send(Input::Outside(outside)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = lan.changed(), if !lan_ends => lan_ends = changed.is_err(),
                changed = gateway.changed(), if !gateway_ends => gateway_ends = changed.is_err(),
            }
        }
    });
    if let Some(witness) = &hands.witness {
        tasks.spawn(mind_witness(witness.state(), inputs.clone()));
    }
    if let Some(power) = &hands.power {
        tasks.spawn(mind_power(Arc::clone(power), set.peer_name().to_owned(), inputs.clone()));
    }
    if let Some(mut changes) = changes {
        let to = inputs.clone();
        tasks.spawn(async move {
            loop {
                let now = changes.borrow_and_update().clone();
                if to.send(Input::Changes(now)).await.is_err() || changes.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Tells people when the witness is away for long: the next fault may then find no proof.
async fn mind_witness(mut state: watch::Receiver<bool>, inputs: mpsc::Sender<Input>) {
    loop {
        let there = *state.borrow_and_update();
        let input = if there {
            Input::Over("witness")
        } else {
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return } else { continue },
                () = tokio::time::sleep(WITNESS_AWAY) => {}
            }
            let alarm = words::alarm(
                "witness_silent",
                Severity::Warning,
                "The witness does not answer. The pair goes on; but when the nodes lose each other, nobody can say who may serve. Check the witness and the network to it.",
                "见证服务器没有应答。双机照常运行；但若两个节点失去联系，将无法裁定由谁服务。请检查见证服务器及其网络。",
            );
            Input::Alarm { alarm, lasting: Some("witness") }
        };
        if inputs.send(input).await.is_err() || state.changed().await.is_err() {
            return;
        }
    }
}

/// Reads the peer's power switch now and then: a switch that is found dead only when it is needed is none.
async fn mind_power(power: Arc<dyn twinpost_fencing::PowerSwitch>, peer: String, inputs: mpsc::Sender<Input>) {
    loop {
        let input = match power.read().await {
            Ok(_) => Input::Over("power_switch"),
            Err(e) => {
                let alarm = words::alarm(
                    "power_switch",
                    Severity::Serious,
                    format!(
                        "The power switch of node {peer} ({}) cannot be read: {e}. Without it a hanging node {peer} cannot be switched off.",
                        power.name()
                    ),
                    format!("无法读取节点 {peer} 的电源开关（{}）：{e}。没有它就无法切断死机的节点 {peer}。", power.name()),
                );
                Input::Alarm { alarm, lasting: Some("power_switch") }
            }
        };
        if inputs.send(input).await.is_err() {
            return;
        }
        tokio::time::sleep(POWER_READ_EVERY).await;
    }
}

/// Tells the channel whether the peer is heard, and people when the machines do not match.
async fn mind_channel(clerk: Arc<Clerk>, channel: Arc<dyn crate::settings::PeerChannel>) {
    let set = Arc::clone(&clerk.set);
    let mut up = false;
    loop {
        let status = clerk.status().await;
        channel.heard(status.links.iter().any(|link| link.state == "up"));
        let about = channel.about();
        let connected = channel.connected();
        if std::mem::replace(&mut up, connected) != connected {
            tracing::info!(up, "the channel to the peer");
            clerk.changed.send_modify(|count| *count += 1);
        }
        if let Some(about) = about {
            let differ = !set.board.is_empty() && !about.board.is_empty() && set.board != about.board;
            let input = if differ {
                let (own, peer, name) = (&set.board, &about.board, set.peer_name());
                let alarm = words::alarm(
                    "boards_differ",
                    Severity::Warning,
                    format!(
                        "The machines differ: this one is a {own}, node {name} a {peer}. The weaker one may not carry the load of both."
                    ),
                    format!("两台机器型号不同：本机为 {own}，节点 {name} 为 {peer}。较弱的机器可能无法承担全部负载。"),
                );
                Input::Alarm { alarm, lasting: Some("boards_differ") }
            } else {
                Input::Over("boards_differ")
            };
            if clerk.inputs.send(input).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Tells systemd that the daemon is ready, and its sentence whenever that changes.
async fn tell_systemd(clerk: Arc<Clerk>) {
    use sd_notify::{NotifyState, notify};
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut changes = clerk.changes();
    let mut last = String::new();
    let _ = notify(&[NotifyState::Ready]);
    loop {
        changes.borrow_and_update();
        let sentence = clerk.status().await.sentence;
        if sentence != last {
            let _ = notify(&[NotifyState::Status(&sentence)]);
            last = sentence;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// A standby that goes: its copy leaves the mirror while the heart still promises, so that the peer goes on alone by this node's word and needs no
/// other proof. The peer's own work is not waited for longer than a moment.
async fn leave_the_mirror(clerk: &Clerk, hands: &Hands) {
    let peer = async || {
        let seen = clerk.snapshot().await?;
        seen.state.peer_within(seen.heart.lease_ms).map(|peer| peer.state)
    };
    let until = async |reached: fn(Option<NodeState>) -> bool, limit: Duration| {
        let looking = async {
            while !reached(peer().await) {
                tokio::time::sleep(LEAVE_LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(limit, looking).await.is_ok()
    };
    // One that takes over right now is not disturbed in it.
    until(|peer| peer != Some(NodeState::TakingOver), LEAVE_TAKEOVER_MAX).await;
    if !peer().await.is_some_and(NodeState::is_active) {
        return;
    }
    match tokio::time::timeout(LEAVE_STEP_MAX, hands.storage.leave()).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return,
        Ok(Err(error)) => {
            return tracing::warn!(%error, "the copy did not leave the mirror: the peer looks for a proof by itself");
        }
        Err(_) => return tracing::warn!("the copy did not leave the mirror in time: the peer looks for a proof by itself"),
    }
    // Its own mirror has to tell it first.
    tokio::time::sleep(LEAVE_NEWS).await;
    // Not heard any more, it does not hear a promise either.
    if until(|peer| matches!(peer, None | Some(NodeState::ActiveAlone)), LEAVE_STEP_MAX).await {
        tracing::info!("the peer goes on alone by this node's word");
    } else {
        tracing::warn!("the peer did not say that it goes on alone");
    }
}

/// Keeps over a restart of this daemon that the peer is off by order.
async fn keep_peer_off(clerk: Arc<Clerk>, mut peer_off: watch::Receiver<Option<u32>>) {
    while peer_off.changed().await.is_ok() {
        let (boot, memory) = (*peer_off.borrow_and_update(), Arc::clone(&clerk.memory));
        let kept = tokio::task::spawn_blocking(move || memory.lock().keep_peer_off(boot)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "that the peer is off by order cannot be kept over a restart");
        }
    }
}

/// Services, address, storage, in this order, each proven.
async fn stop_by_hand(hands: &Hands) -> Result<(), Error> {
    let in_time = |what: &'static str, outcome: Result<Result<(), String>, tokio::time::error::Elapsed>| match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => {
            tracing::error!(error = %e, "{what} did not stop");
            Err(Error::SelfFenced)
        }
        Err(_) => {
            tracing::error!("{what} did not stop in time");
            Err(Error::SelfFenced)
        }
    };
    let stop = async { hands.group.stop().await.map_err(|e| e.to_string()) };
    in_time("the service group", tokio::time::timeout(END_STEP_MAX, stop).await)?;
    let down = async { hands.address.down().await.map_err(|e| e.to_string()) };
    in_time("the service address", tokio::time::timeout(END_STEP_MAX, down).await)?;
    let demote = async { hands.storage.demote().await.map_err(|e| e.to_string()) };
    in_time("the storage", tokio::time::timeout(END_STEP_MAX, demote).await)
}
