//! The SMS process: spool, scheduler, ways out (modem, SMPP), the local socket, orders by SMS.

pub mod api;
mod book;
mod client;
mod desk;
mod error;
mod orders;
mod reasons;
mod settings;
mod text;
mod transport;

pub use client::{Client, Follow, IncomingStream, Seen, Submitted, Watch};
pub use error::Error;
pub use orders::{Language, Orders};
pub use settings::{By, Limits, LongText, OrdersSettings, Pace, Route, Settings, SmppSettings, WaySettings};

/// Serves until `shutdown`.
///
/// # Errors
/// The settings, the spool or the socket cannot be used. Trouble with a modem or an operator is never an error here.
pub async fn serve<O: Orders>(settings: Settings, orders: O, shutdown: tokio_util::sync::CancellationToken) -> Result<(), Error> {
    let _ = orders;
    let _ = shutdown.cancelled().await;
    Err(Error::Settings(format!("{} cannot be served yet", settings.socket.display())))
}
