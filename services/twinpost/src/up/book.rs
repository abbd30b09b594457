//! `endpoints.json` of a pair: what a program needs to use it, and the sentence that a person needs.
//!
//! Contract: written whole by every `up` of the folder, each time something of its nodes or its rack changes, under one lock. The
//! processes of both nodes come from what the nodes wrote themselves, so no writer needs to know another. What only the rack
//! knows (the witness) is kept by the others as it stands.

use super::SERVICES;
use super::endpoints::DemoAccount;
use super::parts::SimulatedModem;
use crate::node::{Folder, write_whole};
use crate::rack::life::Life;
use crate::rack::{NODES, Wiring, control_path, holder, serial_path};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use twinpost_config::{Document, NodeDocument, StorageDriver};

/// What `endpoints.json` of a pair says.
pub struct Book {
    dir: PathBuf,
    folders: [Folder; 2],
    document: Document,
    nodes: [NodeDocument; 2],
    wiring: Wiring,
    /// Of the witness that this process started.
    witness: Option<u32>,
    /// This process runs the rack.
    racks: bool,
    made: Option<(String, Vec<DemoAccount>)>,
}

impl Book {
    /// The book of the pair in this folder.
    pub fn new(dir: &Path, document: Document, nodes: [NodeDocument; 2], wiring: Wiring) -> Self {
        let folders = NODES.map(|node| Folder::new(dir.join(node)));
        Self { dir: dir.to_owned(), folders, document, nodes, wiring, witness: None, racks: false, made: None }
    }

    /// The demo was made.
    pub fn demo(&mut self, made: Option<(String, Vec<DemoAccount>)>) {
        self.made = made.or(self.made.take());
    }

    /// This process runs the rack, or does no more.
    pub fn rack(&mut self, racks: bool) {
        self.racks = racks;
    }

    /// The witness has this process number now, or none.
    pub fn witness(&mut self, pid: Option<u32>) {
        self.witness = pid;
    }

    fn lists(&self) -> [&Vec<SocketAddr>; 8] {
        let net = &self.document.network;
        [&net.smtp, &net.submission, &net.submissions, &net.lmtp, &net.imap, &net.imaps, &net.pop3, &net.pop3s]
    }

    fn address(&self) -> String {
        self.lists().iter().find_map(|list| list.first()).map_or_else(String::new, |at| at.ip().to_string())
    }

    fn port(&self, service: &str) -> Option<u16> {
        let (_, list) = SERVICES.iter().zip(self.lists()).find(|(name, _)| **name == service)?;
        Some(list.first()?.port())
    }

    fn certificate_authority(&self) -> PathBuf {
        let shared = self.storage_root().join("data").join("tls").join("ca.pem");
        self.document.tls.certificate.clone().unwrap_or(shared)
    }

    fn storage_root(&self) -> PathBuf {
        let root = self.folders[0].within(&self.nodes[0].pair.storage.root);
        std::path::absolute(&root).ok().and_then(|_| root.canonicalize().ok()).unwrap_or(root)
    }

    fn pids(folder: &Folder) -> Map<String, Value> {
        let Some(life) = Life::last(folder).filter(Life::leader_runs) else { return Map::new() };
        let parts = life.pids.iter().map(|(part, pid)| (part.clone(), json!(pid)));
        std::iter::once(("node".to_owned(), json!(life.pid))).chain(parts).collect()
    }

    fn value(&self, earlier: &Value) -> Value {
        let kept = |key: &str, otherwise: Value| earlier.get(key).cloned().unwrap_or(otherwise);
        let mut service = Map::from_iter([("address".to_owned(), json!(self.address()))]);
        service.extend(SERVICES.iter().filter_map(|name| Some(((*name).to_owned(), json!(self.port(name)?)))));
        let sms = &self.document.sms;
        let (mut nodes, mut modems) = (Vec::new(), Vec::new());
        for ((name, folder), document) in NODES.iter().zip(&self.folders).zip(&self.nodes) {
            let lan = document.pair.lan.bind.or(document.pair.eth1.bind).map(|at| at.ip().to_string());
            nodes.push(json!({ "name": name, "address": lan, "dir": folder.path(), "pids": Self::pids(folder) }));
            if let Some(port) = sms.port.as_ref().filter(|_| sms.enabled) {
                let simulated = SimulatedModem::of(&self.document, folder);
                let (record, control) = (simulated.as_ref().map(|m| &m.record), simulated.as_ref().map(|m| &m.control));
                modems.push(json!({ "node": name, "port": folder.within(port), "record": record, "control": control }));
            }
        }
        let (domain, accounts) = match &self.made {
            Some((domain, accounts)) => (json!(domain), json!(accounts)),
            None => (kept("domain", json!("")), kept("accounts", json!([]))),
        };
        let witness_pid =
            if self.racks { json!(self.witness) } else { earlier.pointer("/pair/witness/pid").cloned().unwrap_or_default() };
        let driver = match self.nodes[0].pair.storage.driver {
            StorageDriver::Shared => "shared",
            StorageDriver::Array => "array",
            StorageDriver::Drbd => "drbd",
        };
        let path = |path: Option<crate::rack::relay::Path>| path.map(|path| path.show());
        json!({
            "service": service,
            "nodes": nodes,
            "domain": domain,
            "accounts": accounts,
            "ca": self.certificate_authority(),
            "sms_domain": sms.domains.first().filter(|_| sms.enabled),
            "modems": modems,
            "pair": {
                "links": {
                    "eth1": path(self.wiring.eth1),
                    "lan": path(self.wiring.lan),
                    "channel": path(self.wiring.channel),
                    "serial": { "a": serial_path(&self.dir, "a"), "b": serial_path(&self.dir, "b") },
                },
                "storage": { "driver": driver, "root": self.storage_root() },
                "witness": { "address": self.wiring.witness, "pid": witness_pid },
                "rack": {
                    "pid": if self.racks { Some(std::process::id()) } else { holder(&self.dir) },
                    "control": control_path(&self.dir),
                },
            },
        })
    }

