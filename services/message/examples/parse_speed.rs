//! How long taking a message apart takes, by kind of message: `cargo run --release -p twinpost-message --example parse_speed`.
#![allow(clippy::print_stdout, reason = "a program for a person at a terminal")]

use std::hint::black_box;
use std::time::Instant;
use twinpost_message::{Needle, Parsed, fold, search_text};

const HEADER: &str = "Received: from a.example (a.example [192.0.2.1])\r\n\tby mx.school.example with ESMTPS id 0123456789abc\r\n\tfor <anna@school.example>; Mon, 2 Nov 2026 10:00:00 +0800\r\n\
    Message-ID: <20261102100000.1@a.example>\r\nDate: Mon, 2 Nov 2026 10:00:00 +0800\r\nFrom: =?utf-8?B?5byg5LiJ?= <zhang@a.example>\r\nTo: Anna <anna@school.example>, bob@school.example\r\n\
    Subject: Re: =?utf-8?B?5a2m5qCh55qE6YCa55+l?= and more\r\nReferences: <1@a.example> <2@a.example>\r\nIn-Reply-To: <2@a.example>\r\nMIME-Version: 1.0\r\n";

fn main() {
    let line = "The quick brown fox jumps over the lazy dog and sees 42 schools.\r\n";
    let plain = format!("{HEADER}Content-Type: text/plain; charset=utf-8\r\n\r\n{}", line.repeat(140));
    let chinese = format!(
        "{HEADER}Content-Type: text/plain; charset=utf-8\r\n\r\n{}",
        "学校的通知：明天上午九点开会，请大家准时参加。\r\n".repeat(140)
    );
    let html = format!(
        "{HEADER}Content-Type: text/html; charset=utf-8\r\n\r\n{}",
        "<tr><td class=\"x\">The quick&nbsp;brown <b>fox</b></td></tr>\r\n".repeat(160)
    );
    let attachment = format!(
        "{HEADER}Content-Type: multipart/mixed; boundary=\"=_b\"\r\n\r\n--=_b\r\nContent-Type: text/plain\r\n\r\n{line}\r\n--=_b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n{}--=_b--\r\n",
        "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0NTY3\r\n".repeat(3700)
    );
    for (name, mail) in [("plain 10 KB", plain), ("Chinese 10 KB", chinese), ("HTML 10 KB", html), ("PDF 300 KB", attachment)] {
        let bytes = mail.as_bytes();
        let parsed = Parsed::parse(bytes);
        let stored = parsed.to_bytes();
        let text = search_text(bytes, &parsed);
        let needle = Needle::new("not in there");
        println!(
            "{name:>14} ({} bytes, stored {}): parse {:.1} us, to_bytes {:.1}, from_bytes {:.1}, search_text {:.1}, fold {:.1}, scan {:.1}",
            bytes.len(),
            stored.len(),
            time_us(|| Parsed::parse(bytes)),
            time_us(|| parsed.to_bytes()),
            time_us(|| Parsed::from_bytes(&stored)),
            time_us(|| search_text(bytes, &parsed)),
            time_us(|| fold(&text.body)),
            time_us(|| needle.matches(&text.body)),
        );
    }
}

/// Median of many runs, in microseconds.
fn time_us<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut times: Vec<u128> = (0..2001)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2] as f64 / 1000.0
}
