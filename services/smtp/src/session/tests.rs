//! The session alone: replies depend on the bytes only.

use super::*;
use crate::{MailAccepted, Outcome, Verdict};
use proptest::prelude::*;
use twinpost_sasl::Denied;

/// Plays a connection without a socket: bytes in any pieces, a backend that says no to local parts that begin with `no`.
struct Play {
    session: Session<String>,
    input: Vec<u8>,
    out: Vec<u8>,
    next: Next,
    stored: Vec<Vec<u8>>,
}

impl Play {
    fn new(settings: Settings) -> Self {
        let mut session = Session::new(Arc::new(settings), "192.0.2.1:4".parse().unwrap(), true);
        let mut out = Vec::new();
        let next = session.greet(&mut out);
        Self { session, input: Vec::new(), out, next, stored: Vec::new() }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.input.extend_from_slice(piece);
        while self.step() {}
    }

    /// False when more input is needed or the session is over.
    fn step(&mut self) -> bool {
        let (session, out) = (&mut self.session, &mut self.out);
        self.next = match &self.next {
            Next::Line => {
                let Some(end) = self.input.iter().position(|b| *b == b'\n') else { return false };
                let line: Vec<u8> = self.input.drain(..=end).collect();
                match line.strip_suffix(b"\r\n") {
                    Some(line) if line.len() > session.line_max_bytes() => session.broken_line(BrokenLine::TooLong, out),
                    Some(line) => session.line(line, out),
                    None => session.broken_line(BrokenLine::BareLf, out),
                }
            }
            Next::Data | Next::Chunk => {
                if self.input.is_empty() {
                    return false;
                }
                let (taken, next) =
                    if self.next == Next::Data { session.data(&self.input, out) } else { session.chunk(&self.input, out) };
                self.input.drain(..taken);
                next
            }
            Next::Auth { .. } => {
                session.signed_in(twinpost_sasl::Outcome::Denied { user: None, reason: Denied::Credentials }, out)
            }
            // Not part of what is the same for all cuts: what waits behind STARTTLS depends on the packets.
            Next::StartTls => session.start_tls(true, out),
            Next::Handshake => Next::Close,
            Next::Mail => session.mail_answer(Ok(MailAccepted::default()), out),
            Next::Recipient => {
                let local = session.candidate().unwrap().address.local().to_owned();
                session.recipient_answer(if local.starts_with("no") { Err(Refusal::unknown_user()) } else { Ok(local) }, out)
            }
            Next::Stamp => session.stamp(0, TraceId(1), out),
            Next::Authors(_) => session.authors_answer(Ok(()), out),
            Next::Judge => session.judged(Verdict::ACCEPT, out),
            Next::Deliver => {
                let (tokens, message) = session.take_delivery();
                assert_eq!(tokens.len(), session.envelope().unwrap().recipients.len());
                let bytes = message.bytes.len();
                self.stored.push(message.bytes);
                session.delivered(Outcome::All(Ok(())), bytes, out)
            }
            Next::Close => return false,
        };
        true
    }
}

fn settings(role: Role) -> Settings {
    let base = if role == Role::Lmtp { Settings::lmtp("mx.example") } else { Settings::mx("mx.example") };
    Settings {
        size_max_bytes: 2000,
        recipients_max: 3,
        errors_max: 8,
        command_line_max_bytes: 200,
        auth: AuthOffer::Always,
        ..base
    }
}

fn play(role: Role, input: &[u8], cut: usize) -> (String, Vec<Vec<u8>>) {
    let mut play = Play::new(settings(role));
    for piece in input.chunks(cut.max(1)) {
        play.feed(piece);
    }
    (String::from_utf8(play.out).unwrap(), play.stored)
}

/// Each reply line is `ddd[ -]text`, complete, within the limit.
fn well_formed(replies: &str) -> bool {
    replies.split_terminator("\r\n").all(|l| {
        let b = l.as_bytes();
        b.len() <= 510
            && b.len() >= 4
            && b[..3].iter().all(u8::is_ascii_digit)
            && matches!(b[3], b' ' | b'-')
            && !l.contains(['\r', '\n'])
    }) && replies.ends_with("\r\n")
}