    /// Writes the file: whole, and readable by its owner only, as it holds passwords.
    ///
    /// # Errors
    /// A sentence.
    pub fn write(&self) -> Result<(), String> {
        let (path, lock) = (self.dir.join("endpoints.json"), self.dir.join("rack").join("endpoints.lock"));
        let file = File::options().write(true).create(true).truncate(false).open(&lock);
        let file = file.map_err(|e| format!("cannot open {}: {e}", lock.display()))?;
        // Held for as long as a file is written.
        let _lock =
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| format!("cannot lock {}: {e}", lock.display()))?;
        let earlier = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let text = serde_json::to_vec_pretty(&self.value(&earlier)).map_err(|e| e.to_string())?;
        write_whole(&path, &text, 0o600).map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    /// Says on the terminal how to use the pair.
    ///
    /// # Errors
    /// The file that it tells of cannot be read.
    #[allow(clippy::print_stdout, reason = "this is what `up` is asked for: a person reads it")]
    pub fn announce(&self) -> Result<(), String> {
        let path = self.dir.join("endpoints.json");
        let bytes = std::fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("{}", self.words(&value));
        Ok(())
    }

    fn words(&self, value: &Value) -> String {
        let serves = |node: &&Value| node.pointer("/pids/mail").is_some();
        let active = value["nodes"].as_array().and_then(|nodes| nodes.iter().find(serves)).and_then(|node| node["name"].as_str());
        let port = |name: &str| self.port(name).map_or_else(|| "off".to_owned(), |port| port.to_string());
        let (address, ca, dir) = (self.address(), self.certificate_authority(), self.dir.display());
        let mut text = format!(
            "\nTwinpost is running on {address}. Ctrl-C stops it; everything is kept in {dir}.\n\n\
             \x20 mail in     SMTP {}, submission {} (STARTTLS) or {} (TLS), LMTP {}\n\
             \x20 mail out    IMAP {} (STARTTLS) or {} (TLS), POP3 {} (STARTTLS) or {} (TLS)\n\
             \x20 certificate authority for clients: {}\n\n",
            port("smtp"),
            port("submission"),
            port("submissions"),
            port("lmtp"),
            port("imap"),
            port("imaps"),
            port("pop3"),
            port("pop3s"),
            ca.display()
        );
        let mut of_active = Vec::new();
        for node in value["nodes"].as_array().into_iter().flatten() {
            let name = node["name"].as_str().unwrap_or_default();
            let role = match (active, node["pids"].as_object().is_some_and(Map::is_empty)) {
                (_, true) => "does not run here",
                (Some(active), _) if active == name => "active: the service address is here",
                _ => "standby",
            };
            let pids: Vec<String> = node["pids"].as_object().into_iter().flatten().map(|(n, p)| format!("{n} {p}")).collect();
            text.push_str(&format!("  node {name}  {role:<36} {}\n", pids.join(", ")));
            if active == Some(name) {
                of_active = node["pids"].as_object().into_iter().flatten().map(|(_, pid)| pid.to_string()).collect();
            }
        }
        let accounts: Vec<DemoAccount> = serde_json::from_value(value["accounts"].clone()).unwrap_or_default();
        if !accounts.is_empty() {
            text.push_str("\n  account                            password              role\n");
            for account in &accounts {
                text.push_str(&format!("  {:<34} {:<21} {}\n", account.address, account.password, account.role));
            }
        }
        if let Some(first) = accounts.last() {
            text.push_str(&format!(
                "\n  Try it:  swaks --server {address}:{} --to {} --from you@elsewhere.example\n           curl --cacert {} imaps://{address}:{}/INBOX -u '{}:{}' -X 'FETCH 1:* (FLAGS ENVELOPE)'\n",
                port("smtp"),
                first.address,
                ca.display(),
                port("imaps"),
                first.address,
                first.password
            ));
            let modem = active
                .and_then(|active| NODES.iter().position(|node| *node == active))
                .and_then(|index| SimulatedModem::of(&self.document, &self.folders[index]));
            if let (Some(domain), Some(modem)) = (self.document.sms.domains.first(), modem) {
                text.push_str(&format!(
                    "  A text:  swaks --server {address}:{} -tls --auth-user {1} --auth-password '{2}' --from {1} --to 13800138000@{domain} --body 'Hello 你好'\n           tail -f {3}\n",
                    port("submission"),
                    first.address,
                    first.password,
                    modem.record.display()
                ));
            }
        }
        if let Some(active) = active {
            let ctl = format!("twinpost ctl --dir {dir}");
            text.push_str(&format!(
                "\n  Watch:      {ctl} pair status --watch\n\
                 \x20 Hand over:  {ctl} pair standby\n\
                 \x20 Pull the plug of node {active}:  kill -9 {}\n\
                 \x20 and put it back:  twinpost up --dir {dir} --only {active}\n\
                 \x20 Cut a cable:  {ctl} rack cut eth1   (`rack help` lists more)\n",
                of_active.join(" ")
            ));
        }
        text.push_str(&format!("  Look inside: twinpost ctl --dir {dir} status\n"));
        text
    }
}
