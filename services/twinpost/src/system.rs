//! `twinpost system`: the machine of a node of the image.
//!
//! Contract: takes orders on its socket until SIGTERM or SIGINT; what was begun by then goes on to its end or is repeated safely. It runs as root,
//! beside the pair daemon, and neither needs the other.
//!
//! Failure classes: the socket cannot be had: one sentence and exit 1.

use crate::cli::System;
use crate::{EXIT_DONE, EXIT_FAILED, complain, logs};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs until a signal ends it.
pub async fn run(arguments: System) -> u8 {
    match Box::pin(serve(arguments)).await {
        Ok(()) => EXIT_DONE,
        Err(message) => {
            complain(&message);
            EXIT_FAILED
        }
    }
}

async fn serve(arguments: System) -> Result<(), String> {
    // A node that is not set up yet, or whose document has faults, has a machine all the same.
    let log = twinpost_config::load(&arguments.node.join("appliance.toml")).map(|document| document.log).unwrap_or_default();
    logs::open(&log)?;
    // What a setup writes below /etc is read by programs of other users; what is secret has its own mode.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let open = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let (mut terminate, mut interrupt) = (open(SignalKind::terminate())?, open(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let ending = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        ending.cancel();
    });
    let settings = twinpost_node::daemon::Settings::new(arguments.node, &crate::node::version());
    twinpost_node::daemon::run(settings, stop).await.map_err(|e| e.to_string())
}
