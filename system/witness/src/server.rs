//! The server: one UDP socket, one owner for each cluster's register.
//!
//! Contract: the receiving loop verifies and hands on, it never waits for a disk; each register belongs to one task, which answers its
//! questions one after the other and stores before it answers. So a slow disk delays one cluster, and two claims that come at once are
//! decided in the order of their arrival. State is bounded: [`MAX_CLUSTERS`] clusters, [`WAITING`] questions each, one session and one kept
//! answer a node. A kept answer is sent again when the same question comes again, because its first answer was lost.
//!
//! Failure classes: the socket cannot be bound ([`Error::Listen`]): nothing runs. A register that cannot be opened or written:
//! its cluster is refused, the others are served, and every further question tries again.

use crate::datagram::{self, Answer, Datagram, Reply, Request, Seals, Stamp, Unreadable};
use crate::error::{Error, Refusal};
use crate::key::{self, Key};
use crate::register::{Decision, Question, Register, Verdict};
use crate::status::{self, ClusterStatus, Counters, Tally, WitnessStatus};
use crate::store::Store;
use crate::{Claimed, Renewed};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UdpSocket, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Most clusters that one witness serves.
pub const MAX_CLUSTERS: usize = 256;
/// Most questions of one cluster that wait for its disk.
const WAITING: usize = 32;
/// How often at most the folder is searched for new keys because an unknown one was used.
const SEARCH_EVERY: Duration = Duration::from_millis(300);

/// Settings of a witness.
#[derive(Clone, Debug)]
pub struct Settings {
    /// UDP address; port 0 takes any free one ([`Server::local_addr`] tells which).
    pub listen: SocketAddr,
    /// Folder of keys and registers; [`crate::enrol`] puts them there, also while the witness runs.
    pub dir: PathBuf,
}

/// Counters and pictures of the clusters that people read.
#[derive(Default)]
struct Board {
    forged: AtomicU64,
    replayed: AtomicU64,
    cut: AtomicU64,
    foreign: AtomicU64,
    busy: AtomicU64,
    clusters: Mutex<BTreeMap<u32, Picture>>,
}

#[derive(Clone, Default)]
struct Picture {
    status: ClusterStatus,
    renewed_at: [Option<Instant>; 2],
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Board {
    fn show(&self, cluster: u32, change: impl FnOnce(&mut Picture)) {
        // A poisoned lock holds counters, which no panic can leave half written.
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let picture = clusters.entry(cluster).or_default();
        picture.status.cluster = cluster;
        change(picture);
    }
}

/// What all tasks share.
struct Hall {
    socket: UdpSocket,
    listen: SocketAddr,
    dir: PathBuf,
    /// Random at each start: no question of an earlier run counts.
    run: u64,
    started: Instant,
    sessions: AtomicU64,
    board: Board,
    /// One witness a folder: two would each keep their own truth.
    _lock: std::fs::File,
}

impl Hall {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn status(&self) -> WitnessStatus {
        let clusters = self.board.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |at: Option<Instant>| at.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WitnessStatus {
            listen: self.listen.to_string(),
            up_ms: self.now_ms(),
            dropped: Counters {
                forged: get(&self.board.forged),
                replayed: get(&self.board.replayed),
                cut: get(&self.board.cut),
                foreign: get(&self.board.foreign),
                busy: get(&self.board.busy),
            },
            clusters: clusters
                .values()
                .map(|picture| ClusterStatus { renewed_ago_ms: picture.renewed_at.map(age), ..picture.status.clone() })
                .collect(),
        }
    }
}

/// A cluster as the receiving loop sees it.
struct Enrolled {
    key: Key,
    seals: Arc<Seals>,
    questions: mpsc::Sender<Asked>,
}

/// An authentic question, and how its answer is sealed and sent.
struct Asked {
    request: Request,
    seals: Arc<Seals>,
    from: SocketAddr,
}

/// A witness that listens.
pub struct Server {
    hall: Arc<Hall>,
}

impl Server {
    /// Takes the socket. The folder is made when absent.
    ///
    /// # Errors
    /// The folder cannot be made, or the address cannot be bound.
    pub async fn bind(settings: Settings) -> Result<Self, Error> {
        let Settings { listen, dir } = settings;
        std::fs::create_dir_all(&dir).map_err(|why| Error::File { doing: "make the folder", path: dir.clone(), why })?;
        let failed = |why| Error::Listen { address: listen.to_string(), why };
        let lock = lock(&dir)?;
        let socket = UdpSocket::bind(listen).await.map_err(failed)?;
        let listen = socket.local_addr().map_err(failed)?;
        let (run, started) = (rand::random::<u64>() | 1, Instant::now());
        let (sessions, board) = (AtomicU64::new(0), Board::default());
        Ok(Self { hall: Arc::new(Hall { socket, listen, dir, run, started, sessions, board, _lock: lock }) })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.hall.listen
    }

