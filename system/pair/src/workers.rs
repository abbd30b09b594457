//! Those who do what takes time: one ordered worker for each subsystem.
//!
//! Contract: the heart hands a job over and goes on; the answer comes back as an [`Input`]. Jobs of one subsystem are done in order.
//! Across subsystems one order matters: services start when everything that was asked of storage and address before is done ([`Gate`]).
//! A stop does not wait for the start before it: it cuts it short. Renewals of the address overtake each other, never a removal.
//!
//! Failure classes: a driver's error goes back as an input, in words; an error of a question (witness, power, reservation) is no
//! answer, and the heart asks again.

use crate::input::{GroupOutcome, Input};
use crate::state_file::StateFile;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use twinpost_address::Address;
use twinpost_fencing::{PowerOff, PowerSwitch};
use twinpost_group::Group;
use twinpost_heartbeat::{Event, FenceAnswer, Record, Writes};
use twinpost_storage::Storage;
use twinpost_witness::{Claimed, Renewed, Witness};

/// Between two tries of a disk that refuses.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// After so many failed starts in turn the answer is held back, or the heart would restart without a pause.
const FAST_FAILURES: u32 = 2;
/// For so long.
const SLOW_FAILURE: Duration = Duration::from_secs(5);

/// A job of the storage.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StorageJob {
    Promote(u32),
    Demote,
    Writes(Writes),
    Resync,
    Reserve(u32),
    Unreserve,
    KeepAside,
}

/// A job of the address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AddressJob {
    Up { expires: Option<Duration>, since: Instant },
    Down,
    Announce,
}

/// A job of the service group.
#[derive(Debug)]
pub(crate) enum GroupJob {
    Start(Gate),
    Stop,
    Restart,
    Check,
}

/// What must be done before a start.
#[derive(Debug)]
pub(crate) struct Gate(Vec<(watch::Receiver<u64>, u64)>);

impl Gate {
    async fn open(&mut self) {
        for (done, number) in &mut self.0 {
            // The other worker is gone only when the daemon ends.
            let _ = done.wait_for(|done| done >= number).await;
        }
    }
}

/// A queue that counts what was put in and what is done.
struct Counted<J> {
    jobs: mpsc::UnboundedSender<J>,
    issued: u64,
    done: watch::Receiver<u64>,
}

impl<J> Counted<J> {
    fn put(&mut self, job: J) {
        self.issued += 1;
        // Bounded by the heart itself: of a phase it asks nothing anew before the answer came, and renewals are dropped when they wait.
        let _ = self.jobs.send(job);
    }
}

/// The heart's end of all workers.
pub(crate) struct Workers {
    disk: watch::Sender<Option<Record>>,
    storage: Counted<StorageJob>,
    address: Counted<AddressJob>,
    group: mpsc::UnboundedSender<(u64, GroupJob)>,
    group_order: u64,
    fence: Option<mpsc::Sender<()>>,
    claim: Option<watch::Sender<Option<(u32, u32)>>>,
    renew: Option<watch::Sender<Option<(u32, u32)>>>,
}

/// What the workers work with.
pub(crate) struct Hands {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) address: Arc<dyn Address>,
    pub(crate) group: Arc<Group>,
    pub(crate) power: Option<Arc<dyn PowerSwitch>>,
    pub(crate) witness: Option<Arc<dyn Witness>>,
}

impl Workers {
    /// Starts all workers on this runtime; they end with `tasks`.
    pub(crate) fn start(
        hands: &Hands,
        file: StateFile,
        power_on_after_ms: u32,
        peer_off: &watch::Receiver<Option<u32>>,
        inputs: &mpsc::Sender<Input>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (disk, records) = watch::channel(None);
        tasks.spawn(disk_worker(file, records, inputs.clone()));

        let (jobs, queue) = mpsc::unbounded_channel();
        let (done_at, done) = watch::channel(0);
        tasks.spawn(storage_worker(Arc::clone(&hands.storage), queue, done_at, inputs.clone()));
        let storage = Counted { jobs, issued: 0, done };

        let (jobs, queue) = mpsc::unbounded_channel();
        let (done_at, done) = watch::channel(0);
        tasks.spawn(address_worker(Arc::clone(&hands.address), queue, done_at, inputs.clone()));
        let address = Counted { jobs, issued: 0, done };

        let (group, queue) = mpsc::unbounded_channel();
        tasks.spawn(group_worker(Arc::clone(&hands.group), Arc::clone(&hands.storage), queue, inputs.clone()));

        let fence = hands.power.clone().map(|power| {
            let (ask, asked) = mpsc::channel(1);
            tasks.spawn(fence_worker(power, power_on_after_ms, peer_off.clone(), asked, inputs.clone()));
            ask
        });
        let (mut claim, mut renew) = (None, None);
        if let Some(witness) = &hands.witness {
            let (ask, asked) = watch::channel(None);
            tasks.spawn(claim_worker(Arc::clone(witness), asked, inputs.clone()));
            claim = Some(ask);
            let (ask, asked) = watch::channel(None);
            tasks.spawn(renew_worker(Arc::clone(witness), asked, inputs.clone()));
            renew = Some(ask);
        }
        Self { disk, storage, address, group, group_order: 0, fence, claim, renew }
    }

