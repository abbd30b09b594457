//! The reference of the document as a page, made from the table that reads it.

use crate::schema::{KeyDoc, Section};
use std::fmt::Write;

/// docs/configuration.md.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# The appliance document\n\n\
         One TOML file sets up a node: `appliance.toml` in its folder. `twinpost ctl config check` reads it and prints every fault with file, line\n\
         and key; a running node takes a changed document when `twinpost ctl config reload` says so, and keeps the old one if there is a fault.\n\n\
         This page is made by `twinpost ctl config reference` from the table that reads the file; a test holds the two together.\n",
    );
    tables::<crate::Document>(&mut page, "The document");
    page.push_str(
        "\n# node.toml\n\nWhat belongs to one node of a pair stands beside the appliance document and is not copied to the peer. A node alone needs none.\n",
    );
    tables::<crate::NodeDocument>(&mut page, "The file");
    page
}

fn tables<S: Section>(page: &mut String, top: &str) {
    let mut keys: Vec<KeyDoc> = Vec::new();
    S::describe("", &mut keys);
    let mut section = None;
    for key in keys {
        if section.as_ref() != Some(&key.section) {
            let title = if key.section.is_empty() { top.to_owned() } else { format!("[{}]", key.section) };
            let _ = write!(page, "\n## {title}\n\n| key | value | default | what it does |\n| --- | --- | --- | --- |\n");
            section = Some(key.section.clone());
        }
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(page, "| `{}` | {} | `{}` | {} |", key.key, cell(&key.kind), cell(&key.default), cell(&key.doc));
    }
}
