//! A pair of the built program: both nodes, or one at a time, started, killed and asked from outside.

use crate::node::{alive, own_address, program, wait_for};
use crate::programs::{Ended, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// One `twinpost up` of a pair.
pub struct Up {
    child: Option<Child>,
    log: PathBuf,
}

impl Up {
    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// What it and its nodes said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal and waits for the end.
    pub fn end_by(&mut self, signal: Signal) -> ExitStatus {
        signal_to(u64::from(self.pid()), signal);
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        wait_for("the end of `up`", || child.try_wait().unwrap())
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// It must not have ended.
    #[track_caller]
    pub fn still_runs(&mut self) {
        let child = self.child.as_mut().expect("it runs");
        assert!(child.try_wait().unwrap().is_none(), "`up` ended:\n{}", self.log());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- the log of this `up` (its end)\n{}", lines[lines.len().saturating_sub(80)..].join("\n"));
        }
        let Some(mut child) = self.child.take() else { return };
        let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)), Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(40);
        while Instant::now() < end {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Sends a signal to a process that may be gone.
pub fn signal_to(pid: u64, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
}

/// The folder of a pair.
pub struct Two {
    folder: TempDir,
    address: std::net::IpAddr,
}

impl Two {
    /// An empty folder, and a service address that no other test has.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), address: own_address() }
    }

    /// The folder of a node that was alone until now.
    pub fn of(node: crate::node::Node) -> Self {
        let address = node.ip();
        Self { folder: node.into_folder(), address }
    }

    /// The folder given to `up`.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// `up` with these arguments, tied to the life of this thread; its output goes to the file `<name>.log`.
    pub fn up(&self, name: &str, arguments: &[&str]) -> Up {
        let log = self.dir().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program()).arg("up").arg("--dir").arg(self.dir()).args(["--nodes", "2"]);
        command.args(["--address", &self.address.to_string(), "--modem", "instant"]).args(arguments);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Up { child: Some(command.spawn().expect("setpriv is installed")), log }
    }

    /// `up` that must end by itself.
    pub fn up_in_vain(&self, arguments: &[&str]) -> Ended {
        run(Command::new(program()).arg("up").arg("--dir").arg(self.dir()).args(arguments), b"")
    }

    /// `endpoints.json`, if it is there; it is always whole.
    pub fn endpoints(&self) -> Option<Value> {
        let bytes = std::fs::read(self.dir().join("endpoints.json")).ok()?;
        Some(serde_json::from_slice(&bytes).expect("endpoints.json is whole at every moment"))
    }

    /// The processes of a node that `endpoints.json` names.
    pub fn pids(&self, node: &str) -> Vec<(String, u64)> {
        let endpoints = self.endpoints().unwrap_or_default();
        let nodes = endpoints["nodes"].as_array().cloned().unwrap_or_default();
        let found = nodes.iter().find(|n| n["name"] == node).cloned().unwrap_or_default();
        let pids = found["pids"].as_object().cloned().unwrap_or_default();
        pids.iter().map(|(name, pid)| (name.clone(), pid.as_u64().unwrap())).collect()
    }

    /// One of them.
    pub fn pid(&self, node: &str, part: &str) -> Option<u64> {
        self.pids(node).into_iter().find(|(name, _)| name == part).map(|(_, pid)| pid)
    }

    /// The node whose mail process `endpoints.json` names and that answers, if it is only one.
    pub fn active(&self) -> Option<&'static str> {
        let with: Vec<&str> = ["a", "b"].into_iter().filter(|node| self.pid(node, "mail").is_some_and(alive)).collect();
        match with.as_slice() {
            ["a"] => Some("a"),
            ["b"] => Some("b"),
            _ => None,
        }
    }

    /// Waits until a node serves mail on the service address and the other is an eligible standby; gives both.
    pub fn settled(&self, up: &mut Up) -> (&'static str, &'static str) {
        let active = wait_for("an active node and an eligible standby", || {
            up.still_runs();
            let active = self.active()?;
            let status = self.status(active)?;
            let nodes = status["nodes"].as_array()?;
            let eligible = nodes.iter().any(|n| n["name"] != active && n["eligible"] == true);
            (status["active"] == active && eligible && self.banner()).then_some(active)
        });
        (active, if active == "a" { "b" } else { "a" })
    }

    /// What the pair daemon of a node says.
    pub fn status(&self, node: &str) -> Option<Value> {
        use std::io::{BufRead, BufReader, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(self.dir().join(node).join("run/pair.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"{\"op\":\"status\"}\n").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    /// Where a service is.
    pub fn at(&self, service: &str) -> SocketAddr {
        let endpoints = self.endpoints().expect("it is there");
        let port =
            endpoints["service"][service].as_u64().and_then(|p| p.try_into().ok()).unwrap_or_else(|| panic!("no {service}"));
        SocketAddr::new(endpoints["service"]["address"].as_str().unwrap().parse().unwrap(), port)
    }

    /// Whether SMTP greets on the service address.
    pub fn banner(&self) -> bool {
        use std::io::Read;
        let Ok(mut stream) = std::net::TcpStream::connect_timeout(&self.at("smtp"), Duration::from_secs(2)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).is_ok() && &greeting == b"220 "
    }

    /// Password of an account of the demo.
    pub fn password(&self, address: &str) -> String {
        let all = self.endpoints().expect("it is there")["accounts"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|a| a["address"] == address).unwrap_or_else(|| panic!("no demo account {address}"));
        found["password"].as_str().unwrap().to_owned()
    }

    /// A message by port 25; it must be acknowledged.
    #[track_caller]
    pub fn send(&self, to: &str, subject: &str) {
        let mut smtp = crate::smtp::Smtp::open(self.at("smtp")).expect("port 25 answers");
        let text = format!("Subject: {subject}\r\n\r\nx\r\n");
        let reply = smtp.mail("you@elsewhere.example", &[to], text.as_bytes()).unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }

    /// How many messages of an account have this subject, by `curl` over IMAPS with the certificate authority of `endpoints.json`.
    pub fn count(&self, account: &str, subject: &str) -> usize {
        let ca = self.endpoints().expect("it is there")["ca"].as_str().unwrap().to_owned();
        let url = format!("imaps://{}/INBOX", self.at("imaps"));
        let search = format!("SEARCH SUBJECT \"{subject}\"");
        let user = format!("{account}:{}", self.password(account));
        let found =
            run(Command::new("curl").args(["--silent", "--show-error", "--cacert", &ca, "-u", &user, &url, "-X", &search]), b"")
                .well();
        found.lines().filter_map(|line| line.strip_prefix("* SEARCH")).map(|list| list.split_whitespace().count()).sum()
    }

    /// `twinpost ctl` on the folder.
    pub fn ctl(&self, words: &[&str]) -> Ended {
        run(Command::new(program()).arg("ctl").arg("--dir").arg(self.dir()).args(words), b"")
    }

    /// A line to the rack, which must be followed.
    #[track_caller]
    pub fn rack(&self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        self.ctl(&[&["rack"], words.as_slice()].concat()).well()
    }

    /// The rack's state.
    pub fn shown(&self) -> Value {
        let out = self.ctl(&["--json", "rack", "show"]).well();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("`rack show` is no JSON: {e}\n{out}"))
    }

    /// `kill -9` of every process of a node that `endpoints.json` names, as a person does who reads it.
    pub fn pull_the_plug(&self, node: &str) -> Vec<(String, u64)> {
        let pids = self.pids(node);
        assert!(pids.iter().any(|(name, _)| name == "node"), "node {node} runs: {pids:?}");
        for (_, pid) in &pids {
            signal_to(*pid, Signal::SIGKILL);
        }
        pids
    }

    /// Waits until nothing of a node is left and `endpoints.json` says so.
    pub fn wait_for_dark(&self, node: &str, old: &[(String, u64)]) {
        wait_for("the end of every process of the node", || {
            (self.pids(node).is_empty() && old.iter().all(|(_, pid)| !alive(*pid))).then_some(())
        });
    }
}

/// Session of a process.
pub fn session_of(pid: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}
