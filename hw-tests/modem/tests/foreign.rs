//! Two drivers that others wrote talk to the simulator as they talk to real modems: smsd of smstools, and gammu-smsd. What they send is
//! decoded and compared; what a simulated phone sends arrives in their inboxes. They run as real programs from a folder of their own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use twinpost_hw_modem::{Handle, Line, Options, Order, Received, Simulator};

const WITHIN: Duration = Duration::from_secs(60);
const CHINESE: &str = "明天上午九点在三号楼开会,请带上值班表。";

/// A program that is ended in good order, so that it ends its own children.
struct Program(Child);

impl Program {
    fn start(folder: &Path, name: &str, arguments: &[&str]) -> Self {
        let log = std::fs::File::create(folder.join("output")).expect("a log file");
        let child = Command::new(name)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        Self(child.unwrap_or_else(|e| panic!("{name}: {e}; `hw-tests/need test` installs it")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

struct Bench {
    folder: tempfile::TempDir,
    modem: Handle,
}

impl Bench {
    fn new(folders: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in folders {
            std::fs::create_dir(folder.path().join(name)).expect("a folder in it");
        }
        let options = Options {
            line: Line::Pty(folder.path().join("modem")),
            record: Some(folder.path().join("record")),
            ..Options::default()
        };
        Self { modem: Simulator::start(options).expect("the simulator starts"), folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
    }

    /// Everything that a foreign driver says in its log files, for a test that fails.
    fn logs(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let all = read("output") + &read("log");
        all.chars().skip(all.chars().count().saturating_sub(4000)).collect()
    }

    fn received(&self, n: usize) -> Vec<Received> {
        let got = self.modem.wait_received_blocking(n, WITHIN);
        got.unwrap_or_else(|| panic!("{n} messages in time; there are {:?}\n{}", self.modem.counters(), self.logs()))
    }

    /// Both drivers delete a message from the modem when it is in their inbox.
    fn inbox(&self, folder: &str) -> Vec<u8> {
        let done = self.modem.wait_until_blocking(WITHIN, |c| c.deleted >= 1);
        assert!(done, "the message is fetched in time: {:?}\n{}", self.modem.state(), self.logs());
        let mut files = std::fs::read_dir(self.folder.path().join(folder)).expect("the inbox");
        let file = files.next().expect("a file in the inbox").expect("its name");
        std::fs::read(file.path()).expect("its contents")
    }
}

fn contains(file: &[u8], part: &[u8]) -> bool {
    file.windows(part.len()).any(|w| w == part)
}

fn long_text() -> String {
    // Escapes, braces and an euro sign: 7-bit with extension, three parts.
    (1..=30).map(|n| format!("Line {n} costs {{{n}}} € [ok]\n")).collect::<String>().trim_end().to_owned()
}

fn compare(messages: &[Received], number: &str) {
    let found = |text: &str| messages.iter().find(|m| m.text == text).unwrap_or_else(|| panic!("{text:?} in {messages:#?}"));
    let short = found("Hello {World}, from another house");
    assert_eq!((short.parts, short.alphabet, short.number.as_str()), (1, "7bit", number));
    let long = found(&long_text());
    assert_eq!((long.alphabet, long.number.as_str(), long.pdus.len()), ("7bit", number, usize::from(long.parts)));
    assert!(long.parts >= 4, "{} parts", long.parts);
    let chinese = found(&CHINESE.repeat(6));
    assert_eq!((chinese.parts, chinese.alphabet), (2, "ucs2"));
    assert!(messages.iter().all(|m| !m.possible_duplicate && !m.duplicate));
}

#[test]
fn smsd_of_smstools_sends_and_receives() {
    let bench = Bench::new(&["outgoing", "incoming", "checked", "failed", "sent"]);
    let folders: String =
        ["outgoing", "incoming", "checked", "failed", "sent"].map(|f| format!("{f} = {}\n", bench.path(f))).concat();
    let device = bench.path("modem");
    let [log, info, pid] = ["log", "info", "pid"].map(|n| bench.path(n));
    bench.write(
        "smsd.conf",
        &format!(
            "devices = GSM1\n{folders}logfile = {log}\ninfofile = {info}\npidfile = {pid}\nloglevel = 6\ndelaytime = 1\n\
             delaytime_mainprocess = 1\nreceive_before_send = no\nautosplit = 3\nkeep_messages = no\n\
             [GSM1]\ndevice = {device}\nincoming = yes\nbaudrate = 115200\n"
        ),
    );
    bench.write("outgoing/short", "To: 4915112345678\n\nHello {World}, from another house");
    bench.write("outgoing/long", &format!("To: 4915112345678\nAlphabet: UTF-8\n\n{}", long_text()));
    bench.write("outgoing/chinese", &format!("To: 4915112345678\nAlphabet: UTF-8\n\n{}", CHINESE.repeat(6)));
    let text = "你好, here is 张伟 😀".to_owned();
    bench.modem.order(Order::Receive { from: "+8613800138000".to_owned(), text: text.clone() }).expect("a phone can send it");
    let program = Program::start(bench.folder.path(), "smsd", &["-t", "-c", "smsd.conf"]);
    compare(&bench.received(3), "+4915112345678");
    let file = bench.inbox("incoming");
    drop(program);
    assert!(contains(&file, b"From: 8613800138000"), "{}", String::from_utf8_lossy(&file));
    assert!(contains(&file, &twinpost_hw_modem::encode_ucs2(&text)), "{}", String::from_utf8_lossy(&file));
}

#[test]
fn gammu_smsd_sends_and_receives() {
    let bench = Bench::new(&["inbox", "outbox", "sent", "error"]);
    let [inbox, outbox, sent, error] = ["inbox", "outbox", "sent", "error"].map(|n| bench.path(n));
    let [device, log] = ["modem", "log"].map(|n| bench.path(n));
    bench.write(
        "rc",
        &format!(
            "[gammu]\ndevice = {device}\nconnection = at115200\n[smsd]\nservice = files\nlogfile = {log}\ndebuglevel = 0\n\
             inboxpath = {inbox}/\noutboxpath = {outbox}/\nsentsmspath = {sent}/\nerrorsmspath = {error}/\n\
             inboxformat = unicode\ncommtimeout = 1\nsendtimeout = 10\nloopsleep = 0\nreceivefrequency = 1\n\
             checksecurity = 0\ncheckbattery = 0\nchecksignal = 0\nchecknetwork = 0\n"
        ),
    );
    let inject = |arguments: &[&str]| {
        let output = Command::new("gammu-smsd-inject")
            .args(["-c", "rc", "TEXT", "+4915112345678"])
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .current_dir(bench.folder.path())
            .output()
            .unwrap_or_else(|e| panic!("gammu-smsd-inject: {e}; `hw-tests/need test` installs it"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    inject(&["-text", "Hello {World}, from another house"]);
    inject(&["-len", "2000", "-text", &long_text()]);
    inject(&["-unicode", "-len", "2000", "-text", &CHINESE.repeat(6)]);
    let text = "你好, here is 张伟";
    bench.modem.order(Order::Receive { from: "+8613800138000".to_owned(), text: text.to_owned() }).expect("a phone can send it");
    let program = Program::start(bench.folder.path(), "gammu-smsd", &["-c", "rc"]);
    compare(&bench.received(3), "+4915112345678");
    let file = bench.inbox("inbox");
    drop(program);
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert!(contains(&file, &little) || contains(&file, &big), "{}", String::from_utf8_lossy(&file));
}
