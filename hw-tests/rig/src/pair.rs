//! A founded pair on a rig, as its owner sees it: status, orders, mail.

use crate::client::imap::Imap;
use crate::client::line::Line;
use crate::client::load::Load;
use crate::client::smtp::{Smtp, message_of};
use crate::observe::{Heard, greeting};
use crate::rig::{NODES, Rig, other};
use crate::timeline::lock;
use crate::wait::{until, until_ok, until_told};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a pair may take to settle on a busy machine.
pub const SETTLE: Duration = Duration::from_secs(180);
/// How long the takeover may take before a test gives up; what it took is recorded and not judged.
pub const TAKEOVER: Duration = Duration::from_secs(90);
/// The domain of the tests.
pub const DOMAIN: &str = "school.example";
/// The domain whose addresses are telephone numbers.
pub const SMS_DOMAIN: &str = "sms.school.example";
/// People with mailboxes.
pub const PEOPLE: [&str; 3] = ["ben@school.example", "anna@school.example", "zhang.wei@school.example"];
/// How many clients send under load.
const CLIENTS: u64 = 3;
/// A client rests so long after each message: what is tested is the order of things, and the machines have a slow processor.
const REST: Duration = Duration::from_millis(120);

/// What was made when the pair was founded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Founded {
    /// Passwords of accounts.
    pub passwords: BTreeMap<String, String>,
    /// Number of the pair.
    pub cluster: u64,
    /// How long each phase took, in milliseconds.
    pub phases_ms: Vec<(String, u64)>,
}

/// See the module.
pub struct Pair<R: Rig> {
    /// The machines.
    pub rig: R,
    /// What was made when it was founded.
    pub founded: Mutex<Founded>,
}

impl<R: Rig> std::fmt::Debug for Pair<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

impl<R: Rig> Pair<R> {
    /// A pair that was founded before, or is going to be.
    #[must_use]
    pub fn of(rig: R, founded: Founded) -> Self {
        Self { rig, founded: Mutex::new(founded) }
    }

    /// The password of an account.
    #[must_use]
    pub fn password(&self, account: &str) -> String {
        lock(&self.founded).passwords.get(account).cloned().unwrap_or_default()
    }

    /// What the pair daemon of a node says; none while it does not answer.
    #[must_use]
    pub fn status(&self, node: &str) -> Option<Value> {
        self.rig.console(node).json("pair status").ok()
    }

    /// The same of a node whose console may be silent: no waiting for a boot.
    #[must_use]
    pub fn status_now(&self, node: &str) -> Option<Value> {
        self.rig.console(node).attend(Duration::from_secs(2)).ok()?;
        self.status(node)
    }

