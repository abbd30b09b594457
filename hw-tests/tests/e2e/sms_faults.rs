//! Text messages when something dies: the modem, its process, the mail process; or when there is no modem at all.

use crate::node::{Node, program, wait_for};
use crate::phones::Phones;
use crate::smtp::Smtp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const BEN: &str = "ben@school.example";

/// Sends texts one after the other until it is told to stop; each is tried again until it is acknowledged. Gives how often
/// each was begun.
fn send_texts(
    node: &Node,
    phones: &Phones,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<Vec<usize>> {
    let (at, ca, password, domain) = (node.at("submissions"), node.ca(), node.password(BEN), phones.domain.clone());
    std::thread::spawn(move || {
        let mut session: Option<Smtp> = None;
        let mut tries = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let n = tries.len();
            let to = format!("138{n:08}@{domain}");
            let text =
                format!("From: {BEN}\r\nTo: {to}\r\nMessage-ID: <t{n}@load.example>\r\nSubject: s\r\n\r\ntext number {n}\r\n");
            let mut begun = 0;
            // The last one is tried to its end, too.
            loop {
                let mut attempt = || -> std::io::Result<u16> {
                    let open = match session.take() {
                        Some(open) => session.insert(open),
                        None => {
                            let mut smtp = Smtp::open_tls(at, &ca)?;
                            smtp.sign_in(BEN, &password)?;
                            session.insert(smtp)
                        }
                    };
                    begun += 1;
                    Ok(open.mail(BEN, &[&to], text.as_bytes())?.code)
                };
                match attempt() {
                    Ok(250) => break,
                    Ok(code) if code < 500 => {}
                    Ok(code) => panic!("text {n}: answered {code}"),
                    Err(_) => {
                        session = None;
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    }
                }
            }
            tries.push(begun);
            sent.store(tries.len(), Ordering::Relaxed);
        }
        tries
    })
}

#[test]
fn every_text_arrives_once_or_marked_after_kills_of_every_process() {
    let seed: u64 = std::env::var("TWINPOST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("seed: TWINPOST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut node = Node::start_with_modem();
    node.stop();
    let document = std::fs::read_to_string(node.document()).unwrap();
    let document = document.replace("[sms]\n", "[sms]\nparts_per_minute = 60000\n");
    let more = "\n[sms.gateway]\naccount_quota = 1000000\ndomain_quota = 1000000\n[queue]\nretry = [\"1 s\"]\n";
    std::fs::write(node.document(), document + more).unwrap();
    node.again();
    node.wait_for_modem();
    let phones = node.phones();
    let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let client = send_texts(&node, &phones, sent.clone(), stop.clone());
    let rounds = if crate::fast() { 1 } else { 3 };
    let more = |rng: &mut StdRng| {
        let goal = sent.load(Ordering::Relaxed) + rng.random_range(5..25);
        wait_for("acknowledged texts", || (sent.load(Ordering::Relaxed) >= goal).then_some(()));
    };
    for round in 0..rounds {
        for part in ["sms", "mail", "modem"] {
            more(&mut rng);
            let before = phones.received().len();
            let old = node.kill(part);
            println!(
                "round {round}: killed {part} (process {old}) after {} texts, {before} of them on phones",
                sent.load(Ordering::Relaxed)
            );
            node.wait_for_part(part, old);
        }
    }
    more(&mut rng);
    stop.store(true, Ordering::Relaxed);
    let tries = client.join().unwrap();
    wait_for("an empty queue", || (node.json(&["queue", "list"]) == serde_json::json!([])).then_some(()));

    let mut seen: HashMap<String, Vec<bool>> = HashMap::new();
    for one in phones.received() {
        let text = one["text"].as_str().unwrap().to_owned();
        seen.entry(text).or_default().push(one["possible_duplicate"].as_bool().unwrap());
    }
    let mut doubled = 0;
    for (n, tries) in tries.iter().enumerate() {
        let found = seen.remove(&format!("text number {n}")).unwrap_or_default();
        assert!(!found.is_empty(), "text {n} was acknowledged and is lost");
        let unmarked = found.iter().filter(|marked| !**marked).count();
        // What the client began again after a lost 250 is another mail; a text that went twice for another reason is marked.
        assert!(unmarked <= *tries, "text {n} of {tries} tries came {} times, {unmarked} of them unmarked", found.len());
        doubled += found.len() - 1;
    }
    assert!(seen.is_empty(), "texts that nobody sent: {:?}", seen.keys());
    println!("{} texts, {doubled} doubled", tries.len());
}

#[test]
fn without_a_modem_mail_waits_operators_are_told_and_it_is_found_when_it_comes() {
    let mut node = Node::start_with(crate::node::own_address(), &["--modem", "none"]);
    node.stop();
    let document = std::fs::read_to_string(node.document()).unwrap();
    let document = document.replace("[sms]\n", "[sms]\ntrouble_after = \"1 s\"\nrecovered_after = \"0 ms\"\n");
    std::fs::write(node.document(), document).unwrap();
    node.again();
    let phones = node.phones();
    let operator = "operator@school.example";
    wait_for("an alarm by mail", || (node.imap(operator).count("INBOX") >= 1).then_some(()));
    assert_eq!(node.json(&["sms", "status"])["ways"][0]["condition"], "no_port");
    println!("mail to a number is taken, and waits");
    let text = format!("From: {BEN}\r\nTo: x\r\nMessage-ID: <1@x.example>\r\n\r\nlate but here\r\n");
    assert_eq!(node.submission(BEN).mail(BEN, &[&phones.at("13800138000")], text.as_bytes()).unwrap().code, 250);
    wait_for("the text in the queue, with its reason", || {
        let list = node.json(&["queue", "list"]);
        list[0]["last_reply"].as_str().is_some_and(|reply| reply.contains("4.4.2")).then_some(())
    });
    println!("an alarm is kept on disk: over a kill of the modem's process too");
    let kept = node.json(&["sms", "send", "13900139000", "alarm of the night", "--no-wait"]);
    assert_eq!(kept["stored"], true, "{kept}");
    let old = node.kill("sms");
    node.wait_for_part("sms", old);
    println!("the modem comes");
    let port = node.endpoints()["modems"][0]["port"].as_str().unwrap().to_owned();
    let endpoints = node.endpoints();
    let modem = &endpoints["modems"][0];
    let mut simulator = Command::new(program().with_file_name("twinpost-modem"))
        .args(["--quiet", "--link", &port, "--record", modem["record"].as_str().unwrap()])
        .args(["--control", modem["control"].as_str().unwrap()])
        .stdin(Stdio::null())
        .spawn()
        .expect("twinpost-modem lies beside twinpost");
    phones.wait_for_text("alarm of the night");
    phones.wait_for_text("late but here");
    wait_for("a mail that it is over", || (node.imap(operator).count("INBOX") >= 2).then_some(()));
    wait_for("an empty queue", || (node.json(&["queue", "list"]) == serde_json::json!([])).then_some(()));
    let _ = simulator.kill();
    let _ = simulator.wait();
}
