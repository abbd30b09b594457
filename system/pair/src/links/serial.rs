//! Frames over the null-modem cable.
//!
//! Contract: the port is opened again for ever when it is missing or fails (a pseudo-terminal whose other side died says EIO, a pulled
//! USB adapter vanishes). Sending never waits: the newest frame takes the place of one that has not begun to leave. The modem
//! lines are read where there are any: a pseudo-terminal has none, and a cable of three wires never raises them, so low lines count
//! only after they were seen high.
//!
//! A modem in the place of the peer is recognised by its answers; while no frame comes, it is asked with `AT` now and then (a peer
//! takes that for garbage and drops it).

use super::News;
use crate::api::Text;
use crate::settings::SerialLink;
use parking_lot::Mutex;
use std::fs::OpenOptions;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio_serial::{ClearBuffer, SerialPort as _, SerialPortBuilderExt as _, SerialStream};
use twinpost_heartbeat::{Deframer, ENCODED_BYTES, FRAME_BYTES, Link, encode_serial};

const LINK: Link = Link::Serial;
/// Between two tries to open.
const AGAIN: Duration = Duration::from_millis(500);
/// Between two looks at the modem lines.
const LINES_EVERY: Duration = Duration::from_millis(200);
/// So many looks at silent lines, then a question for a modem (10 s).
const PROBE_AFTER: u32 = 50;
/// A line of a modem is looked at up to here.
const LINE_MAX: usize = 80;

/// Where frames leave.
#[derive(Clone, Default)]
pub(crate) struct SerialOut {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    next: Mutex<Option<[u8; ENCODED_BYTES]>>,
    filled: Notify,
    open: Mutex<bool>,
}

impl SerialOut {
    /// Puts the frame on its way; false while the port is closed.
    pub(crate) fn send(&self, frame: &[u8; FRAME_BYTES]) -> bool {
        if !*self.shared.open.lock() {
            return false;
        }
        *self.shared.next.lock() = Some(encode_serial(frame));
        self.shared.filled.notify_one();
        true
    }

    fn set_open(&self, open: bool) {
        *self.shared.open.lock() = open;
        *self.shared.next.lock() = None;
    }
}

fn open(set: &SerialLink) -> Result<SerialStream, String> {
    let port = std::fs::canonicalize(&set.port).map_err(|e| format!("{}: {e}", set.port.display()))?;
    // On a pseudo-terminal the mark of exclusive use outlives a killed owner.
    let exclusive = !port.starts_with("/dev/pts");
    if exclusive {
        keep_lines_up(&port);
    }
    let opened = tokio_serial::new(port.to_string_lossy(), set.baud).exclusive(exclusive).open_native_async();
    let mut stream = opened.map_err(|e| format!("{}: {e}", set.port.display()))?;
    // ENOTTY on a pseudo-terminal
    let _ = stream.write_data_terminal_ready(true);
    let _ = stream.write_request_to_send(true);
    let _ = stream.clear(ClearBuffer::All);
    Ok(stream)
}

/// The peer reads our lines as "has power". Without this they would fall when this daemon ends (HUPCL, termios(3)).
fn keep_lines_up(port: &Path) {
    use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};
    let flags = i32::try_from((rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK).bits()).unwrap_or(0);
    let Ok(file) = OpenOptions::new().read(true).write(true).custom_flags(flags).open(port) else { return };
    if let Ok(mut modes) = tcgetattr(&file) {
        modes.control_modes.remove(ControlModes::HUPCL);
        let _ = tcsetattr(&file, OptionalActions::Now, &modes);
    }
}

