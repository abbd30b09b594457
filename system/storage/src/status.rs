//! What people are told of the mail volume.

use serde::{Deserialize, Serialize};

/// What this node may do with the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The driver cannot say yet.
    #[default]
    Unknown,
    /// Does not write.
    Standby,
    /// On the way to either side.
    Changing,
    /// Writes.
    Active,
}

/// The volume as this node sees it. Texts are the driver's own words; empty where they make no sense for it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct StorageStatus {
    /// `shared`, `array`, `drbd`.
    pub driver: String,
    /// What this node may do.
    pub role: Role,
    /// Reign that the storage itself remembers.
    pub reign: u32,
    /// Node that this reign belongs to, if the storage remembers it.
    pub holder: String,
    /// How far this node's data is.
    pub position: u64,
    /// Of the mirror: DRBD's words (`Connected`, `WFConnection`, `StandAlone` ...).
    pub connection: String,
    /// This node's copy: DRBD's words (`UpToDate`, `Inconsistent` ...).
    pub disk: String,
    /// The peer's copy.
    pub peer_disk: String,
    /// How much of a resync or a verify is done.
    pub done_percent: Option<f32>,
    /// Bytes in which the copies differ, if known.
    pub out_of_sync_bytes: Option<u64>,
    /// Free bytes of the mounted volume.
    pub free_bytes: Option<u64>,
    /// One sentence in English.
    pub sentence: String,
    /// The same in Chinese.
    pub sentence_zh: String,
    /// The last thing that went wrong, empty once it is over.
    pub trouble: String,
}
