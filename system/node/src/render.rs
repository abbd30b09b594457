//! From documents and roles to a running node: what `twinpost boot` writes and does.
//!
//! Contract: what is written is a pure function of the documents and the roles ([`files`], [`network::plan`]), so that tests compare it and a
//! setup can show it beforehand; carrying out is apart from it ([`write`], [`network::apply`], [`boot::boot`]) and can be repeated: what is
//! right already stays untouched. Nothing here fails the boot: every fault is collected, in both languages.
//!
//! /etc is an overlay whose upper half lies in memory, so every file here is made at each boot.

pub mod boot;
mod devices;
pub(crate) mod files;
pub mod firewall;
pub mod network;
#[cfg(test)]
mod tests;

pub use devices::{DEVICES, RULES_FILE, link as link_devices, rules};
pub use files::{Facts, Files, files, host_name, write};
pub use firewall::{FIREWALL_FILE, Opened, elements, opened};

use crate::api::Text;
use serde::{Deserialize, Serialize};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// For programs: `part_missing`, `board_unknown`, `document`, `network`, `file`, `watchdog`, and those of the disks.
    pub code: String,
    /// The bay or part that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// For people.
    pub text: Text,
}

impl Fault {
    pub(crate) fn new(code: &str, part: Option<&str>, en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self { code: code.to_owned(), part: part.map(str::to_owned), text: Text::new(en, zh) }
    }
}