    /// Reads the status at any time, also while [`Server::run`] runs.
    pub fn watch(&self) -> impl Fn() -> WitnessStatus + Send + Sync + 'static {
        let hall = Arc::clone(&self.hall);
        move || hall.status()
    }

    /// Answers until `shutdown`; returns when every register is at rest.
    pub async fn run(self, shutdown: CancellationToken) {
        let hall = self.hall;
        let mut owners = JoinSet::new();
        let mut clusters = BTreeMap::new();
        let mut searched = Instant::now();
        search(&hall, &mut clusters, &mut owners);
        let talk = tokio::spawn(tell_status(Arc::clone(&hall), shutdown.clone()));
        tracing::info!(listen = %hall.listen, clusters = clusters.len(), "the witness answers");
        // One byte more than a question: a longer datagram is seen as one.
        let mut buffer = [0; datagram::DATAGRAM_BYTES + 1];
        loop {
            let (length, from) = tokio::select! {
                () = shutdown.cancelled() => break,
                received = hall.socket.recv_from(&mut buffer) => match received {
                    Ok(received) => received,
                    // ICMP errors of earlier answers may come back here; they are the client's. One that stays must not spin.
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    }
                },
            };
            let data = &buffer[..length];
            let Some(cluster) = datagram::cluster_of(data) else {
                count(&hall.board.cut);
                continue;
            };
            let mut read = clusters.get(&cluster).map(|enrolled: &Enrolled| enrolled.seals.read_request(data));
            if matches!(read, None | Some(Err(Unreadable::Forged))) && searched.elapsed() >= SEARCH_EVERY {
                searched = Instant::now();
                search(&hall, &mut clusters, &mut owners);
                read = clusters.get(&cluster).map(|enrolled| enrolled.seals.read_request(data));
            }
            match read {
                None => count(&hall.board.foreign),
                Some(Err(Unreadable::Cut)) => count(&hall.board.cut),
                Some(Err(Unreadable::Forged)) => count(&hall.board.forged),
                Some(Ok(request)) => {
                    let enrolled = &clusters[&cluster];
                    let asked = Asked { request, seals: Arc::clone(&enrolled.seals), from };
                    if enrolled.questions.try_send(asked).is_err() {
                        count(&hall.board.busy);
                    }
                }
            }
            while owners.try_join_next().is_some() {}
        }
        drop(clusters);
        while owners.join_next().await.is_some() {}
        drop(talk.await);
        tracing::info!(listen = %hall.listen, "the witness has stopped");
    }
}

/// Binds and answers until `shutdown`.
///
/// # Errors
/// As [`Server::bind`].
pub async fn serve(settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    Server::bind(settings).await?.run(shutdown).await;
    Ok(())
}

fn lock(dir: &std::path::Path) -> Result<std::fs::File, Error> {
    let path = dir.join("witness.lock");
    let failed = |why| Error::File { doing: "lock (does another witness run on this folder?)", path: path.clone(), why };
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    file.try_lock().map_err(|e| failed(e.into()))?;
    Ok(file)
}

