//! `twinpost mail`: SMTP, queue, IMAP and POP3 of the active node, in one process.
//!
//! Contract: with `--wait` it first waits until the pair daemon tells it to serve ([`ahead`]). Opens the data under its lock (a second process is refused with the pid of the first), then listens; stops in
//! the reverse order on SIGTERM or SIGINT: no new connections, sessions say goodbye, the last batch is committed. SIGHUP reads
//! the appliance document again.
//!
//! Failure classes: anything that keeps the node from starting is one sentence on standard error and exit 1, or exit 5 when
//! a restart would bring the same (a taken port, faults in the document, a lost index). After that nothing ends the process but
//! a signal.

mod ahead;
mod opening;
mod reload;

use self::opening::{Laps, Opened};
use crate::adapter::{ImapBackend, Pop3Backend, SignIn, SmtpBackend, StoreSpool, Wishes};
use crate::cli::Mail;
use crate::control::{self, Office};
use crate::node::Folder;
use crate::texts::{Parts, TextCourier, Texts};
use crate::{EXIT_DONE, EXIT_FAILED, EXIT_HOPELESS, complain, end_with_parent, indexer, janitor, logs, settings};
use bytes::Bytes;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use twinpost_config::Document;
use twinpost_group::Word;
use twinpost_imap::Server as ImapServer;
use twinpost_limits::{Limiter, Protocol};
use twinpost_pop3::Server as Pop3Server;
use twinpost_queue::Queue;
use twinpost_queue::dns::Resolver;
use twinpost_search::Index;
use twinpost_smtp::{AcceptAll, BUSY, Role, Server as SmtpServer};
use twinpost_store::Store;
use twinpost_wire::{CertFiles, SelfSignedSettings, ServeSettings, ServerTls, listen, self_signed, serve};

type Smtp = SmtpServer<SmtpBackend, AcceptAll, Limiter>;

/// How long sessions have to end by themselves.
const GRACE: Duration = Duration::from_secs(8);

/// To be set in the environment of the mail process. Argon2id takes 19 MiB for each sign-in. Blocks of that size shall come from the
/// system and go back to it, not stay in the heap of each thread that ever checked a password (mallopt(3), `M_MMAP_THRESHOLD`).
pub fn memory_for_passwords() -> (String, String) {
    ("MALLOC_MMAP_THRESHOLD_".to_owned(), "4194304".to_owned())
}

/// Runs the mail process until a signal ends it.
pub async fn run(arguments: Mail) -> u8 {
    let folder = Folder::new(arguments.node);
    // The peer takes over as soon as this process is gone: without the pair daemon it must go at once.
    let paired = twinpost_config::load_node(folder.path()).is_ok_and(|node| node.pair.enabled);
    if let Some(parent) = arguments.with_parent {
        end_with_parent(parent, if paired { Signal::SIGKILL } else { Signal::SIGTERM });
    }
    match Box::pin(told(folder, arguments.wait)).await {
        Ok(()) => EXIT_DONE,
        Err(halt) => {
            complain(&halt.message);
            if halt.hopeless { EXIT_HOPELESS } else { EXIT_FAILED }
        }
    }
}

/// Serves, at once or when it is told to; who told hears how it went.
async fn told(folder: Folder, wait: bool) -> Result<(), Halt> {
    if !wait {
        return mail(folder, &mut None).await;
    }
    let Some(word) = ahead::wait(&folder).await? else { return Ok(()) };
    if let Err(why) = word.sees(&folder.data()) {
        word.refused(&why).await;
        return Err(Halt::from(why));
    }
    let mut word = Some(word);
    let outcome = mail(folder, &mut word).await;
    if let (Some(word), Err(halt)) = (word, &outcome) {
        word.refused(&halt.message).await;
    }
    outcome
}

/// Why the process ends.
#[derive(Debug)]
struct Halt {
    message: String,
    /// A restart would bring the same.
    hopeless: bool,
}

impl From<String> for Halt {
    fn from(message: String) -> Self {
        Self { message, hopeless: false }
    }
}

