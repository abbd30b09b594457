//! `twinpost up`: a node off the image, or the two of a pair ([`pair`]), in the foreground, without root.
//!
//! Contract of a node alone: makes what is missing in the folder and keeps what is there; starts the parts as children ([`part`]: each is
//! started again by itself when it dies); writes `endpoints.json` whenever a process number changes; ends everything on
//! Ctrl-C or SIGTERM, in order.
//!
//! Failure classes: the folder cannot be made or is held by another `up` (said with its pid, exit 1); mail cannot be started
//! the first time for a reason that a restart does not mend (it says which, exit 1); a part that dies again
//! and again is started again with growing pauses, and the log says so.

mod book;
mod demo;
mod endpoints;
mod found;
mod pair;
pub mod part;
pub mod parts;
mod place;

use crate::cli::{Demo, Up};
use crate::node::{Folder, write_whole};
use crate::{EXIT_DONE, EXIT_FAILED, complain, logs};
use endpoints::Endpoints;
use nix::fcntl::{Flock, FlockArg};
use part::{News, Part};
use parts::SimulatedModem;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use twinpost_config::NODE_FILE;

/// Name of a node alone.
const NODE: &str = "a";
/// How many nodes a new folder gets.
const NODES_OF_NEW: u8 = 2;

/// What a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// No node.
    New,
    /// A node alone, or a pair that is half made.
    One,
    /// The two nodes of a pair.
    Two,
}

impl Shape {
    fn of(dir: &Path) -> Self {
        let has = |node: &str, file: &str| dir.join(node).join(file).exists();
        if has("a", NODE_FILE) && has("b", NODE_FILE) {
            Self::Two
        } else if has("a", "appliance.toml") {
            Self::One
        } else {
            Self::New
        }
    }
}

/// How many nodes this start is about.
fn nodes(dir: &Path, arguments: &Up) -> Result<u8, String> {
    let shown = dir.display();
    match (Shape::of(dir), arguments.nodes, arguments.only.is_some()) {
        (Shape::Two, Some(1), _) => {
            Err(format!("{shown} holds a pair; one node of it runs alone with `twinpost up --dir {shown} --only a`"))
        }
        (Shape::One, None | Some(1), true) => {
            Err(format!("{shown} holds a node alone; `twinpost up --dir {shown} --nodes 2` makes it a pair"))
        }
        (_, Some(1), true) => Err("--only is for the nodes of a pair: it goes with --nodes 2".to_owned()),
        (Shape::Two, ..) | (_, _, true) => Ok(2),
        (Shape::One, nodes, false) => Ok(nodes.unwrap_or(1)),
        (Shape::New, nodes, false) => Ok(nodes.unwrap_or(NODES_OF_NEW)),
    }
}

/// Runs what the folder holds until it is told to end.
pub async fn run(arguments: Up) -> u8 {
    let outcome = async {
        let dir = std::path::absolute(&arguments.dir).map_err(|e| format!("{}: {e}", arguments.dir.display()))?;
        match nodes(&dir, &arguments)? {
            2 => Box::pin(pair::up(&dir, &arguments)).await,
            _ => Box::pin(alone(&dir, &arguments)).await,
        }
    };
    match outcome.await {
        Ok(()) => EXIT_DONE,
        Err(message) => {
            complain(&message);
            EXIT_FAILED
        }
    }
}

