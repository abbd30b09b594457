//! Puts the parts of the process together.

use crate::api::{Kind, ResetStep, Way};
use crate::by_modem::ByModem;
use crate::engine::{Engine, Named};
use crate::error::Error;
use crate::orders::Orders;
use crate::server;
use crate::settings::{By, Settings};
use crate::smpp::BySmpp;
use crate::transport::{Outcome, Parcel, Token, Transport};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The ways that the settings can name.
enum Either {
    Modem(ByModem),
    Smpp(BySmpp),
}

impl Transport for Either {
    fn kind(&self) -> Kind {
        match self {
            Either::Modem(_) => Kind::Modem,
            Either::Smpp(_) => Kind::Smpp,
        }
    }

    fn window(&self) -> usize {
        match self {
            Either::Modem(w) => w.window(),
            Either::Smpp(w) => w.window(),
        }
    }

    fn state(&self) -> watch::Receiver<Way> {
        match self {
            Either::Modem(w) => w.state(),
            Either::Smpp(w) => w.state(),
        }
    }

    async fn send(&self, parcel: Parcel) -> Outcome {
        match self {
            Either::Modem(w) => w.send(parcel).await,
            Either::Smpp(w) => w.send(parcel).await,
        }
    }

    async fn confirm(&self, token: Token) {
        match self {
            Either::Modem(w) => w.confirm(token).await,
            Either::Smpp(w) => w.confirm(token).await,
        }
    }

    async fn reset(&self, step: ResetStep) {
        match self {
            Either::Modem(w) => w.reset(step).await,
            Either::Smpp(w) => w.reset(step).await,
        }
    }

    async fn stop(&self) {
        match self {
            Either::Modem(w) => w.stop().await,
            Either::Smpp(w) => w.stop().await,
        }
    }
}

/// Serves until `shutdown`; then what is on the wire is waited for (20 s at most) and the spool is closed.
///
/// # Errors
/// The settings, the spool or the socket cannot be used. Trouble with a modem or an operator is never an error here: it
/// is a state that can be read, and an event.
pub async fn serve<O: Orders>(settings: Settings, orders: O, shutdown: CancellationToken) -> Result<(), Error> {
    check(&settings)?;
    let mut ways = Vec::new();
    let listener = server::bind(&settings.socket).await?;
    for way in &settings.ways {
        match &way.by {
            By::Modem(modem) => {
                let (transport, inbound) = ByModem::start((**modem).clone());
                let transport = Arc::new(Either::Modem(transport));
                ways.push(Named { name: way.name.clone(), transport, inbound });
            }
            By::Smpp(smpp) => {
                let (transport, inbound) = BySmpp::start((**smpp).clone())?;
                let transport = Arc::new(Either::Smpp(transport));
                ways.push(Named { name: way.name.clone(), transport, inbound });
            }
        }
    }
    serve_ways(settings, ways, orders, true, listener, shutdown).await
}

/// The same with ways that are there already.
pub(crate) async fn serve_ways<T: Transport, O: Orders>(
    settings: Settings,
    ways: Vec<Named<T>>,
    orders: O,
    wall: bool,
    listener: tokio::net::UnixListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let settings = Arc::new(settings);
    let (engine, handle) = Engine::open(settings.clone(), ways, orders, wall)?;
    let server = tokio::spawn(server::serve(listener, handle, shutdown.clone()));
    engine.run(shutdown.clone()).await;
    // The engine ends by itself only when its book does; then nobody is to be served.
    shutdown.cancel();
    let _ = server.await;
    let _ = std::fs::remove_file(&settings.socket);
    Ok(())
}

fn check(settings: &Settings) -> Result<(), Error> {
    if settings.ways.is_empty() {
        return Err(Error::Settings("there is no way out: neither a modem nor an SMPP service".into()));
    }
    for (n, way) in settings.ways.iter().enumerate() {
        if way.name.is_empty() || settings.ways[..n].iter().any(|w| w.name == way.name) {
            return Err(Error::Settings(format!("the name {:?} of a way is empty or used twice", way.name)));
        }
    }
    for route in &settings.routes {
        if route.ways.is_empty() {
            return Err(Error::Settings(format!("the route for {:?} names no way", route.prefix)));
        }
    }
    Ok(())
}
