//! The session: what one client has reached, and what each command does.
//!
//! Contract: [`Session::run`] takes one parsed command and appends its untagged responses and its tagged answer to an [`Out`]. It
//! knows no socket and no clock; commands that change the connection (STARTTLS, AUTHENTICATE, COMPRESS, IDLE's waiting, reading
//! of APPEND literals) are the connection's (`crate::connection`), which calls in here for their effect on the session. What
//! others changed in the selected mailbox is told at the end of each command, expunges only where RFC 9051 7.5.1 allows.
//!
//! Failure classes: [`Stop`]: a tagged refusal, the end of the session with BYE, or the connection is gone.

mod account;
pub(crate) mod answer;
mod append;
pub(crate) mod capability;
mod fetch;
mod flags;
mod item;
mod list;
mod mailboxes;
mod metadata;
pub(crate) mod notify;
pub(crate) mod out;
mod search;
mod select;
mod tell;
mod transfer;

pub(crate) use append::{AppendTarget, Upload};

use crate::algorithm::ranges::Ranges;
use crate::backend::{Account, Backend, MailboxInfo};
use crate::codec::ast::{Command, MailboxName, Request};
use crate::codec::set::SequenceSet;
use crate::settings::Settings;
use crate::view::View;
use answer::{Answer, Stop};
use out::{Out, Sink};
use std::io;
use std::sync::Arc;
use twinpost_message::view::Entry;
use twinpost_message::{AccountId, MailboxId, Uid};

/// What a client switched on. Once on, a mode stays (RFC 5161 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modes {
    /// CONDSTORE (RFC 7162 3.1): modseqs are told with every flag change.
    pub condstore: bool,
    /// QRESYNC (RFC 7162 3.2): VANISHED instead of EXPUNGE.
    pub qresync: bool,
    /// UTF8=ACCEPT (RFC 6855) or IMAP4rev2: names and strings in UTF-8.
    pub utf8: bool,
    /// IMAP4rev2: no RECENT, ESEARCH for SEARCH.
    pub rev2: bool,
}

/// One client.
pub(crate) struct Session<B> {
    pub backend: Arc<B>,
    pub settings: Arc<Settings>,
    pub modes: Modes,
    pub account: Option<Arc<Account>>,
    pub selected: Option<Box<Selected>>,
    /// Messages whose flags the last [`Session::tell`] told: STORE .SILENT is not silent about them.
    just_told: Vec<Uid>,
    /// What NOTIFY asked for (RFC 5465).
    pub notify: Option<Box<notify::Wishes>>,
}

/// The selected mailbox.
pub(crate) struct Selected {
    pub id: MailboxId,
    pub read_only: bool,
    pub view: View,
    /// `$` of SEARCHRES (RFC 5182): UIDs.
    pub saved: Ranges,
}

type Done = Result<Answer, Stop>;

impl<B: Backend> Session<B> {
    pub fn new(backend: Arc<B>, settings: Arc<Settings>) -> Self {
        Self { backend, settings, modes: Modes::default(), account: None, selected: None, just_told: Vec::new(), notify: None }
    }

    /// Runs a command that concerns the session alone, to its tagged answer.
    ///
    /// # Errors
    /// [`Stop::Io`] and [`Stop::Bye`]; refusals are answered here.
    pub async fn run<S: Sink>(&mut self, command: Command, out: &mut Out<'_, S>) -> Result<(), Stop> {
        let Command { tag, request } = command;
        let expunges = may_tell_expunges(&request);
        let done = match self.admit(&request) {
            Err(answer) => Err(Stop::Answer(answer)),
            Ok(()) => {
                // What is new comes first, under the numbers that the client knows: a command that names a message which
                // another session just stored finds it. Expunges wait for the end, numbers in the command must hold.
                if self.selected.is_some() && !matches!(request, Request::Close | Request::Unselect | Request::Select(_)) {
                    self.tell(out, false).await?;
                }
                let done = self.dispatch(&tag, request, out).await;
                self.just_told = Vec::new();
                done
            }
        };
        self.finish(&tag, done, expunges, out).await
    }

