//! Feeds the full-text index from the change log, beside mail and never in its way.
//!
//! While mail comes in fast, the indexer works a tenth of the time only: what it has not read yet is scanned by a search,
//! so an answer is never short. When it is quiet, it catches up, and then gives its memory back.

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
/// Pause after a fault.
const FAULT_PAUSE: Duration = Duration::from_secs(10);

/// Runs until the token is cancelled.
pub async fn run(store: Store, index: Arc<Index>, stop: CancellationToken) {
    let mut head = store.head();
    loop {
        let worked = tokio::select! {
            () = stop.cancelled() => return,
            worked = catch_up(&store, &index, &mut head) => worked,
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

async fn catch_up(store: &Store, index: &Arc<Index>, head: &mut tokio::sync::watch::Receiver<ModSeq>) -> Result<(), String> {
    while index.position() < *head.borrow_and_update() {
        let started = Instant::now();
        step(store, index).await?;
        // Nine parts of rest for one of work while mail comes in; none when it is quiet.
        let rest = (started.elapsed() * 9).clamp(Duration::from_millis(20), Duration::from_secs(10));
        let busy = tokio::time::timeout(QUIET, head.changed()).await.is_ok();
        if busy {
            tokio::time::sleep(rest).await;
        }
    }
    Ok(())
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
