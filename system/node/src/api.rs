//! What `twinpost system` is asked and answers: JSON lines over a Unix socket.
//!
//! Contract: one connection, one request (a line). The answer is any number of `{"progress":..}` lines and one last line, `{"done":..}` or
//! `{"error":..}`. What destroys something has a preview: the same request with `go` false changes nothing and tells what it would do; with
//! `go` true it is done. Who may ask is decided by the socket: root and, for [`Request::harmless`] ones, the group of the node's programs.
//!
//! Failure classes: a line that is too long or no request: one `error` line, then the end. A caller that goes away does not stop what was begun:
//! half a disk is worse than a whole one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// The socket of `twinpost system`.
pub const SOCKET: &str = "/run/twinpost/system.sock";
/// The report of `twinpost boot`.
pub const BOOT_REPORT: &str = "/run/twinpost/boot.json";
/// The report of the program in the initramfs.
pub const INIT_REPORT: &str = "/run/twinpost/init.json";
/// The folder of the node on the image.
pub const NODE_FOLDER: &str = "/state/node";
/// Longest line of a request or an answer.
pub const LINE_MAX_BYTES: u64 = 1 << 20;

/// A sentence for people, in both languages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

impl Text {
    /// Both languages.
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self { en: en.into(), zh: zh.into() }
    }

    /// A text that is the same in both: an error of the system, a name.
    pub fn same(text: impl Into<String>) -> Self {
        let en = text.into();
        Self { zh: en.clone(), en }
    }
}

/// One line to `twinpost system`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Who asks, for the log: `console`, `ctl`, `web`.
    #[serde(default)]
    pub by: String,
    /// What.
    #[serde(flatten)]
    pub request: Request,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Boot report, arrays, slot, health, faults: [`NodeStatus`].
    Status,
    /// The board and which port is which; `explain`: also why it was chosen and what is missing.
    Board {
        /// With reasons.
        #[serde(default)]
        explain: bool,
    },
    /// Bays, the disks in them and what those hold.
    DisksList,
    /// Makes partitions, arrays and the mail volume's lower half on the disks of the bays.
    DisksInit {
        /// Serial numbers of disks that hold something and may be erased.
        #[serde(default)]
        erase: Vec<String>,
        /// One disk is enough: the arrays wait for their second member.
        #[serde(default)]
        single: bool,
        /// Do it, do not only tell.
        #[serde(default)]
        go: bool,
    },
    /// Takes the disk of a bay into the arrays.
    DisksReplace {
        /// Which bay.
        bay: String,
        /// Serial numbers of disks that hold something and may be erased.
        #[serde(default)]
        erase: Vec<String>,
        /// The answer comes when the arrays are whole.
        #[serde(default)]
        wait: bool,
        /// Do it, do not only tell.
        #[serde(default)]
        go: bool,
    },
    /// Lets the lamp of a bay blink.
    DisksLocate {
        /// Which bay.
        bay: String,
        /// On or off.
        on: bool,
    },
    /// Copies the system of the running medium to the disks of these bays.
    DisksInstall {
        /// The medium: a whole disk or a disk image; none: the one that was started from.
        #[serde(default)]
        source: Option<PathBuf>,
        /// Bays; empty: all that the board boots from.
        #[serde(default)]
        bays: Vec<String>,
        /// Serial numbers of disks that hold something and may be erased.
        #[serde(default)]
        erase: Vec<String>,
        /// Do it, do not only tell.
        #[serde(default)]
        go: bool,
    },
    /// Versions in both slots, what is under way, the peer's version.
    UpdateStatus,
    /// Verifies a bundle and writes it into the other slot; the next boot tries it.
    UpdateInstall {
        /// Where the bundle is.
        from: BundleFrom,
        /// An older version is taken too.
        #[serde(default)]
        downgrade: bool,
        /// Only this node, although it has a peer.
        #[serde(default)]
        this_node: bool,
        /// Do it, do not only tell what the bundle holds.
        #[serde(default)]
        go: bool,
    },
    /// This node as the update of both nodes sees it; asked by the other node.
    UpdateView,
    /// Keeps the version that runs although it was not yet found healthy.
    UpdateCommit,
    /// Lets the other slot boot from now on.
    UpdateBack {
        /// Do it, do not only tell.
        #[serde(default)]
        go: bool,
    },
    /// The update of both nodes is over: the copy of its bundle goes; asked by the other node when it led it.
    UpdateForget,
    /// Gives the running version up and starts again with the one before; asked by the other node when it leads an update of both.
    UpdateReturn {
        /// Why: told to people after the start.
        reasons: Vec<Text>,
    },
    /// Writes `node.toml` and the appliance document from the board and this wish.
    Setup {
        /// What was wished.
        wish: Value,
        /// Do it, do not only tell.
        #[serde(default)]
        go: bool,
    },
    /// What is set up now.
    SetupShow,
    /// This node got a peer (`pair pairing`): lets the pair daemon start.
    Paired,
    /// This node forgot its peer: the pair daemon ends and does not start again.
    Unpaired,
    /// Writes a support bundle.
    Support {
        /// Where to.
        to: SupportTo,
    },
    /// Forgets everything that was set up.
    FactoryReset {
        /// The mail volume too.
        #[serde(default)]
        mail: bool,
        /// Do it, do not only tell.
        #[serde(default)]
        go: bool,
    },
    /// Reboot, off, or the slot of the next boot.
    Power {
        /// Which.
        what: Power,
        /// Do it, do not only tell.
        #[serde(default)]
        go: bool,
    },
}