    /// Writes what others changed and the tagged answer.
    pub async fn finish<S: Sink>(
        &mut self,
        tag: &str,
        done: Result<Answer, Stop>,
        expunges: bool,
        out: &mut Out<'_, S>,
    ) -> Result<(), Stop> {
        let answer = match done {
            Ok(answer) | Err(Stop::Answer(answer)) => answer,
            Err(stop) => return Err(stop),
        };
        self.tell(out, expunges).await?;
        self.tell_elsewhere(out).await?;
        answer.write(tag, &mut out.buf);
        Ok(())
    }

    /// Whether the state allows the command (RFC 9051 3).
    fn admit(&self, request: &Request) -> Result<(), Answer> {
        let needs_account = !matches!(request, Request::Capability | Request::Noop | Request::Id(_));
        let Some(account) = &self.account else {
            return if needs_account { Err(Answer::bad("Sign in first")) } else { Ok(()) };
        };
        if !self.backend.still_allowed(account.id) {
            return Err(Answer::no("EXPIRED", "The account was closed; please ask your administrator"));
        }
        let needs_mailbox = matches!(
            request,
            Request::Check
                | Request::Close
                | Request::Unselect
                | Request::Expunge { .. }
                | Request::Search(_)
                | Request::Sort { .. }
                | Request::Thread { .. }
                | Request::Fetch(_)
                | Request::Store(_)
                | Request::Copy { .. }
                | Request::Move { .. }
        );
        if needs_mailbox && self.selected.is_none() {
            return Err(Answer::bad("Select a mailbox first"));
        }
        Ok(())
    }

    async fn dispatch<S: Sink>(&mut self, tag: &str, request: Request, out: &mut Out<'_, S>) -> Done {
        match request {
            // The capabilities depend on the connection, which answers CAPABILITY itself, as it does these others.
            Request::Capability
            | Request::Logout
            | Request::StartTls
            | Request::Authenticate { .. }
            | Request::Login { .. }
            | Request::Idle
            | Request::Compress(_) => Err(Answer::bad("Not here").into()),
            Request::Noop => Ok(Answer::ok("Done")),
            Request::Check => Ok(Answer::ok("Everything is on disk")),
            Request::Enable(names) => Ok(self.enable(&names, out)),
            Request::Id(fields) => Ok(self.id(&fields, out)),
            Request::Namespace => Ok(self.namespace(out)),
            Request::Select(select) => Box::pin(self.select(select, out)).await,
            Request::Close => Box::pin(self.close()).await,
            Request::Unselect => Ok(self.unselect()),
            Request::Create { mailbox, parent_only: _, special_use } => self.create(&mailbox, &special_use).await,
            Request::Delete(mailbox) => self.delete(&mailbox, out).await,
            Request::Rename { from, to } => self.rename(&from, &to).await,
            Request::Subscribe(mailbox) => self.subscribe(&mailbox, true).await,
            Request::Unsubscribe(mailbox) => self.subscribe(&mailbox, false).await,
            Request::List(list) => Box::pin(self.list(list, out)).await,
            Request::Status { mailbox, items } => self.status(&mailbox, &items, out).await,
            Request::Expunge { uids } => Box::pin(self.expunge(uids, out)).await,
            Request::Search(search) => Box::pin(self.search(tag, search, out)).await,
            Request::Sort { keys, search } => Box::pin(self.sort(tag, keys, search, out)).await,
            Request::Thread { algorithm, search } => Box::pin(self.thread(algorithm, search, out)).await,
            Request::Fetch(fetch) => Box::pin(self.fetch(fetch, out)).await,
            Request::Store(store) => Box::pin(self.store(store, out)).await,
            Request::Copy { uid, set, mailbox } => Box::pin(self.copy(uid, &set, &mailbox)).await,
            Request::Move { uid, set, mailbox } => Box::pin(self.move_messages(uid, &set, &mailbox, out)).await,
            Request::GetQuota(root) => self.get_quota(&root, out).await,
            Request::GetQuotaRoot(mailbox) => self.get_quota_root(&mailbox, out).await,
            Request::SetQuota { .. } => Ok(Answer::no("NOPERM", "Quotas are set by the administrator")),
            Request::GetMetadata(get) => Box::pin(self.get_metadata(get, out)).await,
            Request::SetMetadata { mailbox, entries } => Box::pin(self.set_metadata(mailbox, entries)).await,
            Request::Notify(notify) => Box::pin(self.set_notify(notify, out)).await,
        }
    }

