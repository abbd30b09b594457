//! Log lines: for people on a terminal, as JSON for machines. Level and form come from the appliance document; the
//! environment variable TWINPOST_LOG wins over its level.

use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use twinpost_config::{Log, LogForm};

/// The environment variable that wins over the level of the document.
pub const VARIABLE: &str = "TWINPOST_LOG";

/// The environment variable with the name of the node, when several write to one terminal: `up` sets it for the nodes of a pair.
pub const MARK: &str = "TWINPOST_LOG_NODE";

/// The time of a line, and the node after it.
struct Marked(Option<String>);

impl FormatTime for Marked {
    fn format_time(&self, line: &mut Writer<'_>) -> std::fmt::Result {
        SystemTime.format_time(line)?;
        self.0.as_ref().map_or(Ok(()), |node| write!(line, " node {node}"))
    }
}

/// Gives the open log another filter.
type Refilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;
static REFILTER: OnceLock<Refilter> = OnceLock::new();

fn filter(log: &Log) -> Result<EnvFilter, String> {
    let level = std::env::var(VARIABLE).unwrap_or_else(|_| log.level.clone());
    // The TLS library warns of each client that names us by address, the netlink library of each attribute that a newer kernel makes
    // longer, at every change of a link: that is no news to an operator.
    EnvFilter::try_new(format!("rustls=error,netlink_packet_route=error,{level}"))
        .map_err(|e| format!("log.level: {level:?} is not a list of levels: {e}"))
}

/// Opens the log on standard error.
///
/// # Errors
/// A sentence when the level cannot be read.
pub fn open(log: &Log) -> Result<(), String> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(log)?)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let (opened, refilter): (_, Refilter) = match log.form {
        LogForm::Text => {
            let lines = lines.with_timer(Marked(std::env::var(MARK).ok())).with_filter_reloading();
            let handle = lines.reload_handle();
            (lines.try_init(), Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string())))
        }
        LogForm::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            (lines.try_init(), Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string())))
        }
    };
    opened.map_err(|e| e.to_string())?;
    // A second log in one process is refused above.
    let _ = REFILTER.set(refilter);
    Ok(())
}

/// The open log takes the level of this document; true when the environment variable overrules it.
///
/// # Errors
/// A sentence when the level cannot be read; the old one stays.
pub fn set_level(log: &Log) -> Result<bool, String> {
    let filter = filter(log)?;
    if let Some(refilter) = REFILTER.get() {
        refilter(filter)?;
    }
    Ok(std::env::var_os(VARIABLE).is_some())
}