fn hopeless(why: impl std::fmt::Display) -> Halt {
    Halt { message: why.to_string(), hopeless: true }
}

/// What runs, to be given new rules.
struct Live {
    folder: Folder,
    /// Where certificates of our own making are.
    tls_dir: PathBuf,
    /// As it was at the start.
    started: Document,
    /// As it was read last.
    document: Mutex<Document>,
    smtp: Vec<(Role, Arc<Smtp>)>,
    tls: ServerTls,
    queue: Arc<Queue<StoreSpool, Resolver, TextCourier>>,
    imap: ImapServer<ImapBackend, SignIn>,
    pop3: Arc<Pop3Server<Pop3Backend>>,
    texts: Option<Arc<Texts>>,
    limiter: Limiter,
    wishes: Arc<Wishes>,
    store: Store,
    search: Option<Arc<Index>>,
}

/// `word`: who waits for this process to listen, and is told then.
async fn mail(folder: Folder, word: &mut Option<Word>) -> Result<(), Halt> {
    let mut laps = Laps::begin();
    let cannot_make = |e: std::io::Error| format!("cannot make {}: {e}", folder.path().display());
    folder.make().map_err(cannot_make)?;
    let document = twinpost_config::load(&folder.document()).map_err(hopeless)?;
    let paired = twinpost_config::load_node(folder.path()).map_err(hopeless)?.pair.enabled;
    if paired && !folder.data().is_dir() {
        return Err(hopeless(format!("{} is not there: this node of the pair is not active", folder.data().display())));
    }
    folder.make_data().map_err(cannot_make)?;
    if word.is_none() {
        logs::open(&document.log)?;
    } else {
        // It waited with the log open; the document may have changed meanwhile.
        logs::set_level(&document.log)?;
    }
    laps.lap("documents");
    let Opened { store, directory, search, tls_dir, tls, gateway } = opening::open(&document, &folder, paired, &mut laps).await?;
    let limiter = Limiter::new(settings::limits(&document));
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();

    let wishes = Arc::new(Wishes::of(&document));
    let spool = StoreSpool::new(store.clone(), directory.clone(), wishes.clone());
    let resolver = Resolver::new(&document.queue.dns).map_err(|e| e.to_string())?;
    let (texts, arrivals) = match gateway {
        None => (None, None),
        Some(gateway) => {
            let (texts, arrivals) = Texts::new(Parts {
                gateway,
                socket: folder.sms_socket(),
                directory: directory.clone(),
                store: store.clone(),
                wishes: wishes.clone(),
                host_name: document.node.host_name.clone(),
                folder: folder.data(),
                trouble_after: document.sms.trouble_after.0,
            });
            (Some(texts), Some(arrivals))
        }
    };
    let courier = TextCourier(texts.clone());
    let queue = Queue::with_courier(spool, resolver, courier, settings::queue(&document)?)?;
    laps.lap("queue");

    let smtp_backend = Arc::new(SmtpBackend {
        directory: directory.clone(),
        sign_in: SignIn(directory.clone()),
        store: store.clone(),
        host_name: document.node.host_name.clone(),
        wishes: wishes.clone(),
        texts: texts.clone(),
    });
    let imap_backend = ImapBackend::new(directory.clone(), store.clone(), search.clone(), document.imap.max_append.0);
    let imap = ImapServer::new(
        Arc::new(imap_backend),
        Arc::new(SignIn(directory.clone())),
        settings::imap(&document),
        limiter.clone(),
        Some(tls.clone()),
    );
    let pop3 = Pop3Server::new(
        Arc::new(Pop3Backend::new(directory.clone(), store.clone())),
        limiter.clone(),
        settings::pop3(&document),
        Some(tls.clone()),
    );

    // Every address is bound before any is served: a node that cannot have them all does not half start.
    let net = &document.network;
    let mut doors = Vec::new();
    for (list, role, implicit) in [
        (&net.smtp, Role::Mx, false),
        (&net.submission, Role::Submission, false),
        (&net.submissions, Role::Submission, true),
        (&net.lmtp, Role::Lmtp, false),
    ] {
        let server = Arc::new(SmtpServer::new(
            settings::smtp(&document, role),
            Some(tls.clone()),
            smtp_backend.clone(),
            Arc::new(AcceptAll),
            Arc::new(limiter.clone()),
        ));
        doors.push((role, server, bound(list)?, implicit));
    }
    let imap_doors = [(bound(&net.imap)?, false), (bound(&net.imaps)?, true)];
    let pop3_doors = [(bound(&net.pop3)?, false), (bound(&net.pop3s)?, true)];

    let listener =
        |implicit: bool| ServeSettings { tls: implicit.then(|| tls.clone()), grace: GRACE, ..ServeSettings::default() };
    let mut smtp = Vec::new();
    for (role, server, endpoints, implicit) in doors {
        smtp.push((role, server.clone()));
        for endpoint in endpoints {
            tasks.spawn(serve_smtp(endpoint, listener(implicit), role, server.clone(), limiter.clone(), stop.clone()));
        }
    }
    for (endpoints, implicit) in imap_doors {
        for endpoint in endpoints {
            tasks.spawn(imap.clone().serve(endpoint, listener(implicit), stop.clone()));
        }
    }
    for (endpoints, implicit) in pop3_doors {
        for endpoint in endpoints {
            tasks.spawn(pop3.clone().serve(endpoint, listener(implicit), stop.clone()));
        }
    }
    laps.lap("doors");
    let (told, opened_ms) = (word.is_some(), laps.total_ms());
    tracing::info!(told, took_ms = opened_ms, steps = %laps, "open");
    if let Some(word) = word.take() {
        word.serving().await;
    }
    tasks.spawn(queue.clone().run(stop.clone()));
    if let (Some(texts), Some(arrivals)) = (&texts, arrivals) {
        texts.start(arrivals, &tasks, &stop);
    }
    if let Some(index) = &search {
        tasks.spawn(indexer::run(store.clone(), index.clone(), stop.clone()));
    }

    let live = Arc::new(Live {
        folder: folder.clone(),
        tls_dir,
        started: document.clone(),
        document: Mutex::new(document.clone()),
        smtp,
        imap,
        pop3,
        wishes,
        tls,
        queue,
        texts: texts.clone(),
        limiter,
        store: store.clone(),
        search,
    });
    let renewing = live.clone();
    let renew = move || {
        let document = renewing.document.lock().clone();
        let files = certificate_files(&document, &renewing.tls_dir)?;
        renewing.tls.replace(vec![files]).map_err(|e| e.to_string())
    };
    tasks.spawn(janitor::run(
        store.clone(),
        directory.clone(),
        live.limiter.clone(),
        document.store.undelete.0,
        renew,
        stop.clone(),
    ));
    let gateway = texts.as_ref().map(|texts| texts.gateway().clone());
    let office = Arc::new(Office::new(folder.clone(), document.clone(), directory.clone(), store.clone(), gateway, live.clone()));
    let (socket, orders_stop) = (folder.socket(), stop.clone());
    tasks.spawn(async move {
        if let Err(error) = control::serve(&socket, office, orders_stop).await {
            tracing::error!(%error, socket = %socket.display(), "orders cannot be taken");
        }
    });
    tracing::info!(node = document.node.name, host = document.node.host_name, pid = std::process::id(), "mail is served");

    signals(&live).await?;
    tracing::info!("mail is stopping");
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(GRACE * 2, tasks.wait()).await.is_err() {
        tracing::warn!("some work did not end in time and is cut off; nothing acknowledged is lost by that");
    }
    if let Some(texts) = &texts {
        texts.gateway().close().await;
    }
    store.close().await;
    directory.close().await;
    Ok(())
}

