//! `twinpost ctl pair pairing`: makes two nodes a pair by a short code, on the node itself.
//!
//! Contract: works without a daemon, as a node without a peer has none. What is written lies in the node's `pair` folder. A `node.toml` that was
//! completed before is switched on, and on the image the pair daemon starts at once; where there is none, one is begun, switched off, for a
//! person to complete. The node that follows gives its own appliance document up for the other's.

use super::show;
use crate::cli::{PairingOrder, Sure};
use crate::node::{Folder, board, version, write_whole};
use crate::{EXIT_DONE, EXIT_FAILED, complain};
use serde_json::json;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use twinpost_config::PairLink;
use twinpost_config::history::History;
use twinpost_node::api::Request;
use twinpost_peer::{About, Identity, PairAs, Paired, pair_join, pair_offer};

/// Where pairing is offered on the crossover cable: beside the ports of the pair itself (6940 to 6943).
const PAIRING_PORT: u16 = 6944;

/// Carries out an order; gives the exit code.
pub async fn run(order: &PairingOrder, dir: &Path, as_json: bool) -> u8 {
    match carry_out(order, &Folder::find(dir), as_json).await {
        Ok(()) => EXIT_DONE,
        Err(message) => {
            if as_json {
                show::note("", &json!({ "error": message }), true);
            } else {
                complain(&message);
            }
            EXIT_FAILED
        }
    }
}

async fn carry_out(order: &PairingOrder, folder: &Folder, as_json: bool) -> Result<(), String> {
    if !folder.document().exists() {
        return Err(format!("{} holds no node; name its folder with --dir", folder.path().display()));
    }
    match order {
        PairingOrder::Undo(Sure { yes }) => {
            if !*yes {
                return Err(
                    "this node forgets its peer and works alone from its next start, with the data that it has now: add --yes"
                        .to_owned(),
                );
            }
            identity(folder)?.unpair().map_err(|e| e.to_string())?;
            let file = folder.path().join(twinpost_config::NODE_FILE);
            if file.exists() {
                enable(&file, None)?;
            }
            super::system::tell(Request::Unpaired).await?;
            show::note("the peer is forgotten; this node is a node alone", &json!({ "paired": false }), as_json);
            Ok(())
        }
        PairingOrder::WitnessKey { file } => {
            let pair = identity(folder)?.pair().ok_or("this node has no peer yet")?;
            if file.as_os_str() == "-" {
                let key = twinpost_witness::Key::from(pair.witness_key.0).to_hex();
                let text = format!(
                    "On the witness: twinpost witness --dir DIR --enrol {} --key-file FILE, where FILE holds this key:\n{key}",
                    pair.cluster
                );
                show::note(&text, &json!({ "cluster": pair.cluster, "key": key }), as_json);
                return Ok(());
            }
            twinpost_witness::Key::from(pair.witness_key.0).save(file).map_err(|e| e.to_string())?;
            let text = format!(
                "On the witness: twinpost witness --dir DIR --enrol {} --key-file {}\nThen delete the file.",
                pair.cluster,
                file.display()
            );
            show::note(&text, &json!({ "cluster": pair.cluster, "file": file }), as_json);
            Ok(())
        }
        PairingOrder::Offer { listen, replace } => {
            let identity = identity(folder)?;
            expect(folder, &identity, "a")?;
            let listen = match listen {
                Some(listen) => *listen,
                None => crossover(folder, |link| link.bind)?,
            };
            let mine = PairAs { about: about(folder)?, replace: *replace };
            let offer = pair_offer(identity, mine, listen).await.map_err(|e| e.to_string())?;
            let code = offer.code().to_string();
            let text = format!(
                "Type this on the other node within ten minutes:\n\n  twinpost ctl pair pairing join {} {code}\n",
                offer.address()
            );
            // One line: a machine reads it while this order goes on.
            let told = json!({ "code": code, "address": offer.address().to_string() });
            show::text(&if as_json { told.to_string() } else { text });
            let mut wrong = offer.wrong();
            let watch = async {
                while wrong.changed().await.is_ok() {
                    complain(&format!("a wrong code came ({} of {})", *wrong.borrow(), twinpost_peer::pairing::MAX_WRONG));
                }
                std::future::pending::<()>().await;
            };
            let paired = tokio::select! {
                paired = offer.wait() => paired.map_err(|e| e.to_string())?,
                () = watch => return Err("the offer ended".to_owned()),
            };
            done(folder, &paired, as_json).await
        }
        PairingOrder::Join { address, code } => {
            let identity = identity(folder)?;
            let address = match address {
                Some(address) => *address,
                None => crossover(folder, |link| link.peer)?,
            };
            let mine = PairAs { about: about(folder)?, replace: false };
            let paired = pair_join(identity, mine, address, code).await.map_err(|e| e.to_string())?;
            done(folder, &paired, as_json).await
        }
    }
}

