//! kill -9 under load: a client outside remembers each 250 and looks for each of those messages afterwards.

use crate::node::{Node, wait_for};
use crate::smtp::{Smtp, message_of};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::io::{Error, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
                    Ok(code) if code < 500 => println!("{}: answered {code}", one.id),
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
            self.sent.lock().unwrap().push(one);
            std::thread::sleep(self.rest);
        }
    }

    /// Looks for each message in the mailboxes (how often each Message-ID is in them): what was acknowledged is there once, and nothing
    /// is there that was not sent.
    #[track_caller]
    pub fn check(&self, boxes: &HashMap<&str, HashMap<String, usize>>) {
        let sent = self.sent.lock().unwrap();
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
        println!("{} messages, {copies} copies in the mailboxes, {repeated} doubled after a broken connection", sent.len());
    }

    /// Lets a random number of messages through, then kills; so many times. Then some more, and the load ends.
    fn kill_often(&self, node: &Node, kills: usize, rng: &mut StdRng) {
        for kill in 1..=kills {
            let goal = self.acknowledged.load(Ordering::Relaxed) + rng.random_range(10..80);
            wait_for("acknowledged messages", || (self.acknowledged.load(Ordering::Relaxed) >= goal).then_some(()));
            let old = node.kill_mail();
            println!("kill {kill}: process {old} after {} acknowledged messages", self.acknowledged.load(Ordering::Relaxed));
            node.wait_for_another(old);
        }
        let goal = self.acknowledged.load(Ordering::Relaxed) + 20;
        wait_for("acknowledged messages", || (self.acknowledged.load(Ordering::Relaxed) >= goal).then_some(()));
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn kills() -> usize {
    if crate::fast() {
        println!("TWINPOST_TESTS=fast: 3 kills instead of 6");
        3
    } else {
        6
    }
}

/// The seed of this run, printed.
pub fn seed() -> u64 {
    let seed = std::env::var("TWINPOST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("seed: TWINPOST_SEED={seed}");
    seed
}

#[test]
fn every_acknowledged_message_is_found_once_after_kills_under_load() {
    const PEOPLE: [&str; 3] = ["ben@school.example", "anna@school.example", "zhang.wei@school.example"];
    let node = Node::start();
    let seed = seed();
    let load = Load::new();
    let clients: Vec<_> = (0..6)
        .map(|c| {
            let (load, at) = (load.clone(), node.at("smtp"));
            std::thread::spawn(move || {
                load.client(&format!("c{c}"), seed ^ c, &PEOPLE, "sender@elsewhere.example", &|| Smtp::open(at));
            })
        })
        .collect();
    load.kill_often(&node, kills(), &mut StdRng::seed_from_u64(seed));
    for client in clients {
        client.join().unwrap();
    }

    let mut boxes: HashMap<&str, HashMap<String, usize>> = HashMap::new();
    for person in PEOPLE {
        boxes.insert(person, node.imap(person).message_ids("INBOX"));
    }
    load.check(&boxes);
    println!("`store verify` finds nothing wrong after all that");
    node.ctl(&["store", "verify"]).well();
}

/// A mail server that takes everything and remembers the Message-ID of what it acknowledged.
struct Sink {
    at: SocketAddr,
    seen: Arc<Mutex<HashMap<String, usize>>>,
}

impl Sink {
    fn open(node: &Node) -> Self {
        let listener = TcpListener::bind((node.ip(), 0)).unwrap();
        let sink = Self { at: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = sink.seen.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let seen = seen.clone();
                std::thread::spawn(move || drop(Self::session(connection, &seen)));
            }
        });
        sink
    }

    fn session(connection: TcpStream, seen: &Mutex<HashMap<String, usize>>) -> Result<()> {
        let mut out = connection.try_clone()?;
        let mut lines = std::io::BufRead::split(std::io::BufReader::new(connection), b'\n');
        out.write_all(b"220 sink.example ESMTP\r\n")?;
        while let Some(line) = lines.next() {
            let line = String::from_utf8_lossy(&line?).trim_end().to_ascii_uppercase();
            if line == "DATA" {
                out.write_all(b"354 go on\r\n")?;
                let mut id = None;
                loop {
                    let text = lines.next().ok_or_else(|| Error::other("broken off"))??;
                    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
                    if text == "." {
                        break;
                    }
                    if let Some(found) = text.strip_prefix("Message-ID: <") {
                        id.get_or_insert_with(|| found.trim_end_matches('>').to_owned());
                    }
                }
                *seen.lock().unwrap().entry(id.unwrap_or_default()).or_default() += 1;
                out.write_all(b"250 2.0.0 taken\r\n")?;
            } else if line.starts_with("EHLO") {
                out.write_all(b"250-sink.example\r\n250-8BITMIME\r\n250 PIPELINING\r\n")?;
            } else if line == "QUIT" {
                return out.write_all(b"221 2.0.0 bye\r\n");
            } else {
                out.write_all(b"250 2.0.0 ok\r\n")?;
            }
        }
        Ok(())
    }
}

#[test]
fn the_queue_loses_nothing_when_it_is_killed_under_load() {
    let mut node = Node::start();
    let sink = Sink::open(&node);
    node.stop();
    let mut document = std::fs::read_to_string(node.document()).unwrap();
    document.push_str(&format!(
        "\n[queue]\nretry = [\"1 s\"]\nper_destination = 4\n\n[queue.smart_host]\nserver = \"{}\"\ntls = \"opportunistic\"\n",
        sink.at
    ));
    std::fs::write(node.document(), document).unwrap();
    node.again();

    let seed = seed();
    let load = Load::new();
    let ben = "ben@school.example";
    let (password, ca, at) = (node.password(ben), node.ca(), node.at("submissions"));
    let clients: Vec<_> = (0..4)
        .map(|c| {
            let (load, password, ca) = (load.clone(), password.clone(), ca.clone());
            std::thread::spawn(move || {
                load.client(&format!("q{c}"), seed ^ c, &["far@away.example"], ben, &|| {
                    let mut smtp = Smtp::open_tls(at, &ca)?;
                    let reply = smtp.sign_in(ben, &password)?;
                    if reply.code == 235 { Ok(smtp) } else { Err(Error::other(format!("{reply:?}"))) }
                });
            })
        })
        .collect();
    let kills = kills();
    load.kill_often(&node, kills, &mut StdRng::seed_from_u64(seed));
    for client in clients {
        client.join().unwrap();
    }
    wait_for("an empty queue", || (node.json(&["queue", "list"]) == serde_json::json!([])).then_some(()));

    let seen = sink.seen.lock().unwrap();
    let sent = load.sent.lock().unwrap();
    let mut doubled = 0;
    for one in sent.iter() {
        let found = seen.get(&one.id).copied().unwrap_or(0);
        assert!(found >= 1 || !one.acknowledged, "{} was acknowledged and never came out of the queue", one.id);
        // The other side's 250 may be lost with the process: what was under way then is sent again.
        doubled += found.saturating_sub(one.tries);
    }
    println!("{} messages went out, {doubled} of them once more after {kills} kills", sent.len());
    assert!(
        doubled <= kills * 4,
        "{doubled} repetitions: more than what can have been under way in {kills} kills on 4 connections"
    );
    let known: std::collections::HashSet<&str> = sent.iter().map(|s| s.id.as_str()).collect();
    assert!(seen.keys().all(|id| known.contains(id.as_str())), "something came out that nobody sent: {:?}", seen.keys());
}
