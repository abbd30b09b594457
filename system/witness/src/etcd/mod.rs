//! etcd as the witness: the same rules over the transactions of an engine that many already run.
//!
//! Contract: the register is one key, a node's lease another that is bound to an etcd lease and vanishes with it. Every change is one
//! transaction that compares the register's `mod_revision`, and a claim against the holder also that the holder's lease key is
//! gone; so the outcome is decided by etcd, whatever happens to the asking node between its questions. A renewal first keeps the lease alive
//! and then *reads* that register and lease key are its own; it writes only when something changed.
//!
//! What differs from our own witness: etcd counts leases in whole seconds, its shortest is about 2 s with default election times, so
//! [`Claimed::Held`] lasts that long. The age of a lease that is gone is known to be at least its time to live, of one that is there nothing is said (0).
//! Nobody else may write under the prefix or revoke these leases.
//!
//! Interface: the JSON gateway of etcd v3 (`/v3/kv/txn`, `/v3/lease/...`, `/v3/auth/authenticate`), see etcd's "gRPC gateway" page.

mod gateway;
#[cfg(test)]
mod tests;

use crate::error::{Error, Refusal};
use crate::register::MAX_LEASE_MS;
use crate::{Claimed, Renewed, Witness};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use gateway::{Failure, Gateway, Seen};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use twinpost_https::{Identity, Trust};

/// How often a transaction is tried again because the peer wrote in between.
const ROUNDS: usize = 6;

/// Name and password of an etcd user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// Name.
    pub user: String,
    /// File whose first line is the password.
    pub password: PathBuf,
}

/// Settings of the etcd engine.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// `http://host:port` or `https://host:port` of the members; tried in turn.
    pub endpoints: Vec<String>,
    /// Needed for `https`.
    pub trust: Option<Trust>,
    /// Client certificate, if etcd asks for one.
    pub identity: Option<Identity>,
    /// If etcd has authentication switched on.
    pub credentials: Option<Credentials>,
    /// Begin of every key.
    pub prefix: String,
    /// Number of the cluster.
    pub cluster: u32,
    /// This node: 0 or 1.
    pub node: u8,
    /// Rounded up to whole seconds, and to etcd's shortest.
    pub lease_ms: u32,
    /// How long a question may take.
    pub limit: Duration,
    /// How often etcd is asked whether it is there, when nothing else is asked.
    pub probe: Duration,
}

impl EtcdSettings {
    /// With the design's times: lease 800 ms, limit 700 ms, a probe every 5 s; prefix `twinpost/`.
    #[must_use]
    pub fn new(endpoints: Vec<String>, cluster: u32, node: u8) -> Self {
        Self {
            endpoints,
            trust: None,
            identity: None,
            credentials: None,
            prefix: "twinpost/".to_owned(),
            cluster,
            node,
            lease_ms: 800,
            limit: Duration::from_millis(700),
            probe: Duration::from_secs(5),
        }
    }
}

/// The register's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Record {
    reign: u32,
    holder: u8,
    /// Time to live of each node's last lease; 0: it never had one.
    ttl_s: [u32; 2],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lease {
    id: i64,
    ttl_s: u32,
}

struct Asker {
    settings: EtcdSettings,
    gateway: Gateway,
    /// Also serialises the questions.
    lease: Mutex<Option<Lease>>,
    reachable: watch::Sender<bool>,
}

/// etcd as a witness.
pub struct Etcd {
    asker: Arc<Asker>,
    prober: JoinHandle<()>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.prober.abort();
    }
}

impl Etcd {
    /// Begins to ask in the background, so it must be called within a tokio runtime.
    ///
    /// # Errors
    /// No or unusable endpoints, certificates or password file.
    pub fn new(settings: EtcdSettings) -> Result<Self, Error> {
        if settings.node > 1 || settings.lease_ms == 0 || settings.lease_ms > MAX_LEASE_MS {
            return Err(Error::Setting("etcd as witness: node must be 0 or 1 and the lease from 1 ms to 10 minutes".to_owned()));
        }
        let gateway = Gateway::new(&settings)?;
        let asker = Arc::new(Asker { settings, gateway, lease: Mutex::new(None), reachable: watch::Sender::new(false) });
        let prober = tokio::spawn(probe(Arc::clone(&asker)));
        Ok(Self { asker, prober })
    }

    /// The register as it stands: reign (0: none yet) and its holder.
    ///
    /// # Errors
    /// The crate's failure classes.
    pub async fn read(&self) -> Result<(u32, u8), Error> {
        let seen = self.asker.within(self.asker.gateway.see()).await?;
        let record = Asker::record(&seen).map_err(|failure| self.asker.gateway.error(failure))?;
        Ok((record.reign, record.holder))
    }
}

async fn probe(asker: Arc<Asker>) {
    loop {
        drop(asker.within(asker.gateway.see()).await);
        tokio::time::sleep(asker.settings.probe).await;
    }
}

