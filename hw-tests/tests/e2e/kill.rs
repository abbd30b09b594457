//! kill -9 under load: a client outside remembers each 250 and looks for each of those messages afterwards.

use crate::node::{Node, wait_for};
use crate::smtp::Smtp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::io::{Error, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
pub use twinpost_rig::client::load::Load;

/// Lets a random number of messages through, then kills; so many times. Then some more, and the load ends.
fn kill_often(load: &Load, node: &Node, kills: usize, rng: &mut StdRng) {
    for kill in 1..=kills {
        let goal = load.acknowledged.load(Ordering::Relaxed) + rng.random_range(10..80);
        wait_for("acknowledged messages", || (load.acknowledged.load(Ordering::Relaxed) >= goal).then_some(()));
        let old = node.kill_mail();
        println!("kill {kill}: process {old} after {} acknowledged messages", load.acknowledged.load(Ordering::Relaxed));
        node.wait_for_another(old);
    }
    let goal = load.acknowledged.load(Ordering::Relaxed) + 20;
    wait_for("acknowledged messages", || (load.acknowledged.load(Ordering::Relaxed) >= goal).then_some(()));
    load.stop.store(true, Ordering::Relaxed);
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
    kill_often(&load, &node, kills(), &mut StdRng::seed_from_u64(seed));
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
    kill_often(&load, &node, kills, &mut StdRng::seed_from_u64(seed));
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
        doubled += found.saturating_sub(one.tries());
    }
    println!("{} messages went out, {doubled} of them once more after {kills} kills", sent.len());
    assert!(
        doubled <= kills * 4,
        "{doubled} repetitions: more than what can have been under way in {kills} kills on 4 connections"
    );
    let known: std::collections::HashSet<&str> = sent.iter().map(|s| s.id.as_str()).collect();
    assert!(seen.keys().all(|id| known.contains(id.as_str())), "something came out that nobody sent: {:?}", seen.keys());
}