    /// Where a service is on the service address.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.rig.service(), port)
    }

    /// Does something where clients are.
    ///
    /// # Errors
    /// The kernel refuses.
    ///
    /// # Panics
    /// The work panicked.
    pub fn as_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                self.rig.enter()?;
                Ok(work())
            });
            made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Whether SMTP greets on the service address.
    #[must_use]
    pub fn greets(&self) -> bool {
        let at = self.at(25);
        self.as_client(|| greeting(at)).ok().flatten() == Some(Heard::Banner)
    }

    /// Waits for a greeting on the service address; gives how long it took from now.
    ///
    /// # Errors
    /// None in time.
    pub fn wait_banner(&self, patience: Duration) -> Result<Duration> {
        let begun = std::time::Instant::now();
        until(self.rig.timeline(), "an SMTP greeting on the service address", patience, || self.greets().then_some(()))?;
        Ok(begun.elapsed())
    }

    /// Waits until one node serves and the other is its eligible standby, as both see it; gives the active.
    ///
    /// # Errors
    /// Not in time.
    pub fn settled(&self) -> Result<&'static str> {
        let found = until_told(self.rig.timeline(), "an active node and its eligible standby", self.rig.settle_limit(), || {
            let [a, b] = NODES.map(|node| self.status_now(node));
            let (a, b) = (a?, b?);
            let active = NODES.into_iter().find(|node| a["active"] == *node && b["active"] == *node)?;
            let (by, standby) = if active == "a" { (&a, other("a")) } else { (&b, other("b")) };
            let eligible = by["nodes"].as_array()?.iter().any(|n| n["name"] == standby && n["eligible"] == true);
            (eligible && by["services"]["state"] == "up" && self.greets()).then_some(active)
        });
        if found.is_err() {
            for node in NODES {
                let said = self.status_now(node).unwrap_or_default();
                self.rig.timeline().note(&format!("{node} status"), &said.to_string());
            }
        }
        found
    }

    /// Waits until a status of a node fulfils something.
    ///
    /// # Errors
    /// Not in time.
    pub fn until_status(&self, node: &str, what: &str, patience: Duration, mut is: impl FnMut(&Value) -> bool) -> Result<Value> {
        until_told(self.rig.timeline(), &format!("node {node}: {what}"), patience, || {
            self.status_now(node).filter(|status| is(status))
        })
    }

    /// The state of the storage that a node tells.
    #[must_use]
    pub fn storage(&self, node: &str) -> Value {
        self.status_now(node).map(|status| status["storage"].clone()).unwrap_or_default()
    }

    /// A message by port 25 that must be acknowledged.
    ///
    /// # Errors
    /// It is not, or nobody listens.
    pub fn send(&self, to: &str, id: &str, subject: &str) -> Result<()> {
        let at = self.at(25);
        let text = message_of("you@elsewhere.example", id, subject, 600);
        let reply = self.as_client(|| -> std::io::Result<_> {
            let mut smtp = Smtp::greeted(Line::plain_within(at, Duration::from_secs(10), Duration::from_secs(30))?)?;
            smtp.mail("you@elsewhere.example", &[to], &text)
        })?;
        let reply = reply.map_err(Error::io(format!("send a message to {to}")))?;
        if reply.code == 250 {
            return Ok(());
        }
        Err(Error::Tool { what: format!("send a message to {to}"), said: format!("{} {}", reply.code, reply.text) })
    }

    /// How often each message is in a person's mailbox.
    ///
    /// # Errors
    /// IMAP refuses.
    pub fn mailbox(&self, person: &str) -> Result<HashMap<String, usize>> {
        let at = self.at(993);
        let password = self.password(person);
        let asked = self.as_client(|| -> std::io::Result<_> {
            let line = Line::tls_unchecked(at, Duration::from_secs(10), Duration::from_secs(60))?;
            Ok(Imap::sign_in_on(line, person, &password)?.message_ids("INBOX"))
        })?;
        asked.map_err(Error::io(format!("read the mailbox of {person}")))
    }

    /// Starts clients that send to everybody and remember what was promised.
    ///
    /// # Errors
    /// The kernel refuses threads.
    pub fn load(&self, name: &str) -> Result<Sending<'_, R>> {
        let load = Load::resting(REST);
        let mut sending = Sending { pair: self, load: load.clone(), clients: Vec::new(), before: load_goal(&load) };
        let at = self.at(25);
        for client in 0..CLIENTS {
            let (load, door) = (load.clone(), self.rig.door());
            let name = format!("{name}{client}.{:x}", rand::random::<u32>());
            let send = move || {
                if door().is_ok() {
                    load.client(&name, client, &PEOPLE, "you@elsewhere.example", &|| {
                        Smtp::greeted(Line::plain_within(at, Duration::from_millis(700), Duration::from_secs(8))?)
                    });
                }
            };
            let thread = std::thread::Builder::new().name("client".to_owned()).spawn(send);
            sending.clients.push(thread.map_err(Error::io("a client"))?);
        }
        Ok(sending)
    }

    /// Everything that a load promised is there, once; what broke off before its 250 may be there as often as it was tried.
    ///
    /// # Errors
    /// A mailbox cannot be read, or a message is missing or is there too often: [`Error::Tool`] names the first ones.
    pub fn find_all(&self, load: &Load) -> Result<String> {
        let mut boxes = HashMap::new();
        for person in PEOPLE {
            let found =
                until_ok(self.rig.timeline(), &format!("the mailbox of {person}"), SETTLE, || Ok(self.mailbox(person).ok()))?;
            boxes.insert(person, found);
        }
        let sent = lock(&load.sent);
        let (mut acknowledged, mut twice, mut wrong) = (0, 0, Vec::new());
        for one in sent.iter() {
            acknowledged += usize::from(one.acknowledged);
            for person in &one.to {
                let found = boxes[person].get(&one.id).copied().unwrap_or(0);
                if found == 0 && one.acknowledged {
                    wrong.push(format!("{} was acknowledged and is not in {person}'s mailbox", one.id));
                } else if found > one.tries() {
                    wrong.push(format!("{} is {found} times in {person}'s mailbox, sent {} times", one.id, one.tries()));
                }
                twice += found.saturating_sub(1);
            }
        }
        if !wrong.is_empty() {
            let said = format!("{} of {acknowledged}: {}", wrong.len(), wrong[..wrong.len().min(5)].join("; "));
            return Err(Error::Tool { what: "look for every acknowledged message".to_owned(), said });
        }
        let text = format!("{acknowledged} acknowledged, all found; {twice} of those whose 250 was lost are there twice");
        self.rig.timeline().say(&text);
        Ok(text)
    }

    /// Fetches the journals of the nodes that still answer, for a person who looks for a cause.
    pub fn keep_journals(&self, name: &str) {
        for node in NODES {
            if self.rig.console(node).attend(Duration::from_secs(5)).is_err() {
                continue;
            }
            for (what, words) in
                [("journal", "node log --lines 3000"), ("status", "--json pair status"), ("boot", "--json node status")]
            {
                if let Ok(answer) = self.rig.console(node).order(words) {
                    self.rig.timeline().keep(&format!("{name}-{node}-{what}.txt"), answer.raw.as_bytes());
                }
            }
        }
    }
}

fn load_goal(load: &Load) -> usize {
    load.acknowledged.load(std::sync::atomic::Ordering::Relaxed)
}

/// Clients that send until [`Sending::end`].
pub struct Sending<'a, R: Rig> {
    pair: &'a Pair<R>,
    load: Arc<Load>,
    clients: Vec<JoinHandle<()>>,
    before: usize,
}

impl<R: Rig> std::fmt::Debug for Sending<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sending").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

impl<R: Rig> Sending<'_, R> {
    /// How many messages are acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        load_goal(&self.load) - self.before
    }

    /// What the clients remember: it grows until they end.
    #[must_use]
    pub fn load(&self) -> Arc<Load> {
        self.load.clone()
    }

    /// Waits for so many further acknowledged messages.
    ///
    /// # Errors
    /// Not in time.
    pub fn more(&self, count: usize, patience: Duration) -> Result<()> {
        let goal = load_goal(&self.load) + count;
        let what = format!("{count} further acknowledged messages");
        until(self.pair.rig.timeline(), &what, patience, || (load_goal(&self.load) >= goal).then_some(()))
    }

    /// Ends the clients; gives what they remember.
    #[must_use]
    pub fn end(mut self) -> Arc<Load> {
        self.stop();
        self.load.clone()
    }

    fn stop(&mut self) {
        self.load.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

impl<R: Rig> Drop for Sending<'_, R> {
    fn drop(&mut self) {
        self.stop();
    }
}
