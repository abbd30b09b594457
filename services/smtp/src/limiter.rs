//! What the server asks a limiter. One limiter serves all protocols; `()` limits nothing.

use std::net::IpAddr;
use std::time::Duration;
use twinpost_sasl::{Guard, Identity};

/// Counts by address and by account. `Err` holds the time after which another try has a chance.
pub trait Limiter: Send + Sync + 'static {
    /// Slows sign-ins from one address down.
    type Guard: Guard;

    /// The guard for sign-ins from this address.
    fn guard(&self, peer: IpAddr) -> Self::Guard;

    /// A command line came.
    ///
    /// # Errors
    /// How long to wait before it is answered. The server waits when that is short and ends the session when it is long.
    fn command(&self, peer: IpAddr) -> Result<(), Duration>;

    /// A transaction begins, by address and, where somebody signed in, by account.
    ///
    /// # Errors
    /// The sender is to come later.
    fn message(&self, peer: IpAddr, identity: Option<&Identity>) -> Result<(), Duration>;

    /// A recipient was accepted for somebody who signed in: recipients an hour.
    ///
    /// # Errors
    /// No more for now.
    fn recipient(&self, peer: IpAddr, identity: &Identity) -> Result<(), Duration>;
}

impl Limiter for () {
    type Guard = ();
    fn guard(&self, _: IpAddr) -> Self::Guard {}
    fn command(&self, _: IpAddr) -> Result<(), Duration> {
        Ok(())
    }
    fn message(&self, _: IpAddr, _: Option<&Identity>) -> Result<(), Duration> {
        Ok(())
    }
    fn recipient(&self, _: IpAddr, _: &Identity) -> Result<(), Duration> {
        Ok(())
    }
}

impl Limiter for twinpost_limits::Limiter {
    type Guard = twinpost_limits::PeerGuard;
    fn guard(&self, peer: IpAddr) -> Self::Guard {
        self.guard(peer)
    }
    fn command(&self, peer: IpAddr) -> Result<(), Duration> {
        self.commands(peer, 1).map_err(|refused| refused.retry_after)
    }
    fn message(&self, peer: IpAddr, identity: Option<&Identity>) -> Result<(), Duration> {
        self.message(identity.map(|i| i.address.as_str()), peer).map_err(|refused| refused.retry_after)
    }
    fn recipient(&self, peer: IpAddr, identity: &Identity) -> Result<(), Duration> {
        self.recipients(&identity.address, peer, 1).map_err(|refused| refused.retry_after)
    }
}
