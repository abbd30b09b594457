//! Orders about the machine that a node of the image is: setup, disks, updates, power.

use super::Sure;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `twinpost ctl setup ...`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SetupOrder {
    #[command(subcommand)]
    pub show: Option<SetupShow>,
    #[command(flatten)]
    pub wish: Box<SetupWish>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `twinpost ctl setup show`
#[derive(Clone, Copy, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetupShow {
    /// What is set up now
    Show,
}

/// What is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct SetupWish {
    /// Which node of the pair this is
    #[arg(long, value_name = "a|b", value_parser = ["a", "b"])]
    pub node: Option<String>,
    /// Address of this node in the LAN with its prefix length, as 192.0.2.11/24; IPv4 and IPv6 with a comma
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub lan: Option<String>,
    /// The LAN's way out; IPv4 and IPv6 with a comma
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Option<String>,
    /// Address of the peer in the LAN, for the third path; by default the one next to this node's
    #[arg(long, value_name = "ADDRESS")]
    pub peer: Option<String>,
    /// A name server; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// A time server; may be given several times
    #[arg(long, value_name = "HOST")]
    pub ntp: Vec<String>,
    /// The service address, which moves between the nodes, as 192.0.2.10/24; may be given several times
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub service: Vec<String>,
    /// The first mail domain
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Name under which the mail service is known, as mail.school.example; by default mail. and the domain
    #[arg(long, value_name = "HOST")]
    pub host_name: Option<String>,
    /// Address and port of a witness; none: without one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub witness: Option<String>,
    /// The switch of the peer's power: ipmi:HOST, redfish:URL, relay:PORT, qmp:SOCKET or none
    #[arg(long, value_name = "DRIVER:PLACE")]
    pub power: Option<String>,
    /// Name for the power switch
    #[arg(long, value_name = "NAME")]
    pub power_user: Option<String>,
    /// Password for the power switch; others on this machine can see it while the order runs
    #[arg(long, value_name = "WORD", conflicts_with = "power_password_file")]
    pub power_password: Option<String>,
    /// File with the password for the power switch
    #[arg(long, value_name = "FILE")]
    pub power_password_file: Option<PathBuf>,
    /// File with the authority of a redfish switch
    #[arg(long, value_name = "FILE")]
    pub power_ca_file: Option<PathBuf>,
    /// Which proofs let a node take over
    #[arg(long, value_name = "proof|evidence", value_parser = ["proof", "evidence"])]
    pub takeover: Option<String>,
    /// Domain whose addresses are telephone numbers, as mail2sms.school.example
    #[arg(long, value_name = "DOMAIN")]
    pub sms_domain: Option<String>,
    /// A part that the board does not know, by its device of the moment, as nic.pair=eth1, serial.modem=/dev/ttyUSB2 or bay.1=/dev/sda,left (`board
    /// explain` lists the devices); may be given several times
    #[arg(long, value_name = "ROLE=DEVICE")]
    pub part: Vec<String>,
    /// Telephones that alarms go to; may be given several times
    #[arg(long, value_name = "NUMBER")]
    pub sms_number: Vec<String>,
    /// VLAN of the LAN; 0: none
    #[arg(long, value_name = "NUMBER")]
    pub vlan: Option<u32>,
    /// Largest packet on the LAN; 0: the card's own
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u32>,
}

/// `twinpost ctl disks ...`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisksOrder {
    /// The bays, the disks in them and what those hold
    List,
    /// Make partitions, arrays and the mirror on the disks of the bays
    Init {
        #[command(flatten)]
        erase: Erase,
        /// One disk is enough: the arrays wait for their second member
        #[arg(long)]
        single: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Take the disk of a bay into the arrays
    Replace {
        /// The bay, as `disks list` names it
        bay: String,
        #[command(flatten)]
        erase: Erase,
        /// Come back when the arrays are whole again
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Let the lamp of a bay blink
    Locate {
        /// The bay, as `disks list` names it
        bay: String,
        /// No more
        #[arg(long)]
        off: bool,
    },
    /// Copy the system of the installer medium to disks
    Install {
        /// The bays, as `disks list` names them; none: all that the machine boots from
        bays: Vec<String>,
        /// The medium; by default the one that was started from
        #[arg(long, value_name = "DEVICE")]
        source: Option<PathBuf>,
        #[command(flatten)]
        erase: Erase,
        #[command(flatten)]
        sure: Sure,
    },
}

/// Disks that hold something are refused until they are named.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
pub struct Erase {
    /// Serial number of a disk that holds something and may be erased; may be given several times
    #[arg(long, value_name = "SERIAL")]
    pub erase: Vec<String>,
}

/// A slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the slot of the same name")]
pub enum SlotName {
    A,
    B,
}

/// `twinpost ctl update ...`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateOrder {
    /// Versions in both slots, and what is under way
    Status,
    /// Verify a bundle and bring both nodes to its version, the standby first; without a peer it is tried at the next start
    Install {
        /// The bundle
        #[arg(required_unless_present = "usb")]
        file: Option<PathBuf>,
        /// The newest bundle on a USB stick
        #[arg(long, conflicts_with = "file")]
        usb: bool,
        /// Take an older version too
        #[arg(long)]
        downgrade: bool,
        /// Only this node: into its other slot, which its next start tries
        #[arg(long)]
        this_node: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Keep the version that runs, although it was not yet found healthy
    Commit(Sure),
    /// Go back to the version in the other slot from the next start on
    Back(Sure),
    /// Start this slot at the next start, once
    Slot {
        /// The slot
        #[arg(value_enum)]
        slot: SlotName,
        #[command(flatten)]
        sure: Sure,
    },
}

/// `twinpost ctl board ...`
#[derive(Clone, Copy, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoardOrder {
    /// The board and which port is which
    Show,
    /// The same, with why it was chosen and what is missing
    Explain,
}

/// `twinpost ctl support ...`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupportOrder {
    /// Write logs, states and documents into one file, without passwords and mail
    Save {
        /// The file
        #[arg(required_unless_present = "usb")]
        file: Option<PathBuf>,
        /// On a USB stick
        #[arg(long, conflicts_with = "file")]
        usb: bool,
    },
}

/// `twinpost ctl power ...`
#[derive(Clone, Copy, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerOrder {
    /// Start again; an active node hands over first
    Reboot(Sure),
    /// Switch off; an active node hands over first
    Off(Sure),
    /// Start this slot at the next start, once
    Slot {
        /// The slot
        #[arg(value_enum)]
        slot: SlotName,
        #[command(flatten)]
        sure: Sure,
    },
}

/// `twinpost ctl reset ...`
#[derive(Clone, Copy, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetOrder {
    /// Forget everything that was set up: names, addresses, keys, the peer
    Factory {
        /// The mail too
        #[arg(long)]
        mail: bool,
        #[command(flatten)]
        sure: Sure,
    },
}

/// `twinpost ctl node ...`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeOrder {
    /// This machine: how it started, its disks and arrays, its slot, what is wrong
    Status,
    /// The newest lines of its log
    Log {
        /// How many lines
        #[arg(long, default_value_t = 200)]
        lines: u32,
        /// Of which start: 0 the present one, -1 the one before it
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        boot: i32,
        /// Only of this unit, as twinpost-pair
        #[arg(long)]
        unit: Option<String>,
    },
}
