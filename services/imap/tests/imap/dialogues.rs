//! Runs every file of `tests/dialogues` against a server of its own. A file whose name begins with `far-` is spoken by a client
//! that is not on this machine, over STARTTLS where it asks for it.

use crate::bench::{Bench, settings};
use crate::memory::Memory;
use std::path::Path;
use twinpost_dialogue::{Dialogue, files};
use twinpost_message::{AccountId, Flags};

#[tokio::test]
async fn every_dialogue() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let temp = tempfile::tempdir().unwrap();
    for file in files(&dir).unwrap() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if std::env::var("DIALOGUE").is_ok_and(|only| !name.contains(&only)) {
            continue;
        }
        let mut bench = if name.starts_with("far-") { Bench::far(settings(), temp.path()) } else { Bench::new(settings()) };
        Dialogue::new().assert_file(&file, &mut bench).await;
    }
}

/// Mailboxes in the states of the examples of the RFCs, numbers scaled down where they are only large.
pub fn seed(memory: &Memory, account: AccountId, name: &str) {
    match name {
        // In the manner of RFC 7162 3.2.5.1: UIDVALIDITY 67890007, a mailbox that lost and changed messages.
        "qresync" => {
            let known: Vec<u32> = (101..=414).filter(|u| u % 50 != 0).collect();
            let modseq = |u: u32| if u == 117 || u == 119 { 9006 } else { 9000 };
            let list: Vec<(u32, u64, u64)> = known.iter().map(|u| (*u, u64::from(*u == 117), modseq(*u))).collect();
            memory.seed(account, "INBOX", (67_890_007, 567, 9010), &list, &[(9001, 41), (9002, 150), (9003, 200), (8000, 250)]);
        }
        // The example of RFC 7162 3.2.5.1. UIDs below 41, and 42, 212 and 213 are of messages that the client does not know.
        "rfc7162-3.2.5.1" => {
            let (before, while_away) = (90_060_115_194_044_000, 90_060_115_194_045_400);
            let draft = Flags::DRAFT.0;
            let answered = Flags::SEEN.with(Flags::ANSWERED).0;
            let mut list: Vec<(u32, u64, u64)> =
                (1..=40).chain([42]).map(|u| (u, if u < 7 { Flags::SEEN.0 } else { 0 }, before)).collect();
            list.extend([(117, answered, 90_060_115_194_045_001), (119, draft, 90_060_115_194_045_308)]);
            list.extend([(212, 0, before), (213, 0, before), (541, Flags::SEEN.0, 90_060_115_194_045_001)]);
            let gone: Vec<(u64, u32)> =
                [41..=41, 43..=116, 118..=118, 120..=211, 214..=540].into_iter().flatten().map(|u| (while_away, u)).collect();
            memory.seed(account, "INBOX", (67_890_007, 567, 90_060_115_205_545_359), &list, &gone);
        }
        // The one of 3.2.5.2: messages had each third UID; two near the end were removed, nobody knows when.
        "rfc7162-3.2.5.2" => {
            let old = 90_060_115_194_044_000;
            let list: Vec<(u32, u64, u64)> =
                (1..=9999).map(|n| n * 3).filter(|u| ![29_979, 29_988].contains(u)).map(|u| (u, 0, old)).collect();
            memory.seed(account, "INBOX", (67_890_007, 30_013, 90_060_115_205_545_359), &list, &[]);
            memory.forget(account, "INBOX", 90_060_115_205_545_359);
        }
        "condstore" => {
            let list: Vec<(u32, u64, u64)> = (0..5).map(|n| (11 + n, 0, 715_194_045_003 + u64::from(n))).collect();
            memory.seed(account, "INBOX", (7, 16, 715_194_045_007), &list, &[]);
        }
        other => panic!("no such seed: {other}"),
    }
}
