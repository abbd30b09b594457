//! What DRBD says of itself: the lines of `drbdsetup events2 --statistics`, and what they mean for the pair.
//!
//! Contract: [`View::take`] takes any line; one that it does not understand changes nothing. A word that it does not know is the worse case
//! ([`Disk::Other`], not connected). [`View::of_active`] and [`View::of_standby`] say what the core is told.
//!
//! Source: drbdsetup(8) of 8.4, events2, and the lines that drbd-utils 9.22 prints with the 8.4.11 module.

use twinpost_heartbeat::Replication;

/// Longest line that is looked at.
pub const LINE_MAX: usize = 4096;

/// State of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Disk {
    /// Current.
    UpToDate,
    /// Whole; whether current is known only with the peer.
    Consistent,
    /// Whole but known to be old.
    Outdated,
    /// Being overwritten, or never filled.
    Inconsistent,
    /// No disk: detached or failed.
    Diskless,
    /// Being attached, failed, negotiating, unknown, or a word that this program does not know.
    #[default]
    Other,
}

impl Disk {
    fn of(word: &str) -> Self {
        match word {
            "UpToDate" => Self::UpToDate,
            "Consistent" => Self::Consistent,
            "Outdated" => Self::Outdated,
            "Inconsistent" => Self::Inconsistent,
            "Diskless" => Self::Diskless,
            _ => Self::Other,
        }
    }
}

/// A helper that DRBD calls: DRBD's own word for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Nothing that needs an answer; the view may have changed.
    Changed,
    /// DRBD found that both sides changed without each other.
    SplitBrain,
    /// The line said nothing about this resource.
    Nothing,
}

/// A resource as DRBD describes it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct View {
    /// The first dump is complete: the rest can be believed.
    pub complete: bool,
    /// The resource exists in the kernel.
    pub exists: bool,
    /// `Primary` on this side.
    pub primary: bool,
    /// `Primary` on the peer's side, as last heard.
    pub peer_primary: bool,
    /// Writes are held until the peer is fenced.
    pub frozen: bool,
    /// `Connected`, `WFConnection`, `StandAlone` ...; DRBD's word.
    pub connection: String,
    /// `Established`, `SyncSource`, `VerifyS` ...; DRBD's word.
    pub replication: String,
    /// This node's copy.
    pub disk: Disk,
    /// DRBD's word for it.
    pub disk_word: String,
    /// The peer's copy.
    pub peer_disk: Disk,
    /// DRBD's word for it.
    pub peer_disk_word: String,
    /// In KiB.
    pub out_of_sync_kib: Option<u64>,
    /// Of a resync or a verify.
    pub done_percent: Option<f32>,
}

impl View {
    /// Takes a line in, for one resource.
    pub fn take(&mut self, resource: &str, line: &str) -> Notice {
        let line = &line[..line.floor_char_boundary(LINE_MAX.min(line.len()))];
        let mut words = line.split_ascii_whitespace().peekable();
        // With --timestamps, and in older versions an event number with `*` for a continued event.
        words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let (Some(what), Some(object)) = (words.next(), words.next()) else { return Notice::Nothing };
        if (what, object) == ("exists", "-") {
            self.complete = true;
            return Notice::Changed;
        }
        let mut fields = Fields::default();
        for word in words {
            if let Some((key, value)) = word.split_once(':') {
                fields.take(key, value);
            }
        }
        if fields.name != resource {
            return Notice::Nothing;
        }
        match (what, object) {
            ("exists" | "create" | "change", "resource" | "connection" | "device" | "peer-device") => {
                self.exists = true;
                self.change(object, &fields);
                Notice::Changed
            }
            ("destroy", "resource") => {
                *self = Self { complete: self.complete, ..Self::default() };
                Notice::Changed
            }
            ("destroy", "connection" | "peer-device") => {
                self.disconnected();
                self.connection = "StandAlone".into();
                Notice::Changed
            }
            ("destroy", "device") => {
                (self.disk, self.disk_word) = (Disk::Diskless, "Diskless".into());
                Notice::Changed
            }
            // `initial-split-brain` is called for a resolved one too, when this side has given its data up.
            ("call", "helper") if fields.helper == "split-brain" => Notice::SplitBrain,
            _ => Notice::Nothing,
        }
    }

