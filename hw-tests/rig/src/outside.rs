//! Somebody else's mail server on the rig's LAN, and the name server that leads to it.
//!
//! Contract: every name under [`DOMAIN`] has one mail exchanger, and that is this server; nothing else has a name. The server takes what it is
//! given, asks for patience (451), or hangs up before its greeting, as it is told; what it took is kept with recipients and Message-ID, in the
//! order in which the last byte came. Message and commands are bounded; a client that says nothing for long is left.
//!
//! Failure classes: the ports cannot be had. No client's words do harm: [`fuzz`].

use crate::timeline::{Timeline, lock};
use crate::{Error, Result};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Its domain; names under it lead to it too.
pub const DOMAIN: &str = "outside.example";
/// Longest message that is read.
const MESSAGE_MOST: u64 = 16 << 20;
/// How long a client may say nothing.
const IDLE: Duration = Duration::from_secs(60);
/// How often the name server looks whether it should end.
const LOOK: Duration = Duration::from_millis(500);

/// How it treats mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Manner {
    /// Takes it.
    #[default]
    Takes,
    /// Answers 451 to each recipient.
    Defers,
    /// Hangs up at once.
    HangsUp,
}

/// A message that it took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Its sender, as MAIL said it.
    pub from: String,
    /// Its recipients, as RCPT said them.
    pub to: Vec<String>,
    /// Its Message-ID, without brackets.
    pub id: String,
}

#[derive(Debug, Default)]
struct State {
    manner: Mutex<Manner>,
    taken: Mutex<Vec<Taken>>,
    over: AtomicBool,
}

/// See the module.
#[derive(Debug)]
pub struct Outside {
    state: Arc<State>,
    at: SocketAddr,
}

impl Outside {
    /// Opens it at this address, ports 25 and 53; called in the network namespace in which it is.
    ///
    /// # Errors
    /// The ports cannot be had.
    pub fn serve(address: Ipv4Addr, timeline: &Timeline) -> Result<Self> {
        let listener = TcpListener::bind((address, 25)).map_err(Error::io("a port for the outside mail server"))?;
        let names = UdpSocket::bind((address, 53)).map_err(Error::io("a port for the name server"))?;
        names.set_read_timeout(Some(LOOK)).map_err(Error::io("the name server"))?;
        let (state, at) = (Arc::<State>::default(), SocketAddr::from((address, 25)));
        let (mail, told) = (state.clone(), timeline.clone());
        let accept = move || {
            for stream in listener.incoming() {
                if mail.over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if *lock(&mail.manner) == Manner::HangsUp {
                    continue;
                }
                let (state, timeline) = (mail.clone(), told.clone());
                let _ = std::thread::Builder::new().name("outside".to_owned()).spawn(move || {
                    let _ = stream.set_read_timeout(Some(IDLE));
                    let _ = stream.set_write_timeout(Some(IDLE));
                    let _ = converse(BufReader::new(&stream), &stream, &state, &|text| timeline.note("outside", text));
                });
            }
        };
        std::thread::Builder::new().name("outside".to_owned()).spawn(accept).map_err(Error::io("the outside mail server"))?;
        let over = state.clone();
        let resolve = move || {
            let mut question = [0; 512];
            while !over.over.load(Ordering::Relaxed) {
                if let Ok((count, client)) = names.recv_from(&mut question)
                    && let Some(reply) = answer(&question[..count], address)
                {
                    let _ = names.send_to(&reply, client);
                }
            }
        };
        std::thread::Builder::new().name("names".to_owned()).spawn(resolve).map_err(Error::io("the name server"))?;
        Ok(Self { state, at })
    }

    /// How it treats mail from now on.
    pub fn behave(&self, manner: Manner) {
        *lock(&self.state.manner) = manner;
    }

    /// What it took, oldest first.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        lock(&self.state.taken).clone()
    }

    /// Ends it; called in the network namespace in which it is.
    pub fn end(&self) {
        self.state.over.store(true, Ordering::Relaxed);
        // The listening thread waits for a connection.
        let _ = TcpStream::connect_timeout(&self.at, Duration::from_secs(1));
    }
}

/// One line of a client, without its end; none when it has gone.
fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if reader.take(4096).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned()))
}

/// RFC 5321, as much of it as a client that keeps to it needs.
fn converse(mut reader: impl BufRead, mut out: impl Write, state: &State, note: &dyn Fn(&str)) -> io::Result<()> {
    out.write_all(format!("220 mx.{DOMAIN} ESMTP\r\n").as_bytes())?;
    let (mut from, mut to) = (String::new(), Vec::new());
    while let Some(said) = line(&mut reader)? {
        let verb = said.get(..4).unwrap_or_default().to_ascii_uppercase();
        let path = || said.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned());
        let reply = match verb.as_str() {
            "EHLO" => format!("250-mx.{DOMAIN}\r\n250-8BITMIME\r\n250 SIZE {MESSAGE_MOST}"),
            "HELO" => format!("250 mx.{DOMAIN}"),
            "MAIL" => {
                (from, to) = (path().unwrap_or_default(), Vec::new());
                "250 2.1.0 go on".to_owned()
            }
            "RCPT" if *lock(&state.manner) != Manner::Takes => {
                note(&format!("{said}: 451"));
                "451 4.3.2 not now".to_owned()
            }
            "RCPT" if to.len() >= 100 => "452 4.5.3 too many".to_owned(),
            "RCPT" => {
                to.push(path().unwrap_or_default());
                "250 2.1.5 go on".to_owned()
            }
            "DATA" if to.is_empty() => "503 5.5.1 to whom?".to_owned(),
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                let Some(id) = message(&mut reader)? else { return Ok(()) };
                note(&format!("took {id} for {}", to.join(", ")));
                lock(&state.taken).push(Taken { from: std::mem::take(&mut from), to: std::mem::take(&mut to), id });
                "250 2.6.0 taken".to_owned()
            }
            "RSET" => {
                to.clear();
                "250 2.0.0 done".to_owned()
            }
            "NOOP" => "250 2.0.0 done".to_owned(),
            "QUIT" => {
                out.write_all(b"221 2.0.0 bye\r\n")?;
                return Ok(());
            }
            _ => "502 5.5.1 what?".to_owned(),
        };
        out.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}