async fn alone(dir: &Path, arguments: &Up) -> Result<(), String> {
    let folder = Folder::new(dir.join(NODE));
    folder.make().and_then(|()| folder.make_data()).map_err(|e| format!("cannot make {}: {e}", folder.path().display()))?;
    let _lock = lock(dir)?;
    let fresh = !folder.document().exists();
    if fresh {
        let text = first_document(arguments.address.unwrap_or(ADDRESS))?;
        write_whole(&folder.document(), text.as_bytes(), 0o600)
            .map_err(|e| format!("cannot write {}: {e}", folder.document().display()))?;
    }
    let document = twinpost_config::load(&folder.document()).map_err(|e| e.to_string())?;
    logs::open(&document.log)?;

    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let simulated = SimulatedModem::of(&document, &folder);
    let mut endpoints = Endpoints::new(dir, &folder, &document, simulated.as_ref());
    let (news, mut heard) = mpsc::unbounded_channel();
    // In the order of their ends: what asks goes before what answers.
    let mut recipes = vec![parts::mail(&program, &folder)];
    if document.sms.enabled {
        recipes.push(parts::sms(&program, &folder));
    }
    recipes.extend(simulated.and_then(|modem| modem.recipe(&program, arguments.modem)));
    let running: Vec<Part> = recipes.into_iter().map(|recipe| Part::start(recipe, news.clone())).collect();

    let work = async {
        let mut announced = false;
        while let Some(what) = heard.recv().await {
            match what {
                News::Up(part, pid) => {
                    endpoints.pid(part, Some(pid));
                    if part == "mail" && !announced {
                        if fresh && arguments.demo == Demo::School {
                            endpoints.demo(demo::make(&folder).await?);
                        }
                        endpoints.write()?;
                        endpoints.announce();
                        announced = true;
                    }
                }
                News::Down(part) => endpoints.pid(part, None),
                News::Hopeless(why) => return Err(why),
                News::Fenced => return Err("a part of the node could not be stopped".to_owned()),
            }
            if announced {
                endpoints.write()?;
            }
        }
        Ok::<(), String>(())
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    tracing::info!("stopping");
    for part in running {
        part.stop().await;
    }
    endpoints.stopped();
    outcome.and(endpoints.write())
}

/// One `up` a folder.
fn lock(dir: &Path) -> Result<Flock<File>, String> {
    let path = dir.join("up.lock");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| format!("cannot open {}: {e}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
            written.map(|()| lock).map_err(|e| format!("cannot write {}: {e}", path.display()))
        }
        Err((mut file, _)) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            Err(format!("{} is in use by another `twinpost up`, process {}", dir.display(), pid.trim()))
        }
    }
}

/// The ports of a node without root, in the order of [`SERVICES`].
const PORTS: [u16; 8] = [2525, 2587, 2465, 2424, 2143, 2993, 2110, 2995];
/// The services of `[network]`.
const SERVICES: [&str; 8] = ["smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s"];

/// Where a node alone listens.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Listeners on the ports of [`SERVICES`]: the known ones when all are free, else any, if any will do.
fn service_ports(address: IpAddr, any: bool) -> Result<Vec<TcpListener>, String> {
    let bind = |port| TcpListener::bind((address, port)).map_err(|e| format!("cannot listen on {address}: {e}"));
    let known: Result<Vec<TcpListener>, String> = PORTS.iter().map(|p| bind(*p)).collect();
    if any { known.or_else(|_| PORTS.iter().map(|_| bind(0)).collect()) } else { known }
}

/// The document of a new node: known ports when they are free, else any free ones, kept from then on.
fn first_document(address: IpAddr) -> Result<String, String> {
    document_text(&service_ports(address, true)?, Some(NODE))
}

/// A document with these ports; without a name when it is one for both nodes of a pair.
fn document_text(held: &[TcpListener], name: Option<&str>) -> Result<String, String> {
    let of = if name.is_some() { "this node" } else { "both nodes of this pair" };
    let mut text = format!(
        "# The appliance document of {of}. All keys: docs/configuration.md. Check it with `twinpost ctl config check`.\n\
         version = 1\n\n[node]\n"
    );
    text.extend(name.map(|name| format!("name = \"{name}\"\n")));
    text.push_str("host_name = \"mail.school.example\"\n\n[network]\n");
    for (service, listener) in SERVICES.iter().zip(held) {
        let at = listener.local_addr().map_err(|e| e.to_string())?;
        text.push_str(&format!("{service} = [\"{at}\"]\n"));
    }
    text.push_str(
        "\n[limits]\n# This machine itself is not limited: tests and load come from here.\nexempt = [\"127.0.0.0/8\", \"::1\"]\n\n\
         [sms]\nenabled = true\n# A simulated modem: `twinpost up` starts it, as its port lies in the node's own folder. A real one: \"/dev/ttyS1\".\n\
         port = \"modem/tty\"\ndomains = [\"mail2sms.example\"]\n",
    );
    Ok(text)
}