/// Reads and writes for ever.
pub(crate) async fn run(set: SerialLink, out: SerialOut, news: mpsc::Sender<News>) {
    let mut troubled = false;
    loop {
        match open(&set) {
            Ok(stream) => {
                if std::mem::take(&mut troubled) && news.send(News::Trouble { link: LINK, what: None }).await.is_err() {
                    return;
                }
                out.set_open(true);
                let mut wire = Wire::new(stream, &out, &news);
                let end = wire.carry().await;
                out.set_open(false);
                // What is not known is no evidence.
                if end.is_none() || news.send(News::Lines(true)).await.is_err() {
                    return;
                }
            }
            Err(e) => {
                if !troubled {
                    troubled = true;
                    let what = Text::new(
                        format!("cannot open the serial port: {e}; check the port's name and whether the adapter is plugged in"),
                        format!("无法打开串口：{e}；请检查端口名称和转接器是否插好"),
                    );
                    if news.send(News::Trouble { link: LINK, what: Some(what) }).await.is_err() {
                        return;
                    }
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

enum Moved {
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
}

/// Whatever moves first. (`readable` and `try_read` of the port do not forget a readiness that is over: waiting by them spins.)
async fn move_bytes(stream: &mut SerialStream, into: &mut [u8], leaving: Option<&(Vec<u8>, usize)>) -> Moved {
    poll_fn(|cx| {
        let mut buf = ReadBuf::new(into);
        if let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(cx, &mut buf) {
            return Poll::Ready(Moved::Read(read.map(|()| buf.filled().len())));
        }
        if let Some((block, at)) = leaving
            && let Poll::Ready(wrote) = Pin::new(&mut *stream).poll_write(cx, &block[*at..])
        {
            return Poll::Ready(Moved::Wrote(wrote));
        }
        Poll::Pending
    })
    .await
}

struct Wire<'a> {
    stream: SerialStream,
    out: &'a SerialOut,
    news: &'a mpsc::Sender<News>,
    deframer: Deframer,
    cut: u32,
    ear: ModemEar,
    /// Being sent, and how much of it has left.
    leaving: Option<(Vec<u8>, usize)>,
    seen_high: bool,
    lines: bool,
    quiet: u32,
}

impl<'a> Wire<'a> {
    fn new(stream: SerialStream, out: &'a SerialOut, news: &'a mpsc::Sender<News>) -> Self {
        Self {
            stream,
            out,
            news,
            deframer: Deframer::new(),
            cut: 0,
            ear: ModemEar::default(),
            leaving: None,
            seen_high: false,
            lines: true,
            quiet: 0,
        }
    }

    /// Until the port fails; `None` when the heart is gone.
    async fn carry(&mut self) -> Option<()> {
        let mut look = tokio::time::interval(LINES_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.leaving.is_none() {
                self.leaving = self.out.shared.next.lock().take().map(|block| (block.to_vec(), 0));
            }
            let writing = self.leaving.is_some();
            let mut bytes = [0; 512];
            let moved = tokio::select! {
                moved = move_bytes(&mut self.stream, &mut bytes, self.leaving.as_ref()) => moved,
                () = self.out.shared.filled.notified(), if !writing => continue,
                _ = look.tick() => {
                    self.look()?;
                    continue;
                }
            };
            match moved {
                Moved::Read(Ok(n)) if n > 0 => self.came(&bytes[..n])?,
                Moved::Wrote(Ok(n)) if n > 0 => {
                    if let Some((block, at)) = &mut self.leaving {
                        *at += n;
                        if *at >= block.len() {
                            self.leaving = None;
                        }
                    }
                }
                // EIO, or the end: the other side is gone.
                Moved::Read(_) | Moved::Wrote(_) => return Some(()),
            }
        }
    }

    fn came(&mut self, bytes: &[u8]) -> Option<()> {
        for &byte in bytes {
            if let Some(frame) = self.deframer.push(byte) {
                self.quiet = 0;
                let mut block = [0; FRAME_BYTES + 1];
                block[..FRAME_BYTES].copy_from_slice(&frame);
                self.tell(News::Block { link: LINK, bytes: block, length: FRAME_BYTES })?;
            }
            if let Some(line) = self.ear.push(byte) {
                self.tell(News::Modem(line))?;
            }
        }
        let cut = self.deframer.cut();
        if cut != self.cut {
            let blocks = cut.wrapping_sub(std::mem::replace(&mut self.cut, cut));
            self.tell(News::Cut { link: LINK, blocks })?;
        }
        Some(())
    }

    /// At the modem lines; and asks for a modem when nothing comes.
    fn look(&mut self) -> Option<()> {
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet.is_multiple_of(PROBE_AFTER) && self.leaving.is_none() {
            self.leaving = Some((b"\rAT\r".to_vec(), 0));
        }
        let read = [self.stream.read_data_set_ready(), self.stream.read_carrier_detect(), self.stream.read_clear_to_send()];
        let Some(high) = read.into_iter().filter_map(Result::ok).reduce(|one, other| one || other) else { return Some(()) };
        self.seen_high |= high;
        let lines = high || !self.seen_high;
        if lines != self.lines {
            self.lines = lines;
            self.tell(News::Lines(lines))?;
        }
        Some(())
    }

    fn tell(&self, news: News) -> Option<()> {
        match self.news.try_send(news) {
            Err(mpsc::error::TrySendError::Closed(_)) => None,
            _ => Some(()),
        }
    }
}

/// Listens for the lines of a modem (3GPP TS 27.007 4.1, ITU-T V.250 5.7).
#[derive(Debug, Default)]
struct ModemEar {
    line: Vec<u8>,
    spoilt: bool,
}

impl ModemEar {
    /// Takes a byte; a line that only a modem says when it ended one.
    fn push(&mut self, byte: u8) -> Option<String> {
        if byte != b'\r' && byte != b'\n' {
            self.spoilt |= !(b' '..=b'~').contains(&byte) || self.line.len() >= LINE_MAX;
            if !self.spoilt {
                self.line.push(byte);
            }
            return None;
        }
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.spoilt) {
            return None;
        }
        let known: [&[u8]; 6] = [b"OK", b"ERROR", b"RING", b"NO CARRIER", b"AT", b"NO DIALTONE"];
        let report = [&b"+C"[..], b"^", b"+Q"].iter().any(|head| line.starts_with(head)) && line.contains(&b':');
        (known.contains(&line.as_slice()) || report).then(|| String::from_utf8_lossy(&line).into_owned())
    }
}

/// Fuzz entry point: whatever comes over the cable.
pub fn fuzz(data: &[u8]) {
    let mut ear = ModemEar::default();
    for &byte in data {
        let _ = ear.push(byte);
        assert!(ear.line.len() <= LINE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hear(bytes: &[u8]) -> Vec<String> {
        let mut ear = ModemEar::default();
        bytes.iter().filter_map(|&byte| ear.push(byte)).collect()
    }

    #[test]
    fn a_modem_is_known_by_its_answers() {
        assert_eq!(hear(b"\rAT\r\r\nOK\r\n"), ["AT", "OK"]);
        assert_eq!(hear(b"\r\n+CREG: 1\r\n\r\n^RSSI:20\r\n"), ["+CREG: 1", "^RSSI:20"]);
        assert!(hear(b"\r\nhello\r\nOKAY\r\n").is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz(&data);
        }

        #[test]
        fn frames_are_no_modem(frame in proptest::array::uniform32(any::<u8>())) {
            let mut whole = [0; FRAME_BYTES];
            whole[..32].copy_from_slice(&frame);
            whole[32..].copy_from_slice(&frame);
            prop_assert!(hear(&encode_serial(&whole)).is_empty());
        }
    }
}
