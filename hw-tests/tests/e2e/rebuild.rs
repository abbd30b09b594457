//! The index is lost or damaged: the node says what to do, `store rebuild` brings everything back from the packs.

use crate::kill::{Load, seed};
use crate::node::{Node, program, wait_for};
use crate::programs::run;
use crate::smtp::{Smtp, message};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;

const BEN: &str = "ben@school.example";
const ANNA: &str = "anna@school.example";

fn index(node: &Node) -> PathBuf {
    node.data().join("store/index.sqlite")
}

fn lose_index(node: &Node) {
    for end in ["", "-wal", "-shm"] {
        let file = index(node).with_extension(format!("sqlite{end}"));
        println!("remove {}: {:?}", file.display(), std::fs::remove_file(&file).map_err(|e| e.kind()));
    }
}

/// Everything that an IMAP client sees of an account.
fn picture(node: &Node, person: &str) -> Vec<String> {
    let mut imap = node.imap(person);
    let mut seen = imap
        .ok("LIST \"\" \"*\" RETURN (SUBSCRIBED SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE HIGHESTMODSEQ))");
    seen.extend(imap.ok("GETQUOTAROOT INBOX"));
    let names: Vec<String> =
        seen.iter().filter(|l| l.starts_with("* LIST")).filter_map(|l| Some(l.split_once("\"/\" ")?.1.to_owned())).collect();
    assert!(names.len() >= 6, "{seen:#?}");
    for name in names {
        seen.extend(imap.ok(&format!("EXAMINE {name}")));
        seen.extend(imap.ok("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ ENVELOPE BODY.PEEK[])"));
    }
    seen
}

/// Two people with mail in several mailboxes, flags, keywords, renamed and deleted mailboxes, subscriptions; mail in the queue.
fn furnish(node: &Node) {
    for n in 0..6 {
        let text = message(&format!("r{n}@load.example"), &format!("number {n} 号"), 3000);
        assert_eq!(node.mx().mail("sender@elsewhere.example", &[BEN, ANNA], &text).unwrap().code, 250);
    }
    let mut imap = node.imap(BEN);
    imap.ok("CREATE Projects/2027");
    imap.ok("CREATE Old");
    imap.ok("CREATE Gone");
    imap.append("Gone", b"Subject: goes with its mailbox\r\n\r\nx\r\n").unwrap().ok();
    imap.append("Old", b"Subject: in a renamed mailbox\r\n\r\nx\r\n").unwrap().ok();
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1 +FLAGS (\\Seen \\Flagged $Forwarded)");
    imap.ok("STORE 2 +FLAGS (\\Answered urgent)");
    imap.ok("COPY 2 Projects/2027");
    imap.ok("MOVE 3 Projects/2027");
    imap.ok("STORE 4 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    imap.ok("RENAME Old \"New name\"");
    imap.ok("RENAME Projects Work");
    imap.ok("DELETE Gone");
    imap.ok("SUBSCRIBE Work/2027");
    imap.ok("UNSUBSCRIBE Junk");
    let text = message("out@school.example", "to the world", 2000);
    let text =
        [b"From: ben@school.example\r\n".as_slice(), &text[text.windows(2).position(|w| w == b"\r\n").unwrap() + 2..]].concat();
    assert_eq!(node.submission(BEN).mail(BEN, &["nobody@[127.127.127.127]"], &text).unwrap().code, 250);
}

