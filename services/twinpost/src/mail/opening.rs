//! What a mail process opens before it listens, and the rehearsal of it.
//!
//! Contract: [`open`] opens store, directory, search index, certificate and the ledger of texts of one folder; one log line says how long each
//! took ([`Laps`]). [`rehearse`] does the same with an empty folder of its own and greets itself once on a loopback port, so that everything the
//! real start needs of this program lies in memory; it touches nothing of the node's mail and leaves nothing.
//!
//! Failure classes: see [`Halt`]; a rehearsal that fails is a sentence and no reason to end.

use super::{Halt, certificates, hopeless, shared_tls};
use crate::adapter::{SignIn, SmtpBackend, Wishes};
use crate::node::Folder;
use crate::settings;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use twinpost_config::{DatabaseAddress, Document};
use twinpost_directory::Directory;
use twinpost_limits::Limiter;
use twinpost_search::Index;
use twinpost_smtp::{AcceptAll, Role, Server as SmtpServer};
use twinpost_store::Store;
use twinpost_wire::{ServeSettings, ServerTls, listen, serve};

/// How long each step of a start took.
pub struct Laps {
    begun: Instant,
    last: Instant,
    steps: Vec<(&'static str, u128)>,
}

impl Laps {
    pub fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, last: now, steps: Vec::new() }
    }

    /// This step ends now.
    pub fn lap(&mut self, step: &'static str) {
        let now = Instant::now();
        self.steps.push((step, now.duration_since(self.last).as_millis()));
        self.last = now;
    }

    /// Milliseconds since the begin.
    pub fn total_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// `store 120 ms, directory 80 ms`.
impl std::fmt::Display for Laps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (step, ms)) in self.steps.iter().enumerate() {
            write!(f, "{}{step} {ms} ms", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// See the module.
pub struct Opened {
    pub store: Store,
    pub directory: Directory,
    pub search: Option<Arc<Index>>,
    /// Where certificates of our own making are.
    pub tls_dir: PathBuf,
    pub tls: ServerTls,
    pub gateway: Option<twinpost_mail2sms::Gateway>,
}

/// Opens everything of a folder.
pub async fn open(document: &Document, folder: &Folder, paired: bool, laps: &mut Laps) -> Result<Opened, Halt> {
    let store = Store::open(settings::store(document, folder)).await;
    let store = store.map_err(|e| Halt { hopeless: e.needs_a_person(), message: e.to_string() })?;
    laps.lap("store");
    let directory = Directory::open(&settings::directory_location(document, folder), settings::directory(document))
        .await
        .map_err(|e| e.to_string())?;
    laps.lap("directory");
    let search = match document.store.search.then(|| Index::open(&folder.search())) {
        None => None,
        Some(Ok(index)) => Some(Arc::new(index)),
        Some(Err(error)) => {
            tracing::error!(%error, "the search index cannot be opened; searches scan the mailboxes");
            None
        }
    };
    laps.lap("search index");
    let tls_dir = if paired { shared_tls(folder).map_err(hopeless)? } else { folder.tls() };
    let tls = certificates(document, &tls_dir).map_err(hopeless)?;
    laps.lap("certificate");
    settings::sms::check(document).map_err(hopeless)?;
    let gateway = settings::sms::open_gateway(document, folder).await?;
    laps.lap("ledger of texts");
    Ok(Opened { store, directory, search, tls_dir, tls, gateway })
}

/// Where a rehearsal plays.
pub fn rehearsal_in(folder: &Folder) -> PathBuf {
    folder.mail_run().join("rehearsal")
}

/// Opens an empty folder as the real one will be opened, greets once on a port of its own, and clears up. In `run`, which is no stable storage on
/// the image: nothing waits for a disk.
///
/// # Errors
/// In words.
pub async fn rehearse(document: &Document, folder: &Folder) -> Result<Laps, String> {
    let scratch = Folder::new(rehearsal_in(folder));
    let clear = || match std::fs::remove_dir_all(scratch.path()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", scratch.path().display())),
        _ => Ok(()),
    };
    clear()?;
    let outcome = Box::pin(play(document.clone(), &scratch)).await;
    clear()?;
    outcome
}

async fn play(mut document: Document, scratch: &Folder) -> Result<Laps, String> {
    scratch.make().and_then(|()| scratch.make_data()).map_err(|e| format!("{}: {e}", scratch.path().display()))?;
    // Nothing of the node: neither a database that is not its own nor its certificate.
    document.store.database = DatabaseAddress::Sqlite;
    (document.tls.certificate, document.tls.key) = (None, None);
    let mut laps = Laps::begin();
    // Twice: an empty folder is made, one that is there is opened.
    let first = open(&document, scratch, false, &mut Laps::begin()).await.map_err(|halt| halt.message)?;
    close(first).await;
    let opened = open(&document, scratch, false, &mut laps).await.map_err(|halt| halt.message)?;
    let limiter = Limiter::new(settings::limits(&document));
    let backend = SmtpBackend {
        directory: opened.directory.clone(),
        sign_in: SignIn(opened.directory.clone()),
        store: opened.store.clone(),
        host_name: document.node.host_name.clone(),
        wishes: Arc::new(Wishes::of(&document)),
        texts: None,
    };
    let server = Arc::new(SmtpServer::new(
        settings::smtp(&document, Role::Mx),
        Some(opened.tls.clone()),
        Arc::new(backend),
        Arc::new(AcceptAll),
        Arc::new(limiter),
    ));
    let endpoint = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(|e| e.to_string())?;
    let (address, stop) = (endpoint.address(), CancellationToken::new());
    let serving = tokio::spawn(serve(
        endpoint,
        ServeSettings::default(),
        stop.clone(),
        |_| Ok(None::<()>),
        move |connection| {
            let server = server.clone();
            async move { server.connection(connection).await }
        },
    ));
    let greeted = twinpost_group::Check::smtp(address).run().await;
    laps.lap("a greeting");
    stop.cancel();
    let _ = serving.await;
    close(opened).await;
    greeted.map_err(|e| e.to_string())?;
    Ok(laps)
}

async fn close(opened: Opened) {
    if let Some(gateway) = &opened.gateway {
        gateway.close().await;
    }
    opened.store.close().await;
    opened.directory.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_rehearsal_touches_nothing_of_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        folder.make().unwrap();
        let document = Document::default();
        let laps = rehearse(&document, &folder).await.unwrap();
        for step in ["store", "directory", "search index", "certificate", "a greeting"] {
            assert!(laps.to_string().contains(step), "{laps}");
        }
        assert!(!folder.data().exists(), "no data");
        let left = |dir: PathBuf| std::fs::read_dir(dir).unwrap().count();
        assert_eq!((left(folder.mail_run()), left(folder.tls())), (0, 0), "nothing is left");
    }
}