const WORDS: &str = "(EHLO a\r\n|LHLO a\r\n|HELO a\r\n|MAIL FROM:<a@b.example>\r\n|MAIL FROM:<> SIZE=9 BODY=BINARYMIME\r\n|MAIL FROM:<é@b.example> SMTPUTF8\r\n\
    |RCPT TO:<c@d.example>\r\n|RCPT TO:<no@d.example>\r\n|RCPT TO:<é@d.example>\r\n|DATA\r\n|BDAT 5\r\n|BDAT 3 LAST\r\n|BDAT 0 LAST\r\n|BDAT x\r\n\
    |RSET\r\n|QUIT\r\n|NOOP\r\n|VRFY x\r\n|AUTH PLAIN eA==\r\n|hello\r\n|\\.\r\n|\r\n\\.\r\n|\r\n|\n|\r|\\.|Subject: x\r\n|From: y@z.example\r\n\
    |[a-z]{1,40}|\\PC{0,9}|GET / HTTP/1\\.1\r\n)";

proptest! {
    #[test]
    fn any_cutting_gives_the_same_replies(text in proptest::collection::vec(WORDS, 0..40), cut in 1usize..40, lmtp: bool) {
        let role = if lmtp { Role::Lmtp } else { Role::Mx };
        let input = text.concat();
        let whole = play(role, input.as_bytes(), input.len());
        prop_assert!(well_formed(&whole.0), "{}", whole.0);
        prop_assert_eq!(whole, play(role, input.as_bytes(), cut));
    }

    #[test]
    fn any_bytes_at_all(data in proptest::collection::vec(any::<u8>(), 0..600), cut in 1usize..40) {
        let whole = play(Role::Submission, &data, data.len());
        prop_assert_eq!(&whole, &play(Role::Submission, &data, cut));
        prop_assert!(well_formed(&whole.0));
    }

    /// Whatever a message holds, it arrives as it was, once, and nothing of it is taken for a command.
    #[test]
    fn a_message_stays_a_message(lines in proptest::collection::vec("(\\.|\\.\\.|MAIL FROM:<x@y\\.example>|RSET|[ -~]{0,80})", 1..30)) {
        let body = format!("Subject: x\r\n\r\n{}\r\n", lines.join("\r\n"));
        let stuffed = body.replace("\r\n.", "\r\n..");
        let input = format!("EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n{stuffed}.\r\nQUIT\r\n");
        let (replies, stored) = play(Role::Mx, input.as_bytes(), 1 << 20);
        prop_assert!(replies.ends_with("250 2.0.0 accepted as 0000000000001\r\n221 2.0.0 bye\r\n"), "{}", replies);
        prop_assert_eq!(stored.len(), 1);
        let stored = String::from_utf8(stored[0].clone()).unwrap();
        prop_assert!(stored.starts_with("Return-Path: <a@b.example>\r\nReceived: from a ([192.0.2.1])\r\n"));
        prop_assert!(stored.ends_with(&body));
    }
}

fn last_codes(replies: &str, n: usize) -> Vec<&str> {
    let all: Vec<_> = replies.lines().filter(|l| l.as_bytes()[3] == b' ').map(|l| l.get(..9).unwrap_or(l).trim_end()).collect();
    all[all.len() - n..].to_vec()
}

#[test]
fn octets_of_a_refused_chunk_are_not_commands() {
    let (replies, stored) = play(Role::Mx, b"EHLO a\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", 3);
    assert_eq!(last_codes(&replies, 2), ["503 5.5.1", "250 2.0.0"]);
    assert!(stored.is_empty());
    // A size that cannot be read: nothing after it can be trusted.
    let (replies, _) = play(Role::Mx, b"EHLO a\r\nBDAT six\r\nNOOP\r\n", 99);
    assert_eq!(last_codes(&replies, 1), ["501 5.5.4"]);
}

#[test]
fn chunks_add_up() {
    let (replies, stored) = play(
        Role::Mx,
        b"EHLO a\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<c@d.example>\r\nDATA\r\nBDAT 4\r\nA: \rBDAT 7\r\n\n\r\n.\r\n\0RCPT TO:<x@y.example>\r\nBDAT 0 LAST\r\n",
        5,
    );
    assert_eq!(last_codes(&replies, 5), ["503 5.5.1", "250 2.0.0", "250 2.0.0", "503 5.5.1", "250 2.0.0"]);
    assert!(stored[0].ends_with(b"A: \r\n\r\n.\r\n\0"));
}

