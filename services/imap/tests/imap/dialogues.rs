//! Runs every file of `tests/dialogues` against a server of its own. A file whose name begins with `far-` is spoken by a client
//! that is not on this machine, over STARTTLS where it asks for it.

use crate::bench::{Bench, settings};
use crate::memory::Memory;
use std::path::Path;
use twinpost_dialogue::{Dialogue, files};
use twinpost_message::AccountId;

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
        other => panic!("no such seed: {other}"),
    }
}
