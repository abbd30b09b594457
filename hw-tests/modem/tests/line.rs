//! A terminal plugs into the pseudo-terminal and talks as 27.005 says.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;
use twinpost_hw_modem::{Handle, Line, Options, Simulator};

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
    let received = handle.wait_received_blocking(1, Duration::from_secs(10)).expect("a phone has it");
    assert_eq!((received[0].text.as_str(), received[0].number.as_str()), ("hellohello", "+46708251358"));
    handle.stop();
    let record = std::fs::read_to_string(terminal.folder.path().join("record")).expect("the record is there");
    let line: serde_json::Value = serde_json::from_str(record.lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["text"], "hellohello");
    assert!(!terminal.folder.path().join("modem").is_symlink(), "the link goes with the modem");
}
