//! An operator's service centre that is not there, written octet by octet from SMPP 3.4 alone, without the product's codec.
//!
//! [`wire`] holds the operations for tests that play the centre step by step; [`Centre`] is a whole one that lets in whoever has
//! the password, keeps what its phones received, and sends what they write. It makes a receipt for each part when asked.
//!
//! What cannot be (no address to listen on) is an error at the start; a line that ends or carries nonsense ends its session only.

pub mod wire;

use crate::{encode, encode_ucs2};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use wire::{ANSWER, BIND_TRANSCEIVER, DELIVER_SM, ENQUIRE_LINK, SUBMIT_SM, Session, SubmitSm, UNBIND};

/// SMPP 3.4 5.1.3: `ESME_RINVBNDSTS`, `ESME_RINVPASWD`, `ESME_RINVCMDID`.
const NOT_BOUND: u32 = 0x04;
const WRONG_PASSWORD: u32 = 0x0E;
const NO_SUCH_COMMAND: u32 = 0x03;

/// A message that a phone received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Whose phone.
    pub number: String,
    /// What it shows.
    pub text: String,
    /// Parts that it came in.
    pub parts: u8,
}

/// Parts that came, until all of a message are there.
#[derive(Debug)]
struct Part {
    number: String,
    reference: u8,
    parts: u8,
    place: u8,
    text: String,
}

#[derive(Debug, Default)]
struct Book {
    received: Vec<Text>,
    open: Vec<Part>,
    /// Statuses of the next `submit_sm`.
    refusals: VecDeque<u32>,
    /// What phones write: `deliver_sm` that nobody took yet, by its `sequence_number`.
    outbound: Vec<(u32, Vec<u8>)>,
    /// How often a `deliver_sm` was taken.
    taken: usize,
    binds: usize,
}

#[derive(Debug)]
struct Shared {
    name: String,
    password: String,
    book: Mutex<Book>,
    news: Notify,
    cut: Notify,
    sequence: AtomicU32,
}

/// A service centre on an address of this machine; it ends when it is dropped.
#[derive(Debug)]
pub struct Centre {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Centre {
    /// Starts one that lets in whoever says this name (`system_id`) and password.
    ///
    /// # Errors
    /// No address to listen on, or no thread to be had.
    pub fn start(name: &str, password: &str) -> Result<Self, Error> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            password: password.to_owned(),
            book: Mutex::default(),
            news: Notify::new(),
            cut: Notify::new(),
            sequence: AtomicU32::new(1),
        });
        let (stop, mut stopped) = mpsc::channel::<()>(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = shared.clone();
        let thread = std::thread::Builder::new().name("smsc".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _ = stopped.recv() => {}
                    () = serve(served, listener) => {}
                }
            });
        })?;
        Ok(Self { shared, address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What phones received, in this order.
    #[must_use]
    pub fn received(&self) -> Vec<Text> {
        self.shared.book.lock().received.clone()
    }

    /// The next `submit_sm` are answered with these statuses (SMPP 3.4 5.1.3), without a body; 0 takes one.
    pub fn refuse(&self, statuses: &[u32]) {
        self.shared.book.lock().refusals.extend(statuses);
    }

    /// A phone writes; it is shown again in each session until it is taken.
    ///
    /// # Panics
    /// The text does not fit one message.
    pub fn write(&self, from: &str, text: &str) {
        let body = match encode(text) {
            Some(codes) => wire::deliver_sm(from, 0, 0, &codes, &[]),
            None => wire::deliver_sm(from, 0, 8, &encode_ucs2(text), &[]),
        };
        self.shared.show(body);
    }

    /// How many messages and receipts were taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.shared.book.lock().taken
    }

    /// How often somebody was let in.
    #[must_use]
    pub fn binds(&self) -> usize {
        self.shared.book.lock().binds
    }

    /// Ends the session under way, without a word.
    pub fn cut(&self) {
        self.shared.cut.notify_waiters();
    }
}

impl Drop for Centre {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shared.cut.notified() => {}
                // A line that ended is no fault of the centre.
                _ = session(&shared, Session { stream }) => {}
            }
        });
    }
}

async fn session(shared: &Shared, mut session: Session) -> Result<(), Error> {
    let first = session.read().await?;
    if first.id != BIND_TRANSCEIVER {
        return session.write(first.id | ANSWER, NOT_BOUND, first.sequence, &[]).await;
    }
    if wire::credentials(&first.body) != Some((shared.name.clone(), shared.password.clone())) {
        return session.write(BIND_TRANSCEIVER | ANSWER, WRONG_PASSWORD, first.sequence, &[]).await;
    }
    session.write(BIND_TRANSCEIVER | ANSWER, 0, first.sequence, b"SMSC\0").await?;
    shared.book.lock().binds += 1;
    // An operation must not be left half read when there is something to say: a task of its own reads.
    let (reader, mut writer) = session.stream.into_split();
    let (came, mut operations) = mpsc::channel(16);
    let reading = tokio::spawn(async move {
        let mut session = Session { stream: reader };
        while let Ok(operation) = session.read().await {
            if came.send(operation).await.is_err() {
                return;
            }
        }
    });
    let mut shown: Vec<u32> = Vec::new();
    loop {
        let news = shared.news.notified();
        let waiting: Vec<(u32, Vec<u8>)> =
            shared.book.lock().outbound.iter().filter(|(n, _)| !shown.contains(n)).cloned().collect();
        for (sequence, body) in waiting {
            shown.push(sequence);
            writer.write_all(&wire::octets(DELIVER_SM, 0, sequence, &body)).await?;
        }
        let operation = tokio::select! {
            () = news => continue,
            operation = operations.recv() => match operation {
                Some(operation) => operation,
                None => break,
            },
        };
        let answer = match operation.id {
            SUBMIT_SM => Some(shared.submitted(&operation.body)),
            ENQUIRE_LINK | UNBIND => Some((0, Vec::new())),
            id if id & ANSWER != 0 => {
                if id == DELIVER_SM | ANSWER && operation.status == 0 {
                    shared.took(operation.sequence);
                }
                None
            }
            _ => Some((NO_SUCH_COMMAND, Vec::new())),
        };
        if let Some((status, body)) = answer {
            writer.write_all(&wire::octets(operation.id | ANSWER, status, operation.sequence, &body)).await?;
        }
        if operation.id == UNBIND {
            break;
        }
    }
    reading.abort();
    Ok(())
}

