//! Clients that send mail and remember every 250: afterwards each of those messages must be found, once.

use super::smtp::{Smtp, message_of};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::io::{Result, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A message that was sent: to whom, and how often it was begun until the 250 came.
pub struct Sent {
    /// Its Message-ID.
    pub id: String,
    /// Its recipients.
    pub to: Vec<&'static str>,
    tries: usize,
    /// The 250 came.
    pub acknowledged: bool,
}

impl Sent {
    /// How often it was begun.
    pub fn tries(&self) -> usize {
        self.tries
    }
}

/// Clients that send until they are told to stop.
pub struct Load {
    /// How many 250 came.
    pub acknowledged: AtomicUsize,
    /// The clients end.
    pub stop: AtomicBool,
    /// What was sent.
    pub sent: Mutex<Vec<Sent>>,
    /// A client rests so long after each message.
    rest: Duration,
}

impl Load {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Self::resting(Duration::ZERO)
    }

    /// None yet; each client rests so long after each message.
    pub fn resting(rest: Duration) -> Arc<Self> {
        Arc::new(Self { acknowledged: AtomicUsize::new(0), stop: AtomicBool::new(false), sent: Mutex::new(Vec::new()), rest })
    }

    /// One connection after another; each message is tried again until it is acknowledged, as a mail server does.
    pub fn client(&self, name: &str, seed: u64, recipients: &[&'static str], sender: &str, open: &dyn Fn() -> Result<Smtp>) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut session: Option<Smtp> = None;
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let id = format!("{name}.{n}@load.example");
            let first = rng.random_range(0..recipients.len());
            let mut to = vec![recipients[first]];
            if recipients.len() > 1 && rng.random_bool(0.4) {
                to.push(recipients[(first + 1) % recipients.len()]);
            }
            let text = message_of(sender, &id, "under load", rng.random_range(500..12_000));
            let mut one = Sent { id, to, tries: 0, acknowledged: false };
            while !one.acknowledged {
                let mut attempt = || -> Result<u16> {
                    let open = match session.take() {
                        Some(open) => session.insert(open),
                        None => session.insert(open()?),
                    };
                    one.tries += 1;
                    Ok(open.mail(sender, &one.to, &text)?.code)
                };
                match attempt() {
                    Ok(250) => one.acknowledged = true,
                    Ok(code) if code < 500 => say(&format!("{}: answered {code}", one.id)),
                    Ok(code) => panic!("{}: answered {code}", one.id),
                    Err(_) => {
                        session = None;
                        if self.stop.load(Ordering::Relaxed) {
                            break;
                        }
                        // Nobody listens for a moment after a kill.
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            }
            if one.acknowledged {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(one);
            std::thread::sleep(self.rest);
        }
    }

    /// Looks for each message in the mailboxes (how often each Message-ID is in them): what was acknowledged is there once, and nothing
    /// is there that was not sent.
    #[track_caller]
    pub fn check(&self, boxes: &HashMap<&str, HashMap<String, usize>>) {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut copies, mut repeated) = (0, 0);
        for one in sent.iter() {
            for (person, found) in boxes {
                let found = found.get(&one.id).copied().unwrap_or(0);
                if !one.to.contains(person) {
                    assert_eq!(found, 0, "{} was not for {person}", one.id);
                    continue;
                }
                copies += found;
                if one.acknowledged {
                    assert!(found >= 1, "{} for {person} was acknowledged and is lost", one.id);
                }
                // A connection that broke before the 250 may have left the message: then the repetition is a second copy.
                assert!(found <= one.tries, "{} for {person}: {found} copies after {} tries", one.id, one.tries);
                repeated += usize::from(found > 1);
            }
        }
        let stored: usize = boxes.values().flat_map(HashMap::values).sum();
        assert_eq!(stored, copies, "mail is there that nobody sent");
        say(&format!("{} messages, {copies} copies in the mailboxes, {repeated} doubled after a broken connection", sent.len()));
    }
}
