//! A running simulator and the handle to it.

use crate::engine::{Counters, EngineState};
use crate::options::Options;
use crate::order::Order;
use crate::phones::Received;
use crate::run::{Runner, Shared};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages that a handle keeps; older ones are only in the record file.
const KEEP: usize = 200_000;

/// Starts simulators.
#[derive(Debug)]
pub struct Simulator;

/// A running simulator. It ends when this is dropped.
pub struct Handle {
    shared: Arc<Shared>,
    wake: UnixStream,
    thread: Option<std::thread::JoinHandle<()>>,
    address: Option<SocketAddr>,
}

impl Simulator {
    /// Puts a modem on its line, in a thread of its own. When this returns, the link or socket is there. The handle keeps the last 200,000
    /// messages for [`Handle::received`]; counters and the record file know all.
    ///
    /// # Errors
    /// The line, the control socket or the record file cannot be made.
    pub fn start(options: Options) -> io::Result<Handle> {
        Self::start_keeping(options, KEEP)
    }

    /// The same, with at most `keep` messages for [`Handle::received`].
    ///
    /// # Errors
    /// As [`Simulator::start`].
    pub fn start_keeping(options: Options, keep: usize) -> io::Result<Handle> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let runner = Runner::new(options, keep, woken)?;
        let shared = runner.shared();
        let address = runner.address();
        let thread = std::thread::Builder::new().name("modem".to_owned()).spawn(move || runner.run())?;
        Ok(Handle { shared, wake, thread: Some(thread), address })
    }
}

impl Handle {
    /// Carries out an order.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn order(&self, order: Order) -> Result<(), String> {
        let done = self.shared.engine.lock().order(self.shared.now(), order);
        self.nudge();
        done
    }

    /// Carries out a line of the control language, and gives its answer (also `state`, `counters`, `received`).
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn control(&self, line: &str) -> Result<String, String> {
        let answer = self.shared.obey(line);
        self.nudge();
        match answer.strip_prefix("error: ") {
            Some(sentence) => Err(sentence.to_owned()),
            None => Ok(answer.strip_suffix("ok").unwrap_or(&answer).trim_end().to_owned()),
        }
    }

    fn nudge(&self) {
        // A full pipe has woken it already.
        let _ = (&self.wake).write(&[1]);
    }

    /// Messages that phones have received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().list.iter().cloned().collect()
    }

    /// Takes the received messages out.
    pub fn take_received(&self) -> Vec<Received> {
        let mut kept = self.shared.received.lock();
        kept.gone += kept.list.len() as u64;
        kept.list.drain(..).collect()
    }

    /// Messages behind the first `n` since the start, as far as they are kept; and how many there have been: the next `n`.
    #[must_use]
    pub fn received_after(&self, n: u64) -> (Vec<Received>, u64) {
        let kept = self.shared.received.lock();
        let fresh = kept.list.iter().skip(n.saturating_sub(kept.gone) as usize).cloned().collect();
        (fresh, kept.gone + kept.list.len() as u64)
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.engine.lock().counters()
    }

    /// How the modem is.
    #[must_use]
    pub fn state(&self) -> EngineState {
        self.shared.engine.lock().state()
    }

    /// The address of a TCP line.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Counters whenever they change.
    #[must_use]
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Counters> {
        self.shared.counters.subscribe()
    }

    /// Waits until `enough` of the counters; false when `within` is over first.
    pub async fn wait_until(&self, within: Duration, mut enough: impl FnMut(&Counters) -> bool) -> bool {
        let mut watch = self.watch();
        tokio::time::timeout(within, async { watch.wait_for(|c| enough(c)).await.is_ok() }).await.unwrap_or(false)
    }

    /// Waits until phones have received `n` messages since the start, and gives all that are kept; `None` when `within` is over first.
    pub async fn wait_received(&self, n: usize, within: Duration) -> Option<Vec<Received>> {
        self.wait_until(within, |c| c.received >= n as u64).await.then(|| self.received())
    }

    /// [`Handle::wait_until`] for a thread.
    pub fn wait_until_blocking(&self, within: Duration, mut enough: impl FnMut(&Counters) -> bool) -> bool {
        let end = Instant::now() + within;
        let mut changes = self.shared.changed.0.lock();
        loop {
            if enough(&self.shared.counters.borrow()) {
                return true;
            }
            if self.shared.changed.1.wait_until(&mut changes, end).timed_out() {
                return enough(&self.shared.counters.borrow());
            }
        }
    }

    /// [`Handle::wait_received`] for a thread.
    pub fn wait_received_blocking(&self, n: usize, within: Duration) -> Option<Vec<Received>> {
        self.wait_until_blocking(within, |c| c.received >= n as u64).then(|| self.received())
    }

    /// Waits until somebody stops it by `quit` on the control socket.
    pub async fn wait_stopped(&self) {
        // The sender lives in what this handle shares: it cannot be gone.
        let _ = self.shared.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// [`Handle::wait_stopped`] for a thread; false when `within` is over first.
    #[must_use]
    pub fn wait_stopped_blocking(&self, within: Duration) -> bool {
        let end = Instant::now() + within;
        let mut changes = self.shared.changed.0.lock();
        while !*self.shared.ended.borrow() {
            if self.shared.changed.1.wait_until(&mut changes, end).timed_out() {
                break;
            }
        }
        drop(changes);
        *self.shared.ended.borrow()
    }

    /// Unplugs and ends it; the link goes.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        *self.shared.stopped.lock() = true;
        self.nudge();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("address", &self.address).finish_non_exhaustive()
    }
}
