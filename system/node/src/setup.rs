//! What a person says once: letter, addresses, domain; the board says the rest.
//!
//! Contract: [`prepare`] makes the texts of `node.toml` and of the appliance document from a wish, from what is set already and from the roles
//! that the board's parts have now; comments and keys that the wish does not touch stay. It refuses with every reason at once, and both texts
//! are read back by the crate of the configuration before anything is written. [`Prepared::carry_out`] writes them at once each, then the files
//! of /etc, the network and the firewall's elements: the LAN has its address without a reboot. What the running daemons read only when they
//! start is named in [`Prepared::restart`].
//!
//! Failure classes: [`Refused`]: nothing was changed. Faults of carrying out are told in the answer: the documents are written then, and the
//! next boot tries again.

mod check;
mod documents;
mod parts;
mod wish;

pub use wish::Wish;

use crate::api::{Done, Progress, Refused, Step, Text};
use crate::render::boot::{Sys, documents as read_documents};
use crate::render::{FIREWALL_FILE, Facts, Fault, files, host_name, network, write};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use twinpost_board::{Detected, Roles};
use twinpost_config::{Document, NODE_FILE, NodeDocument};
use twinpost_storage::Program;

/// The appliance document's name in the node's folder.
const DOCUMENT_FILE: &str = "appliance.toml";
/// Readable by the group of the node's programs.
const DOCUMENT_MODE: u32 = 0o640;
/// Root's alone.
const SECRET_MODE: u32 = 0o600;
/// Loading the elements of the firewall, starting a unit.
const PROGRAM_WAIT: Duration = Duration::from_secs(20);

/// A setup that can be carried out.
#[derive(Debug)]
pub struct Prepared {
    /// Files to write: path, text, mode.
    files: Vec<(PathBuf, String, u32)>,
    /// What changes, as lines.
    pub diff: String,
    /// What to know.
    pub notes: Vec<Text>,
    /// Units that read what changed only when they start.
    pub restart: Vec<&'static str>,
    /// What will hold.
    pub node: NodeDocument,
    /// What will hold.
    pub document: Document,
    roles: Roles,
}

/// Makes the texts, or says everything that stands against them.
///
/// # Errors
/// All reasons.
pub fn prepare(sys: &Sys, wish: &Wish) -> Result<Prepared, Refused> {
    let (detected, roles) = sys.look();
    prepare_with(sys, wish, &detected, roles)
}

fn prepare_with(sys: &Sys, wish: &Wish, detected: &Detected, roles: Roles) -> Result<Prepared, Refused> {
    let own = text_of(&sys.node.join(NODE_FILE))?;
    let common = text_of(&sys.node.join(DOCUMENT_FILE))?;
    let mut reasons = Vec::new();
    let mut faults = Vec::new();
    let (now, _) = read_documents(&sys.node, &mut faults);
    reasons.extend(faults.into_iter().map(|fault| fault.text));
    if !reasons.is_empty() {
        // What is wrong already is not made better by guessing what it meant.
        return Err(Refused { reasons });
    }
    let changed = parts::changed(sys, &wish.part, &mut reasons);
    let (changes, detected, roles) = match &changed {
        Some((text, detected, roles)) => (Some(text.as_str()), detected, roles.clone()),
        None => (None, detected, roles),
    };
    let (whole, mut notes) = check::whole(wish, &now, &roles, &mut reasons);
    let Some(whole) = whole.filter(|_| reasons.is_empty()) else { return Err(Refused { reasons }) };
    let mut files = Vec::new();
    for (from, name) in [(&wish.power_password_file, "power-password"), (&wish.power_ca_file, "power-ca.pem")] {
        match from.as_ref().map(|from| (from, read_secret(from))) {
            None => {}
            Some((_, Ok(text))) => files.push((sys.node.join(name), text, SECRET_MODE)),
            Some((from, Err(error))) => reasons.push(Text::new(
                format!("cannot read {}: {error}", from.display()),
                format!("无法读取 {}：{error}", from.display()),
            )),
        }
    }
    if let Some(password) = &wish.power_password {
        files.push((sys.node.join("power-password"), format!("{password}\n"), SECRET_MODE));
    }
    // The same secret again is no change.
    files.retain(|(path, text, _)| std::fs::read_to_string(path).ok().as_ref() != Some(text));
    let node_text = documents::node(&own, &whole, &roles);
    let document_text = documents::appliance(&common, &whole, &roles);
    let mut faulty = |error: twinpost_config::Error| reasons.push(Text::same(error.to_string()));
    let node = twinpost_config::parse_node(&node_text, NODE_FILE).map_err(&mut faulty);
    let document = twinpost_config::parse(&document_text, DOCUMENT_FILE).map_err(&mut faulty);
    let (Ok(node), Ok(document), true) = (node, document, reasons.is_empty()) else { return Err(Refused { reasons }) };

    let mut diff = String::new();
    let mut restart = Vec::new();
    let texts = [(NODE_FILE, own, node_text), (DOCUMENT_FILE, common, document_text)];
    for (name, before, after) in texts {
        if before != after {
            diff.push_str(&format!("--- {name}\n{}", twinpost_config::history::diff(&before, &after)));
            files.push((sys.node.join(name), after, DOCUMENT_MODE));
        }
    }
    if !files.is_empty() {
        restart = vec!["twinpost-pair.service", "twinpost-sms.service"];
    }
    let found = parts::found_lan(sys, changes, detected, &roles);
    if found.is_some() {
        notes.push(Text::new(
            "the LAN's port of this unknown machine is kept as it was found now",
            "将保留此未知机型当前找到的局域网口",
        ));
    }
    if let Some(text) = found.or_else(|| changes.map(str::to_owned)) {
        let before = text_of(&sys.changes)?;
        if before != text {
            diff.push_str(&format!("--- board.toml\n{}", twinpost_config::history::diff(&before, &text)));
            files.push((sys.changes.clone(), text, DOCUMENT_MODE));
        }
    }
    Ok(Prepared { files, diff, notes, restart, node, document, roles })
}

