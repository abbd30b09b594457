//! The patch panel: serial cables between nodes and modems, which can be pulled, swapped, garbled and slowed down.
//!
//! Contract: each end is a Unix socket (a serial port of QEMU, a simulated modem) to which the panel connects, again and again, so that either
//! side may end and come back. What finds nobody is lost, as on a line without flow control. Faults act on what comes *from* an
//! end.
//!
//! The firmware of a virtual machine (OVMF) takes the first two serial ports for consoles, and heartbeats for keys: a machine was found in
//! the firmware's setup, making memory disks. Firmware of servers listens where it is told to. So an end that is marked ([`Patch::firmware`]) hears only while its own
//! program speaks: while it sends frames, which end with a zero byte, as no console's text does.
//!
//! Failure classes: none after the start.

use crate::timeline::{Timeline, lock};
use crate::{Error, Result};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(50);
/// What a full socket may hold up its writer.
const WRITE_LIMIT: Duration = Duration::from_millis(200);

/// What a cable does to bytes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Wire {
    /// Carries them.
    #[default]
    Whole,
    /// Carries nothing.
    Cut,
    /// Changes each byte with this probability.
    Garbled(f64),
    /// Carries so many bytes a second.
    Slow(u32),
}

struct End {
    socket: PathBuf,
    stream: Mutex<Option<UnixStream>>,
    /// Where its bytes go.
    to: Mutex<Option<usize>>,
    wire: Mutex<Wire>,
    /// A firmware would take what comes for keys.
    firmware: AtomicBool,
    /// When its program was heard last.
    spoke: Mutex<Option<Instant>>,
    /// Bytes that a cut cable did not carry.
    lost: AtomicU64,
}

/// A program that is silent for so long does not listen any more either.
const SPEAKS_WITHIN: Duration = Duration::from_millis(1500);

impl End {
    /// Somebody is there who takes bytes for what they are.
    fn hears(&self) -> bool {
        if !self.firmware.load(Ordering::Relaxed) {
            return true;
        }
        let spoke = &mut *lock(&self.spoke);
        if spoke.is_some_and(|at| at.elapsed() < SPEAKS_WITHIN) {
            return true;
        }
        // What waits on the line is lost with the connection: the firmware of the next start must not find it.
        if spoke.take().is_some()
            && let Some(stream) = &*lock(&self.stream)
        {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        false
    }
}

/// See the module.
pub struct Patch {
    ends: Arc<Vec<End>>,
    over: Arc<AtomicBool>,
    timeline: Timeline,
}

impl std::fmt::Debug for Patch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patch").field("ends", &self.ends.len()).finish_non_exhaustive()
    }
}

impl Patch {
    /// A panel with these ends; nothing is plugged yet.
    ///
    /// # Errors
    /// No threads.
    pub fn new(sockets: Vec<PathBuf>, timeline: &Timeline) -> Result<Self> {
        let end = |socket| End {
            socket,
            stream: Mutex::default(),
            to: Mutex::default(),
            wire: Mutex::default(),
            firmware: AtomicBool::new(false),
            spoke: Mutex::default(),
            lost: AtomicU64::new(0),
        };
        let ends: Arc<Vec<End>> = Arc::new(sockets.into_iter().map(end).collect());
        let over = Arc::new(AtomicBool::new(false));
        for index in 0..ends.len() {
            let (ends, over) = (ends.clone(), over.clone());
            std::thread::Builder::new()
                .name(format!("serial {index}"))
                .spawn(move || carry(&ends, index, &over))
                .map_err(Error::io("a thread for a serial cable"))?;
        }
        Ok(Self { ends, over, timeline: timeline.clone() })
    }

    /// A cable between two ends; whatever was plugged into them is pulled.
    pub fn plug(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            if let Some(old) = lock(&self.ends[from].to).replace(to)
                && old != to
            {
                *lock(&self.ends[old].to) = None;
            }
        }
        self.timeline.note("patch", &format!("{a} is plugged to {b}"));
    }

    /// Whether the firmware behind an end would take what comes for keys.
    pub fn firmware(&self, end: usize, listens: bool) {
        self.ends[end].firmware.store(listens, Ordering::Relaxed);
    }

    /// What happens to bytes from an end.
    pub fn wire(&self, end: usize, wire: Wire) {
        *lock(&self.ends[end].wire) = wire;
        self.timeline.note("patch", &format!("from {end}: {wire:?}"));
    }

    /// How many bytes from an end a cut cable did not carry.
    #[must_use]
    pub fn lost(&self, end: usize) -> u64 {
        self.ends[end].lost.load(Ordering::Relaxed)
    }
}

