//! A node of the built program: started, stopped, killed and asked from outside.

use crate::imap::Imap;
use crate::programs::{Ended, run};
use crate::smtp::Smtp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a node may take for anything on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub fn program() -> PathBuf {
    let path = std::env::var_os("TWINPOST_BIN").map_or_else(
        || std::env::current_exe().expect("a program knows itself").parent().expect("it lies in a folder").join("../twinpost"),
        PathBuf::from,
    );
    match path.canonicalize() {
        Ok(path) => path,
        Err(error) => panic!("{}: {error}; build it with `cargo build -p twinpost`", path.display()),
    }
}

/// Asks again and again until there is an answer.
#[track_caller]
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for this in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A loopback address that no other node of this run has (all of 127/8 is this machine).
pub fn own_address() -> IpAddr {
    loop {
        let address = IpAddr::V4(Ipv4Addr::new(127, rand::random_range(64..128), rand::random(), rand::random_range(1..255)));
        if TcpListener::bind((address, 2525)).is_ok() {
            return address;
        }
    }
}

/// One node.
pub struct Node {
    folder: TempDir,
    address: IpAddr,
    wrapped: bool,
    /// Further arguments of `up`, at each start.
    arguments: Vec<String>,
    up: Option<Child>,
}

impl Node {
    /// A new node with the demo school.
    pub fn start() -> Self {
        Self::start_with(own_address(), &[])
    }

    /// A new node on this address with further arguments for `up`.
    pub fn start_with(address: IpAddr, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut node = Self { folder: tempfile::tempdir().unwrap(), address, wrapped: false, arguments, up: None };
        let mut command = node.command(&[]);
        command.args(["--address", &address.to_string()]);
        node.launch(command);
        node
    }

    /// A new node whose data lies on a file system of this many MiB, in a mount namespace of its own.
    pub fn start_on_small_disk(mebibytes: u32) -> Self {
        let address = own_address();
        let mut node = Self { folder: tempfile::tempdir().unwrap(), address, wrapped: true, arguments: Vec::new(), up: None };
        let data = node.dir().join("a/data");
        std::fs::create_dir_all(&data).unwrap();
        let mut command = node.command(&["unshare", "--mount"]);
        let script = format!("mount -t tmpfs -o size={mebibytes}m,mode=700 tmpfs \"$1\" && shift && exec \"$@\"");
        let inner: Vec<_> =
            std::iter::once(command.get_program().to_owned()).chain(command.get_args().map(ToOwned::to_owned)).collect();
        let at = inner.iter().position(|word| word == program().as_os_str()).expect("the program is in its command");
        let mut wrapped = Command::new(&inner[0]);
        wrapped.args(&inner[1..at]).args(["sh", "-c", &script, "sh"]).arg(&data).args(&inner[at..]);
        std::mem::swap(&mut command, &mut wrapped);
        command.args(["--address", &address.to_string()]);
        node.launch(command);
        node
    }

    /// `up` on this node's folder, tied to the life of this thread.
    fn command(&self, before: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM"])
            .args(before)
            .arg(program())
            .args(["up", "--nodes", "1"])
            .arg("--dir")
            .arg(self.dir())
            .args(&self.arguments);
        command
    }

    fn launch(&mut self, mut command: Command) {
        let log = File::options().create(true).append(true).open(self.dir().join("up.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("setpriv (package util-linux) cannot be started: {e}"));
        let pid = u64::from(child.id());
        wait_for("endpoints.json of the node", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("`twinpost up` ended with {status}:\n{}", self.log());
            }
            (self.read_endpoints()?.pointer("/nodes/0/pids/up")?.as_u64()? == pid).then_some(())
        });
        self.up = Some(child);
    }

    /// Starts it again on the same folder.
    pub fn again(&mut self) {
        assert!(self.up.is_none(), "it runs already");
        let command = self.command(&[]);
        self.launch(command);
    }

    /// Starts it where it cannot start: `up` must end by itself.
    pub fn again_in_vain(&self) -> Ended {
        run(Command::new(program()).arg("up").arg("--dir").arg(self.dir()), b"")
    }

    /// SIGTERM, or SIGINT as Ctrl-C gives it; waits for the end.
    pub fn stop_by(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.up.take().expect("it runs");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        wait_for("the end of the node", || child.try_wait().unwrap())
    }

    /// Stops it.
    pub fn stop(&mut self) {
        let status = self.stop_by(Signal::SIGTERM);
        assert!(status.success(), "`twinpost up` ended with {status}");
    }

    /// `kill -9` of the mail process; gives its number.
    pub fn kill_mail(&self) -> u64 {
        self.kill("mail")
    }

    /// `kill -9` of a part; gives its number.
    pub fn kill(&self, part: &str) -> u64 {
        let pid = self.wait_for_part(part, 0);
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
        pid
    }

    /// Waits for a mail process that is not this one and answers.
    pub fn wait_for_another(&self, old: u64) -> u64 {
        self.wait_for_part("mail", old)
    }

