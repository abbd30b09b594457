//! What must be done from time to time: mail whose undelete time is over goes, deleted accounts are purged, space is given
//! back, certificates are renewed, guessing is reported.

use crate::adapter::now_s;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use twinpost_directory::Directory;
use twinpost_limits::Limiter;
use twinpost_store::Store;

/// Between two rounds of light work.
const ROUND: Duration = Duration::from_secs(60);
/// Rounds between two of the heavy ones: about an hour.
const HEAVY_EVERY: u32 = 60;
/// A pack is emptied when less than this share of it is live.
const LIVE_PERCENT: u64 = 50;

/// Runs until the token is cancelled.
pub async fn run(
    store: Store,
    directory: Directory,
    limiter: Limiter,
    undelete: Duration,
    renew_certificates: impl Fn() -> Result<(), String>,
    stop: CancellationToken,
) {
    let mut rounds = 0u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ROUND) => {}
        }
        // The limiter writes its one line for each source by itself.
        let _ = limiter.sweep();
        if let Err(error) = purge_accounts(&store, &directory).await {
            tracing::error!(error, "deleted accounts could not be purged; it is tried again in a minute");
        }
        rounds += 1;
        if !rounds.is_multiple_of(HEAVY_EVERY) {
            continue;
        }
        if let Err(error) = renew_certificates() {
            tracing::error!(error, "certificates could not be read or renewed; those in use stay");
        }
        let before_s = now_s() - i64::try_from(undelete.as_secs()).unwrap_or(i64::MAX / 2);
        match store.purge(before_s).await {
            Ok(0) => {}
            Ok(messages) => tracing::info!(messages, "deleted mail whose time to come back is over was removed"),
            Err(error) => tracing::error!(%error, "old deleted mail could not be removed"),
        }
        match store.compact(LIVE_PERCENT).await {
            Ok(done) if done.packs > 0 => {
                tracing::info!(packs = done.packs, freed_bytes = done.freed_bytes, "room was given back");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "room could not be given back"),
        }
    }
}

async fn purge_accounts(store: &Store, directory: &Directory) -> Result<(), String> {
    for purge in directory.to_purge(now_s()) {
        store.delete_account(purge.account).await.map_err(|e| e.to_string())?;
        directory.purged("janitor", &[purge.account]).await.map_err(|e| e.to_string())?;
        tracing::info!(account = %purge.address, "a deleted account was purged with its mail");
    }
    // Removed domains that are empty by now go with it.
    directory.purged("janitor", &[]).await.map_err(|e| e.to_string())
}
