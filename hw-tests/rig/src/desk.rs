//! A pair that runs for people: started, shown, and spoken to by other processes.
//!
//! Contract: `control.sock` in the folder takes one line a connection: `order a WORDS`, `fault WORDS`, `console a` (which becomes
//! the console's line). Ports of this machine lead to the service address, so that a mail program here reaches it.
//!
//! Failure classes: another pair runs in the folder; no root; no image: one sentence.

use crate::fault;
use crate::found::{found, remember, remembered};
use crate::pair::{DOMAIN, PEOPLE, Pair, SMS_DOMAIN};
use crate::qemu::{Disks, Qemu, SERVICE, Settings};
use crate::rig::{NODES, Rig};
use crate::{Error, Image, Result, Timeline};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

/// Ports of this machine and where they lead.
const PORTS: [(u16, u16, &str); 5] =
    [(2525, 25, "SMTP"), (5870, 587, "submission"), (1430, 143, "IMAP"), (9930, 993, "IMAPS"), (9950, 995, "POP3S")];

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Folder of the pair.
    pub dir: PathBuf,
    /// The image.
    pub image: Option<PathBuf>,
    /// The program that plays the witness.
    pub program: Option<PathBuf>,
    /// Found a new pair.
    pub fresh: bool,
    /// End at the first failure.
    pub strict: bool,
}

/// Where the rig of a folder listens.
#[must_use]
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// The program beside this one.
#[must_use]
pub fn program() -> PathBuf {
    std::env::var_os("TWINPOST_BIN").map_or_else(
        || {
            let own = std::env::current_exe().unwrap_or_default();
            let beside = own.parent().map(|folder| folder.join("twinpost")).unwrap_or_default();
            // A test's program lies one folder deeper.
            let above = own.parent().and_then(Path::parent).map(|folder| folder.join("twinpost")).unwrap_or_default();
            if beside.exists() { beside } else { above }
        },
        PathBuf::from,
    )
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Runs a pair until Ctrl-C, which ends this program.
///
/// # Errors
/// It cannot be started.
pub fn run(wish: &Wish) -> Result<std::convert::Infallible> {
    // Before any thread is there: they all leave these signals to this one.
    let mut ends = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        ends.add(signal);
    }
    ends.thread_block().map_err(|e| Error::io("signals")(e.into()))?;
    std::fs::create_dir_all(&wish.dir).map_err(Error::io(wish.dir.display().to_string()))?;
    let dir = wish.dir.canonicalize().map_err(Error::io(wish.dir.display().to_string()))?;
    if UnixStream::connect(socket(&dir)).is_ok() {
        return Err(Error::Setting { what: format!("a pair runs in {} already", dir.display()) });
    }
    let image = wish.image.clone().or_else(Image::find);
    let image = image.ok_or_else(|| Error::Setting { what: "there is no image; `make image` builds it".to_owned() })?;
    let image = Image::open(&image)?;
    let program = wish.program.clone().unwrap_or_else(program);
    let timeline = Timeline::begin(&dir.join("log"));
    let settings = Settings::new(image.clone(), program, dir.clone());
    let known = remembered(&dir).filter(|_| !wish.fresh);
    let disks = if known.is_some() { Disks::Kept } else { Disks::Fresh };
    timeline.say(&format!("image {} ({}), folder {}", image.version, image.id, dir.display()));
    let rig = Qemu::prepare(settings, &disks, timeline.clone())?;
    let listener = listen(&dir)?;
    let pair = Arc::new(Pair::of(rig, known.clone().unwrap_or_default()));
    let (serving, ending, place) = (pair.clone(), pair.clone(), dir.clone());
    let end = move || {
        let _ = ends.wait();
        say("\nswitching off; the disks are kept");
        for node in NODES {
            ending.rig.machine(node).off();
        }
        let _ = std::fs::remove_file(socket(&place));
        // Everything else that the rig started is tied to this process.
        std::process::exit(0);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(end).map_err(Error::io("a thread for signals"))?;
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || serve(&listener, &serving))
        .map_err(Error::io("a thread for orders"))?;
    let outcome = if known.is_some() { again(&pair) } else { found(&pair).and_then(|()| remember(&pair)) };
    if let Err(error) = outcome {
        if wish.strict {
            let _ = writeln!(std::io::stderr(), "{}", timeline.last(Duration::ZERO, 40));
            return Err(error);
        }
        timeline.say(&format!("{error}; the machines stay for a look"));
    }
    let doors = forward(&pair);
    explain(&pair, &dir, &doors);
    loop {
        // The thread of the signals ends this program.
        std::thread::park();
    }
}

