//! `twinpost ctl pair pairing`: makes two nodes a pair by a short code, on the node itself.
//!
//! Contract: works without a daemon, as a node without a peer has none. What is written lies in the node's `pair` folder. A `node.toml` that was
//! completed before is switched on, and on the image the pair daemon starts at once; where there is none, one is begun, switched off, for a
//! person to complete. The node that follows gives its own appliance document up for the other's.

mod words;

use super::pair::Language;
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
use twinpost_node::api::{Request, Text};
use twinpost_peer::{About, Identity, PairAs, Paired, pair_join, pair_offer};

/// Where pairing is offered on the crossover cable: beside the ports of the pair itself (6940 to 6943).
const PAIRING_PORT: u16 = 6944;

/// Carries out an order; gives the exit code.
pub async fn run(order: &PairingOrder, dir: &Path, as_json: bool) -> u8 {
    match carry_out(order, &Folder::find(dir), as_json).await {
        Ok(()) => EXIT_DONE,
        Err(why) => {
            if as_json {
                show::note("", &json!({ "error": why.en, "reasons": [why] }), true);
            } else {
                complain(spoken(&why));
            }
            EXIT_FAILED
        }
    }
}

/// In the language of the terminal.
fn spoken(text: &Text) -> &str {
    Language::of_terminal().both(&text.en, &text.zh)
}

/// A fault of a file or a document, in its own words.
fn same(why: impl std::fmt::Display) -> Text {
    Text::same(why.to_string())
}

