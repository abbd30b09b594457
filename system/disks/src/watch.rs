//! Changes of the arrays, told by the kernel.
//!
//! Contract: [`Machine::watch`] tells every change of what a person should know (degraded, a rebuild began, whole again, failed) once, also what
//! is wrong when the watch begins. Nothing is polled: md marks `/proc/mdstat` as changed (POLLPRI), which is read again only then.
//!
//! Failure classes: no md in the kernel.

use crate::{Action, Array, ArrayEvent, ArrayStatus, Error, Machine, Paths};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};

/// Events that wait for their reader.
const EVENTS_MAX: usize = 64;

/// Wakes when any array changed. A thread of its own waits: the file's changes are told by POLLPRI, on a descriptor that is always readable.
pub struct Changes {
    changed: Arc<Notify>,
    stop: Arc<OwnedFd>,
}

/// Reading it from the beginning says that everything up to now was seen.
fn rearm(file: &mut File) {
    let mut sink = Vec::new();
    if file.seek(SeekFrom::Start(0)).is_ok() {
        let _ = file.take(1 << 20).read_to_end(&mut sink);
    }
}

impl Changes {
    pub fn new(paths: &Paths) -> Result<Self, Error> {
        let path = paths.proc.join("mdstat");
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| Error::io("watch", &path)(error.into()))?;
        let (changed, stop) = (Arc::new(Notify::new()), Arc::new(stop));
        rearm(&mut file);
        let thread = std::thread::Builder::new().name("mdstat".into()).spawn({
            let (changed, stop) = (Arc::clone(&changed), Arc::clone(&stop));
            move || {
                loop {
                    let mut fds = [PollFd::new(&file, PollFlags::PRI), PollFd::new(&*stop, PollFlags::IN)];
                    match poll(&mut fds, None) {
                        Err(rustix::io::Errno::INTR) => continue,
                        Err(_) => return,
                        Ok(_) if !fds[1].revents().is_empty() => return,
                        Ok(_) => {}
                    }
                    rearm(&mut file);
                    changed.notify_one();
                }
            }
        });
        thread.map_err(Error::io("watch", &path))?;
        Ok(Self { changed, stop })
    }

    /// The next change since the last call.
    pub async fn next(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        // Ends the thread; a counter of one cannot be full.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
    }
}

fn what(status: &ArrayStatus) -> Option<&str> {
    status.action.as_ref().map(|action: &Action| action.what.as_str())
}

/// What a person should hear when the arrays changed from `old` to `new`.
fn events(old: &[ArrayStatus], new: &[ArrayStatus]) -> Vec<ArrayEvent> {
    let mut out = Vec::new();
    let of = |list: &[ArrayStatus], array: Array| list.iter().find(|status| status.array == array).cloned();
    for array in Array::ALL {
        match (of(old, array), of(new, array)) {
            (was, Some(now)) if !now.works() => {
                if was.is_none_or(|was| was.works()) {
                    out.push(ArrayEvent::Failed { array, state: now.state });
                }
            }
            (was, Some(now)) => {
                let before = was.as_ref().map_or(0, |was| was.degraded);
                if now.degraded > before {
                    out.push(ArrayEvent::Degraded { status: now.clone() });
                }
                let acted = was.as_ref().and_then(what);
                if what(&now).is_some() && what(&now) != acted {
                    out.push(ArrayEvent::Began { status: now.clone() });
                }
                let busy = was.as_ref().is_some_and(|was| was.degraded > 0 || what(was).is_some() || !was.works());
                if busy && now.degraded == 0 && what(&now).is_none() {
                    out.push(ArrayEvent::Whole { status: now });
                }
            }
            (Some(_), None) => out.push(ArrayEvent::Failed { array, state: String::new() }),
            (None, None) => {}
        }
    }
    out
}

impl Machine {
    /// Starts to watch: what is wrong now, then every change. Ends when the receiver is dropped.
    pub fn watch(&self) -> Result<mpsc::Receiver<ArrayEvent>, Error> {
        let changes = Changes::new(&self.paths)?;
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let machine = self.clone();
        tokio::spawn(async move {
            let mut old = Vec::new();
            loop {
                let new = machine.arrays();
                for event in events(&old, &new) {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
                old = new;
                tokio::select! {
                    () = changes.next() => {}
                    () = sender.closed() => return,
                }
            }
        });
        Ok(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(degraded: u32, action: Option<&str>) -> ArrayStatus {
        let action = action.map(|what| Action { what: what.into(), done_bytes: 0, of_bytes: 0, bytes_s: 0 });
        ArrayStatus {
            array: Array::Mail,
            device: "/dev/md126".into(),
            bytes: 0,
            disks: 2,
            degraded,
            state: "active".into(),
            members: Vec::new(),
            action,
            mismatch_sectors: 0,
        }
    }

    fn told(old: &[ArrayStatus], new: &[ArrayStatus]) -> Vec<&'static str> {
        let word = |event: &ArrayEvent| match event {
            ArrayEvent::Degraded { .. } => "degraded",
            ArrayEvent::Began { .. } => "began",
            ArrayEvent::Whole { .. } => "whole",
            ArrayEvent::Failed { .. } => "failed",
        };
        events(old, new).iter().map(word).collect()
    }

    #[test]
    fn each_change_once() {
        let (whole, alone, filling) = (status(0, None), status(1, None), status(1, Some("recover")));
        let broken = ArrayStatus { state: "broken".into(), degraded: 1, ..whole.clone() };
        let one = std::slice::from_ref;
        assert_eq!(told(&[], one(&whole)), Vec::<&str>::new());
        assert_eq!(told(&[], one(&alone)), ["degraded"], "what is wrong at the beginning");
        assert_eq!(told(one(&whole), one(&alone)), ["degraded"]);
        assert_eq!(told(one(&alone), one(&alone)), Vec::<&str>::new());
        assert_eq!(told(one(&alone), one(&filling)), ["began"]);
        assert_eq!(told(one(&filling), one(&whole)), ["whole"]);
        assert_eq!(told(one(&status(0, Some("check"))), one(&whole)), ["whole"]);
        assert_eq!(told(one(&alone), one(&broken)), ["failed"]);
        assert_eq!(told(one(&broken), one(&broken)), Vec::<&str>::new());
        assert_eq!(told(one(&broken), one(&whole)), ["whole"]);
        assert_eq!(told(one(&whole), &[]), ["failed"]);
        assert_eq!(told(&[], &[]), Vec::<&str>::new());
    }
}