impl Shared {
    fn show(&self, body: Vec<u8>) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.book.lock().outbound.push((sequence, body));
        self.news.notify_waiters();
    }

    fn took(&self, sequence: u32) {
        let mut book = self.book.lock();
        let before = book.outbound.len();
        book.outbound.retain(|(n, _)| *n != sequence);
        book.taken += before - book.outbound.len();
    }

    /// A part for a phone: its status, and its name here (SMPP 3.4 4.4.2).
    fn submitted(&self, body: &[u8]) -> (u32, Vec<u8>) {
        // SMPP 3.4 5.1.3: ESME_RINVMSGLEN
        let Some(sm) = SubmitSm::read(body) else { return (0x01, Vec::new()) };
        let mut book = self.book.lock();
        if let Some(status) = book.refusals.pop_front().filter(|status| *status != 0) {
            return (status, Vec::new());
        }
        let ((reference, parts, place), text) = sm.part();
        let number = sm.number();
        book.open.push(Part { number: number.clone(), reference, parts, place, text });
        let same = |p: &Part| p.number == number && p.reference == reference && p.parts == parts;
        let mut found: Vec<(u8, String)> = book.open.iter().filter(|p| same(p)).map(|p| (p.place, p.text.clone())).collect();
        found.sort();
        found.dedup_by_key(|(place, _)| *place);
        if found.len() == usize::from(parts) {
            book.open.retain(|p| !same(p));
            let text = found.into_iter().map(|(_, text)| text).collect();
            book.received.push(Text { number: number.clone(), text, parts });
        }
        drop(book);
        let id = format!("{:X}", self.sequence.fetch_add(1, Ordering::Relaxed));
        if sm.registered & 1 != 0 {
            // SMPP 3.4 appendix B; esm_class 0x04 is a receipt.
            let words =
                format!("id:{id} sub:001 dlvrd:001 submit date:2611220300 done date:2611220301 stat:DELIVRD err:000 text:");
            self.show(wire::deliver_sm(&number, 0x04, 0, words.as_bytes(), &[]));
        }
        let mut name = id.into_bytes();
        name.push(0);
        (0, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn operation(line: &mut std::net::TcpStream) -> (u32, u32, Vec<u8>) {
        let mut head = [0; 16];
        line.read_exact(&mut head).unwrap();
        let word = |n: usize| u32::from_be_bytes(head[n..n + 4].try_into().unwrap());
        let mut body = vec![0; word(0) as usize - 16];
        line.read_exact(&mut body).unwrap();
        (word(4), word(8), body)
    }

    #[test]
    fn it_lets_in_by_password_joins_parts_and_shows_until_taken() {
        let centre = Centre::start("school", "secret").unwrap();
        let mut line = std::net::TcpStream::connect(centre.address()).unwrap();
        line.write_all(&wire::octets(BIND_TRANSCEIVER, 0, 1, b"school\0wrong\0\0\x34\0\0\0")).unwrap();
        assert_eq!(operation(&mut line), (BIND_TRANSCEIVER | ANSWER, WRONG_PASSWORD, vec![]));
        let mut line = std::net::TcpStream::connect(centre.address()).unwrap();
        line.write_all(&wire::octets(BIND_TRANSCEIVER, 0, 1, b"school\0secret\0\0\x34\0\0\0")).unwrap();
        assert_eq!(operation(&mut line), (BIND_TRANSCEIVER | ANSWER, 0, b"SMSC\0".to_vec()));
        centre.refuse(&[0x0B]);
        for (place, status) in [(2u8, 0x0B), (2, 0), (1, 0)] {
            let mut body = b"\0\0\0\0\x01\x018613800138000\0\x40\0\0\0\0\0\0\x08\0\x08\x05\0\x03\x09\x02".to_vec();
            body.extend_from_slice(&[place, 0x6C, 0x34 + place]);
            line.write_all(&wire::octets(SUBMIT_SM, 0, 2, &body)).unwrap();
            let (id, found, _) = operation(&mut line);
            assert_eq!((id, found), (SUBMIT_SM | ANSWER, status));
        }
        let text = Text { number: "+8613800138000".into(), text: "\u{6C35}\u{6C36}".into(), parts: 2 };
        assert_eq!(centre.received(), [text]);
        centre.write("+8613800138000", "水");
        let (id, _, body) = operation(&mut line);
        assert_eq!((id, &body[body.len() - 3..]), (DELIVER_SM, &[2, 0x6C, 0x34][..]));
        assert_eq!((centre.taken(), centre.binds()), (0, 1));
    }

    #[test]
    fn a_body_cut_short_anywhere_is_refused() {
        let body = b"\0\0\0\0\x01\x018613800138000\0\x40\0\0\0\0\0\0\x08\0\x02\x6C\x34";
        assert!(SubmitSm::read(body).is_some());
        for end in 0..body.len() {
            assert_eq!(SubmitSm::read(&body[..end]), None, "{end}");
        }
    }
}