/// Waits for the signal that ends the process; a hang-up reads the document again.
async fn signals(live: &Live) -> Result<(), String> {
    let open = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let (mut terminate, mut interrupt, mut hangup) =
        (open(SignalKind::terminate())?, open(SignalKind::interrupt())?, open(SignalKind::hangup())?);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => match control::Running::reload(live) {
                Ok(notes) => tracing::info!(?notes, "the document was read again"),
                Err(faults) => tracing::error!("the document has faults and the old one stays:\n{faults}"),
            },
        }
    }
}

fn bound(addresses: &[SocketAddr]) -> Result<Vec<twinpost_wire::Endpoint>, Halt> {
    addresses.iter().map(|address| listen(*address).map_err(hopeless)).collect()
}

async fn serve_smtp(
    endpoint: twinpost_wire::Endpoint,
    listener: ServeSettings,
    role: Role,
    server: Arc<Smtp>,
    limiter: Limiter,
    stop: CancellationToken,
) {
    let protocol = if role == Role::Submission { Protocol::Submission } else { Protocol::Smtp };
    let admit = move |peer: SocketAddr| {
        // LMTP is spoken by a server of the site itself, which needs no limit.
        if role == Role::Lmtp {
            return Ok(None);
        }
        limiter.connect(protocol, peer.ip()).map(Some).map_err(|_| Some(Bytes::from_static(BUSY)))
    };
    serve(endpoint, listener, stop, admit, move |connection| {
        let server = server.clone();
        async move { server.connection(connection).await }
    })
    .await;
}

