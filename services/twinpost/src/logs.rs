//! Log lines: for people on a terminal, as JSON for machines. Level and form come from the appliance document; the
//! environment variable TWINPOST_LOG wins over its level.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use twinpost_config::{Log, LogForm};

/// Opens the log on standard error.
///
/// # Errors
/// A sentence when the level cannot be read.
pub fn open(log: &Log) -> Result<(), String> {
    let level = std::env::var("TWINPOST_LOG").unwrap_or_else(|_| log.level.clone());
    // The TLS library warns of each client that names us by address: that is no news to an operator.
    let filter = EnvFilter::try_new(format!("rustls=error,{level}"))
        .map_err(|e| format!("log.level: {level:?} is not a list of levels: {e}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let opened = match log.form {
        LogForm::Text => lines.try_init(),
        LogForm::Json => lines.json().flatten_event(true).try_init(),
    };
    opened.map_err(|e| e.to_string())
}
