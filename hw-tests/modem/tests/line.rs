//! A terminal plugs into the pseudo-terminal and talks as 27.005 says.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;
use twinpost_hw_modem::{Handle, Line, Options, Simulator};

const WITHIN: Duration = Duration::from_secs(10);

struct Terminal {
    port: File,
    folder: tempfile::TempDir,
}

impl Terminal {
    fn new(options: Options) -> (Self, Handle) {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("modem");
        let record = folder.path().join("record");
        let handle =
            Simulator::start(Options { line: Line::Pty(link.clone()), record: Some(record), ..options }).expect("it starts");
        (Self { port: open(&link), folder }, handle)
    }

    fn say(&mut self, text: &str) {
        self.port.write_all(text.as_bytes()).expect("the line takes it");
    }

    /// Reads until `end` is there.
    fn hear(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        let mut byte = [0; 256];
        while !String::from_utf8_lossy(&heard).ends_with(end) {
            let n = self.port.read(&mut byte).expect("the line gives it");
            heard.extend(&byte[..n]);
        }
        String::from_utf8(heard).expect("text")
    }
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).expect("the link leads to a terminal")
}

#[test]
fn a_message_is_sent_and_recorded() {
    let (mut terminal, handle) = Terminal::new(Options::default());
    terminal.say("AT\r");
    assert_eq!(terminal.hear("OK\r\n"), "AT\r\r\nOK\r\n");
    terminal.say("ATE0\r");
    terminal.hear("OK\r\n");
    terminal.say("AT+CMGF=0\r");
    assert_eq!(terminal.hear("OK\r\n"), "\r\nOK\r\n");
    terminal.say("AT+CMGS=23\r");
    assert_eq!(terminal.hear("> "), "\r\n> ");
    // "hellohello" of the widely copied example of 7-bit packing, E8329BFD4697D9EC37.
    terminal.say("0011000B916407281553F80000AA0AE8329BFD4697D9EC37\u{1a}");
    assert_eq!(terminal.hear("OK\r\n"), "\r\n+CMGS: 0\r\n\r\nOK\r\n");
    let received = handle.wait_received_blocking(1, WITHIN).expect("a phone has it");
    assert_eq!((received[0].text.as_str(), received[0].number.as_str()), ("hellohello", "+46708251358"));
    handle.stop();
    let record = std::fs::read_to_string(terminal.folder.path().join("record")).expect("the record is there");
    let line: serde_json::Value = serde_json::from_str(record.lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["text"], "hellohello");
    assert!(!terminal.folder.path().join("modem").is_symlink(), "the link goes with the modem");
}

#[test]
fn closing_the_port_is_a_drop_of_dtr() {
    let (mut terminal, handle) = Terminal::new(Options::default());
    terminal.say("AT+CMGF=0\r");
    terminal.hear("OK\r\n");
    // Nobody reads this: it is gone with the port.
    handle.control("line +STALE").expect("an order");
    assert!(handle.wait_until_blocking(WITHIN, |c| c.unsolicited == 1));
    handle.control("hang dtr").expect("an order");
    let link = terminal.folder.path().join("modem");
    drop(std::mem::replace(&mut terminal.port, File::open("/dev/null").expect("it is there")));
    assert!(handle.wait_until_blocking(WITHIN, |c| c.dtr_drops == 1));
    terminal.port = open(&link);
    terminal.say("AT\r");
    assert_eq!(terminal.hear("OK\r\n"), "AT\r\r\nOK\r\n");
}

#[test]
fn the_port_goes_away_and_comes_back() {
    let (mut terminal, handle) = Terminal::new(Options::default());
    terminal.say("ATE0\r");
    terminal.hear("OK\r\n");
    handle.control("reset away 50").expect("an order");
    let mut rest = Vec::new();
    // The end of the old terminal is an error or the end of the file, not a silence.
    let ended = terminal.port.read_to_end(&mut rest);
    assert!(ended.is_err() || rest.is_empty());
    let link = terminal.folder.path().join("modem");
    assert!(handle.wait_until_blocking(WITHIN, |c| c.port_returns == 1));
    terminal.port = open(&link);
    terminal.say("AT\r");
    assert_eq!(terminal.hear("OK\r\n"), "AT\r\r\nOK\r\n");
}

#[test]
fn the_speed_of_the_port_counts() {
    let (mut terminal, _handle) = Terminal::new(Options { baud: Some(9600), ..Options::default() });
    let speed = |terminal: &Terminal, baud: u32| {
        let mut settings = rustix::termios::tcgetattr(&terminal.port).expect("a terminal");
        settings.set_speed(baud).expect("a speed");
        rustix::termios::tcsetattr(&terminal.port, rustix::termios::OptionalActions::Now, &settings).expect("it is set");
    };
    speed(&terminal, 115_200);
    terminal.say("AT\r");
    let mut bytes = [0; 3];
    terminal.port.read_exact(&mut bytes).expect("an echo of rubbish");
    assert_ne!(&bytes, b"AT\r");
    speed(&terminal, 9600);
    // A speed without a name is one as well.
    terminal.say("\u{1b}AT\r");
    assert!(terminal.hear("OK\r\n").contains("AT\r\r\nOK"));
}

#[test]
fn orders_come_by_the_control_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = folder.path().join("control");
    let options = Options { line: Line::Unix(folder.path().join("line")), control: Some(control.clone()), ..Options::default() };
    let handle = Simulator::start(options).expect("it starts");
    let mut line = std::os::unix::net::UnixStream::connect(folder.path().join("line")).expect("a line");
    let mut orders = std::os::unix::net::UnixStream::connect(&control).expect("a control connection");
    let ask = |orders: &mut std::os::unix::net::UnixStream, order: &str| {
        orders.write_all(format!("{order}\n").as_bytes()).expect("it is taken");
        let mut answer = String::new();
        let mut byte = [0; 4096];
        while !(answer.ends_with("ok\n") || answer.contains("error: ")) {
            let n = orders.read(&mut byte).expect("an answer");
            answer += &String::from_utf8_lossy(&byte[..n]);
        }
        answer
    };
    assert!(ask(&mut orders, "help").contains("receive NUMBER|NAME TEXT"));
    assert!(ask(&mut orders, "hang nowhere").starts_with("error: "));
    assert_eq!(ask(&mut orders, "ring"), "ok\n");
    let mut heard = [0; 8];
    line.read_exact(&mut heard).expect("a ring");
    assert_eq!(&heard, b"\r\nRING\r\n");
    assert!(ask(&mut orders, "counters").contains("\"unsolicited\":1"));
    assert!(ask(&mut orders, "received").ends_with("ok\n"));
    ask(&mut orders, "quit");
    assert!(handle.wait_stopped_blocking(WITHIN));
}
