//! Nanoseconds for each part, out and in: `cargo run --release -p twinpost-gsm --example speed`.
//!
//! Out: count, choose the alphabet, cut, pack, encode a SUBMIT. In: decode a DELIVER, read its header and every character. No allocation can
//! happen: the crate is `no_std` and does not link `alloc`, so there is no allocator that it could call.
#![allow(clippy::print_stdout)] // it is its output

use std::hint::black_box;
use std::time::Instant;

use twinpost_gsm::{
    Address, Deliver, Direction, Language, Languages, Options, Pdu, Submit, TPDU_MAX, TimeStamp, Tpdu, Validity, segment,
};

/// Short windows, and the best of many: other work on the machine disturbs most of them.
const ROUNDS: u32 = 20;
const WINDOWS: u32 = 2_000;

fn main() {
    let latin = "The disk of the second node is full. Mail is kept on the first. ";
    let turkish = "İkinci düğümün diski doldu. Posta ilk düğümde tutuluyor, işlem sürüyor. ";
    let chinese = "第二个节点的磁盘已满，邮件保存在第一个节点上，请尽快处理。";
    let cases = [
        ("GSM 7-bit, one part", latin.repeat(2), Languages::NONE),
        ("GSM 7-bit, ten parts", latin.repeat(23), Languages::NONE),
        ("Turkish tables, one part", turkish.repeat(2), Languages::NONE.with(Language::Turkish)),
        ("UCS-2, one part", chinese.repeat(2), Languages::NONE),
        ("UCS-2, ten parts", chinese.repeat(22), Languages::NONE),
        ("UCS-2, ten parts, all languages allowed", chinese.repeat(22), Languages::ALL),
    ];
    println!("{:40} {:>5} {:>12} {:>12}", "ns a part", "parts", "out", "in");
    for (name, text, languages) in cases {
        let options = Options { languages, ..Options::default() };
        let to = Address::parse("+8613800138000").expect("a number");
        let parts = segment(&text, &options).expect("short").total();
        let mut best_out = f64::MAX;
        let mut best_in = f64::MAX;
        let received: Vec<Tpdu> = encode(&text, &options, &to)
            .map(|pdu| {
                let Ok(Pdu::Submit(submit)) = Pdu::decode(&pdu, Direction::FromMobile) else {
                    unreachable!("a SUBMIT was encoded")
                };
                let time = TimeStamp::from_unix(1_800_000_000, 32);
                let Submit { to: from, pid, dcs, data, .. } = submit;
                let deliver =
                    Deliver { more: false, forwarded: false, report: false, reply_path: false, from, pid, dcs, time, data };
                deliver.encode()
            })
            .collect();
        for _ in 0..WINDOWS {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                for pdu in encode(black_box(&text), black_box(&options), &to) {
                    assert!(black_box(pdu).len() <= TPDU_MAX);
                }
            }
            best_out = best_out.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS) / f64::from(parts));
            let start = Instant::now();
            for _ in 0..ROUNDS {
                for pdu in &received {
                    let Ok(Pdu::Deliver(deliver)) = Pdu::decode(black_box(pdu), Direction::ToMobile) else {
                        unreachable!("a DELIVER was encoded")
                    };
                    black_box(deliver.data.info());
                    black_box(deliver.data.text(deliver.dcs).fold(0u32, |sum, c| sum.wrapping_add(c.into())));
                }
            }
            best_in = best_in.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS) / f64::from(parts));
        }
        println!("{name:40} {parts:>5} {best_out:>12.0} {best_in:>12.0}");
    }
}

fn encode<'a>(text: &'a str, options: &Options, to: &'a Address) -> impl Iterator<Item = Tpdu> + 'a {
    let segments = segment(text, options).expect("short");
    segments.parts(7).map(move |part| {
        let submit = Submit::new(to.clone(), segments.dcs(None), part.data);
        Submit { validity: Validity::at_least_s(3600), report: true, ..submit }.encode()
    })
}
