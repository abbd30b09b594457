//! The hardware watchdog of a node, simulated: a Unix datagram socket that wants to be fed.
//!
//! Contract (as watchdog(4) has it): armed by the first datagram; each datagram feeds it; one that holds `V` disarms it. Not fed for
//! its time, it resets the node: SIGKILL for every process, and the node starts again as a machine does. It resets once; the
//! node's next start arms it anew.
//!
//! Failure classes: the socket cannot be made (said by [`Watchdog::bind`]). A rack that stood still itself first takes what was
//! sent meanwhile and only then looks at the clock.

use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The watchdog of one node.
#[derive(Debug)]
pub struct Watchdog {
    socket: UnixDatagram,
    path: PathBuf,
    timeout: Duration,
    armed: watch::Sender<bool>,
}

impl Watchdog {
    /// Makes the socket; one that a dead rack left is replaced.
    ///
    /// # Errors
    /// A sentence that names the socket.
    pub fn bind(path: &Path, timeout: Duration) -> Result<Self, String> {
        let _ = std::fs::remove_file(path);
        let socket = UnixDatagram::bind(path).map_err(|e| format!("cannot make the watchdog {}: {e}", path.display()))?;
        Ok(Self { socket, path: path.to_owned(), timeout, armed: watch::Sender::new(false) })
    }

    /// Tells whether it is armed.
    pub fn armed(&self) -> watch::Receiver<bool> {
        self.armed.subscribe()
    }

    /// Watches until it is stopped; `reset` is called when the node was not fed in time.
    pub async fn run(self, stop: CancellationToken, mut reset: impl AsyncFnMut()) {
        let mut buffer = [0; 64];
        let mut ends: Option<Instant> = None;
        loop {
            let far = Instant::now() + Duration::from_secs(3600);
            let fed = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                fed = self.socket.recv(&mut buffer) => fed,
                () = sleep_until(ends.unwrap_or(far)), if ends.is_some() => {
                    if let Ok(length) = self.socket.try_recv(&mut buffer) {
                        Ok(length)
                    } else {
                        ends = None;
                        self.armed.send_replace(false);
                        reset().await;
                        // What the dead had sent before its end does not arm the watchdog of the next life.
                        while self.socket.try_recv(&mut buffer).is_ok() {}
                        continue;
                    }
                }
            };
            match fed {
                Ok(length) if buffer[..length].contains(&b'V') => ends = None,
                Ok(_) => ends = Some(Instant::now() + self.timeout),
                Err(error) => {
                    tracing::debug!(%error, watchdog = %self.path.display(), "a feeding could not be taken");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            self.armed.send_if_modified(|armed| std::mem::replace(armed, ends.is_some()) != ends.is_some());
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Kept {
        _dir: tempfile::TempDir,
        path: PathBuf,
        armed: watch::Receiver<bool>,
        resets: Arc<AtomicU32>,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    fn kept(timeout: Duration) -> Kept {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("watchdog-a");
        let watchdog = Watchdog::bind(&path, timeout).expect("the folder is ours");
        let (armed, resets, stop) = (watchdog.armed(), Arc::new(AtomicU32::new(0)), CancellationToken::new());
        let count = resets.clone();
        let reset = move || {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(())
        };
        let task = tokio::spawn(watchdog.run(stop.clone(), reset));
        Kept { _dir: dir, path, armed, resets, stop, task }
    }

    fn node(path: &Path) -> UnixDatagram {
        let socket = UnixDatagram::unbound().expect("a socket");
        socket.connect(path).expect("the watchdog is there");
        socket
    }

    #[tokio::test]
    async fn not_fed_in_time_it_resets_once() {
        let mut kept = kept(Duration::from_millis(100));
        let node = node(&kept.path);
        node.send(b".").await.expect("fed");
        kept.armed.wait_for(|armed| *armed).await.expect("it watches");
        let began = Instant::now();
        kept.armed.wait_for(|armed| !*armed).await.expect("it watches");
        assert!(began.elapsed() > Duration::from_millis(60), "{:?}", began.elapsed());
        kept.stop.cancel();
        kept.task.await.expect("no panic");
        assert_eq!(kept.resets.load(Ordering::SeqCst), 1);
        assert!(!kept.path.exists());
    }

    #[tokio::test]
    async fn it_is_disarmed_by_the_magic_letter_and_never_armed_by_silence() {
        let mut kept = kept(Duration::from_millis(20));
        assert!(!*kept.armed.borrow());
        let node = node(&kept.path);
        node.send(b".").await.expect("fed");
        node.send(b"V").await.expect("fed");
        // Armed for so short a time that a look may miss it: the second is what counts.
        kept.armed.wait_for(|armed| !*armed).await.expect("it watches");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(kept.resets.load(Ordering::SeqCst), 0);
        node.send(b".").await.expect("fed");
        kept.armed.wait_for(|armed| *armed).await.expect("it watches");
        kept.armed.wait_for(|armed| !*armed).await.expect("it watches");
        kept.stop.cancel();
        kept.task.await.expect("no panic");
        assert_eq!(kept.resets.load(Ordering::SeqCst), 1);
    }
}