    pub(crate) fn store(&self, record: Record) {
        self.disk.send_replace(Some(record));
    }

    pub(crate) fn storage(&mut self, job: StorageJob) {
        self.storage.put(job);
    }

    pub(crate) fn address(&mut self, job: AddressJob) {
        self.address.put(job);
    }

    /// The number of this order: answers to older ones are superseded.
    pub(crate) fn group(&mut self, job: GroupJob) -> u64 {
        self.group_order += 1;
        let _ = self.group.send((self.group_order, job));
        self.group_order
    }

    /// Open once everything that was asked of storage and address so far is done.
    pub(crate) fn gate(&self) -> Gate {
        Gate(vec![(self.storage.done.clone(), self.storage.issued), (self.address.done.clone(), self.address.issued)])
    }

    /// One at a time: while one is under way, its answer is the answer.
    pub(crate) fn fence(&self) {
        if let Some(ask) = &self.fence {
            let _ = ask.try_send(());
        }
    }

    pub(crate) fn claim(&self, knows: u32, new: u32) {
        if let Some(ask) = &self.claim {
            ask.send_replace(Some((knows, new)));
        }
    }

    pub(crate) fn renew(&self, reign: u32, number: u32) {
        if let Some(ask) = &self.renew {
            ask.send_replace(Some((reign, number)));
        }
    }
}

async fn disk_worker(file: StateFile, mut records: watch::Receiver<Option<Record>>, inputs: mpsc::Sender<Input>) {
    let mut file = Some(file);
    while records.changed().await.is_ok() {
        loop {
            let Some(record) = *records.borrow_and_update() else { break };
            // An fsync may take as long as the disk likes.
            let Some(mut held) = file.take() else { return };
            let stored = tokio::task::spawn_blocking(move || {
                let stored = held.store(&record);
                (held, stored)
            });
            let Ok((held, stored)) = stored.await else { return };
            file = Some(held);
            let Err(e) = stored else {
                if inputs.send(Input::Event(Event::Stored(record.writes))).await.is_err() {
                    return;
                }
                break;
            };
            if inputs.send(Input::StoreFailed { error: e.to_string() }).await.is_err() {
                return;
            }
            tokio::time::sleep(STORE_AGAIN).await;
        }
    }
}

async fn storage_worker(
    storage: Arc<dyn Storage>,
    mut jobs: mpsc::UnboundedReceiver<StorageJob>,
    done: watch::Sender<u64>,
    inputs: mpsc::Sender<Input>,
) {
    let words = |e: twinpost_storage::Error| e.to_string();
    while let Some(job) = jobs.recv().await {
        let mut answers = Vec::with_capacity(3);
        let (what, outcome) = match job {
            StorageJob::Promote(reign) => {
                let outcome = storage.promote(reign).await.map_err(words);
                answers.push(Input::Event(Event::Promoted(outcome.is_ok())));
                ("promote the storage", outcome)
            }
            StorageJob::Demote => {
                let outcome = storage.demote().await.map_err(words);
                answers.push(Input::Event(Event::Demoted(outcome.is_ok())));
                ("demote the storage", outcome)
            }
            StorageJob::Writes(how) => {
                let outcome = storage.writes(how).await.map_err(words);
                if outcome.is_ok() {
                    answers.push(Input::WritesAre(how));
                }
                ("tell the storage how writes are answered", outcome)
            }
            StorageJob::Resync => ("let the peer's copy be overwritten", storage.allow_resync().await.map_err(words)),
            StorageJob::Reserve(reign) => match storage.reserve(reign).await {
                Ok(mine) => {
                    // The core wants to know the reign beside the lock before it hears that the lock is its own.
                    if mine && let Ok(position) = storage.position().await {
                        answers.push(Input::Event(Event::Position(position)));
                    }
                    answers.push(Input::Event(Event::Reservation(mine)));
                    ("reserve the storage", Ok(()))
                }
                // Not known is not lost.
                Err(e) => ("reserve the storage", Err(words(e))),
            },
            StorageJob::Unreserve => ("give the reservation back", storage.demote().await.map_err(words)),
            StorageJob::KeepAside => match storage.keep_aside().await {
                Ok(path) => {
                    answers.push(Input::KeptAside(path.display().to_string()));
                    answers.push(Input::Event(Event::SetAside));
                    ("keep the diverged data", Ok(()))
                }
                Err(e) => ("keep the diverged data", Err(words(e))),
            },
        };
        answers.insert(0, Input::Storage { what, error: outcome.err() });
        for answer in answers {
            if inputs.send(answer).await.is_err() {
                return;
            }
        }
        done.send_modify(|done| *done += 1);
    }
}