/// Takes in keys that are new in the folder, or changed.
fn search(hall: &Arc<Hall>, clusters: &mut BTreeMap<u32, Enrolled>, owners: &mut JoinSet<()>) {
    let Ok(names) = std::fs::read_dir(&hall.dir) else { return };
    for path in names.take(MAX_CLUSTERS * 8).filter_map(|entry| Some(entry.ok()?.path())) {
        let Some(cluster) = key::cluster_of(&path) else { continue };
        let key = match Key::load(&path) {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!(cluster, %error, "a key cannot be used");
                continue;
            }
        };
        if let Some(known) = clusters.get_mut(&cluster) {
            // The owner goes on, with its register and what it knows of leases.
            if known.key != key {
                (known.seals, known.key) = (Arc::new(Seals::new(&key)), key);
            }
        } else if clusters.len() < MAX_CLUSTERS {
            let (questions, inbox) = mpsc::channel(WAITING);
            hall.board.show(cluster, |_| {});
            owners.spawn(Owner { hall: Arc::clone(hall), cluster, open: None, sessions: [None, None] }.run(inbox));
            clusters.insert(cluster, Enrolled { seals: Arc::new(Seals::new(&key)), key, questions });
        } else {
            tracing::warn!(cluster, most = MAX_CLUSTERS, "too many clusters at this witness: this one is not served");
        }
    }
}

/// The last session of a node.
struct Session {
    number: u64,
    sequence: u32,
    nonce: u64,
    answer: Datagram,
}

