//! How fast the index is fed and asked, and how large it gets:
//! `cargo run --release -p twinpost-search --example index_speed [MESSAGES]`.
#![allow(clippy::print_stdout, reason = "a program for a person at a terminal")]

use std::time::Instant;
use twinpost_message::{AccountId, BodyId, ModSeq, SearchText};
use twinpost_search::{Field, Index, Query};

/// Words by a small generator: some common, most rare, as in text.
fn words(seed: &mut u64, bytes: usize) -> String {
    const SYLLABLES: [&str; 32] = [
        "the", "ing", "er", "a", "ti", "on", "re", "de", "co", "ma", "lo", "ra", "st", "in", "ex", "pro", "al", "to", "un", "is",
        "ve", "so", "mi", "pa", "le", "ch", "oo", "qu", "sy", "no", "ha", "be",
    ];
    let mut next = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    };
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        let word = next();
        for n in 0..1 + word % 3 {
            text.push_str(SYLLABLES[usize::try_from((word >> (8 + 5 * n)) % 32).unwrap_or(0)]);
        }
        text.push(if word.is_multiple_of(11) { '\n' } else { ' ' });
    }
    text
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let messages: i64 = std::env::args().nth(1).map_or(Ok(20_000), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let index = Index::open(dir.path())?;
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let start = Instant::now();
    let mut bytes = 0;
    for n in 1..=messages {
        let mut body = words(&mut seed, 9_000);
        if n % 100 == 0 {
            body.push_str("zebra 学校通知");
        }
        if n % 2 == 0 {
            body.push_str("school");
        }
        let headers = format!("Message-ID: <{seed:x}.{n}@x.example>\nSubject: number {n}\n{}\n", words(&mut seed, 700));
        let text = SearchText { subject: format!("number {n}"), headers, body, complete: true, ..SearchText::default() };
        bytes += text.body.len() + text.headers.len();
        index.add(BodyId(n), &[AccountId(1)], &text)?;
        if n % 1000 == 0 {
            index.commit(ModSeq(n.unsigned_abs()))?;
        }
    }
    index.commit(ModSeq(messages.unsigned_abs()))?;
    let fed_s = start.elapsed().as_secs_f64();
    index.rest()?;
    let size: u64 = std::fs::read_dir(dir.path())?.filter_map(|e| e.ok()?.metadata().ok()).map(|m| m.len()).sum();
    println!(
        "{messages} messages, {bytes} bytes of text: {:.0} a second, merged after {:.1} s, index {:.2} of the text",
        messages as f64 / fed_s,
        start.elapsed().as_secs_f64(),
        size as f64 / bytes as f64
    );
    for needle in ["zebra", "学校", "通", "school", "chool", "the", "nothing here", "z", "number 19999", "prochmatheing"] {
        let query = Query::Has(Field::Text, needle.to_owned());
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..15 {
            let start = Instant::now();
            found = index.search(AccountId(1), &query)?.sure.len();
            times.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        println!("TEXT {needle:?}: {found} found, first {:.2} ms at most, median {:.2} ms", times[14], times[7]);
    }
    Ok(())
}
