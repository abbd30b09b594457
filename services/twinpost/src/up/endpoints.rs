//! `endpoints.json`: what a program needs to use the node, and the sentence that a person needs.

use super::SERVICES;
use super::parts::SimulatedModem;
use crate::node::{Folder, write_whole};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use twinpost_config::Document;

/// An account that the demo made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DemoAccount {
    /// Its address, which is its name at sign-in.
    pub address: String,
    /// Its password, made at random.
    pub password: String,
    /// operator, domain_admin or user.
    pub role: String,
}

/// What `endpoints.json` says.
pub struct Endpoints {
    dir: PathBuf,
    node_dir: PathBuf,
    node: String,
    address: String,
    ports: Vec<(&'static str, u16)>,
    domain: String,
    accounts: Vec<DemoAccount>,
    ca: PathBuf,
    sms_domain: Option<String>,
    modem: Option<PathBuf>,
    simulated: Option<SimulatedModem>,
    running: bool,
    pids: BTreeMap<&'static str, u32>,
}

impl Endpoints {
    /// The endpoints of this node; accounts of an earlier start are kept.
    pub fn new(dir: &Path, folder: &Folder, document: &Document, simulated: Option<&SimulatedModem>) -> Self {
        let net = &document.network;
        let lists = [&net.smtp, &net.submission, &net.submissions, &net.lmtp, &net.imap, &net.imaps, &net.pop3, &net.pop3s];
        let ports = SERVICES.iter().zip(lists).filter_map(|(name, list)| Some((*name, list.first()?.port()))).collect();
        let address = lists.iter().find_map(|list| list.first()).map_or_else(|| "127.0.0.1".to_owned(), |a| a.ip().to_string());
        let earlier: Option<Value> =
            std::fs::read(dir.join("endpoints.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let earlier = |key: &str| earlier.as_ref().and_then(|v| v.get(key)).cloned();
        Self {
            dir: dir.to_owned(),
            node_dir: folder.path().to_owned(),
            node: document.node.name.clone(),
            address,
            ports,
            domain: earlier("domain").and_then(|d| d.as_str().map(str::to_owned)).unwrap_or_default(),
            accounts: earlier("accounts").and_then(|a| serde_json::from_value(a).ok()).unwrap_or_default(),
            ca: document.tls.certificate.clone().unwrap_or_else(|| folder.tls().join("ca.pem")),
            sms_domain: document.sms.domains.first().filter(|_| document.sms.enabled).cloned(),
            modem: document.sms.port.as_ref().filter(|_| document.sms.enabled).map(|port| folder.within(port)),
            simulated: simulated.cloned(),
            running: true,
            pids: BTreeMap::new(),
        }
    }
    /// The demo was made.
    pub fn demo(&mut self, (domain, accounts): (String, Vec<DemoAccount>)) {
        self.domain = domain;
        self.accounts = accounts;
    }
    /// A part has this process number now, or none.
    pub fn pid(&mut self, part: &'static str, pid: Option<u32>) {
        match pid {
            Some(pid) => drop(self.pids.insert(part, pid)),
            None => drop(self.pids.remove(part)),
        }
    }
    /// Nothing runs any more.
    pub fn stopped(&mut self) {
        self.running = false;
    }

    fn value(&self) -> Value {
        let mut service = serde_json::Map::from_iter([("address".to_owned(), json!(self.address))]);
        service.extend(self.ports.iter().map(|(name, port)| ((*name).to_owned(), json!(port))));
        let mut pids = serde_json::Map::new();
        if self.running {
            pids.insert("up".to_owned(), json!(std::process::id()));
            pids.extend(self.pids.iter().map(|(part, pid)| ((*part).to_owned(), json!(pid))));
        }
        let record = self.simulated.as_ref().map(|m| &m.record);
        let control = self.simulated.as_ref().map(|m| &m.control);
        let modem = |port: &PathBuf| json!({ "node": self.node, "port": port, "record": record, "control": control });
        let modems: Vec<Value> = self.modem.iter().map(modem).collect();
        json!({
            "service": service,
            "nodes": [{ "name": self.node, "address": self.address, "dir": self.node_dir, "pids": pids }],
            "domain": self.domain,
            "accounts": self.accounts,
            "ca": self.ca,
            "sms_domain": self.sms_domain,
            "modems": modems,
        })
    }

    /// Writes the file: whole, and readable by its owner only, as it holds passwords.
    ///
    /// # Errors
    /// A sentence.
    pub fn write(&self) -> Result<(), String> {
        let path = self.dir.join("endpoints.json");
        let text = serde_json::to_vec_pretty(&self.value()).map_err(|e| e.to_string())?;
        write_whole(&path, &text, 0o600).map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    /// Says on the terminal how to use the node.
    #[allow(clippy::print_stdout, reason = "this is what `up` is asked for: a person reads it")]
    pub fn announce(&self) {
        let port =
            |name: &str| self.ports.iter().find(|(n, _)| *n == name).map_or_else(|| "off".to_owned(), |(_, p)| p.to_string());
        let mut text = format!(
            "\nTwinpost is running on {}. Ctrl-C stops it; everything is kept in {}.\n\n\
             \x20 mail in     SMTP {}, submission {} (STARTTLS) or {} (TLS), LMTP {}\n\
             \x20 mail out    IMAP {} (STARTTLS) or {} (TLS), POP3 {} (STARTTLS) or {} (TLS)\n\
             \x20 certificate authority for clients: {}\n",
            self.address,
            self.dir.display(),
            port("smtp"),
            port("submission"),
            port("submissions"),
            port("lmtp"),
            port("imap"),
            port("imaps"),
            port("pop3"),
            port("pop3s"),
            self.ca.display()
        );
        if !self.accounts.is_empty() {
            text.push_str("\n  account                            password              role\n");
            for account in &self.accounts {
                text.push_str(&format!("  {:<34} {:<21} {}\n", account.address, account.password, account.role));
            }
        }
        if let Some(first) = self.accounts.last() {
            text.push_str(&format!(
                "\n  Try it:  swaks --server {}:{} --to {} --from you@{}\n           curl --cacert {} imaps://{}:{}/INBOX -u '{}:{}' -X 'FETCH 1:* (FLAGS ENVELOPE)'\n",
                self.address,
                port("smtp"),
                first.address,
                "elsewhere.example",
                self.ca.display(),
                self.address,
                port("imaps"),
                first.address,
                first.password
            ));
        }
        if let (Some(first), Some(domain), Some(modem)) = (self.accounts.last(), &self.sms_domain, &self.simulated) {
            text.push_str(&format!(
                "  A text:  swaks --server {}:{} -tls --auth-user {} --auth-password '{}' --from {} --to 13800138000@{domain} --body 'Hello 你好'\n           tail -f {}\n",
                self.address,
                port("submission"),
                first.address,
                first.password,
                first.address,
                modem.record.display()
            ));
        }
        text.push_str(&format!("  Look inside: twinpost ctl --dir {} status\n", self.dir.display()));
        println!("{text}");
    }
}