/// Owns the register of one cluster.
struct Owner {
    hall: Arc<Hall>,
    cluster: u32,
    open: Option<(Store, Register)>,
    sessions: [Option<Session>; 2],
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::Receiver<Asked>) {
        while let Some(Asked { request, seals, from }) = inbox.recv().await {
            if let Some(answer) = self.answer(&request, &seals).await {
                // A lost answer is asked for again.
                drop(self.hall.socket.send_to(&answer, from).await);
            }
        }
    }

    async fn answer(&mut self, request: &Request, seals: &Seals) -> Option<Datagram> {
        let stamp = request.stamp;
        let board = &self.hall.board;
        let Some(kept) = self.sessions.get(usize::from(stamp.node)) else {
            count(&board.cut);
            return None;
        };
        if stamp.run != self.hall.run {
            let session = self.hall.sessions.fetch_add(1, Ordering::Relaxed) + 1;
            board.show(self.cluster, |picture| picture.status.answers.greeted += 1);
            let stamp = Stamp { run: self.hall.run, session, sequence: 0, ..stamp };
            return Some(seals.write_answer(&Answer { stamp, reply: Reply::Greeting }));
        }
        let known = kept.as_ref().map_or((0, 0), |session| (session.number, session.sequence));
        if let Some(session) = kept
            && (stamp.session, stamp.sequence, stamp.nonce) == (session.number, session.sequence, session.nonce)
        {
            board.show(self.cluster, |picture| picture.status.answers.repeated += 1);
            return Some(session.answer);
        }
        if (stamp.session, stamp.sequence) <= known || stamp.session > self.hall.sessions.load(Ordering::Relaxed) {
            count(&board.replayed);
            return None;
        }
        let verdict = self.decide(stamp.node, request.question).await;
        let answer = seals.write_answer(&Answer { stamp, reply: Reply::Verdict(verdict) });
        let session = Session { number: stamp.session, sequence: stamp.sequence, nonce: stamp.nonce, answer };
        self.sessions[usize::from(stamp.node)] = Some(session);
        Some(answer)
    }

    async fn decide(&mut self, node: u8, question: Question) -> Verdict {
        let (verdict, trouble) = match self.ready().await {
            Err(error) => (Verdict::Refused(Refusal::Damaged), Some(error)),
            Ok((store, mut register)) => {
                let decision = register.decide(node, question, self.hall.now_ms());
                match keep(store, &decision).await {
                    Ok((store, Ok(()))) => {
                        register.take(&decision);
                        self.open = Some((store, register));
                        (decision.verdict, None)
                    }
                    Ok((_, Err(error @ Error::Damaged { .. }))) => (Verdict::Refused(Refusal::Damaged), Some(error)),
                    Ok((store, Err(error))) => {
                        self.open = Some((store, register));
                        (Verdict::Refused(Refusal::Disk), Some(error))
                    }
                    // The writing task is gone: the register is opened anew by the next question.
                    Err(error) => (Verdict::Refused(Refusal::Disk), Some(error)),
                }
            }
        };
        self.tell(node, question, verdict, trouble.as_ref());
        verdict
    }

    /// The register, opened if it is not.
    async fn ready(&mut self) -> Result<(Store, Register), Error> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let (dir, cluster) = (self.hall.dir.clone(), self.cluster);
        let opened = tokio::task::spawn_blocking(move || Store::open(&dir, cluster)).await;
        let (store, record) = opened.map_err(|e| Error::File {
            doing: "open the register",
            path: self.hall.dir.clone(),
            why: std::io::Error::other(e),
        })??;
        // Leases that an earlier opening gave are unknown now, and taken for as young as this moment.
        Ok((store, Register::new(record, self.hall.now_ms())))
    }

    fn tell(&self, node: u8, question: Question, verdict: Verdict, trouble: Option<&Error>) {
        let cluster = self.cluster;
        let record = self.open.as_ref().map(|(_, register)| register.record());
        let now_ms = self.hall.now_ms();
        let renewed = [0, 1].map(|node| {
            let ago = self.open.as_ref()?.1.renewed_ago_ms(node, now_ms)?;
            Instant::now().checked_sub(Duration::from_millis(ago))
        });
        self.hall.board.show(cluster, |picture| {
            let Tally { won, lost, held, renewed: granted, deposed, read, refused, .. } = &mut picture.status.answers;
            *match verdict {
                Verdict::Claim(Claimed::Won { .. }) => won,
                Verdict::Claim(Claimed::Lost { .. }) => lost,
                Verdict::Claim(Claimed::Held { .. }) => held,
                Verdict::Renew(Renewed::Renewed) => granted,
                Verdict::Renew(Renewed::Lost { .. }) => deposed,
                Verdict::State { .. } => read,
                Verdict::Refused(_) => refused,
            } += 1;
            let now = trouble.map(ToString::to_string);
            if picture.status.trouble != now {
                match &now {
                    Some(trouble) => tracing::error!(cluster, trouble, "the register decides nothing"),
                    None => tracing::info!(cluster, "the register decides again"),
                }
                picture.status.trouble = now;
            }
            if let Some(record) = record {
                picture.status.reign = record.reign;
                picture.status.holder = (record.reign > 0).then_some(record.holder);
                picture.renewed_at = renewed;
            }
        });
        match (question, verdict) {
            // Asked again every second while it lasts.
            (Question::Claim { knows, new, .. }, Verdict::Claim(Claimed::Held { left_ms })) => {
                tracing::debug!(cluster, node, knows, new, left_ms, "claim: the peer's lease is fresh");
            }
            (Question::Claim { knows, new, .. }, Verdict::Claim(claimed)) => {
                tracing::info!(cluster, node, knows, new, outcome = ?claimed, "claim");
            }
            _ => {}
        }
    }
}

/// Stores what the decision needs, off the async threads. The outer error: the writing task did not come back.
async fn keep(mut store: Store, decision: &Decision) -> Result<(Store, Result<(), Error>), Error> {
    let Some(record) = decision.store else { return Ok((store, Ok(()))) };
    let written = tokio::task::spawn_blocking(move || {
        let result = store.write(&record);
        (store, result)
    });
    written.await.map_err(|e| Error::File { doing: "write the register", path: PathBuf::new(), why: std::io::Error::other(e) })
}

/// Answers on the status socket. A witness without one still witnesses.
async fn tell_status(hall: Arc<Hall>, shutdown: CancellationToken) {
    let path = status::socket_path(&hall.dir);
    // Of a run that was killed. Another run on this folder would have its own UDP port; the newest has the socket.
    drop(std::fs::remove_file(&path));
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no status socket");
            return;
        }
    };
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((mut stream, _)) = stream else {
            // Out of descriptors: leave some time to those who hold them.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(text) = serde_json::to_vec(&hall.status()) else { continue };
        drop(tokio::time::timeout(Duration::from_secs(1), stream.write_all(&text)).await);
    }
    drop(std::fs::remove_file(&path));
}
