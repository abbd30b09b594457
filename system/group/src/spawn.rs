//! Where children are made: one thread that lives as long as the group.
//!
//! Contract: prctl(PR_SET_PDEATHSIG) sends its signal when the *thread* that made the child ends, not the process. Worker
//! threads of a runtime may end (a worker that blocks becomes a pool thread, which ends after ten idle seconds), so children are made
//! here, and die with the group.
//!
//! The lock descriptor of the storage must survive exec; a duplicate without FD_CLOEXEC exists only while a child is made, under
//! [`SPAWN`]. A process that another thread makes in that moment without taking the lock may inherit it, too: it then holds the
//! storage's lock until it ends, which is safe (the peer waits) and short.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

/// Held while a descriptor without FD_CLOEXEC exists.
static SPAWN: Mutex<()> = Mutex::new(());

struct Order {
    command: Command,
    inherit: Option<Arc<OwnedFd>>,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Spawner(mpsc::SyncSender<Order>);

impl Spawner {
    /// # Errors
    /// No thread can be made.
    pub(crate) fn new(runtime: Handle) -> io::Result<Self> {
        let (sender, orders) = mpsc::sync_channel::<Order>(16);
        thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            let _runtime = runtime.enter();
            for Order { mut command, inherit, answer } in orders {
                let _ = answer.send(make(&mut command, inherit.as_deref()));
            }
        })?;
        Ok(Self(sender))
    }

    /// Makes a child.
    ///
    /// # Errors
    /// As the system says.
    pub(crate) async fn spawn(&self, command: Command, inherit: Option<Arc<OwnedFd>>) -> io::Result<Child> {
        let (answer, child) = oneshot::channel();
        let gone = || io::Error::other("the spawner thread ended");
        self.0.try_send(Order { command, inherit, answer }).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}

fn make(command: &mut Command, inherit: Option<&OwnedFd>) -> io::Result<Child> {
    let _alone = SPAWN.lock().unwrap_or_else(PoisonError::into_inner);
    // dup(2): "the new descriptor does not share the close-on-exec flag": it is off.
    let _inherited = inherit.map(rustix::io::dup).transpose()?;
    command.spawn()
}