    /// The signed-in account. [`Session::admit`] has checked that there is one.
    fn who(&self) -> Result<AccountId, Stop> {
        self.account.as_ref().map(|a| a.id).ok_or_else(|| Answer::bad("Sign in first").into())
    }

    /// The selected mailbox. [`Session::admit`] has checked that there is one.
    fn here(&mut self) -> Result<&mut Selected, Stop> {
        self.selected.as_deref_mut().ok_or_else(|| Answer::bad("Select a mailbox first").into())
    }

    /// The selected mailbox, if it may be changed.
    fn here_to_write(&mut self) -> Result<&mut Selected, Stop> {
        let here = self.here()?;
        if here.read_only {
            return Err(Answer::no("NOPERM", "The mailbox was opened with EXAMINE").into());
        }
        Ok(here)
    }

    /// A mailbox that must exist.
    async fn find(&self, name: &MailboxName) -> Result<MailboxInfo, Stop> {
        let found = self.backend.mailbox(self.who()?, name.as_str()).await?;
        found.ok_or_else(|| Answer::no("NONEXISTENT", "There is no such mailbox").into())
    }

    /// The target of COPY, MOVE and APPEND (RFC 9051 6.4.7: TRYCREATE).
    async fn find_target(&self, name: &MailboxName) -> Result<MailboxInfo, Stop> {
        let found = self.backend.mailbox(self.who()?, name.as_str()).await?;
        found.ok_or_else(|| answer::no_target().into())
    }
}

impl Selected {
    /// The messages that a set means, in the state that the client knows.
    pub fn pick(&self, set: &SequenceSet, uid: bool) -> Result<Vec<(u32, Entry)>, Stop> {
        let told = self.view.told();
        if uid {
            let uids = set.uids(told, &self.saved);
            return Ok(uids.select_uids(told).map(|(seq, e)| (seq, *e)).collect());
        }
        let seqs = self.seqs(set)?;
        Ok(seqs.select_seqs(told).map(|(seq, e)| (seq, *e)).collect())
    }

    /// Sequence numbers; a number that does not exist is the client's mistake (RFC 9051 6.4.5).
    pub fn seqs(&self, set: &SequenceSet) -> Result<Ranges, Stop> {
        set.seqs(self.view.told(), &self.saved).map_err(|e| Answer::bad(e.to_string()).into())
    }
}

/// RFC 9051 7.5.1: no EXPUNGE in answer to FETCH, STORE and SEARCH (nor SORT and THREAD, RFC 5256 3), since the next commands
/// may be on their way with numbers. Their UID forms name no numbers. Also none before anything is selected.
fn may_tell_expunges(request: &Request) -> bool {
    match request {
        Request::Fetch(fetch) => fetch.uid,
        Request::Store(store) => store.uid,
        Request::Search(search) | Request::Sort { search, .. } | Request::Thread { search, .. } => search.uid,
        _ => true,
    }
}

/// The connection's error as the reason to stop.
pub(crate) fn gone(kind: io::ErrorKind) -> Stop {
    Stop::Io(kind.into())
}