    /// Waits for a part that is not this process and answers.
    pub fn wait_for_part(&self, part: &str, old: u64) -> u64 {
        wait_for(&format!("a {part} process in endpoints.json"), || {
            self.read_endpoints()?.pointer(&format!("/nodes/0/pids/{part}"))?.as_u64().filter(|pid| *pid != old)
        })
    }

    /// The folder of a stopped node, for another to run in.
    pub fn into_folder(mut self) -> TempDir {
        assert!(self.up.is_none(), "it runs");
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Number of the mail process.
    pub fn mail_pid(&self) -> u64 {
        self.endpoints().pointer("/nodes/0/pids/mail").and_then(Value::as_u64).expect("endpoints.json names the mail process")
    }

    /// Number of `up`.
    pub fn up_pid(&self) -> u32 {
        self.up.as_ref().expect("it runs").id()
    }

    /// The folder given to `up`.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The node's data, seen through its own mount namespace where it has one.
    pub fn data(&self) -> PathBuf {
        let inside = self.dir().join("a/data");
        if !self.wrapped {
            return inside;
        }
        Path::new("/proc").join(self.up_pid().to_string()).join("root").join(inside.strip_prefix("/").unwrap())
    }

    /// Bytes written to the packs. Their files are made larger beforehand: what is still zero at the end does not count.
    pub fn pack_bytes(&self) -> u64 {
        let written = |path: &PathBuf| std::fs::read(path).unwrap().iter().rposition(|b| *b != 0).map_or(0, |at| at as u64 + 1);
        self.packs().iter().map(written).sum()
    }

    /// The pack files in order of their names.
    pub fn packs(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> =
            std::fs::read_dir(self.data().join("store/packs")).unwrap().map(|e| e.unwrap().path()).collect();
        found.sort();
        found
    }

    /// The appliance document.
    pub fn document(&self) -> PathBuf {
        self.dir().join("a/appliance.toml")
    }

    /// The certificate authority.
    pub fn ca(&self) -> PathBuf {
        PathBuf::from(self.endpoints()["ca"].as_str().unwrap())
    }

    /// What `up` printed and logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("up.log")).unwrap_or_default()
    }

    fn read_endpoints(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.dir().join("endpoints.json")).ok()?).ok()
    }

    /// `endpoints.json`.
    pub fn endpoints(&self) -> Value {
        self.read_endpoints().expect("endpoints.json is there and whole")
    }

    /// The address of the node.
    pub fn ip(&self) -> IpAddr {
        self.address
    }

    /// The port of a service.
    pub fn port(&self, service: &str) -> u16 {
        self.endpoints()["service"][service].as_u64().and_then(|p| p.try_into().ok()).unwrap_or_else(|| panic!("no {service}"))
    }

    /// The address of a service.
    pub fn at(&self, service: &str) -> SocketAddr {
        (self.address, self.port(service)).into()
    }

    /// Password of an account of the demo, by its address.
    pub fn password(&self, address: &str) -> String {
        let all = self.endpoints()["accounts"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|a| a["address"] == address).unwrap_or_else(|| panic!("no demo account {address}"));
        found["password"].as_str().unwrap().to_owned()
    }

    /// `twinpost ctl` on this node.
    pub fn ctl(&self, words: &[&str]) -> Ended {
        self.ctl_with(words, b"")
    }

    /// The same with standard input.
    pub fn ctl_with(&self, words: &[&str], input: &[u8]) -> Ended {
        run(Command::new(program()).arg("ctl").arg("--dir").arg(self.dir()).args(words), input)
    }

    /// `twinpost ctl --json`, which must succeed.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> Value {
        let out = self.ctl(&[&["--json"], words].concat()).well();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("`ctl --json {}` is no JSON: {e}\n{out}", words.join(" ")))
    }

    /// An IMAP session of a demo account.
    pub fn imap(&self, address: &str) -> Imap {
        self.imap_as(address, &self.password(address)).expect("the password of the demo is right")
    }

    /// An IMAP session; the error is the server's refusal.
    pub fn imap_as(&self, user: &str, password: &str) -> std::io::Result<Imap> {
        Imap::open(self.at("imaps"), &self.ca(), user, password)
    }

    /// An SMTP session on port 25, greeted.
    pub fn mx(&self) -> Smtp {
        Smtp::open(self.at("smtp")).expect("port 25 answers")
    }

    /// A submission session, signed in.
    pub fn submission(&self, address: &str) -> Smtp {
        let mut smtp = Smtp::open_tls(self.at("submissions"), &self.ca()).expect("port 465 answers");
        let reply = smtp.sign_in(address, &self.password(address)).unwrap();
        assert_eq!(reply.code, 235, "{reply:?}");
        smtp
    }
}

/// Whether a process is there (not even as a zombie).
pub fn alive(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- the node's log (its end)\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            println!("--- endpoints.json\n{:?}", self.read_endpoints());
        }
        let Some(mut child) = self.up.take() else { return };
        let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)), Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // The mail process ends by itself when its parent is gone.
        let _ = child.kill();
        let _ = child.wait();
    }
}
