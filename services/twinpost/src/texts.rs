//! Text messages as the mail process knows them: the gateway's rules before the queue, the courier behind it, answers that
//! come back, notices of new mail, and alarms about the modem.
//!
//! Contract: the modem belongs to another process (`twinpost sms`), which may be away at any time. Nothing here waits for it
//! while somebody waits for us: what cannot go stays in the mail queue and is tried again the moment the modem is ready; what
//! came in stays with that process until the mail that it became is committed here.
//!
//! Failure classes: the modem's process is away or not ready (mail waits, operators are told by mail); the ledger does not
//! answer (451 at RCPT and DATA; what is under way waits).

mod alarms;
mod arrivals;
mod courier;
mod incoming;
mod intake;
mod link;

pub use arrivals::Arrival;
pub use courier::{TextCourier, take_back};
pub use intake::Writer;

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use twinpost_directory::Directory;
use twinpost_mail2sms::{Gateway, Language};
use twinpost_message::{AccountId, Address, QueueId, TraceId};
use twinpost_sms::Client;
use twinpost_store::Store;
use twinpost_store::spool::{SpoolAction, SpoolFilter};

use crate::adapter::{Wishes, now_s, report_delivery};

/// Notices that wait to be judged; beyond it new ones are left out, as no mail may wait for them.
const ARRIVALS_MAX: usize = 1000;
/// Pause before the modem's process is called again.
const CALL_AGAIN: Duration = Duration::from_secs(1);
/// After this time entries that rested are woken a second time.
const WAKE_AGAIN: Duration = Duration::from_secs(3);
/// Entries of the spool read in one step.
const LIST_AT_ONCE: usize = 500;
/// How often the ledger forgets what is too old.
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Whether texts can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// A way out is ready.
    Ready,
    /// None is; the sentence says why, in both languages.
    Not(String, String),
}

/// What all parts of this module share.
pub struct Texts {
    gateway: Gateway,
    client: Client,
    directory: Directory,
    store: Store,
    /// How long mail is tried.
    wishes: Arc<Wishes>,
    host_name: String,
    readiness: watch::Sender<Readiness>,
    /// Entries of the queue that wait for a ready modem.
    resting: Mutex<HashSet<QueueId>>,
    /// What an earlier process put to rest was looked for.
    remembered: AtomicBool,
    arrivals: mpsc::Sender<Arrival>,
    /// Where the troubles stand that operators were told of.
    told: PathBuf,
    /// Where the text stands whose mail is being stored.
    begun: PathBuf,
    /// The network's name.
    operator: Mutex<Option<String>>,
    trouble_after: Duration,
}

/// What [`Texts::new`] is made of.
pub struct Parts {
    /// Rules and ledger.
    pub gateway: Gateway,
    /// Socket of the modem's process.
    pub socket: PathBuf,
    /// People.
    pub directory: Directory,
    /// Mail.
    pub store: Store,
    /// How long mail is tried.
    pub wishes: Arc<Wishes>,
    /// Our name.
    pub host_name: String,
    /// Folder for small files: what operators were told, which text is being stored.
    pub folder: PathBuf,
    /// The modem's process may be away so long before operators are told.
    pub trouble_after: Duration,
}

impl Texts {
    /// Over these parts; the receiver is for [`Texts::start`].
    pub fn new(parts: Parts) -> (Arc<Self>, mpsc::Receiver<Arrival>) {
        let Parts { gateway, socket, directory, store, wishes, host_name, folder, trouble_after } = parts;
        let (arrivals, waiting) = mpsc::channel(ARRIVALS_MAX);
        let not_yet =
            Readiness::Not("the process of the modem has not been reached yet".to_owned(), "尚未连接到短信进程".to_owned());
        let (readiness, resting) = (watch::Sender::new(not_yet), Mutex::default());
        let texts = Self {
            gateway,
            client: Client::new(socket),
            directory,
            store,
            wishes,
            host_name,
            readiness,
            resting,
            remembered: AtomicBool::new(false),
            arrivals,
            told: folder.join("sms-told.json"),
            begun: folder.join("sms-incoming.json"),
            operator: Mutex::default(),
            trouble_after,
        };
        (Arc::new(texts), waiting)
    }