async fn carry_out(order: &PairingOrder, folder: &Folder, as_json: bool) -> Result<(), Text> {
    if !folder.document().exists() {
        let folder = folder.path().display();
        return Err(Text::new(
            format!("{folder} holds no node that was set up: give the order `setup` first, or name its folder with --dir"),
            format!("{folder} 中没有已设置的节点：请先执行 setup，或用 --dir 指定文件夹"),
        ));
    }
    match order {
        PairingOrder::Undo(Sure { yes }) => {
            if !*yes {
                return Err(Text::new(
                    "this node forgets its peer and works alone from its next start, with the data that it has now: add --yes",
                    "本节点将忘记对方节点，并从下次启动起以现有数据单独运行：请加 --yes",
                ));
            }
            identity(folder)?.unpair().map_err(|e| words::refused(&e))?;
            let file = folder.path().join(twinpost_config::NODE_FILE);
            if file.exists() {
                enable(&file, None)?;
            }
            super::system::tell(Request::Unpaired).await.map_err(same)?;
            let text = Text::new("The peer is forgotten; this node is a node alone.", "已忘记对方节点；本节点现为单机。");
            show::note(spoken(&text), &json!({ "paired": false }), as_json);
            Ok(())
        }
        PairingOrder::WitnessKey { file } => {
            let pair = identity(folder)?.pair().ok_or_else(|| Text::new("this node has no peer yet", "本节点尚未配对"))?;
            if file.as_os_str() == "-" {
                let key = twinpost_witness::Key::from(pair.witness_key.0).to_hex();
                let order = format!("twinpost witness --dir DIR --enrol {} --key-file FILE", pair.cluster);
                let text = Text::new(
                    format!("On the witness: {order}, where FILE holds this key:\n{key}"),
                    format!("在见证端执行：{order}，其中 FILE 的内容为此密钥：\n{key}"),
                );
                show::note(spoken(&text), &json!({ "cluster": pair.cluster, "key": key }), as_json);
                return Ok(());
            }
            twinpost_witness::Key::from(pair.witness_key.0).save(file).map_err(same)?;
            let order = format!("twinpost witness --dir DIR --enrol {} --key-file {}", pair.cluster, file.display());
            let text = Text::new(
                format!("On the witness: {order}\nThen delete the file."),
                format!("在见证端执行：{order}\n然后删除该文件。"),
            );
            show::note(spoken(&text), &json!({ "cluster": pair.cluster, "file": file }), as_json);
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
            let offer = pair_offer(identity, mine, listen).await.map_err(|e| words::refused(&e))?;
            let code = offer.code().to_string();
            let order = format!("twinpost ctl pair pairing join {} {code}", offer.address());
            let text = Text::new(
                format!("Type this on the other node within ten minutes:\n\n  {order}\n"),
                format!("请在十分钟内于另一节点输入：\n\n  {order}\n"),
            );
            // One line: a machine reads it while this order goes on.
            let told = json!({ "code": code, "address": offer.address().to_string() });
            show::text(&if as_json { told.to_string() } else { spoken(&text).to_owned() });
            let mut wrong = offer.wrong();
            let watch = async {
                while wrong.changed().await.is_ok() {
                    let (came, most) = (*wrong.borrow(), twinpost_peer::pairing::MAX_WRONG);
                    let text =
                        Text::new(format!("a wrong code came ({came} of {most})"), format!("收到错误的配对码（{came}/{most}）"));
                    complain(spoken(&text));
                }
                std::future::pending::<()>().await;
            };
            let paired = tokio::select! {
                paired = offer.wait() => paired.map_err(|e| words::refused(&e))?,
                () = watch => return Err(Text::new("the offer ended", "本次配对已结束")),
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
            let paired = pair_join(identity, mine, address, code).await.map_err(|e| words::refused(&e))?;
            done(folder, &paired, as_json).await
        }
    }
}

fn identity(folder: &Folder) -> Result<Arc<Identity>, Text> {
    // A key is made where there is none yet; one that was lost while a pair is kept is told, not replaced.
    Identity::create(&folder.pair()).map(Arc::new).map_err(|e| words::refused(&e))
}

fn about(folder: &Folder) -> Result<About, Text> {
    let named = twinpost_config::load_node(folder.path()).map_err(same)?.node.name;
    // A node that was never part of a pair has no letter yet; two new machines may even have the same host name.
    let name = named.unwrap_or_else(|| {
        let machine = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        format!("{machine}-{:04x}", rand::random::<u16>())
    });
    Ok(About { name, board: board(), program: version() })
}

/// Of two new nodes the one that offers becomes node a: on one that was set up as node b the code belongs to the other side.
fn expect(folder: &Folder, identity: &Identity, letter: &str) -> Result<(), Text> {
    let named = twinpost_config::load_node(folder.path()).map_err(same)?.node.name;
    match named {
        Some(name) if identity.pair().is_none() && ["a", "b"].contains(&name.as_str()) && name != letter => Err(Text::new(
            format!(
                "this node was set up as node {name}: offer the pairing on node {letter} (`pair pairing offer`), and join here"
            ),
            format!("本节点已设置为节点 {name}：请在节点 {letter} 上执行 pair pairing offer，在此执行 join"),
        )),
        _ => Ok(()),
    }
}

/// An end of the crossover cable, with the port for pairing.
fn crossover(folder: &Folder, end: impl Fn(&PairLink) -> Option<SocketAddr>) -> Result<SocketAddr, Text> {
    let node = twinpost_config::load_node(folder.path()).map_err(same)?;
    let unknown = || {
        Text::new(
            "node.toml does not say where the crossover cable is ([pair.eth1]): set this node up first, or give the address",
            "node.toml 未说明直连线的位置（[pair.eth1]）：请先设置本节点，或给出地址",
        )
    };
    let end = end(&node.pair.eth1).ok_or_else(unknown)?;
    Ok(SocketAddr::new(end.ip(), PAIRING_PORT))
}

/// Switches the pair on in a complete `node.toml`, as this letter, or off; everything else in it stays as it was written.
fn enable(file: &Path, letter: Option<&str>) -> Result<(), Text> {
    let failed = |why: &dyn std::fmt::Display| same(format_args!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| failed(&e))?;
    let mut document: toml_edit::DocumentMut = text.parse().map_err(|e| failed(&e))?;
    if let Some(letter) = letter {
        document["node"]["name"] = toml_edit::value(letter);
    }
    document["pair"]["enabled"] = toml_edit::value(letter.is_some());
    let text = document.to_string();
    // What is missing is told, and nothing was written.
    twinpost_config::parse_node(&text, &file.display().to_string()).map_err(same)?;
    let mode = std::fs::metadata(file).map_or(0o600, |about| about.permissions().mode() & 0o777);
    write_whole(file, text.as_bytes(), mode).map_err(|e| failed(&e))
}

/// The document of this node gives way to the other node's.
fn follow(folder: &Folder) -> Result<(), Text> {
    let node = twinpost_config::load(&folder.document()).map_err(same)?.node.name;
    let judge = crate::pair::judge_document;
    let opened = History::open(&folder.history(), &folder.document(), &node, None, &judge);
    let (mut history, _) = opened.map_err(same)?;
    history.yield_to_other(&judge).map_err(same)
}

async fn done(folder: &Folder, paired: &Paired, as_json: bool) -> Result<(), Text> {
    let letter = paired.pair.node.to_string();
    let file = folder.path().join(twinpost_config::NODE_FILE);
    let cluster = paired.pair.cluster;
    let mut text =
        Text::new(format!("This node is node {letter} of pair {cluster}."), format!("本节点是双机 {cluster} 的节点 {letter}。"));
    let mut add = |en: String, zh: String| {
        text.en.push_str(&en);
        text.zh.push_str(&zh);
    };
    if paired.follows {
        follow(folder)?;
    }
    let shown = file.display();
    if file.exists() {
        let named = twinpost_config::load_node(folder.path()).map_err(same)?.node.name;
        if let Some(named) = named.filter(|named| ["a", "b"].contains(&named.as_str()) && *named != letter) {
            add(
                format!(
                    "\nMind: it was set up as node {named}. Set it up again as node {letter}: its addresses belong to that letter."
                ),
                format!("\n注意：它原设置为节点 {named}。请重新设置为节点 {letter}：地址与节点字母对应。"),
            );
        } else {
            match enable(&file, Some(&letter)) {
                Ok(()) => match super::system::tell(Request::Paired).await.map_err(same)? {
                    Some(said) => add(format!(" {}", said.en), said.zh),
                    None => add(
                        format!(" The pair is switched on in {shown}: start the node again."),
                        format!("已在 {shown} 中启用双机：请重新启动节点。"),
                    ),
                },
                Err(why) => add(format!(" The pair is not switched on yet, {}", why.en), format!("双机尚未启用，{}", why.zh)),
            }
        }
    } else {
        write_whole(&file, first_node_file(&letter).as_bytes(), 0o600)
            .map_err(|error| Text::new(format!("cannot write {shown}: {error}"), format!("无法写入 {shown}：{error}")))?;
        add(
            format!(" Complete {shown} and set enabled = true, then start it again."),
            format!("请补全 {shown} 并设置 enabled = true，然后重新启动。"),
        );
    }
    for warning in &paired.warnings {
        add(format!("\nMind: {warning}"), format!("\n注意：{warning}"));
    }
    let value = json!({ "node": letter, "cluster": cluster, "warnings": paired.warnings, "node_file": file });
    show::note(spoken(&text), &value, as_json);
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
        assert!(why.en.contains("pair"), "{why:?}");
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
