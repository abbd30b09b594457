//! What is wished. What is not named stays as it is.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A wish as `twinpost ctl setup` and the pages send it. Texts, so that everything that is wrong can be told at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wish {
    /// `a` or `b`.
    pub node: Option<String>,
    /// Address of this node in the LAN with its prefix length; several with commas (IPv4 and IPv6).
    pub lan: Option<String>,
    /// The LAN's way out; IPv4 and IPv6 with a comma.
    pub gateway: Option<String>,
    /// Address of the peer in the LAN; by default the one next to this node's.
    pub peer: Option<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Time servers.
    pub ntp: Vec<String>,
    /// Service addresses with their prefix lengths.
    pub service: Vec<String>,
    /// The first mail domain.
    pub domain: Option<String>,
    /// Name of the mail service; by default `mail.` and the domain.
    pub host_name: Option<String>,
    /// Address and port of a witness; `none`.
    pub witness: Option<String>,
    /// `ipmi:HOST`, `redfish:URL`, `relay:PORT`, `qmp:SOCKET` or `none`.
    pub power: Option<String>,
    /// Name for the power switch.
    pub power_user: Option<String>,
    /// Its password.
    pub power_password: Option<String>,
    /// File with it.
    pub power_password_file: Option<PathBuf>,
    /// File with the authority of a redfish switch.
    pub power_ca_file: Option<PathBuf>,
    /// `proof` or `evidence`.
    pub takeover: Option<String>,
    /// Domain whose addresses are telephone numbers.
    pub sms_domain: Option<String>,
    /// Telephones of the administrators, with + and country code.
    pub sms_number: Vec<String>,
    /// Parts that the board does not know, by their devices of the moment: `nic.pair=eth1`, `serial.modem=/dev/ttyUSB2`, `bay.1=/dev/sda,left`.
    pub part: Vec<String>,
    /// VLAN of the LAN; 0: none.
    pub vlan: Option<u32>,
    /// Largest packet on the LAN; 0: the card's own.
    pub mtu: Option<u32>,
}
