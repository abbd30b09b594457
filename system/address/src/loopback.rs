//! The driver off the image: the address is one of the machine's own (127.0.0.10), and exists on it all the time.
//!
//! Contract: nothing of the machine is changed. While "up" the services bind the address; while not, nobody does. There is no
//! kernel rule, so a lease that ends here ends nothing: the (simulated) watchdog is what stops a stalled node.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{Address, AddressStatus, Error};

/// See the module.
#[derive(Debug)]
pub struct Loopback {
    addresses: Vec<IpAddr>,
    carrier: watch::Sender<bool>,
    here: Mutex<Here>,
}

#[derive(Clone, Copy, Debug)]
enum Here {
    No,
    Until(Option<Instant>),
}

impl Loopback {
    /// # Errors
    /// [`Error::Settings`] without an address, [`Error::NotLocal`] for one that no socket of this machine can be bound to.
    pub fn new(addresses: Vec<IpAddr>) -> Result<Self, Error> {
        if addresses.is_empty() {
            return Err(Error::Settings("no service address is given".to_owned()));
        }
        for &address in &addresses {
            TcpListener::bind(SocketAddr::new(address, 0)).map_err(|source| Error::NotLocal { address, source })?;
        }
        Ok(Self { addresses, carrier: watch::channel(true).0, here: Mutex::new(Here::No) })
    }

    /// The carrier that the rack plays; true at first.
    pub fn set_carrier(&self, carrier: bool) {
        self.carrier.send_if_modified(|now| std::mem::replace(now, carrier) != carrier);
    }

    fn here(&self) -> MutexGuard<'_, Here> {
        // A plain value: a panic leaves nothing half done.
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a lease.
///
/// # Errors
/// It has passed.
pub(crate) fn lease_end(expires: Option<Duration>, since: Instant) -> Result<Option<Instant>, Error> {
    let Some(end) = expires.and_then(|expires| since.checked_add(expires)) else { return Ok(None) };
    let now = Instant::now();
    if end <= now {
        return Err(Error::LeaseOver { late_ms: (now - end).as_millis() });
    }
    Ok(Some(end))
}

impl Address for Loopback {
    fn up(&self, expires: Option<Duration>, since: Instant) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            *self.here() = Here::Until(lease_end(expires, since)?);
            Ok(())
        })
    }

    fn down(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            *self.here() = Here::No;
            Ok(())
        })
    }

    fn announce(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn carrier(&self) -> watch::Receiver<bool> {
        self.carrier.subscribe()
    }

    fn status(&self) -> AddressStatus {
        let now = Instant::now();
        let (here, lease_left_ms) = match *self.here() {
            Here::No => (false, None),
            Here::Until(None) => (true, None),
            Here::Until(Some(end)) => {
                let left = end.saturating_duration_since(now);
                (!left.is_zero(), u64::try_from(left.as_millis()).ok())
            }
        };
        AddressStatus {
            driver: "loopback",
            interface: "lo".to_owned(),
            addresses: self.addresses.clone(),
            here,
            lease_left_ms,
            carrier: *self.carrier.borrow(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(800);

    #[tokio::test]
    async fn a_lease_counts_from_the_event() {
        let address: IpAddr = "127.0.0.10".parse().unwrap();
        let driver = Loopback::new(vec![address]).unwrap();
        assert!(!driver.status().here);
        let then = Instant::now().checked_sub(Duration::from_millis(500)).unwrap();
        driver.up(Some(LEASE), then).await.unwrap();
        let left = driver.status().lease_left_ms.unwrap();
        assert!(driver.status().here && left <= 300, "{left}");

        let late = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let error = driver.up(Some(LEASE), late).await.unwrap_err();
        assert!(matches!(error, Error::LeaseOver { late_ms: 1200.. }), "{error}");
        driver.up(None, late).await.unwrap();
        assert!(driver.status().here);
        driver.down().await.unwrap();
        assert!(!driver.status().here);

        let mut carrier = driver.carrier();
        driver.set_carrier(false);
        carrier.changed().await.unwrap();
        assert!(!*carrier.borrow());
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let address = "192.0.2.1".parse().unwrap();
        assert!(matches!(Loopback::new(vec![address]), Err(Error::NotLocal { .. })));
        assert!(matches!(Loopback::new(Vec::new()), Err(Error::Settings(_))));
    }
}