fn is_lost_and_comes_back(spoil: impl Fn(&Node), complaint: &str) {
    let mut node = Node::start();
    furnish(&node);
    let before = [picture(&node, BEN), picture(&node, ANNA)];
    let deleted = node.json(&["store", "deleted", BEN]);
    let refused = node.ctl(&["store", "rebuild"]);
    assert!(refused.code == 1 && refused.err.contains("stop"), "not beside a running node: {refused:?}");
    node.stop();
    spoil(&node);

    println!("the start says what to do, once, and ends");
    let vain = node.again_in_vain();
    assert_eq!(vain.code, 1, "{vain:?}");
    assert!(vain.err.contains(complaint) && vain.err.contains("twinpost ctl store rebuild"), "{vain:?}");
    assert_eq!(vain.err.matches("ctl store rebuild").count(), 1, "{vain:?}");

    println!("rebuild, on a terminal: progress is shown");
    let command = format!("'{}' ctl --dir '{}' store rebuild", program().display(), node.dir().display());
    let shown = run(Command::new("script").args(["-qec", &command, "/dev/null"]).env("TERM", "xterm"), b"").well();
    println!("{shown}");
    assert!(shown.contains("reading packs"), "{shown}");
    assert!(shown.contains("It is complete"), "{shown}");

    node.again();
    let after = [picture(&node, BEN), picture(&node, ANNA)];
    for (before, after) in before.iter().zip(&after) {
        for (b, a) in before.iter().zip(after) {
            assert_eq!(b, a);
        }
        assert_eq!(before.len(), after.len());
    }
    assert_eq!(node.json(&["store", "deleted", BEN]), deleted);
    let queue = node.json(&["queue", "list"]);
    assert!(queue.to_string().contains("nobody@[127.127.127.127]"), "{queue:#}");
    node.ctl(&["store", "verify"]).well();
    println!("new mail goes on behind it");
    let mut imap = node.imap(BEN);
    let next = |imap: &mut crate::imap::Imap| imap.ok("STATUS INBOX (UIDNEXT)").concat();
    let expected = next(&mut imap);
    let text = message("behind@load.example", "behind it", 1000);
    assert_eq!(node.mx().mail("sender@elsewhere.example", &[BEN], &text).unwrap().code, 250);
    assert_ne!(next(&mut imap), expected);
    imap.ok("SELECT INBOX");
    let found = imap.ok("UID SEARCH HEADER Message-ID behind@load.example").concat();
    let uid = expected.rsplit(' ').next().unwrap().trim_end_matches(')').to_owned();
    assert!(found.contains(&uid), "UID {uid} was announced: {found}");
}

#[test]
fn a_lost_index_is_made_again_and_clients_see_the_same() {
    is_lost_and_comes_back(lose_index, "is missing");
}

#[test]
fn an_index_full_of_garbage_is_made_again_and_clients_see_the_same() {
    is_lost_and_comes_back(
        |node| {
            let garbage: Vec<u8> = (0..200_000).map(|_| rand::random()).collect();
            std::fs::write(index(node), garbage).unwrap();
        },
        "is damaged",
    );
}

#[test]
fn mail_under_load_survives_kill_and_the_loss_of_the_index_in_one_moment() {
    let people = [BEN, ANNA];
    let mut node = Node::start();
    let seed = seed();
    let load = Load::new();
    let clients: Vec<_> = (0..6)
        .map(|c| {
            let (load, at) = (load.clone(), node.at("smtp"));
            std::thread::spawn(move || {
                load.client(&format!("i{c}"), seed ^ c, &people, "sender@elsewhere.example", &|| Smtp::open(at));
            })
        })
        .collect();
    wait_for("acknowledged messages", || (load.acknowledged.load(Ordering::Relaxed) >= 200).then_some(()));
    println!("kill -9 of everything; `up` is halted first, so that it starts nothing again");
    kill(Pid::from_raw(i32::try_from(node.up_pid()).unwrap()), Signal::SIGSTOP).unwrap();
    node.kill_mail();
    load.stop.store(true, Ordering::Relaxed);
    node.stop_by(Signal::SIGKILL);
    for client in clients {
        client.join().unwrap();
    }
    lose_index(&node);
    let report = node.json(&["store", "rebuild"]);
    println!("{report:#}");
    assert_eq!(report["recovered"], 0, "everything has an owner");
    node.again();
    for person in people {
        let found = node.imap(person).message_ids("INBOX");
        for one in load.sent.lock().unwrap().iter().filter(|one| one.to.contains(&person)) {
            let copies = found.get(&one.id).copied().unwrap_or(0);
            assert!(copies == 1 || (!one.acknowledged && copies == 0), "{}: {copies} copies, 250: {}", one.id, one.acknowledged);
        }
    }
    node.ctl(&["store", "verify"]).well();
}