    fn change(&mut self, object: &str, fields: &Fields<'_>) {
        match object {
            "resource" => {
                if let Some(role) = fields.role {
                    self.primary = role == "Primary";
                }
                if let Some(suspended) = fields.suspended {
                    self.frozen = suspended.split(',').any(|why| why == "fencing");
                }
            }
            "connection" => {
                if let Some(connection) = fields.connection {
                    connection.clone_into(&mut self.connection);
                    if !self.connected() {
                        self.disconnected();
                    }
                }
                if let Some(role) = fields.role {
                    self.peer_primary = role == "Primary";
                }
            }
            "device" => {
                if let Some(disk) = fields.disk {
                    (self.disk, self.disk_word) = (Disk::of(disk), disk.to_owned());
                }
            }
            _ => {
                if let Some(replication) = fields.replication {
                    if self.replication != replication {
                        self.done_percent = None;
                    }
                    replication.clone_into(&mut self.replication);
                }
                if let Some(disk) = fields.peer_disk {
                    (self.peer_disk, self.peer_disk_word) = (Disk::of(disk), disk.to_owned());
                }
                self.out_of_sync_kib = fields.out_of_sync_kib.or(self.out_of_sync_kib);
                self.done_percent = fields.done_percent.or(self.done_percent);
            }
        }
    }

    fn disconnected(&mut self) {
        (self.peer_primary, self.done_percent, self.peer_disk) = (false, None, Disk::Other);
        self.replication.clear();
        self.peer_disk_word.clear();
    }

    /// The peer is there and its state is known.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.exists && self.connection == "Connected"
    }

    /// Nothing tries to connect.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        matches!(self.connection.as_str(), "" | "StandAlone")
    }

    /// Every write goes to both sides and no block differs.
    #[must_use]
    pub fn mirrored(&self) -> bool {
        self.connected()
            && self.peer_disk == Disk::UpToDate
            && matches!(self.replication.as_str(), "Established" | "VerifyS" | "VerifyT")
    }

    /// What an active's core is told.
    #[must_use]
    pub fn of_active(&self) -> Replication {
        if !self.connected() {
            Replication::Lost
        } else if self.mirrored() {
            Replication::Complete
        } else {
            Replication::Behind
        }
    }

    /// Connected, and neither side has any data: so it is with two new disks.
    #[must_use]
    pub fn may_be_founded(&self) -> bool {
        self.connected() && self.disk == Disk::Inconsistent && self.peer_disk == Disk::Inconsistent
    }

    /// What a standby's core is told: whether this copy is whole. A copy that is old but whole may serve with a proof; the reign
    /// decides whose data is newer.
    #[must_use]
    pub const fn of_standby(&self) -> Replication {
        match self.disk {
            Disk::UpToDate | Disk::Consistent | Disk::Outdated => Replication::CopyWhole,
            Disk::Inconsistent | Disk::Diskless | Disk::Other => Replication::CopyPartial,
        }
    }
}

/// How many KiB of a device differ, by the text of `/proc/drbd` (module 8.4: a line ` MINOR: cs:...`, and the counters in the next).
#[must_use]
pub fn out_of_sync_kib(table: &str, minor: u32) -> Option<u64> {
    let mine = table.lines().skip_while(|line| line.trim_start().split(':').next() != Some(minor.to_string().as_str())).nth(1)?;
    mine.split_ascii_whitespace().find_map(|word| word.strip_prefix("oos:"))?.parse().ok()
}

#[derive(Default)]
struct Fields<'a> {
    name: &'a str,
    helper: &'a str,
    role: Option<&'a str>,
    suspended: Option<&'a str>,
    connection: Option<&'a str>,
    disk: Option<&'a str>,
    replication: Option<&'a str>,
    peer_disk: Option<&'a str>,
    out_of_sync_kib: Option<u64>,
    done_percent: Option<f32>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, key: &str, value: &'a str) {
        match key {
            "name" => self.name = value,
            "helper" => self.helper = value,
            "role" => self.role = Some(value),
            "suspended" => self.suspended = Some(value),
            "connection" => self.connection = Some(value),
            "disk" => self.disk = Some(value),
            "replication" => self.replication = Some(value),
            "peer-disk" => self.peer_disk = Some(value),
            "out-of-sync" => self.out_of_sync_kib = value.parse().ok(),
            "done" => self.done_percent = value.parse().ok().filter(|done| (0.0..=100.0).contains(done)),
            _ => {}
        }
    }
}

/// Parser of any lines, for tests with arbitrary bytes.
pub fn fuzz(data: &[u8]) {
    let mut view = View::default();
    for line in String::from_utf8_lossy(data).lines() {
        view.take("mail", line);
        assert!(!view.mirrored() || (view.exists && view.connected()), "never believed complete without a connection");
    }
}

#[cfg(test)]
mod tests {
    use super::out_of_sync_kib;

    #[test]
    fn differing_blocks_are_counted_by_device() {
        // As module 8.4.11 prints it, with a second device.
        let table = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 7B2F8A1\n 0: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----\n    \
                     ns:4 nr:0 dw:5312 dr:2120 al:12 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:1044\n10: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----\n    \
                     ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0\n";
        assert_eq!([0, 10, 1].map(|minor| out_of_sync_kib(table, minor)), [Some(1044), Some(0), None]);
        for text in ["", " 0:", " 0: cs:Unconfigured\n", " 0: cs:X\n    oos:many\n"] {
            assert_eq!(out_of_sync_kib(text, 0), None);
        }
    }
}
