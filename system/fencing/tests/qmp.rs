//! A real QEMU (Debian package qemu-system-x86) without a guest, and what only pretends to be one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use twinpost_fencing::{Error, Power, PowerOff, PowerSwitch as _, Qmp, QmpOrder, QmpSettings, Times};

struct Machine {
    child: Child,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by the test's own order.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn times(limit_ms: u64) -> Times {
    let ms = Duration::from_millis;
    Times { step: ms(limit_ms), limit: ms(limit_ms), poll: ms(5), settle: ms(10) }
}

fn arguments(socket: &Path) -> Vec<String> {
    let qmp = format!("unix:{},server=on,wait=off", socket.display());
    let fixed = ["-machine", "none", "-nodefaults", "-display", "none", "-S", "-no-shutdown", "-qmp"];
    fixed.into_iter().map(str::to_owned).chain([qmp]).collect()
}

impl Machine {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp");
        let mut command = Command::new("qemu-system-x86_64");
        let child = command.args(arguments(&socket)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        let machine = Self { child: child.expect("qemu-system-x86 is installed"), socket, _dir: dir };
        let switch = machine.switch(QmpOrder::Quit, 15_000);
        let up = async {
            while switch.read().await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), up).await.expect("QEMU answers");
        machine
    }

    fn switch(&self, order: QmpOrder, limit_ms: u64) -> Qmp {
        Qmp::new(QmpSettings { order, times: times(limit_ms), ..QmpSettings::new(self.socket.clone()) })
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

#[tokio::test]
async fn quit_ends_the_process_and_that_is_read() {
    let mut machine = Machine::start().await;
    let switch = machine.switch(QmpOrder::Quit, 15_000);
    assert_eq!(switch.read().await.unwrap(), Power::On);
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
    assert!(machine.has_ended());
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff, "off already");
    assert_eq!(switch.read().await.unwrap(), Power::Off);
    // Nothing starts it again here.
    assert!(matches!(switch.on().await, Err(Error::Unreachable { .. })));
    // A switch that never saw this machine does not know whether the socket is the right one.
    assert!(matches!(machine.switch(QmpOrder::Quit, 15_000).off().await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn a_killed_machine_is_off_and_a_started_one_is_on() {
    let mut machine = Machine::start().await;
    let start = std::iter::once("qemu-system-x86_64".to_owned()).chain(arguments(&machine.socket)).collect();
    let switch = Qmp::new(QmpSettings { start, times: times(15_000), ..QmpSettings::new(machine.socket.clone()) });
    assert_eq!(switch.read().await.unwrap(), Power::On);
    machine.child.kill().unwrap();
    machine.child.wait().unwrap();
    assert_eq!(switch.read().await.unwrap(), Power::Off);
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
    switch.on().await.unwrap();
    assert_eq!(switch.read().await.unwrap(), Power::On);
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
}

#[tokio::test]
async fn held_machines_stand_still_with_empty_memory() {
    let machine = Machine::start().await;
    let switch = machine.switch(QmpOrder::Hold, 15_000);
    switch.on().await.unwrap();
    assert_eq!(switch.read().await.unwrap(), Power::On);
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
    assert_eq!(switch.read().await.unwrap(), Power::Off);
    // Stopped by somebody else is not off: its memory is as it was.
    assert_eq!(machine.switch(QmpOrder::Quit, 15_000).read().await.unwrap(), Power::On);
    switch.on().await.unwrap();
    assert_eq!(switch.read().await.unwrap(), Power::On);
}

#[tokio::test]
async fn a_guest_that_does_not_follow_is_unread() {
    let mut machine = Machine::start().await;
    // There is no guest, so nobody follows.
    assert_eq!(machine.switch(QmpOrder::PowerDown, 1500).off().await.unwrap(), PowerOff::Unread);
    assert!(!machine.has_ended());
}

/// A peer that answers each line by `answer`; an empty answer is silence.
fn pretend(greeting: &'static [u8], answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("qmp");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            drop(stream.write_all(greeting).await);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
                drop(stream.write_all(&answer(&line)).await);
                line.clear();
            }
        }
    });
    (socket, dir)
}

const GREETING: &[u8] = b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

#[tokio::test]
async fn peers_that_pretend_prove_nothing() {
    let switch =
        |socket: &Path, limit_ms| Qmp::new(QmpSettings { times: times(limit_ms), ..QmpSettings::new(socket.to_owned()) });
    // Says yes and goes on running: its process is this very test.
    let running = b"{\"return\": {\"status\": \"running\", \"running\": true}}\r\n";
    let yes = move |line: &str| if line.contains("query-status") { running.to_vec() } else { b"{\"return\": {}}\r\n".to_vec() };
    let (socket, _dir) = pretend(GREETING, yes);
    assert_eq!(switch(&socket, 1500).off().await.unwrap(), PowerOff::Unread);
    // Refuses.
    let no = |line: &str| {
        let error = b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\r\n".to_vec();
        if line.contains("qmp_capabilities") { b"{\"return\": {}}\r\n".to_vec() } else { error }
    };
    let (socket, _dir) = pretend(GREETING, no);
    assert!(matches!(switch(&socket, 15_000).off().await, Err(Error::Refused { why, .. }) if why == "not now"));
    // Hangs, before and after its greeting.
    for greeting in [&b""[..], GREETING] {
        let (socket, _dir) = pretend(greeting, |_| Vec::new());
        assert!(matches!(switch(&socket, 200).off().await, Err(Error::TimedOut { .. })));
    }
    // Garbage, as greeting and as answer; a line without an end.
    let (socket, _dir) = pretend(b"SSH-2.0-OpenSSH\r\n", |_| Vec::new());
    assert!(matches!(switch(&socket, 15_000).off().await, Err(Error::Garbage { .. })));
    let (socket, _dir) = pretend(GREETING, |_| b"\xff\xfe\n".to_vec());
    assert!(matches!(switch(&socket, 15_000).read().await, Err(Error::Garbage { .. })));
    let (socket, _dir) = pretend(GREETING, |_| vec![b'x'; 100_000]);
    assert!(matches!(switch(&socket, 15_000).read().await, Err(Error::Garbage { .. })));
    // Events are no answers, however many.
    let events = |line: &str| {
        let event = b"{\"event\": \"STOP\", \"timestamp\": {}}\r\n".repeat(3);
        let answer: &[u8] = if line.contains("query-status") {
            b"{\"return\": {\"status\": \"shutdown\", \"running\": false}}\r\n"
        } else {
            b"{\"return\": {}}\r\n"
        };
        [&event, answer].concat()
    };
    let (socket, _dir) = pretend(GREETING, events);
    assert_eq!(switch(&socket, 15_000).off().await.unwrap(), PowerOff::ReadBackOff);
    // A guest that shuts down and boots again by itself.
    let turn = std::sync::atomic::AtomicU32::new(0);
    let flaps = move |line: &str| {
        if !line.contains("query-status") {
            return b"{\"return\": {}}\r\n".to_vec();
        }
        let state = if turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(2) { "shutdown" } else { "running" };
        format!("{{\"return\": {{\"status\": \"{state}\", \"running\": {}}}}}\r\n", state == "running").into_bytes()
    };
    let (socket, _dir) = pretend(GREETING, flaps);
    assert_eq!(switch(&socket, 1500).off().await.unwrap(), PowerOff::Unread);
    // Nobody.
    assert!(matches!(switch(Path::new("/nonexistent/qmp"), 5000).off().await, Err(Error::Unreachable { .. })));
}