    /// Starts everything that runs beside the sessions.
    pub fn start(self: &Arc<Self>, arrivals: mpsc::Receiver<Arrival>, tasks: &TaskTracker, stop: &CancellationToken) {
        tasks.spawn(self.clone().watch_modem(stop.clone()));
        tasks.spawn(self.clone().take_incoming(stop.clone()));
        tasks.spawn(self.clone().judge_arrivals(arrivals, stop.clone()));
        let (texts, stop) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            loop {
                if let Err(error) = texts.gateway.prune(now_s()).await {
                    tracing::error!(%error, "the SMS ledger cannot forget what is too old");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PRUNE_EVERY) => {}
                }
            }
        });
    }

    /// The rules and the ledger.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Mail to this domain becomes text messages.
    pub fn takes(&self, domain: &str) -> bool {
        self.gateway.is_sms_domain(&domain.to_lowercase())
    }

    /// The language of an account.
    fn language_of(&self, account: Option<AccountId>) -> Option<Language> {
        let account = self.directory.account_by_id(account?)?;
        Some(match account.language {
            twinpost_directory::Language::ZhCn => Language::ZhCn,
            twinpost_directory::Language::En => Language::En,
        })
    }

    /// Delivers a message of our own making: into a mailbox here, or into the queue for elsewhere.
    async fn deliver(&self, to: &Address, message: &[u8], trace: TraceId) -> Result<(), twinpost_store::Error> {
        self.store.deliver(report_delivery(&self.directory, to, message, trace, self.wishes.expire())).await.map(|_| ())
    }

    /// A mail was stored for these accounts: those who want to hear of it by text are told, later and elsewhere.
    pub fn arrived(&self, accounts: Vec<AccountId>, mail: Bytes, trace: TraceId) {
        // Only accounts with rules cost anything.
        let with_rules = |id: &AccountId| {
            self.directory.account_by_id(*id).is_some_and(|account| !self.gateway.rules(&account.address).is_empty())
        };
        let accounts: Vec<AccountId> = accounts.into_iter().filter(with_rules).collect();
        if !accounts.is_empty() && self.arrivals.try_send(Arrival { accounts, mail, trace }).is_err() {
            tracing::warn!(%trace, "more new mail than notices can be made of: nobody is told of this one by text");
        }
    }

    /// The entry waits for a ready modem.
    fn rests(&self, id: QueueId) {
        self.resting.lock().insert(id);
    }

    /// The modem is ready: what waited for it is due now.
    fn wake_resting(self: &Arc<Self>) {
        let texts = self.clone();
        tokio::spawn(async move {
            texts.remember_waiting().await;
            // An errand that was put to rest in this moment may be written down after the first look.
            for pause in [Duration::ZERO, WAKE_AGAIN] {
                tokio::time::sleep(pause).await;
                let resting: Vec<QueueId> = texts.resting.lock().iter().copied().collect();
                for id in resting {
                    texts.wake_one(id, !pause.is_zero()).await;
                }
            }
        });
    }

    /// Once after the start: what an earlier process put to rest is known to the spool only.
    async fn remember_waiting(&self) {
        if self.remembered.swap(true, Ordering::Relaxed) {
            return;
        }
        for domain in &self.gateway.policy().settings().domains {
            let mut after = None;
            loop {
                let filter = SpoolFilter { after, rcpt: Some(format!("@{domain}")), ..SpoolFilter::default() };
                let found = match self.store.spool_list(&filter, LIST_AT_ONCE).await {
                    Ok(found) => found,
                    Err(error) => {
                        tracing::warn!(%error, "texts of an earlier start could not be looked for; they come by their own time");
                        break;
                    }
                };
                let Some(last) = found.last().map(|entry| entry.id) else { break };
                self.resting.lock().extend(found.iter().map(|entry| entry.id));
                after = Some(last);
            }
        }
    }

    async fn wake_one(&self, id: QueueId, last: bool) {
        if last {
            self.resting.lock().remove(&id);
        }
        match self.store.spool_action(id, SpoolAction::Retry(now_s())).await {
            Ok(()) | Err(twinpost_store::Error::NoQueueEntry(_)) => {}
            // It comes back by its own time.
            Err(error) => tracing::warn!(queue = %id, %error, "a text that waited for the modem could not be made due"),
        }
    }
}