/// Reads a message up to its dot; gives its Message-ID, or none when the client has gone before.
fn message(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let (mut id, mut read, mut head) = (String::new(), 0, true);
    while let Some(said) = line(reader)? {
        read += said.len() as u64 + 2;
        if read > MESSAGE_MOST {
            return Err(io::Error::other("the message is too long"));
        }
        if said == "." {
            return Ok(Some(id));
        }
        head &= !said.is_empty();
        if head
            && let Some((name, value)) = said.split_once(':')
            && name.eq_ignore_ascii_case("message-id")
        {
            value.trim().trim_start_matches('<').trim_end_matches('>').clone_into(&mut id);
        }
    }
    Ok(None)
}

/// RFC 1035 4.1: one question, answered with what is known here.
fn answer(question: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    const A: u16 = 1;
    const MX: u16 = 15;
    let head = question.get(..12)?;
    // A query with one question; EDNS (RFC 6891) may stand behind it.
    if head[2] & 0xf8 != 0 || head[4..6] != [0, 1] {
        return None;
    }
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // No compression in a question.
        if length > 63 {
            return None;
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let asked = u16::from_be_bytes([*question.get(at)?, *question.get(at + 1)?]);
    let end = at + 4;
    let name = labels.join(".");
    let known = name == DOMAIN || name.strip_suffix(DOMAIN).is_some_and(|before| before.ends_with('.'));
    let data = match asked {
        A if known => address.octets().to_vec(),
        // Preference 10; `mx` and a pointer to the name that was asked for.
        MX if known => vec![0, 10, 2, b'm', b'x', 0xc0, 12],
        _ => Vec::new(),
    };
    // RFC 1035 4.1.1: a response with authority, recursion as it was asked for and available; 3 is "no such name".
    let mut reply = vec![head[0], head[1], 0x84 | head[2] & 1, if known { 0x80 } else { 0x83 }];
    reply.extend([0, 1, 0, u8::from(!data.is_empty()), 0, 0, 0, 0]);
    reply.extend(question.get(12..end)?);
    if !data.is_empty() {
        reply.extend([0xc0, 12]);
        reply.extend(asked.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 60]);
        reply.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        reply.extend(data);
    }
    Some(reply)
}

/// For property tests: no bytes do harm, neither to the name server nor to the mail server.
pub fn fuzz(data: &[u8]) {
    let _ = answer(data, Ipv4Addr::LOCALHOST);
    let _ = converse(data, io::sink(), &State::default(), &|_| {});
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dialogue(state: &State, said: &str) -> Vec<String> {
        let mut out = Vec::new();
        converse(said.as_bytes(), &mut out, state, &|_| {}).unwrap();
        String::from_utf8(out).unwrap().lines().map(|line| line[..3].to_owned()).collect()
    }

    const MESSAGE: &str = "MAIL FROM:<a@school.example> SIZE=9\r\nRCPT TO:<b@outside.example>\r\nDATA\r\n\
                           From: a\r\nMessage-ID: <1@x>\r\n\r\nMessage-ID: <2@x>\r\n..\r\n.\r\nQUIT\r\n";

    #[test]
    fn a_message_is_taken_with_its_recipients_and_its_id() {
        let state = State::default();
        assert_eq!(dialogue(&state, MESSAGE), ["220", "250", "250", "354", "250", "221"]);
        let taken = Taken { from: "a@school.example".into(), to: vec!["b@outside.example".into()], id: "1@x".into() };
        assert_eq!(*lock(&state.taken), [taken]);
    }

    #[test]
    fn it_defers_when_it_is_told_to() {
        let state = State::default();
        *lock(&state.manner) = Manner::Defers;
        assert_eq!(
            dialogue(&state, "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@outside.example>\r\nDATA\r\n")[4..],
            ["250", "451", "503"]
        );
        assert!(lock(&state.taken).is_empty());
    }

    #[test]
    fn a_message_without_its_end_was_not_taken() {
        let state = State::default();
        dialogue(&state, MESSAGE.split_once("\r\n.\r\n").unwrap().0);
        assert!(lock(&state.taken).is_empty());
    }

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    #[test]
    fn names_under_the_domain_lead_here_and_others_nowhere() {
        let here = Ipv4Addr::new(10, 9, 0, 1);
        let reply = |name: &str, kind| answer(&question(name, kind), here).unwrap();
        let mx = reply("Outside.example", 15);
        assert_eq!((&mx[..4], mx[7]), (&[0xab, 0xcd, 0x85, 0x80][..], 1));
        assert!(mx.ends_with(&[0, 7, 0, 10, 2, b'm', b'x', 0xc0, 12]));
        assert!(reply("mx.outside.example", 1).ends_with(&[0, 4, 10, 9, 0, 1]));
        assert_eq!(reply("mx.outside.example", 28)[7], 0, "no IPv6");
        assert_eq!(reply("notoutside.example", 1)[3], 0x83);
        assert_eq!(reply("elsewhere.example", 15)[3], 0x83);
    }

    proptest! {
        #[test]
        fn nothing_does_harm(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            fuzz(&data);
        }
    }
}