/// Where a pair keeps the certificate of its own making. A node that was alone until now brings the one that its clients know.
fn shared_tls(folder: &Folder) -> Result<PathBuf, String> {
    let (old, new) = (folder.tls(), folder.shared_tls());
    let known = std::fs::read_dir(&old).is_ok_and(|mut files| files.next().is_some());
    if !new.exists() && known {
        let copied = copy_files(&old, &new.with_extension("new")).and_then(|()| std::fs::rename(new.with_extension("new"), &new));
        copied.map_err(|e| format!("cannot copy the certificates from {} to {}: {e}", old.display(), new.display()))?;
    }
    Ok(new)
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The certificate of the document, or one of our own making.
fn certificates(document: &Document, dir: &Path) -> Result<ServerTls, String> {
    ServerTls::load(vec![certificate_files(document, dir)?]).map_err(|e| e.to_string())
}

fn certificate_files(document: &Document, dir: &Path) -> Result<CertFiles, String> {
    if let (Some(chain), Some(key)) = (&document.tls.certificate, &document.tls.key) {
        return Ok(CertFiles { chain: chain.clone(), key: key.clone() });
    }
    let net = &document.network;
    let lists = [&net.smtp, &net.submission, &net.submissions, &net.imap, &net.imaps, &net.pop3, &net.pop3s];
    let mut ips: Vec<_> = lists.iter().flat_map(|l| l.iter().map(SocketAddr::ip)).filter(|ip| !ip.is_unspecified()).collect();
    ips.sort_unstable();
    ips.dedup();
    let names = vec![document.node.host_name.clone(), "localhost".to_owned()];
    let wish = SelfSignedSettings { names, ips, ..SelfSignedSettings::default() };
    self_signed(dir, &wish, time::OffsetDateTime::now_utc()).map(|made| made.server).map_err(|e| e.to_string())
}

impl control::Running for Live {
    fn wake_queue(&self) {
        self.queue.wake();
    }

    fn reload(&self) -> Result<Vec<String>, String> {
        reload::reload(self)
    }

    fn figures(&self) -> Vec<(&'static str, Value)> {
        let open = |p| json!(self.limiter.connections(p));
        let mut figures = vec![
            ("smtp_connections", open(Protocol::Smtp)),
            ("submission_connections", open(Protocol::Submission)),
            ("imap_connections", open(Protocol::Imap)),
            ("pop3_connections", open(Protocol::Pop3)),
            ("log_position", json!(self.store.head().borrow().0)),
        ];
        if let Some(search) = &self.search {
            figures.push(("search_position", json!(search.position().0)));
        }
        figures
    }
}