fn identity(folder: &Folder) -> Result<Arc<Identity>, String> {
    // A key is made where there is none yet; one that was lost while a pair is kept is told, not replaced.
    Identity::create(&folder.pair()).map(Arc::new).map_err(|e| e.to_string())
}

fn about(folder: &Folder) -> Result<About, String> {
    let named = twinpost_config::load_node(folder.path()).map_err(|e| e.to_string())?.node.name;
    // A node that was never part of a pair has no letter yet; two new machines may even have the same host name.
    let name = named.unwrap_or_else(|| {
        let machine = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        format!("{machine}-{:04x}", rand::random::<u16>())
    });
    Ok(About { name, board: board(), program: version() })
}

/// Of two new nodes the one that offers becomes node a: on one that was set up as node b the code belongs to the other side.
fn expect(folder: &Folder, identity: &Identity, letter: &str) -> Result<(), String> {
    let named = twinpost_config::load_node(folder.path()).map_err(|e| e.to_string())?.node.name;
    match named {
        Some(name) if identity.pair().is_none() && ["a", "b"].contains(&name.as_str()) && name != letter => Err(format!(
            "this node was set up as node {name}: offer the pairing on node {letter} (`pair pairing offer`), and join here"
        )),
        _ => Ok(()),
    }
}

/// An end of the crossover cable, with the port for pairing.
fn crossover(folder: &Folder, end: impl Fn(&PairLink) -> Option<SocketAddr>) -> Result<SocketAddr, String> {
    let node = twinpost_config::load_node(folder.path()).map_err(|e| e.to_string())?;
    let end = end(&node.pair.eth1).ok_or(
        "node.toml does not say where the crossover cable is ([pair.eth1]): set this node up first, or give the address",
    )?;
    Ok(SocketAddr::new(end.ip(), PAIRING_PORT))
}

/// Switches the pair on in a complete `node.toml`, as this letter, or off; everything else in it stays as it was written.
fn enable(file: &Path, letter: Option<&str>) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| failed(&e))?;
    let mut document: toml_edit::DocumentMut = text.parse().map_err(|e| failed(&e))?;
    if let Some(letter) = letter {
        document["node"]["name"] = toml_edit::value(letter);
    }
    document["pair"]["enabled"] = toml_edit::value(letter.is_some());
    let text = document.to_string();
    // What is missing is told, and nothing was written.
    twinpost_config::parse_node(&text, &file.display().to_string()).map_err(|e| e.to_string())?;
    let mode = std::fs::metadata(file).map_or(0o600, |about| about.permissions().mode() & 0o777);
    write_whole(file, text.as_bytes(), mode).map_err(|e| failed(&e))
}

/// The document of this node gives way to the other node's.
fn follow(folder: &Folder) -> Result<(), String> {
    let node = twinpost_config::load(&folder.document()).map_err(|e| e.to_string())?.node.name;
    let judge = crate::pair::judge_document;
    let opened = History::open(&folder.history(), &folder.document(), &node, None, &judge);
    let (mut history, _) = opened.map_err(|e| e.to_string())?;
    history.yield_to_other(&judge).map_err(|e| e.to_string())
}

