//! `twinpost ctl config show|set`: the appliance document without an editor.
//!
//! Contract: `set` changes the named keys, all or none, keeps every comment, and writes only a document without faults. On a node with a peer the pair
//! daemon sees the new text, makes a generation of it and copies it; the mail process and the modem's process take it by themselves.
//!
//! Failure classes: a word that is no KEY=VALUE, a key that does not exist, a value that does not fit: exit 4 with every fault, nothing was changed.

use super::pair::Language;
use super::show;
use crate::node::{Folder, write_whole};
use crate::{EXIT_DONE, EXIT_FAILED, EXIT_FAULTS, complain};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use toml_edit::{DocumentMut, Item, Table, Value};
use twinpost_node::api::Text;

/// Prints the document.
pub fn print(folder: &Folder, as_json: bool) -> u8 {
    match std::fs::read_to_string(folder.document()) {
        Ok(text) => {
            show::note(&text, &json!({ "document": text }), as_json);
            EXIT_DONE
        }
        Err(error) => {
            complain(spoken(&unreadable(&folder.document(), &error)));
            EXIT_FAILED
        }
    }
}

/// Changes keys of the document.
pub fn set(folder: &Folder, words: &[String], as_json: bool) -> u8 {
    let file = folder.document();
    let outcome = std::fs::read_to_string(&file).map_err(|e| (unreadable(&file, &e), EXIT_FAILED)).and_then(|before| {
        let after = changed(&before, words).map_err(|fault| (fault, EXIT_FAULTS))?;
        crate::pair::judge_document(&after).map_err(|faults| (faulty(&faults), EXIT_FAULTS))?;
        if after == before {
            return Ok(false);
        }
        let mode = std::fs::metadata(&file).map_or(0o600, |about| about.permissions().mode() & 0o777);
        let shown = file.display();
        write_whole(&file, after.as_bytes(), mode)
            .map_err(|e| (Text::new(format!("cannot write {shown}: {e}"), format!("无法写入 {shown}：{e}")), EXIT_FAILED))?;
        Ok(true)
    });
    match outcome {
        Ok(changed) => {
            let text = if changed {
                Text::new(
                    "The document is changed; who runs takes it within seconds.",
                    "配置已更改；正在运行的程序将在数秒内采用。",
                )
            } else {
                Text::new("It is set so already.", "设置没有变化。")
            };
            show::note(spoken(&text), &json!({ "changed": changed }), as_json);
            EXIT_DONE
        }
        Err((why, code)) => {
            if as_json {
                show::note("", &json!({ "error": why.en, "reasons": [why] }), true);
            } else {
                complain(spoken(&why));
            }
            code
        }
    }
}

/// In the language of the terminal.
fn spoken(text: &Text) -> &str {
    Language::of_terminal().both(&text.en, &text.zh)
}

fn unreadable(file: &Path, error: &std::io::Error) -> Text {
    let file = file.display();
    Text::new(format!("cannot read {file}: {error}"), format!("无法读取 {file}：{error}"))
}

/// The faults are told by the schema, key by key, in its own words.
fn faulty(faults: &[String]) -> Text {
    let faults = faults.join("\n");
    Text::new(format!("nothing was changed:\n{faults}"), format!("未作任何更改：\n{faults}"))
}

/// The text with these keys set.
fn changed(text: &str, words: &[String]) -> Result<String, Text> {
    let unread = |e| Text::new(format!("the document cannot be read: {e}"), format!("无法读取配置：{e}"));
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| unread(e.to_string()))?;
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| {
            let text = format!("{word:?}: write KEY=VALUE, as sms.enabled=true");
            Text::new(text, format!("{word:?}：请写成 KEY=VALUE，例如 sms.enabled=true"))
        })?;
        let parts: Vec<&str> = key.trim().split('.').map(str::trim).collect();
        let no_key = || {
            Text::new(format!("{key:?} is no key: write it as sms.enabled"), format!("{key:?} 不是有效的键：例如 sms.enabled"))
        };
        let [tables @ .., last] = parts.as_slice() else { return Err(no_key()) };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(no_key());
        }
        // What is no value of TOML is a text, so that plain words need no quotes.
        let value: Value = value.trim().parse().unwrap_or_else(|_| Value::from(value.trim()));
        let mut table: &mut Table = document.as_table_mut();
        for name in tables {
            let next = table.entry(name).or_insert_with(|| {
                let mut made = Table::new();
                made.set_implicit(true);
                Item::Table(made)
            });
            table = next.as_table_mut().ok_or_else(|| {
                Text::new(format!("{key}: {name} is no table of the document"), format!("{key}：{name} 不是配置中的表"))
            })?;
        }
        match table.get_mut(last) {
            // Only the value: a remark behind it stays.
            Some(Item::Value(old)) => {
                let decor = old.decor().clone();
                *old = value;
                *old.decor_mut() = decor;
            }
            Some(_) => {
                return Err(Text::new(format!("{key} is a table: name a key in it"), format!("{key} 是一个表：请指定其中的键")));
            }
            None => drop(table.insert(last, Item::Value(value))),
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, words: &[&str]) -> Result<String, Text> {
        changed(text, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn keys_are_set_and_remarks_stay() {
        let text = "version = 1 # form\n\n[sms]\n# the modem\nport = \"/dev/ttyS2\" # third\n";
        let new =
            set(text, &["sms.enabled=true", "sms.port=/dev/ttyS3", "pair.lease = \"900 ms\"", "sms.gateway.parts=2"]).unwrap();
        for line in [
            "version = 1 # form",
            "# the modem",
            "port = \"/dev/ttyS3\" # third",
            "enabled = true",
            "lease = \"900 ms\"",
            "parts = 2",
        ] {
            assert!(new.contains(line), "{line}: {new}");
        }
        assert!(twinpost_config::parse(&new, "x").is_ok(), "{new}");
        assert_eq!(set(&new, &["sms.enabled=true"]).unwrap(), new);
        for wrong in ["sms", "sms=1", ".x=1", "version.x=1"] {
            let Text { en, zh } = set(text, &[wrong]).unwrap_err();
            assert!(en != zh && !zh.is_empty(), "{wrong}: {en}");
        }
    }

    #[test]
    fn a_fault_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let text = "version = 1\n";
        std::fs::write(folder.document(), text).unwrap();
        assert_eq!(super::set(&folder, &["sms.no_such_key=1".to_owned()], true), EXIT_FAULTS);
        assert_eq!(super::set(&folder, &["log.level=debug".to_owned(), "pair.lease=never".to_owned()], true), EXIT_FAULTS);
        assert_eq!(std::fs::read_to_string(folder.document()).unwrap(), text);
        assert_eq!(super::set(&folder, &["log.level=debug".to_owned()], true), EXIT_DONE);
        assert!(std::fs::read_to_string(folder.document()).unwrap().contains("level = \"debug\""));
    }
}