/// Starts a pair that was founded before.
fn again(pair: &Pair<Qemu>) -> Result<()> {
    let timeline = pair.rig.timeline();
    for node in NODES {
        pair.rig.power(node, true)?;
    }
    let took = pair.wait_banner(crate::pair::SETTLE)?;
    timeline.say(&format!("SMTP greets on the service address after {:.1} s", took.as_secs_f64()));
    let active = pair.settled()?;
    timeline.say(&format!("node {active} serves"));
    Ok(())
}

fn listen(dir: &Path) -> Result<UnixListener> {
    let path = socket(dir);
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).map_err(Error::io(path.display().to_string()))
}

/// Opens ports of this machine that lead to the service address; gives those that could be had.
fn forward(pair: &Arc<Pair<Qemu>>) -> Vec<(u16, &'static str)> {
    let mut opened = Vec::new();
    for (outside, inside, name) in PORTS {
        let Ok(listener) = TcpListener::bind(("127.0.0.1", outside)) else { continue };
        let space = pair.rig.space().clone();
        let accept = move || {
            for client in listener.incoming().flatten() {
                let space = space.clone();
                let _ = std::thread::Builder::new().name("forward".to_owned()).spawn(move || {
                    let to = SocketAddr::from((SERVICE, inside));
                    if space.enter().is_ok()
                        && let Ok(server) = TcpStream::connect_timeout(&to, Duration::from_secs(10))
                    {
                        join(&client, &server);
                    }
                });
            }
        };
        if std::thread::Builder::new().name(format!("port {outside}")).spawn(accept).is_ok() {
            opened.push((outside, name));
        }
    }
    opened
}

/// Carries bytes both ways until either side ends.
fn join(a: &TcpStream, b: &TcpStream) {
    let carry = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| carry(a, b));
        carry(b, a);
    });
}

fn explain(pair: &Pair<Qemu>, dir: &Path, doors: &[(u16, &str)]) {
    let me = std::env::current_exe().map_or_else(|_| "twinpost-rig".to_owned(), |path| path.display().to_string());
    let rig = format!("{me} --dir {}", dir.display());
    let space = pair.rig.space().path().display();
    say("");
    say("The pair runs; Ctrl-C switches it off, the disks are kept.");
    say(&format!("  service address  {SERVICE}     nodes  {}  {}", pair.rig.address("a"), pair.rig.address("b")));
    let ports: Vec<String> = doors.iter().map(|(port, name)| format!("127.0.0.1:{port} {name}")).collect();
    say(&format!("  from here        {}", ports.join(", ")));
    for person in PEOPLE {
        let password = pair.password(person);
        say(&format!("  {person:<26} {password}"));
    }
    if doors.iter().any(|(port, _)| *port == 2525) {
        say(&format!("  a mail           swaks --server 127.0.0.1:2525 --from you@elsewhere.example --to ben@{DOMAIN}"));
    }
    say(&format!(
        "  a text           mail from ben@{DOMAIN} (signed in) to 13800138000@{SMS_DOMAIN}; telephones: {}/a-phones.jsonl",
        dir.display()
    ));
    say(&format!("  on the LAN       {rig} exec PROGRAM   (nsenter --net={space} PROGRAM)"));
    say(&format!("  consoles         {rig} console a   (Ctrl-] leaves)"));
    say(&format!("  an order         {rig} order a pair status"));
    say(&format!("  faults           {rig} fault help   such as: fault power a off, fault pull eth1, fault pull disk b 1"));
    say(&format!("  what happened    {}", pair.rig.timeline().folder().join("timeline.log").display()));
}

