//! Feeds the full-text index from the change log, beside mail and never in its way.
//!
//! While mail comes in fast, the indexer works a tenth of the time only: what it has not read yet is scanned by a search,
//! so an answer is never short. When it is quiet, it catches up, and then gives its memory back.
//!
//! From time to time it compares the index with the store: the words of mail that nobody holds any more (purged after its time
//! to come back, or with its account) must not stay behind.

use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use twinpost_message::{AccountId, BodyId, ModSeq, search_text};
use twinpost_search::Index;
use twinpost_store::{ChangeKind, Error, Store};

/// Rows of the change log in one step.
const STEP_ROWS: usize = 512;
/// The log is quiet when nothing came for so long.
const QUIET: Duration = Duration::from_millis(400);
/// Nothing came for so long: memory is given back.
const REST_AFTER: Duration = Duration::from_secs(20);
/// Between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Bodies that the store is asked for at once in a sweep.
const SWEEP_BODIES: usize = 1000;
/// Pause after a fault.
const FAULT_PAUSE: Duration = Duration::from_secs(10);

/// Runs until the token is cancelled.
pub async fn run(store: Store, index: Arc<Index>, stop: CancellationToken) {
    let mut head = store.head();
    let mut swept = Instant::now();
    loop {
        let worked = tokio::select! {
            () = stop.cancelled() => return,
            worked = catch_up(&store, &index, &mut head, &mut swept) => worked,
        };
        let pause = match worked {
            Ok(()) => REST_AFTER,
            Err(fault) => {
                tracing::warn!(%fault, "the search index cannot be fed; searches scan meanwhile");
                FAULT_PAUSE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = head.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {
                let resting = index.clone();
                if let Ok(Err(error)) = tokio::task::spawn_blocking(move || resting.rest()).await {
                    tracing::warn!(%error, "the search index could not finish its merges");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = head.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}

async fn catch_up(
    store: &Store,
    index: &Arc<Index>,
    head: &mut tokio::sync::watch::Receiver<ModSeq>,
    swept: &mut Instant,
) -> Result<(), String> {
    loop {
        if swept.elapsed() > SWEEP_EVERY {
            *swept = Instant::now();
            let removed = sweep(store, index).await?;
            tracing::debug!(removed, "the search index was compared with the store");
        }
        if index.position() >= *head.borrow_and_update() {
            return Ok(());
        }
        let started = Instant::now();
        step(store, index).await?;
        // Nine parts of rest for one of work while mail comes in; none when it is quiet.
        let rest = (started.elapsed() * 9).clamp(Duration::from_millis(20), Duration::from_secs(10));
        let busy = tokio::time::timeout(QUIET, head.changed()).await.is_ok();
        if busy {
            tokio::time::sleep(rest).await;
        }
    }
}

/// Takes out what nobody holds any more; answers how many bodies. Nothing is added meanwhile: that is this task's work, too.
async fn sweep(store: &Store, index: &Arc<Index>) -> Result<usize, String> {
    let lister = index.clone();
    let known = tokio::task::spawn_blocking(move || lister.bodies()).await.map_err(|e| e.to_string())?;
    let mut gone = Vec::new();
    for piece in known.map_err(|e| e.to_string())?.chunks(SWEEP_BODIES) {
        let held = store.held(piece).await.map_err(|e| e.to_string())?;
        gone.extend(piece.iter().copied().filter(|body| !held.contains(body)));
    }
    let removed = gone.len();
    if removed > 0 {
        let remover = index.clone();
        let done = tokio::task::spawn_blocking(move || {
            for body in gone {
                remover.remove(body)?;
            }
            // The position stays: what comes again is in the change log again.
            remover.commit(remover.position())
        });
        done.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    }
    Ok(removed)
}

async fn step(store: &Store, index: &Arc<Index>) -> Result<(), String> {
    let rows = store.changes(index.position(), STEP_ROWS).await.map_err(|e| e.to_string())?;
    let Some(last) = rows.last().map(|r| r.modseq) else { return Ok(()) };
    let added: Vec<(BodyId, AccountId)> =
        rows.iter().filter(|r| r.kind == ChangeKind::Added).map(|r| (r.body, r.account)).collect();
    let planner = index.clone();
    let plan =
        tokio::task::spawn_blocking(move || planner.plan(&added)).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    for (body, accounts) in plan {
        let bytes = match store.body(body).await {
            Ok(bytes) => bytes,
            // Gone meanwhile, or damaged (which its reader is told): there is nothing to find in it.
            Err(Error::NoBody(_) | Error::Damaged { .. }) => continue,
            Err(error) => return Err(error.to_string()),
        };
        let parsed = store.parsed(&[body]).await.map_err(|e| e.to_string())?.pop();
        let Some(parsed) = parsed else { continue };
        let feeder = index.clone();
        let fed = tokio::task::spawn_blocking(move || feeder.add(body, &accounts, &search_text(&bytes, &parsed))).await;
        fed.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    }
    let committer = index.clone();
    tokio::task::spawn_blocking(move || committer.commit(last)).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use twinpost_message::{Address, DomainId, TraceId};
    use twinpost_store::{Delivery, FlagNames, Folder, INBOX, Limits, Options, OverQuotaPolicy, Target};

    async fn deliver(store: &Store, text: &str) -> BodyId {
        let target = Target {
            account: AccountId(1),
            domain: DomainId(1),
            folder: Folder::Inbox,
            flags: FlagNames::default(),
            limits: Limits::default(),
            recipient: Address::parse("a@x.example").unwrap(),
        };
        let delivery = Delivery {
            body: Store::prepare(&Bytes::from(format!("Subject: {text}\r\n\r\n{text}\r\n"))),
            trace: TraceId(1),
            received_s: 1,
            targets: vec![target],
            spool: None,
            over_quota: OverQuotaPolicy::Refuse,
        };
        store.deliver(delivery).await.unwrap().body.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_purged_is_swept_out_and_nothing_else() {
        let (mail, words) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(Options::new(mail.path())).await.unwrap();
        let index = Arc::new(Index::open(words.path()).unwrap());
        let mut bodies = Vec::new();
        for text in ["secret", "stays", "deleted"] {
            bodies.push(deliver(&store, text).await);
        }
        let mut head = store.head();
        catch_up(&store, &index, &mut head, &mut Instant::now()).await.unwrap();
        assert_eq!(index.bodies().unwrap(), bodies);
        assert_eq!(sweep(&store, &index).await.unwrap(), 0);
        let inbox = store.mailbox_named(AccountId(1), INBOX).await.unwrap();
        let uids: Vec<_> = store.snapshot(inbox.id).await.unwrap().iter().map(|e| e.uid).collect();
        store.expunge(inbox.id, vec![uids[0]], false).await.unwrap();
        assert_eq!(store.purge(i64::MAX).await.unwrap(), 1);
        // Expunged, but it can come back: its words stay.
        store.expunge(inbox.id, vec![uids[2]], false).await.unwrap();
        let position = index.position();
        assert_eq!(sweep(&store, &index).await.unwrap(), 1);
        assert_eq!((index.bodies().unwrap(), index.position()), (bodies[1..].to_vec(), position));
        // The same mail again is found again.
        let again = deliver(&store, "secret").await;
        catch_up(&store, &index, &mut head, &mut Instant::now()).await.unwrap();
        assert!(index.bodies().unwrap().contains(&again));
        store.close().await;
    }
}