impl Witness for Etcd {
    fn claim(&self, knows: u32, new: u32) -> BoxFuture<'_, Result<Claimed, Error>> {
        async move {
            if new <= knows {
                return Err(self.asker.senseless());
            }
            self.asker.within(self.asker.claim(knows, new)).await
        }
        .boxed()
    }

    fn renew(&self, reign: u32) -> BoxFuture<'_, Result<Renewed, Error>> {
        async move {
            if reign == 0 {
                return Err(self.asker.senseless());
            }
            self.asker.within(self.asker.renew(reign)).await
        }
        .boxed()
    }

    fn state(&self) -> watch::Receiver<bool> {
        self.asker.reachable.subscribe()
    }
}

impl Asker {
    fn senseless(&self) -> Error {
        Error::Refused { address: self.gateway.address(), why: Refusal::Senseless }
    }

    async fn within<T>(&self, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Error> {
        let limit = self.settings.limit;
        let outcome = match tokio::time::timeout(limit, asked).await {
            Ok(outcome) => outcome.map_err(|failure| self.gateway.error(failure)),
            Err(_) => Err(Error::Silent {
                address: self.gateway.address(),
                limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                last: self.gateway.last(),
            }),
        };
        let there = matches!(&outcome, Ok(_) | Err(Error::Refused { .. }));
        self.reachable.send_if_modified(|reachable| std::mem::replace(reachable, there) != there);
        outcome
    }

    fn me(&self) -> usize {
        usize::from(self.settings.node)
    }

    /// A missing register is a new one: etcd does not lose keys, and the prefix is ours alone.
    fn record(seen: &Seen) -> Result<Record, Failure> {
        let Some(value) = &seen.register else { return Ok(Record::default()) };
        serde_json::from_slice(value).ok().filter(|record: &Record| record.holder < 2).ok_or(Failure::Damaged)
    }

    async fn claim(&self, knows: u32, new: u32) -> Result<Claimed, Failure> {
        let _turn = self.lease.lock().await;
        let (me, peer) = (self.me(), 1 - self.me());
        for _ in 0..ROUNDS {
            let seen = self.gateway.see().await?;
            let record = Self::record(&seen)?;
            let theirs = record.reign > 0 && usize::from(record.holder) != me;
            let granted_ms = match (record.ttl_s[peer], seen.leases[peer]) {
                (0, None) => u32::MAX,
                (ttl_s, None) => ttl_s.saturating_mul(1000).min(u32::MAX - 1),
                (_, Some(_)) => 0,
            };
            if record.reign == new && !theirs {
                return Ok(Claimed::Won { reign: new, granted_ms });
            }
            if record.reign >= new || (theirs && record.reign > knows) {
                return Ok(Claimed::Lost { reign: record.reign });
            }
            if let (true, Some(lease)) = (theirs, seen.leases[peer]) {
                let left_s = self.gateway.time_to_live(lease).await?;
                return Ok(Claimed::Held { left_ms: left_s.saturating_add(1).saturating_mul(1000) });
            }
            let changed = Record { reign: new, holder: self.settings.node, ..record };
            if self.gateway.write(&seen, theirs.then_some(peer), &changed, None).await? {
                return Ok(Claimed::Won { reign: new, granted_ms });
            }
        }
        Err(Failure::Busy)
    }

    async fn renew(&self, new: u32) -> Result<Renewed, Failure> {
        let mut kept = self.lease.lock().await;
        let (me, peer) = (self.me(), 1 - self.me());
        for _ in 0..ROUNDS {
            // Kept alive first: what is read afterwards cannot be older than the lease's new begin.
            let alive = match *kept {
                Some(lease) if self.gateway.keep_alive(lease.id).await? => lease,
                _ => {
                    let lease = self.gateway.grant(self.settings.lease_ms.div_ceil(1000)).await?;
                    *kept.insert(lease)
                }
            };
            let seen = self.gateway.see().await?;
            let record = Self::record(&seen)?;
            let theirs = record.reign > 0 && usize::from(record.holder) != me;
            let both = theirs && record.reign == new && seen.leases[peer].is_some();
            if (theirs && record.reign > new) || both {
                return Ok(Renewed::Lost { reign: record.reign });
            }
            let mut changed = Record { reign: record.reign.max(new), holder: self.settings.node, ..record };
            changed.ttl_s[me] = alive.ttl_s;
            let bound = seen.leases[me] == Some(alive.id);
            if changed == record && bound {
                return Ok(Renewed::Renewed);
            }
            let gone = (theirs && record.reign == new).then_some(peer);
            match self.gateway.write(&seen, gone, &changed, Some(alive.id)).await {
                Ok(true) => return Ok(Renewed::Renewed),
                Ok(false) => {}
                Err(Failure::NoLease) => *kept = None,
                Err(other) => return Err(other),
            }
        }
        Err(Failure::Busy)
    }
}
