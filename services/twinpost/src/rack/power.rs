//! The serial power switch of a node, simulated: on a pseudo-terminal, with one outlet, at which the node hangs.
//!
//! Contract: speaks the relay protocol (docs/manual/power-switch.md). *Off* ends every process of the node and is answered when none is
//! left; *on* lets it start; what is measured is what [`Mains::read`] finds, not what was ordered.
//!
//! Failure classes: the terminal cannot be made (said by [`open`]); a process that does not end: the switch answers that it cannot.

use super::mains::{Mains, Power};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;
use twinpost_fencing::relay::{Outlets, RelaySimulator};

/// The outlet of one node.
struct Outlet {
    node: &'static str,
    mains: Mains,
    wakes: mpsc::UnboundedSender<&'static str>,
}

impl Outlets for Outlet {
    fn count(&self) -> u8 {
        1
    }

    fn switch(&self, _outlet: u8, on: bool) -> BoxFuture<'_, bool> {
        async move {
            tracing::warn!(node = self.node, on, "the power switch was told to switch");
            let done = if on { self.mains.on(self.node).await } else { self.mains.off(self.node).await };
            if on {
                // `up` is ending when nobody listens.
                let _ = self.wakes.send(self.node);
            }
            done.inspect_err(|error| tracing::error!(node = self.node, error, "the power switch cannot switch")).is_ok()
        }
        .boxed()
    }

    fn measure(&self, _outlet: u8) -> BoxFuture<'_, twinpost_fencing::Power> {
        let power = match self.mains.read(self.node) {
            Power::Off => twinpost_fencing::Power::Off,
            Power::On | Power::Reset => twinpost_fencing::Power::On,
        };
        std::future::ready(power).boxed()
    }
}

/// Makes the switch of a node under this link.
///
/// # Errors
/// A sentence that names the link.
pub fn open(
    link: &Path,
    node: &'static str,
    mains: &Mains,
    wakes: &mpsc::UnboundedSender<&'static str>,
) -> Result<RelaySimulator, String> {
    let outlet = Outlet { node, mains: mains.clone(), wakes: wakes.clone() };
    RelaySimulator::open(Some(link), Arc::new(outlet))
        .map_err(|e| format!("cannot make the power switch {}: {e}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_fencing::PowerSwitch;
    use twinpost_fencing::relay::{Relay, RelaySettings};

    #[tokio::test]
    async fn the_driver_of_the_pair_daemon_switches_and_reads_back() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("rack")).expect("made");
        let (mains, link) = (Mains::of(dir.path()), dir.path().join("rack/power-b"));
        let (wakes, mut woken) = mpsc::unbounded_channel();
        let switch = open(&link, "b", &mains, &wakes).expect("a terminal");
        let serving = tokio::spawn(switch.run());
        let driver = Relay::new(RelaySettings::new(link, 1));
        assert_eq!(driver.read().await.expect("it answers"), twinpost_fencing::Power::On);
        assert_eq!(driver.off().await.expect("it answers"), twinpost_fencing::PowerOff::ReadBackOff);
        assert_eq!(mains.power("b"), Power::Off);
        driver.on().await.expect("it answers");
        assert_eq!((mains.power("b"), woken.recv().await), (Power::On, Some("b")));
        serving.abort();
    }
}