async fn address_worker(
    address: Arc<dyn Address>,
    mut jobs: mpsc::UnboundedReceiver<AddressJob>,
    done: watch::Sender<u64>,
    inputs: mpsc::Sender<Input>,
) {
    let mut waiting = Vec::new();
    while jobs.recv_many(&mut waiting, 64).await > 0 {
        let mut jobs = std::mem::take(&mut waiting).into_iter().peekable();
        while let Some(job) = jobs.next() {
            let outcome = match job {
                // A later renewal says it all.
                AddressJob::Up { .. } if matches!(jobs.peek(), Some(AddressJob::Up { .. })) => None,
                AddressJob::Up { expires, since } => Some(address.up(expires, since).await.map_err(|e| e.to_string())),
                AddressJob::Down => address.down().await.err().map(|e| Err(e.to_string())),
                AddressJob::Announce => address.announce().await.err().map(|e| Err(e.to_string())),
            };
            if let Some(outcome) = outcome
                && inputs.send(Input::Address(outcome)).await.is_err()
            {
                return;
            }
            done.send_modify(|done| *done += 1);
        }
    }
}

async fn group_worker(
    group: Arc<Group>,
    storage: Arc<dyn Storage>,
    mut jobs: mpsc::UnboundedReceiver<(u64, GroupJob)>,
    inputs: mpsc::Sender<Input>,
) {
    let mut failures = 0_u32;
    let mut next = None;
    loop {
        let (order, job) = match next.take() {
            Some(job) => job,
            None => match jobs.recv().await {
                Some(job) => job,
                None => return,
            },
        };
        let outcome = match job {
            GroupJob::Check => {
                group.check_on();
                continue;
            }
            GroupJob::Stop => {
                group.check_off();
                failures = 0;
                match group.stop().await {
                    Ok(()) => GroupOutcome::Stopped,
                    Err(e) => GroupOutcome::NotStopped(e.to_string()),
                }
            }
            start => {
                group.check_off();
                let begin = async {
                    let begun = match start {
                        GroupJob::Start(mut gate) => {
                            gate.open().await;
                            group.inherit(storage.lock_fd());
                            group.start().await
                        }
                        // A start that failed stopped what it had begun: there is nothing to restart.
                        _ => match group.restart().await {
                            Err(twinpost_group::Error::Stopped) => group.start().await,
                            other => other,
                        },
                    };
                    if begun.is_err() && failures >= FAST_FAILURES {
                        tokio::time::sleep(SLOW_FAILURE).await;
                    }
                    begun
                };
                let begun = tokio::select! {
                    begun = begin => begun,
                    // Dropped, a start goes on inside the group until the stop that comes now cuts it short.
                    job = jobs.recv() => match job {
                        Some(job) => {
                            next = Some(job);
                            continue;
                        }
                        None => return,
                    },
                };
                match begun {
                    Ok(()) => {
                        failures = 0;
                        GroupOutcome::Up
                    }
                    Err(e) => {
                        failures = failures.saturating_add(1);
                        GroupOutcome::Failed(e.to_string())
                    }
                }
            }
        };
        if inputs.send(Input::Group { order, outcome }).await.is_err() {
            return;
        }
    }
}

