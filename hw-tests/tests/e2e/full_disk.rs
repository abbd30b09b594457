//! A full disk: new mail is put off with 452, nothing acknowledged is lost, reading goes on, and service returns by itself.

use crate::node::{Node, wait_for};
use crate::programs::run;
use crate::smtp::message;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Fills the file system of this folder to the last byte.
fn fill(data: &Path) {
    let mut file = File::create(data.join("filler")).unwrap();
    for chunk in [1 << 16, 1 << 12, 1 << 8, 1] {
        let zeros = vec![0u8; chunk];
        while file.write(&zeros).is_ok_and(|n| n > 0) {}
    }
    file.write_all(&[0]).expect_err("the disk is full");
}

#[test]
fn a_full_disk_puts_mail_off_and_loses_none() {
    let may = run(Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]), b"");
    assert!(
        may.code == 0,
        "this test needs a small file system of its own: run it as root with the right to mount (unshare --mount said: {})",
        may.err.trim()
    );
    let node = Node::start_on_small_disk(48);
    let (ben, anna) = ("ben@school.example", "anna@school.example");
    let sender = "sender@elsewhere.example";
    let data = node.data();
    let mail = node.mail_pid();
    let mut acknowledged = Vec::new();
    let mut smtp = node.mx();
    for n in 0..5 {
        let id = format!("before{n}@load.example");
        assert_eq!(smtp.mail(sender, &[ben], &message(&id, "before", 20_000)).unwrap().code, 250);
        acknowledged.push(id);
    }
    let mut reader = node.imap(ben);
    let mut admin = node.imap(anna);

    let rounds = if crate::fast() { 1 } else { 3 };
    if crate::fast() {
        println!("TWINPOST_TESTS=fast: the disk is filled once instead of {}", 3);
    }
    for round in 0..rounds {
        println!("round {round}: the disk is full");
        fill(&data);
        let mut refused = 0;
        for n in 0..40 {
            let id = format!("full{round}.{n}@load.example");
            let reply = smtp.mail(sender, &[ben], &message(&id, "full", 60_000)).unwrap();
            if reply.code == 250 {
                acknowledged.push(id);
            } else {
                assert_eq!((reply.code, reply.text.get(..5)), (452, Some("4.3.1")), "{reply:?}");
                refused += 1;
                if refused > 5 {
                    break;
                }
            }
        }
        assert!(refused > 5, "mail is taken, but the disk is full");
        let appended = admin.append("INBOX", &message("appended@load.example", "appended", 60_000)).unwrap();
        assert!(appended.status.starts_with("NO"), "{appended:?}");
        println!("APPEND: {}", appended.status);

        println!("reading goes on: sign-in, list, fetch, search");
        let found = reader.message_ids("INBOX");
        for id in &acknowledged {
            assert_eq!(found.get(id), Some(&1), "{id} was acknowledged; the mailbox has {found:?}");
        }
        assert_eq!(found.len(), acknowledged.len());
        let mut other = node.imap(ben);
        other.ok("EXAMINE INBOX");
        let bodies = other.ok("UID FETCH 1:* (BODY.PEEK[])").iter().filter(|l| l.len() > 15_000).count();
        assert_eq!(bodies, acknowledged.len(), "every body can be read");
        assert!(other.ok("UID SEARCH SUBJECT before").iter().any(|l| l.starts_with("* SEARCH 1")));

        println!("there is room again: service returns by itself");
        std::fs::remove_file(data.join("filler")).unwrap();
        let id = format!("after{round}@load.example");
        wait_for("mail to be taken again", || {
            (smtp.mail(sender, &[ben], &message(&id, "after", 20_000)).unwrap().code == 250).then_some(())
        });
        acknowledged.push(id);
        assert_eq!(node.mail_pid(), mail, "the same process serves");
        let appended = admin.append("INBOX", &message("appended@load.example", "appended", 60_000)).unwrap();
        assert!(appended.status.starts_with("OK"), "{appended:?}");
    }

    println!("kill -9, and everything acknowledged is there once");
    fill(&data);
    let old = node.kill_mail();
    node.wait_for_another(old);
    println!("it started again on the full disk and can be read");
    assert_eq!(node.imap(ben).message_ids("INBOX").len(), acknowledged.len());
    std::fs::remove_file(data.join("filler")).unwrap();
    let mut smtp = node.mx();
    acknowledged.push("last@load.example".to_owned());
    wait_for("mail to be taken again", || {
        (smtp.mail(sender, &[ben], &message("last@load.example", "after", 20_000)).unwrap().code == 250).then_some(())
    });
    let found = node.imap(ben).message_ids("INBOX");
    for id in &acknowledged {
        assert_eq!(found.get(id), Some(&1), "{id}");
    }
    assert_eq!(found.len(), acknowledged.len());
}
