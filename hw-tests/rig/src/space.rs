//! A network namespace without a name, and everything that lives in it.
//!
//! Contract: one thread holds the namespace and starts every program of the rig. Programs are started with `PR_SET_PDEATHSIG`, which the
//! kernel ties to that thread: whatever becomes of the rig, a `kill -9` included, its programs end and the namespace with its bridge and
//! taps is gone. Nothing is left behind, and so nothing has to be cleaned.
//!
//! Failure classes: without root there is no namespace ([`Error::Setting`] says so); a program of the host is missing or refuses.

use crate::{Error, Result};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

struct Inner {
    jobs: Option<mpsc::Sender<Job>>,
    keeper: Option<JoinHandle<()>>,
    door: File,
    path: PathBuf,
}

/// See the module. Clones are the same namespace; it goes with the last of them and the last program in it.
#[derive(Clone)]
pub struct Space(Arc<Inner>);

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Space").field(&self.0.path).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(keeper) = self.keeper.take() {
            // The last clone may go in a job of the keeper itself.
            if keeper.thread().id() != std::thread::current().id() {
                let _ = keeper.join();
            }
        }
    }
}

impl Space {
    /// Makes one with its loopback up.
    ///
    /// # Errors
    /// No root, or the kernel refuses.
    pub fn new() -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            let what = "two machines in QEMU need root: for network namespaces, taps and a bridge".to_owned();
            return Err(Error::Setting { what });
        }
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        let keeper = std::thread::Builder::new().name("space".to_owned()).spawn(move || {
            let opened = unshare(CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| std::fs::read_link("/proc/thread-self"))
                .and_then(|thread| {
                    let path = PathBuf::from("/proc").join(thread).join("ns/net");
                    File::open(&path).map(|door| (door, path))
                });
            // The maker waits for this one word.
            if ready.send(opened).is_ok() {
                inbox.into_iter().for_each(|job| job());
            }
        });
        let keeper = keeper.map_err(Error::io("a thread for the namespace"))?;
        let opened = made.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
        let (door, path) = opened.map_err(Error::io("a network namespace"))?;
        let space = Self(Arc::new(Inner { jobs: Some(jobs), keeper: Some(keeper), door, path }));
        space.tool("ip", &["link", "set", "lo", "up"])?;
        Ok(space)
    }

    /// A path by which other processes enter: `nsenter --net=PATH program`.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.0.path
    }

    /// Brings the calling thread into it; threads that it starts from then on are in it too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(&self) -> Result<()> {
        setns(self.0.door.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from).map_err(Error::io("enter the namespace"))
    }

    /// Does something inside, in a thread of its own, and waits for it.
    ///
    /// # Errors
    /// The kernel refuses.
    ///
    /// # Panics
    /// The work panicked.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                self.enter()?;
                Ok(work())
            });
            made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A job of the keeper's thread.
    fn keep<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (give, take) = mpsc::channel();
        let gone = || Error::io("the namespace's thread")(io::Error::other("it ended"));
        let jobs = self.0.jobs.as_ref().ok_or_else(gone)?;
        let job = Box::new(move || {
            let _ = give.send(job());
        });
        jobs.send(job).map_err(|_| gone())?;
        take.recv().map_err(|_| gone())
    }

    /// Starts a program inside that ends when the rig does.
    ///
    /// # Errors
    /// It cannot be started, or `setpriv` (util-linux) is missing.
    pub fn start(&self, program: &str, words: &[String], log: &std::path::Path) -> Result<Child> {
        let out = File::options().create(true).append(true).open(log).map_err(Error::io(log.display().to_string()))?;
        let err = out.try_clone().map_err(Error::io(log.display().to_string()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(words);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = self.keep(move || command.spawn())?.map_err(Error::io(format!("start {program} by setpriv")))?;
        // Until `setpriv` has done its work the program would survive the rig.
        let exe = format!("/proc/{}/exe", child.id());
        let own = std::env::current_exe().ok();
        for _ in 0..2000 {
            match std::fs::read_link(&exe) {
                Ok(now) if now.ends_with("setpriv") || Some(&now) == own.as_ref() => std::thread::sleep(Duration::from_millis(1)),
                // It runs, or has ended already.
                _ => break,
            }
        }
        Ok(child)
    }

    /// Runs a tool inside that must succeed; gives what it printed.
    ///
    /// # Errors
    /// It is missing or refuses.
    pub fn tool(&self, program: &str, words: &[&str]) -> Result<String> {
        let what = format!("{program} {}", words.join(" "));
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null());
        let output = self.keep(move || command.output())?.map_err(Error::io(what.clone()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Tool { what, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
    }
}

/// Ends a program that this process started, and waits for it.
pub(crate) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::{Space, end};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn inside_is_another_network_and_it_goes_with_its_programs() {
        let Ok(space) = Space::new() else {
            assert!(!nix::unistd::geteuid().is_root(), "root can make one");
            return;
        };
        space.tool("ip", &["addr", "add", "10.9.0.1/24", "dev", "lo"]).unwrap();
        let (listener, at) = space
            .within(|| {
                let listener = TcpListener::bind("10.9.0.1:0").unwrap();
                let at = listener.local_addr().unwrap();
                (listener, at)
            })
            .unwrap();
        assert!(space.within(|| TcpStream::connect(at).is_ok()).unwrap());
        assert!(TcpListener::bind(at).is_err(), "outside that address is nobody's");
        drop(listener);

        let folder = tempfile::tempdir().unwrap();
        let mut child = space.start("sleep", &["600".to_owned()], &folder.path().join("log")).unwrap();
        let pid = child.id();
        drop(space);
        // The keeper has ended, and with it the program.
        assert!(!child.wait().unwrap().success(), "process {pid} was killed");
        end(&mut child);
    }
}