async fn fence_worker(
    power: Arc<dyn PowerSwitch>,
    on_after_ms: u32,
    peer_off: watch::Receiver<Option<u32>>,
    mut asked: mpsc::Receiver<()>,
    inputs: mpsc::Sender<Input>,
) {
    let mut on_at = None;
    loop {
        let again = async {
            match on_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ask = asked.recv() => if ask.is_none() {
                return;
            },
            () = again => {
                on_at = None;
                if peer_off.borrow().is_some() {
                    tracing::info!(switch = power.name(), "the peer is off by a person's order and stays so");
                    continue;
                }
                // It comes up without any right, as a standby.
                match power.on().await {
                    Ok(()) => tracing::info!(switch = power.name(), "the peer's power is on again"),
                    Err(e) => tracing::warn!(switch = power.name(), error = %e, "the peer's power stays off"),
                }
                continue;
            }
        }
        on_at = None;
        let (said, error, answer) = match power.off().await {
            Ok(PowerOff::ReadBackOff) => ("off", None, FenceAnswer::Off),
            Ok(PowerOff::Unread) => ("unread", None, FenceAnswer::Unread),
            Err(e) => ("failed", Some(e.to_string()), FenceAnswer::Failed),
        };
        if answer == FenceAnswer::Off && on_after_ms > 0 {
            on_at = Some(tokio::time::Instant::now() + Duration::from_millis(on_after_ms.into()));
        }
        if inputs.send(Input::Fence { said, error, event: Event::Fence(answer) }).await.is_err() {
            return;
        }
    }
}

async fn claim_worker(witness: Arc<dyn Witness>, mut asked: watch::Receiver<Option<(u32, u32)>>, inputs: mpsc::Sender<Input>) {
    while asked.changed().await.is_ok() {
        let Some((knows, new)) = *asked.borrow_and_update() else { continue };
        let event = match witness.claim(knows, new).await {
            Ok(Claimed::Won { reign, granted_ms }) => Event::WitnessWon { reign, granted_ms },
            Ok(Claimed::Lost { reign }) => Event::WitnessLost { reign },
            Ok(Claimed::Held { left_ms }) => Event::WitnessHeld { left_ms },
            Err(e) => {
                tracing::info!(error = %e, reign = new, "the witness did not answer a claim");
                continue;
            }
        };
        tracing::info!(knows, new, answer = ?event, "the witness answered a claim");
        if inputs.send(Input::Event(event)).await.is_err() {
            return;
        }
    }
}

async fn renew_worker(witness: Arc<dyn Witness>, mut asked: watch::Receiver<Option<(u32, u32)>>, inputs: mpsc::Sender<Input>) {
    while asked.changed().await.is_ok() {
        let Some((reign, number)) = *asked.borrow_and_update() else { continue };
        let event = match witness.renew(reign).await {
            Ok(Renewed::Renewed) => Event::WitnessRenewed(number),
            Ok(Renewed::Lost { reign }) => Event::WitnessLost { reign },
            Err(e) => {
                tracing::debug!(error = %e, reign, "the witness did not answer a renewal");
                continue;
            }
        };
        if inputs.send(Input::Event(event)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::BoxFuture;
    use twinpost_fencing::Power;

    /// Tells what it was asked for.
    struct Switch(mpsc::UnboundedSender<&'static str>);

    impl PowerSwitch for Switch {
        fn off(&self) -> BoxFuture<'_, Result<PowerOff, twinpost_fencing::Error>> {
            let _ = self.0.send("off");
            Box::pin(std::future::ready(Ok(PowerOff::ReadBackOff)))
        }
        fn on(&self) -> BoxFuture<'_, Result<(), twinpost_fencing::Error>> {
            let _ = self.0.send("on");
            Box::pin(std::future::ready(Ok(())))
        }
        fn read(&self) -> BoxFuture<'_, Result<Power, twinpost_fencing::Error>> {
            Box::pin(std::future::ready(Ok(Power::Off)))
        }
        fn name(&self) -> &'static str {
            "a switch"
        }
    }

    #[tokio::test]
    async fn a_peer_that_is_off_by_order_gets_no_power() {
        let (told, mut asked) = mpsc::unbounded_channel();
        let (order, orders) = mpsc::channel(1);
        let (inputs, mut answers) = mpsc::channel(8);
        let (peer_off, is_off) = watch::channel(Some(3));
        let worker = tokio::spawn(fence_worker(Arc::new(Switch(told)), 10, is_off, orders, inputs));
        order.send(()).await.expect("it lives");
        assert_eq!(asked.recv().await, Some("off"));
        assert!(matches!(answers.recv().await, Some(Input::Fence { said: "off", .. })));
        let silence = tokio::time::timeout(Duration::from_millis(200), asked.recv()).await;
        assert!(silence.is_err(), "its time came, and it got no power");
        // It was back since: when it must be fenced now, it comes back as ever.
        peer_off.send_replace(None);
        order.send(()).await.expect("it lives");
        assert_eq!((asked.recv().await, asked.recv().await), (Some("off"), Some("on")));
        drop(order);
        worker.await.expect("no panic");
    }
}
