//! `twinpost pair`: the pair daemon of one node, put together from the document.
//!
//! Contract: reads the appliance document and `node.toml`, loads the identity made at pairing, makes the drivers that the documents
//! name, and runs the daemon until SIGTERM or SIGINT (then the services stop and the peer gets this node's release). The mail process is its
//! child: it dies with it, and holds the storage's lock as long as it lives.
//!
//! Failure classes: faults in the documents, no identity, a driver that cannot work here: one sentence and exit 5 (a restart would
//! bring the same). A stop that could not be verified: exit 86, and nothing may start this node again before the machine is reset.

mod alarms;
mod aside;
mod copy;
mod desk;
mod forward;
mod link;
mod other;
mod parts;

pub use copy::judge as judge_document;

use crate::cli::Pair;
use crate::node::Folder;
use crate::{EXIT_DONE, EXIT_FAILED, EXIT_FENCED, EXIT_HOPELESS, complain, end_with_parent, logs};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use twinpost_config::{Document, NodeDocument};
use twinpost_pair::{Error, Parts};
use twinpost_peer::{Channel, Identity};

/// Runs the daemon until a signal ends it.
pub async fn run(arguments: Pair) -> u8 {
    if let Some(parent) = arguments.with_parent {
        // The services die with this process at once; nobody may be left who serves without the pair.
        end_with_parent(parent, nix::sys::signal::Signal::SIGKILL);
    }
    match Box::pin(serve(Folder::new(arguments.node))).await {
        Ok(()) => EXIT_DONE,
        Err(halt) => {
            complain(&halt.message);
            if halt.exit == EXIT_HOPELESS {
                // systemd takes an end before this word for a failure whatever its exit status (systemd.service(5), Type=notify), and a failure of
                // this unit resets the node. It waits for a person instead.
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&halt.message)]);
            }
            halt.exit
        }
    }
}

/// Why the process ends.
struct Halt {
    message: String,
    exit: u8,
}

fn hopeless(why: impl std::fmt::Display) -> Halt {
    Halt { message: why.to_string(), exit: EXIT_HOPELESS }
}

fn failed(why: impl std::fmt::Display) -> Halt {
    Halt { message: why.to_string(), exit: EXIT_FAILED }
}

/// What the daemon is made from.
struct Plan {
    folder: Folder,
    document: Document,
    node: NodeDocument,
    pair: twinpost_peer::Pair,
}

async fn serve(folder: Folder) -> Result<(), Halt> {
    folder.make().map_err(|e| failed(format!("cannot make {}: {e}", folder.path().display())))?;
    let document = twinpost_config::load(&folder.document()).map_err(hopeless)?;
    let node = twinpost_config::load_node(folder.path()).map_err(hopeless)?;
    logs::open(&document.log).map_err(failed)?;
    if !node.pair.enabled {
        return Err(hopeless(format!(
            "{} is a node alone: node.toml says nothing of [pair] enabled = true",
            folder.path().display()
        )));
    }
    let identity = Arc::new(Identity::load(&folder.pair()).map_err(hopeless)?);
    let pair = identity.pair().ok_or_else(|| hopeless("this node has no peer yet: pair it with `twinpost ctl pair pairing`"))?;
    if document.node.name != pair.node.to_string() {
        return Err(hopeless(format!(
            "node.toml says that this is node {}, its identity that it is node {}",
            document.node.name, pair.node
        )));
    }
    let plan = Plan { folder, document, node, pair };

    let (handle, door) = twinpost_pair::door();
    let copy = copy::open(&plan).map_err(hopeless)?;
    let settings = parts::settings(&plan);
    let channel = match parts::channel_settings(&plan) {
        None => None,
        Some(channel) => {
            let handler = Arc::new(link::Answers::new(handle.clone(), copy.clone(), plan.folder.clone()));
            let channel = Arc::new(Channel::start(identity.clone(), channel, handler.clone()).await.map_err(hopeless)?);
            handler.over(&channel);
            Some(channel)
        }
    };
    let (group, group_events) = parts::group(&plan).map_err(hopeless)?;
    let stop = CancellationToken::new();
    if let Some(channel) = &channel {
        tokio::spawn(other::compare(channel.clone(), handle.clone(), stop.clone()));
    }
    let changes = copy::keep(&plan, &identity, &copy, channel.clone(), &stop);
    let parts = Parts {
        storage: parts::storage(&plan)?,
        address: parts::address(&plan, handle).await.map_err(hopeless)?,
        group,
        group_events,
        power: parts::power(&plan).map_err(hopeless)?,
        witness: parts::witness(&plan).map_err(hopeless)?,
        channel: channel.clone().map(|channel| channel as Arc<dyn twinpost_pair::PeerChannel>),
        alarms: Some(Arc::new(alarms::Teller::start(&plan, stop.clone()))),
        desk: Some(Arc::new(desk::Desk { copy: copy.clone(), channel, folder: plan.folder.clone() })),
        door: Some(door),
        changes: Some(changes),
    };

    let open = |kind| signal(kind).map_err(|e| failed(format!("cannot listen for signals: {e}")));
    let (mut terminate, mut interrupt) = (open(SignalKind::terminate())?, open(SignalKind::interrupt())?);
    let ending = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        ending.cancel();
    });
    tracing::info!(
        node = settings.name(),
        peer = settings.peer_name(),
        cluster = settings.cluster,
        pid = std::process::id(),
        "the pair is kept"
    );
    let outcome = twinpost_pair::serve(settings, parts, stop.clone()).await;
    stop.cancel();
    outcome.map_err(|error| {
        let exit = match &error {
            Error::SelfFenced => EXIT_FENCED,
            Error::Settings(_) | Error::AlreadyServed(_) => EXIT_HOPELESS,
            _ => EXIT_FAILED,
        };
        Halt { message: error.to_string(), exit }
    })
}
