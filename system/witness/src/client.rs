//! A node's side of our own witness.
//!
//! Contract: one question at a time; a question is sent again, with growing pauses, until its answer comes or the time limit ends, and the witness
//! decides it once. Dropping the future leaves the outcome unknown, never doubled. The name of the witness is looked up again after every
//! failure, so a witness that moves is found. [`Client::state`] is kept true by a question of its own every few seconds.
//!
//! Failure classes: [`Error::Silent`] (nobody answered: also what a wrong key or a cluster that is not enrolled looks like, because a witness
//! does not answer strangers) and [`Error::Refused`].

use crate::datagram::{DATAGRAM_BYTES, Reply, Request, Seals, Stamp};
use crate::error::Error;
use crate::key::Key;
use crate::register::{Question, Verdict};
use crate::{Claimed, Renewed, Witness};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// First pause before a question is sent again; each further one is twice as long, up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(40);
const LAST_PAUSE: Duration = Duration::from_millis(320);

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// `host:port` of the witness.
    pub address: String,
    /// Number of the cluster.
    pub cluster: u32,
    /// This node: 0 or 1.
    pub node: u8,
    /// Key of the cluster.
    pub key: Key,
    /// Lease that this node asks for and expects of its peer, at most 600,000.
    pub lease_ms: u32,
    /// How long a question may take.
    pub limit: Duration,
    /// How often the witness is asked whether it is there, when nothing else is asked.
    pub probe: Duration,
}

impl ClientSettings {
    /// With the design's times: lease 800 ms, limit 700 ms, a probe every 5 s.
    #[must_use]
    pub fn new(address: impl Into<String>, cluster: u32, node: u8, key: Key) -> Self {
        let (limit, probe) = (Duration::from_millis(700), Duration::from_secs(5));
        Self { address: address.into(), cluster, node, key, lease_ms: 800, limit, probe }
    }
}

/// Socket and session; gone after a failure.
struct Link {
    socket: UdpSocket,
    run: u64,
    session: u64,
    sequence: u32,
}

struct Asker {
    settings: ClientSettings,
    seals: Seals,
    link: Mutex<Option<Link>>,
    openings: AtomicUsize,
    reachable: watch::Sender<bool>,
}

/// Client of one witness.
pub struct Client {
    asker: Arc<Asker>,
    prober: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.prober.abort();
    }
}

impl Client {
    /// Begins to ask in the background, so it must be called within a tokio runtime.
    #[must_use]
    pub fn new(settings: ClientSettings) -> Self {
        let seals = Seals::new(&settings.key);
        let asker = Arc::new(Asker {
            settings,
            seals,
            link: Mutex::new(None),
            openings: AtomicUsize::new(0),
            reachable: watch::Sender::new(false),
        });
        let prober = tokio::spawn(probe(Arc::clone(&asker)));
        Self { asker, prober }
    }

    /// The register as it stands: reign (0: none yet) and its holder.
    ///
    /// # Errors
    /// The crate's failure classes.
    pub async fn read(&self) -> Result<(u32, u8), Error> {
        match self.asker.ask(Question::Read).await? {
            Verdict::State { reign, holder } => Ok((reign, holder)),
            other => Err(self.asker.odd(other)),
        }
    }
}

async fn probe(asker: Arc<Asker>) {
    loop {
        drop(asker.ask(Question::Read).await);
        tokio::time::sleep(asker.settings.probe).await;
    }
}

impl Witness for Client {
    fn claim(&self, knows: u32, new: u32) -> BoxFuture<'_, Result<Claimed, Error>> {
        let lease_ms = self.asker.settings.lease_ms;
        async move {
            match self.asker.ask(Question::Claim { knows, new, lease_ms }).await? {
                Verdict::Claim(claimed) => Ok(claimed),
                other => Err(self.asker.odd(other)),
            }
        }
        .boxed()
    }

    fn renew(&self, reign: u32) -> BoxFuture<'_, Result<Renewed, Error>> {
        let lease_ms = self.asker.settings.lease_ms;
        async move {
            match self.asker.ask(Question::Renew { reign, lease_ms }).await? {
                Verdict::Renew(renewed) => Ok(renewed),
                other => Err(self.asker.odd(other)),
            }
        }
        .boxed()
    }

    fn state(&self) -> watch::Receiver<bool> {
        self.asker.reachable.subscribe()
    }
}

impl Asker {
    /// A verdict that does not fit the question; authentic refusals among them.
    fn odd(&self, verdict: Verdict) -> Error {
        let address = self.settings.address.clone();
        match verdict {
            Verdict::Refused(why) => Error::Refused { address, why },
            // The nonce ties an answer to its question, so only a faulty witness gets here.
            _ => Error::Silent { address, limit_ms: self.limit_ms(), last: Some("it answered another question".to_owned()) },
        }
    }

