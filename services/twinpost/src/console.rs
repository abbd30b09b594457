//! `twinpost console`: the menu on a screen or a serial line of a node of the image.
//!
//! Contract: talks on one terminal until SIGTERM or SIGINT; systemd starts it anew when the terminal went away. Orders may be typed unless
//! `node.toml` says `[console] orders = false`; a `node.toml` that cannot be read keeps nobody from the console, which is where it is mended.
//!
//! Failure classes: the terminal cannot be used: one sentence and exit 1.

use crate::cli::Console;
use crate::{EXIT_DONE, EXIT_FAILED, complain, logs};
use tokio::signal::unix::{SignalKind, signal};
use twinpost_console::Settings;

/// Runs until a signal ends it, or the terminal goes away.
pub async fn run(arguments: Console) -> u8 {
    match Box::pin(talk(arguments)).await {
        Ok(()) => EXIT_DONE,
        Err(message) => {
            complain(&message);
            EXIT_FAILED
        }
    }
}

async fn talk(arguments: Console) -> Result<(), String> {
    logs::open(&twinpost_config::Log::default())?;
    let open = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let (mut terminate, mut interrupt) = (open(SignalKind::terminate())?, open(SignalKind::interrupt())?);
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let orders = twinpost_config::load_node(&arguments.node).map_or(true, |node| node.console.orders);
    let settings =
        Settings { orders, version: crate::node::version(), ..Settings::image(arguments.tty, program, arguments.node) };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    twinpost_console::run(settings, stop).await.map_err(|e| e.to_string())
}