impl Drop for Patch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for end in self.ends.iter() {
            if let Some(stream) = &*lock(&end.stream) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

/// Reads from one end as long as the panel is there.
fn carry(ends: &[End], index: usize, over: &AtomicBool) {
    let mut bytes = [0; 1024];
    while !over.load(Ordering::Relaxed) {
        let Ok(mut reading) = UnixStream::connect(&ends[index].socket) else {
            // The pace of trying.
            std::thread::sleep(RETRY);
            continue;
        };
        let Ok(writing) = reading.try_clone() else { continue };
        let _ = writing.set_write_timeout(Some(WRITE_LIMIT));
        *lock(&ends[index].stream) = Some(writing);
        while let Ok(count) = reading.read(&mut bytes)
            && count > 0
            && !over.load(Ordering::Relaxed)
        {
            pass(ends, index, &mut bytes[..count]);
        }
        *lock(&ends[index].stream) = None;
    }
}

fn pass(ends: &[End], from: usize, bytes: &mut [u8]) {
    if bytes.contains(&0) {
        *lock(&ends[from].spoke) = Some(Instant::now());
    }
    match *lock(&ends[from].wire) {
        Wire::Whole => {}
        Wire::Cut => {
            ends[from].lost.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            return;
        }
        Wire::Garbled(share) => {
            for byte in bytes.iter_mut().filter(|_| rand::random::<f64>() < share) {
                *byte ^= rand::random_range(1..=255u8);
            }
        }
        // The time that the bytes are on the wire.
        Wire::Slow(rate) => std::thread::sleep(Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate.max(1)))),
    }
    let Some(to) = *lock(&ends[from].to) else { return };
    if !ends[to].hears() {
        return;
    }
    if let Some(stream) = &mut *lock(&ends[to].stream) {
        let _ = stream.write_all(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{Patch, Wire};
    use crate::Timeline;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    fn accept(listener: &UnixListener) -> UnixStream {
        let stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn read(stream: &mut UnixStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn cables_carry_cut_garble_and_swap_and_ends_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let timeline = Timeline::begin(folder.path()).quiet();
        let sockets: Vec<_> = (0..3).map(|i| folder.path().join(format!("end{i}"))).collect();
        let listeners: Vec<_> = sockets.iter().map(|s| UnixListener::bind(s).unwrap()).collect();
        let patch = Patch::new(sockets, &timeline).unwrap();
        let mut ends: Vec<_> = listeners.iter().map(accept).collect();
        // A connection is known to the panel a moment after it is accepted here: ask until it carries.
        let meet = |ends: &mut Vec<UnixStream>, from: usize, to: usize| {
            ends[to].set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut byte = [0];
            let mut tries = 0;
            loop {
                ends[from].write_all(b"?").unwrap();
                if ends[to].read(&mut byte).is_ok_and(|n| n == 1) {
                    break;
                }
                tries += 1;
                assert!(tries < 400, "{from} never reaches {to}");
            }
            while ends[to].read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
            ends[to].set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        };
        patch.plug(0, 1);
        meet(&mut ends, 0, 1);
        meet(&mut ends, 1, 0);
        ends[0].write_all(b"hello").unwrap();
        assert_eq!(read(&mut ends[1], 5), b"hello");

        // A firmware that would take them for keys hears nothing before its program speaks.
        patch.firmware(1, true);
        ends[1].write_all(b"\x1b[2Jloading").unwrap();
        assert_eq!(read(&mut ends[0], 11), b"\x1b[2Jloading");
        ends[0].write_all(b"keys").unwrap();
        ends[1].set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(ends[1].read(&mut [0; 8]).is_err(), "keys");
        ends[1].set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        ends[1].write_all(b"frame\0").unwrap();
        assert_eq!(read(&mut ends[0], 6), b"frame\0");
        ends[0].write_all(b"hello").unwrap();
        assert_eq!(read(&mut ends[1], 5), b"hello");
        patch.firmware(1, false);

        patch.wire(0, Wire::Garbled(1.0));
        ends[0].write_all(b"hello").unwrap();
        assert!(read(&mut ends[1], 5).iter().zip(b"hello").all(|(a, b)| a != b));
        patch.wire(0, Wire::Cut);
        ends[0].write_all(b"lost").unwrap();
        ends[1].write_all(b"back").unwrap();
        assert_eq!(read(&mut ends[0], 4), b"back", "the other direction still carries");
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while patch.lost(0) < 4 {
            assert!(std::time::Instant::now() < end, "the panel reads what it does not carry");
            std::thread::yield_now();
        }
        patch.wire(0, Wire::Slow(1000));
        ends[0].write_all(b"0123456789").unwrap();
        assert_eq!(read(&mut ends[1], 10), b"0123456789", "what was cut is lost for good");
        patch.wire(0, Wire::Whole);

        patch.plug(0, 2);
        meet(&mut ends, 0, 2);
        ends[1].write_all(b"nobody").unwrap();
        ends[2].write_all(b"x").unwrap();
        assert_eq!(read(&mut ends[0], 1), b"x");

        ends[2].shutdown(std::net::Shutdown::Both).unwrap();
        ends[2] = accept(&listeners[2]);
        meet(&mut ends, 0, 2);
    }
}
