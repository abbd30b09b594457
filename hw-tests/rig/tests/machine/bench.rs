//! The suite on a bench: a file describes the pair, and nothing else is known of it.
//!
//! The bench is the pair that lives. Its serial lines are reached through a console server (one by telnet, one by a socket), its power through the
//! management controllers' Redfish, and the suite runs as a program of its own on its LAN, as it would on a real one.

use crate::ground::{Ground, Outcome, Scenario, check};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;
use twinpost_rig::bmc;
use twinpost_rig::wait::until_told;
use twinpost_rig::{Capability, Console, Pair, Rig, Stand};

/// Between two looks for somebody who calls.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Three scenarios.
const LIMIT: Duration = Duration::from_secs(900);
/// Two that any bench can do, one that needs the power switches, one that nobody can do on a bench.
const SCENARIOS: [&str; 4] =
    ["both_nodes_boot_and_settle", "a_planned_switch", "the_active_loses_its_power_under_load", "the_active_s_kernel_panics"];

pub fn all() -> Vec<Scenario> {
    vec![Scenario {
        name: "the_suite_runs_on_a_bench_that_a_file_describes",
        // What only machines in QEMU have.
        needs: &[Capability::CutPower, Capability::KernelPanic],
        long: false,
        run: bench,
    }]
}

/// Takes whoever calls, one after the other, until it is over.
fn listen<S>(accept: impl Fn() -> io::Result<S>, over: &AtomicBool, serve: impl Fn(&S) -> io::Result<()>) {
    while !over.load(Ordering::Relaxed) {
        match accept() {
            // Who hangs up is no fault of the server.
            Ok(caller) => drop(serve(&caller)),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// The telnet port of a console server: bytes as they are (RFC 854 without options).
fn telnet(console: &Console, caller: &TcpStream) -> io::Result<()> {
    caller.set_nonblocking(false)?;
    let (near, far) = UnixStream::pair()?;
    let (mut from_console, mut to_console) = (far.try_clone()?, far.try_clone()?);
    let (mut from_caller, mut to_caller) = (caller.try_clone()?, caller.try_clone()?);
    std::thread::scope(|scope| {
        scope.spawn(move || io::copy(&mut from_console, &mut to_caller));
        scope.spawn(move || {
            let copied = io::copy(&mut from_caller, &mut to_console);
            to_console.shutdown(std::net::Shutdown::Both).and(copied)
        });
        console.serve(&near)
    })
}

/// Starts the console server; gives the places of both consoles.
fn console_server<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    pair: &'env Pair<Stand>,
    folder: &Path,
    over: &'env AtomicBool,
) -> Result<[String; 2], Box<dyn std::error::Error>> {
    let port = pair.rig.qemu().space().within(|| TcpListener::bind("127.0.0.1:0"))??;
    port.set_nonblocking(true)?;
    let socket = UnixListener::bind(folder.join("b.console"))?;
    socket.set_nonblocking(true)?;
    let places = [format!("telnet:{}", port.local_addr()?), format!("unix:{}", folder.join("b.console").display())];
    scope.spawn(move || listen(|| port.accept().map(|(caller, _)| caller), over, |caller| telnet(pair.rig.console("a"), caller)));
    scope.spawn(move || {
        listen(
            || socket.accept().map(|(caller, _)| caller),
            over,
            |caller| {
                caller.set_nonblocking(false)?;
                pair.rig.console("b").serve(caller)
            },
        );
    });
    Ok(places)
}

/// The file, as docs/manual/bench.md has it.
fn describe(pair: &Pair<Stand>, consoles: &[String; 2]) -> String {
    let mut text = format!("service = \"{}\"\ncapabilities = [\"cut_power\"]\n", pair.rig.service());
    for (node, console) in ["a", "b"].into_iter().zip(consoles) {
        let (address, switch) = (pair.rig.address(node), pair.rig.qemu().switch_address(node));
        text.push_str(&format!(
            "[nodes.{node}]\naddress = \"{address}\"\nconsole = \"{console}\"\n\
             power = {{ driver = \"redfish\", at = \"http://{switch}\", user = \"{}\", password_file = \"password\" }}\n",
            bmc::USER
        ));
    }
    text.push_str("[passwords]\n");
    for (account, password) in &pair.founded.lock().unwrap_or_else(std::sync::PoisonError::into_inner).passwords {
        text.push_str(&format!("{account:?} = {password:?}\n"));
    }
    text
}

fn bench(ground: &mut Ground) -> Outcome {
    let folder = ground.folder().join("bench");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let (pair, _) = ground.pair()?;
    let over = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        let said = console_server(scope, pair, &folder, &over).and_then(|consoles| suite(pair, &folder, &consoles));
        over.store(true, Ordering::Relaxed);
        said
    })?;
    check(said.contains("3 passed; 0 failed; 1 ignored"), || format!("the suite on the bench:\n{said}"))?;
    let named = "the_active_s_kernel_panics ... ignored: this rig has no";
    check(said.contains(named), || format!("it does not name what is missing:\n{said}"))?;
    ground.pair().map(drop)
}

/// Runs it; gives what it said.
fn suite(pair: &Pair<Stand>, folder: &Path, consoles: &[String; 2]) -> Result<String, Box<dyn std::error::Error>> {
    let password = folder.join("password");
    std::fs::write(&password, bmc::PASSWORD)?;
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600))?;
    let file = folder.join("bench.toml");
    std::fs::write(&file, describe(pair, consoles))?;
    let out = std::fs::File::create(folder.join("out"))?;
    let mut suite = Command::new("nsenter")
        .arg(format!("--net={}", pair.rig.qemu().space().path().display()))
        .arg(std::env::current_exe()?)
        .args(SCENARIOS)
        .env("TWINPOST_BENCH", &file)
        .env_remove("TWINPOST_IMAGE")
        .env_remove("TWINPOST_SOAK")
        .stdin(Stdio::null())
        .stderr(out.try_clone()?)
        .stdout(out)
        .spawn()?;
    let ended = until_told(pair.rig.timeline(), "the suite on the bench", LIMIT, || suite.try_wait().transpose());
    if ended.is_err() {
        suite.kill()?;
        suite.wait()?;
    }
    let said = std::fs::read_to_string(folder.join("out"))?;
    let well = ended.map_err(|error| format!("{error}\n{said}"))??.success();
    check(well, || format!("the suite on the bench failed:\n{said}"))?;
    Ok(said)
}
