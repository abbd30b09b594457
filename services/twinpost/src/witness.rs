//! `twinpost witness`: a third machine that knows who may serve.
//!
//! Contract: answers on one UDP port for every pair whose key lies in its folder, until SIGTERM or SIGINT. It keeps a number for each
//! pair and never sees mail. A pair is made known to it with `--enrol`.
//!
//! Failure classes: the folder or the port cannot be used: one sentence, exit 1.

use crate::cli::Witness;
use crate::{EXIT_DONE, EXIT_FAILED, complain, end_with_parent, logs};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use twinpost_witness::{Key, Settings, enrol};

/// Runs the witness until a signal ends it.
pub async fn run(arguments: Witness) -> u8 {
    if let Some(parent) = arguments.with_parent {
        end_with_parent(parent, nix::sys::signal::Signal::SIGTERM);
    }
    match serve(arguments).await {
        Ok(()) => EXIT_DONE,
        Err(message) => {
            complain(&message);
            EXIT_FAILED
        }
    }
}

async fn serve(arguments: Witness) -> Result<(), String> {
    logs::open(&twinpost_config::Document::default().log)?;
    if let Some(cluster) = arguments.enrol {
        let file = arguments.key_file.ok_or("--enrol needs --key-file")?;
        let key = Key::load(&file).map_err(|e| e.to_string())?;
        return enrol(&arguments.dir, cluster, &key).map_err(|e| e.to_string());
    }
    let listen = arguments.listen.ok_or("--listen is needed")?;
    let open = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let (mut terminate, mut interrupt) = (open(SignalKind::terminate())?, open(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let serving = twinpost_witness::serve(Settings { listen, dir: arguments.dir }, stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        outcome = &mut serving => return outcome.map_err(|e| e.to_string()),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    serving.await.map_err(|e| e.to_string())
}
