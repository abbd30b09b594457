//! A node of a mirrored volume by hand: takes orders on standard input, prints events and answers. The rig in hw-tests/qemu/drbd drives two of
//! these on real DRBD. Called by DRBD as a handler (`drbd_node pair-handler SOCKET KIND`) it asks the running one.
//!
//! `drbd_node NAME ADDRESS PEER PEER_ADDRESS DISK MOUNT STATE`, then lines: `blank`, `promote R`, `demote`, `writes alone|held|mirrored`,
//! `resync`, `aside`, `position`, `status`, `verify`.
#![allow(clippy::print_stdout, reason = "a program that speaks to a test")]

use std::process::ExitCode;
use std::sync::Arc;
use twinpost_heartbeat::Writes;
use twinpost_storage::Storage;
use twinpost_storage::drbd::{Drbd, Host, Settings, run_handler};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [_, "pair-handler", socket, kind] => {
            let resource = std::env::var("DRBD_RESOURCE").unwrap_or_default();
            ExitCode::from(run_handler(socket.as_ref(), kind, &resource))
        }
        [program, name, address, peer, peer_address, disk, mount, state] => {
            let host = |name: &str, address: &str| Host {
                name: name.into(),
                address: address.parse().expect("ADDRESS is address:port"),
                disk: disk.into(),
            };
            let mut settings =
                Settings::new(host(name, address), host(peer, peer_address), "rig".into(), mount.into(), state.into());
            settings.handler = vec![program.into(), "pair-handler".into()];
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
            runtime.block_on(node(settings));
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}

async fn node(settings: Settings) {
    let driver = Arc::new(Drbd::new(settings).expect("the driver starts"));
    let mut events = driver.events();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            println!("EVENT {event:?}");
        }
    });
    println!("READY");
    let (orders, mut lines) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if orders.blocking_send(line).is_err() {
                break;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        // Orders may overlap, as the daemon's do.
        let driver = Arc::clone(&driver);
        tokio::spawn(async move {
            let said = order(&driver, &line).await;
            println!("SAID {line}: {said}");
        });
    }
}

async fn order(driver: &Drbd, line: &str) -> String {
    fn shown<T: std::fmt::Debug, E: std::fmt::Display>(done: Result<T, E>) -> String {
        done.map_or_else(|error| format!("error {error}"), |done| format!("ok {done:?}"))
    }
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "blank" => shown(driver.make_blank(true).await),
        "promote" => shown(driver.promote(rest.parse().unwrap_or(0)).await),
        "demote" => shown(driver.demote().await),
        "writes" => {
            let how = match rest {
                "alone" => Writes::Alone,
                "mirrored" => Writes::Mirrored,
                _ => Writes::Held,
            };
            shown(driver.writes(how).await)
        }
        "resync" => shown(driver.allow_resync().await),
        "aside" => shown(driver.keep_aside().await),
        "position" => shown(driver.position().await),
        "verify" => shown(driver.verify().await),
        "status" => format!("{:?}", driver.status()),
        _ => "unknown order".into(),
    }
}
