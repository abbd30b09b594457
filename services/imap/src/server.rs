//! The server: what all connections share, and the way from an accepted stream to a session.

use crate::backend::Backend;
use crate::connection::Link;
use crate::settings::Settings;
use bytes::Bytes;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;
use twinpost_limits::{Limiter, Permit, Protocol};
use twinpost_message::AccountId;
use twinpost_sasl::Accounts;
use twinpost_wire::{Connection, Endpoint, ServeSettings, ServerTls, Stream};

/// An IMAP server. Cheap to clone; all clones are the same server.
pub struct Server<B, A>(Arc<Shared<B, A>>);

impl<B, A> Clone for Server<B, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What all connections share.
pub(crate) struct Shared<B, A> {
    pub backend: Arc<B>,
    pub accounts: Arc<A>,
    settings: RwLock<Arc<Settings>>,
    pub limiter: Limiter,
    /// For STARTTLS; none: it is not offered.
    pub tls: Option<ServerTls>,
    open: Mutex<HashMap<AccountId, u32>>,
}

impl<B: Backend, A: Accounts + 'static> Server<B, A> {
    /// A server over this store and this directory. `tls` is for STARTTLS; a TLS port is a matter of the listener.
    #[must_use]
    pub fn new(backend: Arc<B>, accounts: Arc<A>, settings: Settings, limiter: Limiter, tls: Option<ServerTls>) -> Self {
        let settings = RwLock::new(Arc::new(settings));
        Self(Arc::new(Shared { backend, accounts, settings, limiter, tls, open: Mutex::default() }))
    }

    /// New rules, for sessions that begin from now on.
    pub fn set_settings(&self, settings: Settings) {
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Accepts connections until `stop`, then lets the sessions say goodbye. One call a listening address.
    pub async fn serve(self, endpoint: Endpoint, listener: ServeSettings, stop: CancellationToken) {
        let limiter = self.0.limiter.clone();
        let admit = move |peer: SocketAddr| -> Result<Permit, Option<Bytes>> {
            limiter
                .connect(Protocol::Imap, peer.ip())
                .map_err(|refused| Some(Bytes::from(format!("* BYE [UNAVAILABLE] {refused}\r\n"))))
        };
        let handle = move |connection: Connection<Permit>| {
            let shared = Arc::clone(&self.0);
            async move {
                let Connection { stream, permit, stop } = connection;
                run(shared, stream, stop).await;
                drop(permit);
            }
        };
        twinpost_wire::serve(endpoint, listener, stop, admit, handle).await;
    }

    /// Serves one client, TLS done already where the port wants it. Ends when the client does, or soon after `stop`.
    pub async fn connection(&self, stream: Stream, stop: CancellationToken) {
        run(Arc::clone(&self.0), stream, stop).await;
    }
}

async fn run<B: Backend, A: Accounts + 'static>(shared: Arc<Shared<B, A>>, stream: Stream, stop: CancellationToken) {
    Link::new(shared, stream, stop).run().await;
}

/// A signed-in connection that counts as long as this lives.
pub(crate) struct Seat<B, A> {
    shared: Arc<Shared<B, A>>,
    account: AccountId,
}

impl<B, A> Shared<B, A> {
    /// The rules as they are now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A place for one more connection of this account; none when it has all it may have.
    pub fn seat(self: &Arc<Self>, account: AccountId) -> Option<Seat<B, A>> {
        let most = self.settings().connections_per_account;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(account).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Seat { shared: Arc::clone(self), account })
    }
}

impl<B, A> Drop for Seat<B, A> {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.account);
            }
        }
    }
}