fn serve(listener: &UnixListener, pair: &Arc<Pair<Qemu>>) {
    for stream in listener.incoming().flatten() {
        let pair = pair.clone();
        let _ = std::thread::Builder::new().name("order".to_owned()).spawn(move || {
            let _ = answer(&stream, &pair);
        });
    }
}

fn answer(stream: &UnixStream, pair: &Pair<Qemu>) -> std::io::Result<()> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone()?.take(64 << 10));
    reader.read_line(&mut line)?;
    let mut out = stream;
    let line = line.trim();
    let node = |word: &str| NODES.into_iter().find(|node| *node == word);
    if let Some((name, words)) = line.strip_prefix("order ").and_then(|rest| rest.split_once(' ')) {
        let Some(name) = node(name) else { return writeln!(out, "there is no node {name}\n-- 1") };
        return match pair.rig.console(name).order_within(words, Duration::from_secs(3600)) {
            Ok(answer) => writeln!(out, "{}\n-- {}", answer.raw, answer.exit),
            Err(error) => writeln!(out, "{error}\n-- 1"),
        };
    }
    if let Some(words) = line.strip_prefix("fault ") {
        return match fault::carry_out(&pair.rig, words) {
            Ok(text) => writeln!(out, "{text}\n-- 0"),
            Err(error) => writeln!(out, "{error}\n-- 1"),
        };
    }
    if let Some(name) = line.strip_prefix("console ").and_then(node) {
        return pair.rig.console(name).serve(stream);
    }
    if line == "space" {
        return writeln!(out, "{}\n-- 0", pair.rig.space().path().display());
    }
    writeln!(out, "order a WORDS, fault WORDS, console a, space\n-- 1")
}

fn connect(dir: &Path) -> Result<UnixStream> {
    UnixStream::connect(socket(dir)).map_err(|e| Error::Setting { what: format!("no pair runs in {}: {e}", dir.display()) })
}

/// A person at the console of a node.
///
/// # Errors
/// No pair runs there.
pub fn console(dir: &Path, node: &str) -> Result<()> {
    /// Ctrl-].
    const LEAVE: u8 = 0x1d;
    let mut stream = connect(dir)?;
    writeln!(stream, "console {node}").map_err(Error::io("the rig"))?;
    let terminal = File::open("/dev/tty").ok();
    let before = terminal.as_ref().and_then(|terminal| tcgetattr(terminal).ok());
    if let (Some(terminal), Some(before)) = (&terminal, &before) {
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        let _ = tcsetattr(terminal, SetArg::TCSANOW, &raw);
    }
    let mut shown = stream.try_clone().map_err(Error::io("the rig"))?;
    let shower = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count) = shown.read(&mut bytes)
            && count > 0
        {
            let mut out = std::io::stdout();
            if out.write_all(&bytes[..count]).and_then(|()| out.flush()).is_err() {
                break;
            }
        }
    });
    let _ = stream.write_all(b"\r");
    let mut bytes = [0; 256];
    while let Ok(count) = std::io::stdin().read(&mut bytes)
        && count > 0
    {
        let typed = &bytes[..count];
        let end = typed.iter().position(|byte| *byte == LEAVE);
        if stream.write_all(&typed[..end.unwrap_or(count)]).is_err() || end.is_some() {
            break;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
    let _ = shower.join();
    if let (Some(terminal), Some(before)) = (&terminal, &before) {
        let _ = tcsetattr(terminal, SetArg::TCSANOW, before);
    }
    say("");
    Ok(())
}

/// Runs a program on the pair's LAN.
///
/// # Errors
/// No pair runs there.
pub fn exec(dir: &Path, words: &[String]) -> Result<ExitCode> {
    let mut stream = connect(dir)?;
    writeln!(stream, "space").map_err(Error::io("the rig"))?;
    let mut path = String::new();
    BufReader::new(stream).read_line(&mut path).map_err(Error::io("the rig"))?;
    let status = Command::new("nsenter").arg(format!("--net={}", path.trim())).args(words).status();
    let code = status.map_err(Error::io("nsenter (package util-linux)"))?.code().unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