fn text_of(path: &Path) -> Result<String, Refused> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => {
            let at = path.display();
            Err(Refused::one(Text::new(format!("cannot read {at}: {error}"), format!("无法读取 {at}：{error}"))))
        }
    }
}

fn read_secret(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    /// A password or a certificate.
    const LONGEST: u64 = 64 * 1024;
    let mut text = String::new();
    std::fs::File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// A new file takes the old one's place, after it is on the disk.
fn replace(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let fresh = folder.join(name);
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    std::fs::File::open(folder)?.sync_all()
}

impl Prepared {
    /// Nothing would be written.
    #[must_use]
    pub fn nothing(&self) -> bool {
        self.files.is_empty()
    }

    /// Writes the documents and applies them.
    ///
    /// # Errors
    /// A document could not be written. Faults of applying are in the answer.
    pub async fn carry_out(&self, sys: &Sys, progress: Progress<'_>) -> Result<Vec<Fault>, Refused> {
        let step = |done: u64, en: &str, zh: &str| progress(Step { what: Text::new(en, zh), done, of: 3 });
        step(0, "writing the documents", "写入配置");
        for (path, text, mode) in &self.files {
            replace(path, text, *mode).map_err(|error| {
                let at = path.display();
                Refused::one(Text::new(format!("cannot write {at}: {error}"), format!("无法写入 {at}：{error}")))
            })?;
        }
        step(1, "setting up the network", "设置网络");
        let id = std::fs::read_to_string(sys.root.join("etc/machine-id")).ok();
        let facts = Facts { node: &self.node, document: Some(&self.document), machine_id: id.as_deref().map(str::trim) };
        let mut faults = write(&sys.root, &files(facts));
        if sys.kernel {
            if let Err(errno) = nix::unistd::sethostname(host_name(&self.node)) {
                faults.push(Fault::new(
                    "file",
                    None,
                    format!("cannot set the host name: {errno}"),
                    format!("无法设置主机名：{errno}"),
                ));
            }
            faults.extend(network::apply(&network::plan(&self.node, &self.roles), &sys.proc.join("sys/net")).await);
            step(2, "firewall and clock", "防火墙与时钟");
            let firewall = sys.root.join(FIREWALL_FILE.trim_start_matches('/')).display().to_string();
            for (program, arguments) in
                [("nft", vec!["-f", firewall.as_str()]), ("systemctl", vec!["try-restart", "systemd-timesyncd.service"])]
            {
                if let Err(error) = Program::new(program).ok(&arguments, PROGRAM_WAIT).await {
                    faults.push(Fault::new("network", None, error.to_string(), error.to_string()));
                }
            }
        }
        step(3, "set up", "设置完成");
        Ok(faults)
    }
}

/// The answer to `setup`: a preview, or what was done.
///
/// # Errors
/// All reasons against it.
pub async fn answer(sys: &Sys, wish: Value, go: bool, progress: Progress<'_>) -> Result<Done, Refused> {
    let wish: Wish = serde_json::from_value(wish).map_err(|error| {
        Refused::one(Text::new(format!("the setup is not understood: {error}"), format!("无法理解设置：{error}")))
    })?;
    let prepared = prepare(sys, &wish)?;
    let mut value = json!({
        "changes": prepared.diff,
        "notes": prepared.notes,
        "restart": prepared.restart,
        "done": false,
    });
    let (mut en, mut zh) = (prepared.diff.clone(), prepared.diff.clone());
    if prepared.nothing() {
        en.push_str("Everything is set so already.");
        zh.push_str("设置没有变化。");
    }
    for note in &prepared.notes {
        en.push_str(&format!("\nMind: {}", note.en));
        zh.push_str(&format!("\n注意：{}", note.zh));
    }
    if !go || prepared.nothing() {
        let confirm = (!prepared.nothing()).then(|| "yes".to_owned());
        return Ok(Done { text: Text::new(en, zh), value, confirm });
    }
    let faults = prepared.carry_out(sys, progress).await?;
    tracing::info!(node = prepared.node.node.name.as_deref().unwrap_or("-"), faults = faults.len(), "set up");
    en.push_str("\nSet up.");
    zh.push_str("\n设置完成。");
    for fault in &faults {
        en.push_str(&format!("\n- {}", fault.text.en));
        zh.push_str(&format!("\n- {}", fault.text.zh));
    }
    value["done"] = json!(true);
    value["faults"] = json!(faults);
    Ok(Done { text: Text::new(en, zh), value, confirm: None })
}

/// The answer to `setup show`: what is set, and which port is which.
///
/// # Errors
/// Documents with faults.
pub fn show(sys: &Sys) -> Result<Done, Refused> {
    let mut faults = Vec::new();
    let (node, document) = read_documents(&sys.node, &mut faults);
    if !faults.is_empty() {
        return Err(Refused { reasons: faults.into_iter().map(|fault| fault.text).collect() });
    }
    let list = |all: Vec<String>| if all.is_empty() { "-".to_owned() } else { all.join(", ") };
    let nets = |all: &[(std::net::IpAddr, u8)]| list(all.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect());
    let mut lines: BTreeMap<&str, (&str, &str, String)> = BTreeMap::new();
    lines.insert("1", ("node", "节点", node.node.name.clone().unwrap_or_else(|| "-".to_owned())));
    lines.insert("2", ("LAN addresses", "局域网地址", nets(&node.lan.addresses)));
    lines.insert("3", ("gateways", "网关", list(node.lan.gateways.iter().map(ToString::to_string).collect())));
    lines.insert("4", ("name servers", "DNS 服务器", list(node.lan.dns.iter().map(ToString::to_string).collect())));
    lines.insert("5", ("time servers", "时间服务器", list(node.lan.ntp.clone())));
    lines.insert("6", ("service addresses", "服务地址", nets(&node.pair.address.addresses)));
    let host = document.as_ref().map_or_else(|| "-".to_owned(), |d| d.node.host_name.clone());
    lines.insert("7", ("host name", "主机名", host));
    let witness = node.pair.witness.address.map_or_else(|| "-".to_owned(), |at| at.to_string());
    lines.insert("8", ("witness", "见证", witness));
    let text = |pick: fn(&(&str, &str, String)) -> String| lines.values().map(pick).collect::<Vec<_>>().join("\n");
    let value = json!({
        "set_up": document.is_some(),
        "node": node.node.name,
        "lan": node.lan.addresses.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect::<Vec<_>>(),
        "gateways": node.lan.gateways,
        "dns": node.lan.dns,
        "ntp": node.lan.ntp,
        "service": node.pair.address.addresses.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect::<Vec<_>>(),
        "host_name": document.as_ref().map(|d| d.node.host_name.clone()),
        "witness": node.pair.witness.address,
        "pair": node.pair.enabled,
    });
    let text = Text::new(text(|(en, _, what)| format!("{en}: {what}")), text(|(_, zh, what)| format!("{zh}：{what}")));
    Ok(Done { text, value, confirm: None })
}

#[cfg(test)]
mod tests;