#[test]
fn a_failed_chunk_fails_the_message() {
    let mut input = b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 3000\r\n".to_vec();
    input.resize(input.len() + 3000, b'x');
    input.extend_from_slice(
        b"BDAT 1\r\nxBDAT 1 LAST\r\nxRSET\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 6 LAST\r\nA: b\r\n",
    );
    let (replies, stored) = play(Role::Mx, &input, 700);
    assert_eq!(
        last_codes(&replies, 7),
        ["552 5.3.4", "503 5.5.1", "503 5.5.1", "250 2.0.0", "250 2.1.0", "250 2.1.5", "250 2.0.0"]
    );
    assert_eq!(stored.len(), 1);
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let input = b"LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<no@d.example>\r\nRCPT TO:<e@d.example>\r\nDATA\r\nA: b\r\n.\r\nDATA\r\n";
    let (replies, _) = play(Role::Lmtp, input, 9);
    assert_eq!(last_codes(&replies, 6), ["550 5.1.1", "250 2.1.5", "354 send", "250 2.1.5", "250 2.1.5", "503 5.5.1"]);
}

#[test]
fn tls_forgets_what_came_before() {
    let mut play = Play::new(settings(Role::Mx));
    play.feed(b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\n");
    let (session, out) = (&mut play.session, &mut play.out);
    assert_eq!(session.line(b"STARTTLS", out), Next::StartTls);
    assert_eq!(session.start_tls(false, out), Next::Handshake);
    session.tls_started(Tls { version: "TLSv1.3".into(), cipher: "x".into() }, Bindings::NONE);
    play.next = Next::Line;
    play.feed(b"DATA\r\nMAIL FROM:<>\r\nSTARTTLS\r\nEHLO b\r\n");
    let replies = String::from_utf8(play.out).unwrap();
    assert_eq!(last_codes(&replies, 4), ["503 5.5.1", "503 5.5.1", "503 5.5.1", "250 HELP"]);
    assert!(!replies.rsplit("503 5.5.1").next().unwrap().contains("STARTTLS"));
}

#[test]
fn each_transaction_is_told_once() {
    let mut play = Play::new(settings(Role::Mx));
    play.feed(b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<no@d.example>\r\nRCPT TO:<no2@d.example>\r\nDATA\r\nRSET\r\n");
    play.feed(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<no@d.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nA: b\r\n.\r\nRSET\r\n");
    let events: Vec<_> = play.session.events().collect();
    let [Event::Refused { to, count: 2, reply, .. }, Event::Accepted { to: taken, refused: 1, trace: TraceId(1), .. }] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((to.as_str(), reply.code(), taken.as_str()), ("no@d.example", 550, "c@d.example"));
}

#[test]
fn limits_of_a_session() {
    let many = |line: &str, n: usize| format!("EHLO a\r\nMAIL FROM:<>\r\n{}", line.repeat(n));
    let (replies, _) = play(Role::Mx, many("RCPT TO:<c@d.example>\r\n", 4).as_bytes(), 999);
    assert_eq!(last_codes(&replies, 1), ["452 4.5.3"]);
    // What was pipelined behind a refused MAIL, or behind refused recipients, is no fault of the client.
    let (replies, _) = play(Role::Mx, many("RCPT TO:<c@d.example>\r\n", 30).replace("<>", "<> SIZE=3000").as_bytes(), 999);
    assert_eq!(last_codes(&replies, 31)[0], "552 5.3.4");
    assert_eq!(last_codes(&replies, 1), ["503 5.5.1"]);
    let (replies, _) = play(Role::Mx, many("RCPT TO:<no@d.example>\r\nDATA\r\n", 30).as_bytes(), 999);
    assert_eq!(last_codes(&replies, 2), ["550 5.1.1", "554 5.5.1"]);
    let (replies, _) = play(Role::Mx, many("XYZ\r\n", 9).as_bytes(), 999);
    assert_eq!(last_codes(&replies, 2), ["500 5.5.2", "421 4.7.0"]);
    let (replies, _) = play(Role::Mx, many("RCPT TO:<no@d.example>\r\n", 120).as_bytes(), 999);
    assert_eq!(last_codes(&replies, 2), ["550 5.1.1", "421 4.7.0"]);
    let (replies, _) = play(Role::Mx, many("AUTH PLAIN eA==\r\n", 1).as_bytes(), 999);
    assert_eq!(last_codes(&replies, 1), ["503 5.5.1"]);
    let guesses = format!("EHLO a\r\n{}", "AUTH PLAIN eA==\r\n".repeat(6));
    assert_eq!(last_codes(&play(Role::Mx, guesses.as_bytes(), 999).0, 2), ["535 5.7.8", "421 4.7.0"]);
    let long = format!("EHLO a\r\nNOOP {}\r\nAUTH PLAIN {}\r\n", "x".repeat(200), "x".repeat(9000));
    assert_eq!(last_codes(&play(Role::Mx, long.as_bytes(), 999).0, 2), ["500 5.5.2", "535 5.7.8"]);
}