/// Where a bundle is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleFrom {
    /// A file of this node.
    File(PathBuf),
    /// The newest bundle on a USB stick in this node.
    Usb,
}

/// Where a support bundle goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupportTo {
    /// A file of this node.
    File(PathBuf),
    /// A USB stick in this node.
    Usb,
}

/// What becomes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Off, after its services gave way.
    Off,
    /// Starts again.
    Reboot,
    /// Starts again from this slot, once.
    Slot(Slot),
}

/// A slot of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// `twinpost-a`.
    A,
    /// `twinpost-b`.
    B,
}

impl Slot {
    /// As the kernel command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl Request {
    /// Whether the request changes nothing: these the node's other programs may ask too.
    pub fn harmless(&self) -> bool {
        match self {
            Self::Status
            | Self::Board { .. }
            | Self::DisksList
            | Self::UpdateStatus
            | Self::UpdateView
            | Self::SetupShow
            | Self::DisksInit { go: false, .. }
            | Self::DisksReplace { go: false, .. }
            | Self::DisksInstall { go: false, .. }
            | Self::UpdateInstall { go: false, .. }
            | Self::UpdateBack { go: false }
            | Self::Setup { go: false, .. }
            | Self::FactoryReset { go: false, .. }
            | Self::Power { go: false, .. } => true,
            Self::DisksInit { .. }
            | Self::DisksReplace { .. }
            | Self::DisksLocate { .. }
            | Self::DisksInstall { .. }
            | Self::UpdateInstall { .. }
            | Self::UpdateCommit
            | Self::UpdateBack { .. }
            | Self::UpdateForget
            | Self::UpdateReturn { .. }
            | Self::Setup { .. }
            | Self::Paired
            | Self::Unpaired
            | Self::Support { .. }
            | Self::FactoryReset { .. }
            | Self::Power { .. } => false,
        }
    }
}

/// One line of `twinpost system`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// How far long work is.
    Progress(Step),
    /// It is done; what came of it.
    Done(Done),
    /// It was refused or failed.
    Error(Refused),
}

/// How far long work is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is being done.
    pub what: Text,
    /// How much of it, in units of `of`.
    pub done: u64,
    /// All of it; 0 where nobody knows.
    pub of: u64,
}

/// It is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// For people.
    pub text: Text,
    /// For machines.
    pub value: Value,
    /// It was a preview that `go` would carry out: the word that a person types to agree, such as a serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// It was refused or failed: everything that stands against it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// All reasons.
    pub reasons: Vec<Text>,
}

impl Refused {
    /// One reason.
    pub fn one(text: Text) -> Self {
        Self { reasons: vec![text] }
    }
}

/// Who wants to hear how far long work is.
pub type Progress<'a> = &'a (dyn Fn(Step) + Send + Sync);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_as_the_design_has_them() {
        let request = Request::DisksInit { erase: vec!["S1".to_owned()], single: false, go: true };
        let asked = Asked { by: "ctl".to_owned(), request };
        let line = json!({"by": "ctl", "op": "disks_init", "erase": ["S1"], "single": false, "go": true});
        assert_eq!(serde_json::to_value(&asked).unwrap(), line);
        assert_eq!(serde_json::from_value::<Asked>(line).unwrap(), asked);
        let bare: Asked = serde_json::from_str(r#"{"op":"status"}"#).unwrap();
        assert_eq!(bare.request, Request::Status);
        let step = Line::Progress(Step { what: Text::new("writing", "写入"), done: 1, of: 4 });
        assert_eq!(
            serde_json::to_value(step).unwrap(),
            json!({"progress": {"what": {"en": "writing", "zh": "写入"}, "done": 1, "of": 4}})
        );
        let refused = Line::Error(Refused::one(Text::new("no", "不")));
        assert_eq!(serde_json::to_value(refused).unwrap(), json!({"error": {"reasons": [{"en": "no", "zh": "不"}]}}));
        let power: Request = serde_json::from_str(r#"{"op":"power","what":{"slot":"b"},"go":true}"#).unwrap();
        assert!(!power.harmless());
        assert!(Request::Power { what: Power::Off, go: false }.harmless());
    }
}
