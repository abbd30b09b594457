//! How large and how fast a big directory is: imports accounts into domains and measures.
//!
//! `cargo run --release -p twinpost-directory --example directory_size -- [accounts] [domains]` (100,000 and 5,000)

#![allow(clippy::print_stdout)] // Its output is its purpose.

use std::fmt::Write as _;
use std::time::Instant;
use twinpost_directory::{AccountChange, Directory, ImportOptions, Originator, Resolution, Service, Settings};
use twinpost_message::Address;
use twinpost_sql::Location;

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn list(accounts: usize, domains: usize) -> String {
    let mut text = String::from("address,password,display_name,aliases,groups\n");
    for n in 0..accounts {
        let domain = n % domains;
        let alias = if n % 10 == 0 { format!("a{n}@d{domain}.example") } else { String::new() };
        let _ = writeln!(text, "person.number{n}@d{domain}.example,secret word {n},Person {n},{alias},all@d{domain}.example");
    }
    text
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).filter_map(|a| a.parse().ok());
    let (accounts, domains) = (numbers.next().unwrap_or(100_000), numbers.next().unwrap_or(5_000));
    let dir = tempfile::tempdir()?;
    let place = Location::Sqlite(dir.path().join("directory.sqlite"));
    let options = ImportOptions { create_domains: true, create_groups: true, all_or_nothing: true, ..ImportOptions::default() };
    let directory = Directory::open(&place, Settings::default()).await?;
    let text = list(accounts, domains);

    let begin = Instant::now();
    let report = directory.import("example", text.clone().into_bytes(), &options).await?;
    println!(
        "import of {accounts} plain passwords: {:.1} s, {} added, committed {}",
        begin.elapsed().as_secs_f64(),
        report.added,
        report.committed
    );
    if let Some(line) = report.lines.iter().find(|l| !l.reason.is_empty()) {
        println!("  line {}: {}", line.line, line.reason);
    }
    drop(report);
    directory.close().await;
    drop(directory);

    let before = resident_kb();
    let begin = Instant::now();
    let directory = Directory::open(&place, Settings::default()).await?;
    let loaded = begin.elapsed();
    println!("opened in {:.2} s", loaded.as_secs_f64());
    println!("resident memory of the process: {} MB (before opening again {} MB)", resident_kb() / 1024, before / 1024);

    let names: Vec<Address> = (0..accounts)
        .step_by(7)
        .map(|n| Address::parse(&format!("Person.Number{n}@d{}.example", n % domains)))
        .collect::<Result<_, _>>()?;
    let begin = Instant::now();
    let found = names.iter().filter(|n| matches!(directory.resolve(n, Originator::System), Resolution::Deliver { .. })).count();
    println!(
        "resolve: {:.2} us each, {found} of {} found",
        begin.elapsed().as_secs_f64() * 1e6 / names.len() as f64,
        names.len()
    );

    let begin = Instant::now();
    for n in 0..100u64 {
        let change = AccountChange { quota_bytes: Some(Some(n + 1)), ..AccountChange::default() };
        directory.change_account("example", &names[usize::try_from(n)?], &change).await?;
    }
    println!("a change, committed and seen: {:.2} ms each", begin.elapsed().as_secs_f64() * 10.0);

    for (what, password) in [("first sign-in (SCRAM secret to Argon2id)", 0), ("wrong password", 1), ("remembered", 0)] {
        let given = if password == 0 { "secret word 0" } else { "wrong word" };
        let begin = Instant::now();
        let outcome = directory.authenticate("person.number0@d0.example", given, Service::Imap).await;
        println!("{what}: {:.2} ms, {}", begin.elapsed().as_secs_f64() * 1e3, if outcome.is_ok() { "in" } else { "refused" });
    }
    let begin = Instant::now();
    let unknown = directory.authenticate("nobody@d0.example", "secret word 0", Service::Imap).await;
    println!("unknown name: {:.2} ms, {}", begin.elapsed().as_secs_f64() * 1e3, if unknown.is_ok() { "in" } else { "refused" });
    Ok(())
}