async fn done(folder: &Folder, paired: &Paired, as_json: bool) -> Result<(), String> {
    let letter = paired.pair.node.to_string();
    let file = folder.path().join(twinpost_config::NODE_FILE);
    let mut text = format!("This node is node {letter} of pair {}.", paired.pair.cluster);
    if paired.follows {
        follow(folder)?;
    }
    if file.exists() {
        let named = twinpost_config::load_node(folder.path()).map_err(|e| e.to_string())?.node.name;
        if let Some(named) = named.filter(|named| ["a", "b"].contains(&named.as_str()) && *named != letter) {
            text.push_str(&format!(
                "\nMind: it was set up as node {named}. Set it up again as node {letter}: its addresses belong to that letter."
            ));
        } else {
            match enable(&file, Some(&letter)) {
                Ok(()) => match super::system::tell(Request::Paired).await? {
                    Some(said) => text.push_str(&format!(" {}", said.en)),
                    None => text.push_str(&format!(" The pair is switched on in {}: start the node again.", file.display())),
                },
                Err(why) => text.push_str(&format!(" The pair is not switched on yet, {why}")),
            }
        }
    } else {
        write_whole(&file, first_node_file(&letter).as_bytes(), 0o600)
            .map_err(|e| format!("cannot write {}: {e}", file.display()))?;
        text.push_str(&format!(" Complete {} and set enabled = true, then start it again.", file.display()));
    }
    for warning in &paired.warnings {
        text.push_str(&format!("\nMind: {warning}"));
    }
    let value = json!({ "node": letter, "cluster": paired.pair.cluster, "warnings": paired.warnings, "node_file": file });
    show::note(&text, &value, as_json);
    Ok(())
}

fn first_node_file(letter: &str) -> String {
    format!(
        "# What belongs to this node alone. All keys: docs/configuration.md, \"node.toml\".\nversion = 1\n\n[node]\nname = \"{letter}\"\n\n\
         [pair]\nenabled = false\n\n[pair.eth1]\n# bind = \"192.0.2.1:6940\"\n# peer = \"192.0.2.2:6940\"\n# interface = \"eth1\"\n\n[pair.lan]\n\
         # bind = \"198.51.100.11:6941\"\n# peer = \"198.51.100.12:6941\"\n\n[pair.serial]\n# port = \"/dev/ttyS0\"\n\n[pair.channel]\n\
         # bind = \"192.0.2.1:6943\"\n# peer = \"192.0.2.2:6943\"\n\n[pair.storage]\ndriver = \"drbd\"\n# bind = \"192.0.2.1:7789\"\n\
         # peer = \"192.0.2.2:7789\"\n\n[pair.address]\n# interface = \"eth0\"\n# addresses = [\"198.51.100.10/24\"]\n"
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_node_file_is_sound_before_and_after_it_was_completed() {
        let text = super::first_node_file("b");
        let node = twinpost_config::parse_node(&text, "node.toml").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((node.node.name.as_deref(), node.pair.enabled), (Some("b"), false));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        std::fs::write(&file, &text).unwrap();
        let why = super::enable(&file, Some("b")).unwrap_err();
        assert!(why.contains("pair"), "{why}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "what is not complete is not switched on");
        let complete = text
            .replace("# bind", "bind")
            .replace("# peer", "peer")
            .replace("# port", "port")
            .replace("# interface", "interface");
        let complete = complete.replace("# addresses", "addresses").replace("enabled = false", "enabled = true");
        assert!(twinpost_config::parse_node(&complete, "node.toml").is_ok_and(|node| node.pair.enabled), "{complete}");
        std::fs::write(&file, complete.replace("enabled = true", "enabled = false # not yet")).unwrap();
        super::enable(&file, Some("a")).unwrap();
        let node = twinpost_config::load_node(dir.path()).unwrap();
        assert_eq!((node.node.name.as_deref(), node.pair.enabled), (Some("a"), true));
        super::enable(&file, None).unwrap();
        assert!(!twinpost_config::load_node(dir.path()).unwrap().pair.enabled);
    }
}