    fn limit_ms(&self) -> u64 {
        u64::try_from(self.settings.limit.as_millis()).unwrap_or(u64::MAX)
    }

    async fn ask(&self, question: Question) -> Result<Verdict, Error> {
        let deadline = Instant::now() + self.settings.limit;
        let mut last = None;
        let asked = async {
            // Taken out while in use: whatever ends this future half-way leaves no session with a question in the air.
            let mut kept = self.link.lock().await;
            let mut link = match kept.take() {
                Some(link) => link,
                None => self.open(&mut last).await,
            };
            let verdict = self.exchange(&mut link, question, &mut last).await;
            *kept = Some(link);
            verdict
        };
        let outcome = timeout_at(deadline, asked).await;
        self.reachable.send_if_modified(|reachable| std::mem::replace(reachable, outcome.is_ok()) != outcome.is_ok());
        outcome.map_err(|_| Error::Silent { address: self.settings.address.clone(), limit_ms: self.limit_ms(), last })
    }

    /// Tries until it has a socket that knows its peer; the caller's time limit ends it.
    async fn open(&self, last: &mut Option<String>) -> Link {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_open().await {
                Ok(socket) => return Link { socket, run: 0, session: 0, sequence: 0 },
                Err(error) => *last = Some(error.to_string()),
            }
            tokio::time::sleep(pause).await;
            pause = LAST_PAUSE.min(pause * 2);
        }
    }

    async fn try_open(&self) -> std::io::Result<UdpSocket> {
        let nowhere = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        // A name with several addresses: another one after each failure.
        let turn = self.openings.fetch_add(1, Ordering::Relaxed);
        let found: Vec<_> = tokio::net::lookup_host(&self.settings.address).await?.take(16).collect();
        let peer = *found.get(turn % found.len().max(1)).ok_or_else(nowhere)?;
        let own: SocketAddr = if peer.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(own).await?;
        // Only datagrams of the witness come in, and an ICMP refusal is seen.
        socket.connect(peer).await?;
        Ok(socket)
    }

    /// Sends and waits; the caller's time limit ends it.
    async fn exchange(&self, link: &mut Link, question: Question, last: &mut Option<String>) -> Verdict {
        loop {
            link.sequence = link.sequence.saturating_add(1);
            let stamp = Stamp {
                cluster: self.settings.cluster,
                node: self.settings.node,
                nonce: rand::random(),
                run: link.run,
                session: link.session,
                sequence: link.sequence,
            };
            let datagram = self.seals.write_request(&Request { stamp, question });
            let mut pause = FIRST_PAUSE;
            let reply = loop {
                if let Err(error) = link.socket.send(&datagram).await {
                    *last = Some(error.to_string());
                }
                match timeout_at(Instant::now() + pause, self.receive(link, &stamp, last)).await {
                    Ok(reply) => break reply,
                    Err(_) => pause = LAST_PAUSE.min(pause * 2),
                }
            };
            match reply {
                (Reply::Verdict(verdict), _) => return verdict,
                // Another run of the witness than the last time: the same question again, in its session.
                (Reply::Greeting, greeted) => (link.run, link.session, link.sequence) = (greeted.run, greeted.session, 0),
            }
        }
    }

    async fn receive(&self, link: &Link, asked: &Stamp, last: &mut Option<String>) -> (Reply, Stamp) {
        let mut buffer = [0; DATAGRAM_BYTES + 1];
        loop {
            match link.socket.recv(&mut buffer).await {
                Ok(length) => {
                    let Ok(answer) = self.seals.read_answer(&buffer[..length]) else { continue };
                    let stamp = answer.stamp;
                    let ours = (stamp.cluster, stamp.node, stamp.nonce) == (asked.cluster, asked.node, asked.nonce);
                    let current = match answer.reply {
                        Reply::Greeting => stamp.run != asked.run,
                        Reply::Verdict(_) => stamp == *asked,
                    };
                    if ours && current {
                        return (answer.reply, stamp);
                    }
                }
                // Nobody listens there at the moment. The pause goes on, or this would be a busy loop.
                Err(error) => {
                    *last = Some(error.to_string());
                    return std::future::pending().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_witness_is_told_with_the_reason() {
        // Bound, never answering.
        let mute = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let settings = |address: String| {
            let limit = Duration::from_millis(90);
            ClientSettings { limit, ..ClientSettings::new(address, 1, 0, Key::from([1; 32])) }
        };
        let client = Client::new(settings(mute.local_addr().unwrap().to_string()));
        assert!(matches!(client.claim(0, 1).await, Err(Error::Silent { limit_ms: 90, .. })));
        assert!(!*client.state().borrow());
        let nobody = Client::new(settings("not an address".to_owned()));
        let error = nobody.renew(1).await.unwrap_err();
        assert!(matches!(&error, Error::Silent { last: Some(_), .. }), "{error}");
    }
}
