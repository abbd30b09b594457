//! Boot entries on an EFI system partition: which slot boots, and how often it may still try.
//!
//! Contract: a file `twinpost-<rank>-<slot>[+LEFT[-DONE]].efi` is a boot entry of systemd-boot with automatic boot assessment
//! (<https://systemd.io/AUTOMATIC_BOOT_ASSESSMENT>): the loader takes the highest rank that has tries left, counts `LEFT` down by renaming before it starts the entry, and
//! takes an entry without tries only when there is no other. Entries carry no version of their own besides the name, so that an older system, installed on
//! purpose, boots too: the rank is the sequence of the system or one more than the highest rank that is there. A name that ends in `.efi` never has half a content:
//! content is written and synced under a name that the loader does not see. There are at most two entries, one for each slot.
//!
//! Failure classes: [`Error::Io`]; [`Error::ReadBack`] for a disk that gives back something else.

use crate::error::{Error, io_error};
use crate::platform::{Esp, Listed};
use crate::slot::Slot;
use serde::{Deserialize, Serialize};
use std::cmp::{Ordering, Reverse};
use std::path::Path;

/// Boots that a new system gets to prove itself.
pub const TRIES: u32 = 3;
/// Names under which content is prepared.
const PREPARED_END: &str = ".new";
/// Free space that is left alone.
const SPARE_BYTES: u64 = 256 << 10;

/// How often an entry may boot and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tries {
    /// Boots left.
    pub left: u32,
    /// Boots done.
    pub done: u32,
}

/// One boot entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The higher, the sooner it boots.
    pub rank: u64,
    /// Which slot it boots.
    pub slot: Slot,
    /// None: found good, boots for ever.
    pub tries: Option<Tries>,
}

impl Entry {
    /// From a file name; none for files of others. As `systemd-boot` reads it: nothing but digits, no sign.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        // FAT keeps the case of a name and finds it in any.
        let name = name.to_ascii_lowercase();
        let (rank, rest) = name.strip_prefix("twinpost-")?.strip_suffix(".efi")?.split_once('-')?;
        let (slot, tries) = match rest.split_once('+') {
            None => (rest, None),
            Some((slot, tries)) => {
                let (left, done) = tries.split_once('-').unwrap_or((tries, "0"));
                let small = |text| number(text).and_then(|n: u64| u32::try_from(n).ok());
                (slot, Some(Tries { left: small(left)?, done: small(done)? }))
            }
        };
        Some(Self { rank: number(rank)?, slot: Slot::parse(slot)?, tries })
    }

    /// Its file name.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { rank, slot, tries } = self;
        match tries {
            None => format!("twinpost-{rank}-{slot}.efi"),
            Some(Tries { left, done: 0 }) => format!("twinpost-{rank}-{slot}+{left}.efi"),
            Some(Tries { left, done }) => format!("twinpost-{rank}-{slot}+{left}-{done}.efi"),
        }
    }

    /// The loader takes it while there is nothing better.
    #[must_use]
    pub const fn bootable(&self) -> bool {
        !matches!(self.tries, Some(Tries { left: 0, .. }))
    }

    /// What the loader compares: the smaller boots first.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        let key =
            |entry: &Self| (!entry.bootable(), Reverse(entry.rank), Reverse(entry.slot), Reverse(entry.tries.map(|t| t.left)));
        key(self).cmp(&key(other))
    }
}

/// What the entries of one slot say, over all system disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Marks {
    /// Some disk has it as good.
    pub good: bool,
    /// Some disk has it with tries left.
    pub counting: bool,
    /// Some disk has it without tries left.
    pub exhausted: bool,
}

impl Marks {
    /// Of the entries of all disks.
    #[must_use]
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>, slot: Slot) -> Self {
        let mut marks = Self::default();
        for entry in entries.into_iter().filter(|entry| entry.slot == slot) {
            match entry.tries {
                None => marks.good = true,
                Some(Tries { left: 0, .. }) => marks.exhausted = true,
                Some(_) => marks.counting = true,
            }
        }
        marks
    }
}

/// The entries in the order in which the loader takes them.
///
/// # Errors
/// [`Error::Io`]
pub fn list(bay: &str, esp: &dyn Esp) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<Entry> = files(bay, esp)?.iter().filter_map(|file| Entry::parse(&file.name)).collect();
    entries.sort_by(Entry::order);
    Ok(entries)
}

fn files(bay: &str, esp: &dyn Esp) -> Result<Vec<Listed>, Error> {
    esp.list().map_err(fail("list the boot entries of bay", bay))
}

fn fail(what: &'static str, bay: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
    io_error(what, Path::new(bay))
}

/// Changes to the entries of one disk.
pub struct Entries<'a> {
    bay: &'a str,
    esp: &'a mut dyn Esp,
}

impl<'a> Entries<'a> {
    /// Of this disk.
    pub fn new(bay: &'a str, esp: &'a mut dyn Esp) -> Self {
        Self { bay, esp }
    }

    /// The entries in the order in which the loader takes them.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        list(self.bay, self.esp)
    }

    /// Room for a new entry of this slot, once its present one is gone.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn room_bytes(&self, slot: Slot) -> Result<u64, Error> {
        let free = self.esp.free_bytes().map_err(fail("ask for the room on the boot partition of bay", self.bay))?;
        let ours = |file: &&Listed| is_prepared(&file.name) || Entry::parse(&file.name).is_some_and(|entry| entry.slot == slot);
        let freed: u64 = files(self.bay, self.esp)?.iter().filter(ours).map(|file| file.bytes).sum();
        Ok((free + freed).saturating_sub(SPARE_BYTES))
    }

    /// Takes away what an interrupted installation has prepared.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn tidy(&mut self) -> Result<(), Error> {
        self.remove_where(is_prepared)
    }

    /// No entry of this slot any more: it cannot boot.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn drop_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.remove_where(|name| is_prepared(name) || Entry::parse(name).is_some_and(|entry| entry.slot == slot))
    }

    fn remove_where(&mut self, which: impl Fn(&str) -> bool) -> Result<(), Error> {
        let mut removed = false;
        for file in files(self.bay, self.esp)?.into_iter().filter(|file| which(&file.name)) {
            self.esp.remove(&file.name).map_err(fail("remove a boot entry of bay", self.bay))?;
            removed = true;
        }
        if removed { self.sync() } else { Ok(()) }
    }

    /// Begins an entry under a name that the loader does not see.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn prepare(&mut self, entry: &Entry) -> Result<(), Error> {
        self.esp.create(&prepared(entry)).map_err(fail("make a boot entry in bay", self.bay))
    }

    /// Adds to what was begun.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn append(&mut self, entry: &Entry, bytes: &[u8]) -> Result<(), Error> {
        self.esp.append(&prepared(entry), bytes).map_err(fail("write a boot entry in bay", self.bay))
    }

    /// What was begun is complete and on stable storage, and read back as `hashes` of its chunks say.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::ReadBack`]
    pub fn prepared(&mut self, entry: &Entry, part: &crate::bundle::Part) -> Result<(), Error> {
        let name = prepared(entry);
        self.esp.sync(&name).map_err(fail("sync a boot entry in bay", self.bay))?;
        self.sync()?;
        let mut buffer = vec![0; crate::bundle::CHUNK_BYTES];
        let mut offset = 0;
        for chunk in 0..part.chunks.len() {
            let bytes = &mut buffer[..part.chunk_bytes(chunk)];
            let read = self.esp.read(&name, offset, bytes).map_err(fail("read a boot entry of bay", self.bay))?;
            if read != bytes.len() || part.hash(chunk) != Some(blake3::hash(bytes)) {
                return Err(Error::ReadBack { device: self.bay.to_owned(), offset });
            }
            offset += read as u64;
        }
        Ok(())
    }

    /// The content of an entry.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn content(&self, entry: &Entry) -> Result<Vec<u8>, Error> {
        let (mut content, mut buffer) = (Vec::new(), vec![0; crate::bundle::CHUNK_BYTES]);
        loop {
            let read = self.esp.read(&entry.name(), content.len() as u64, &mut buffer);
            match read.map_err(fail("read a boot entry of bay", self.bay))? {
                0 => return Ok(content),
                _ if content.len() as u64 > crate::bundle::UKI_MAX_BYTES => {
                    let why = std::io::Error::from(std::io::ErrorKind::FileTooLarge);
                    return Err(fail("read a boot entry of bay", self.bay)(why));
                }
                n => content.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// The prepared entry becomes visible to the loader: from here on the next boot takes it. The one effect that counts.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn arm(&mut self, entry: &Entry) -> Result<(), Error> {
        self.rename(&prepared(entry), &entry.name())
    }

    /// The entry of this slot was found good: it boots for ever.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn bless(&mut self, slot: Slot) -> Result<(), Error> {
        self.each(slot, |entry| Entry { tries: None, ..entry })
    }

    /// The entry of this slot boots only when there is no other.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn bad(&mut self, slot: Slot) -> Result<(), Error> {
        self.each(slot, |entry| Entry { tries: Some(Tries { left: 0, done: entry.tries.map_or(0, |t| t.done) }), ..entry })
    }

    /// The entry of this slot boots before the other one from now on, and is good.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn prefer(&mut self, slot: Slot) -> Result<(), Error> {
        let highest = self.list()?.iter().filter(|entry| entry.slot != slot).map(|entry| entry.rank).max().unwrap_or(0);
        let rank = |entry: &Entry| if entry.rank > highest { entry.rank } else { highest.saturating_add(1) };
        self.each(slot, |entry| Entry { rank: rank(&entry), tries: None, ..entry })
    }

    /// One entry is left for the slot, changed so.
    fn each(&mut self, slot: Slot, change: impl Fn(Entry) -> Entry) -> Result<(), Error> {
        // Of two for one slot (a rename that the power cut left half done) the one that boots first is kept.
        let of_slot = self.list()?.into_iter().filter(|entry| entry.slot == slot);
        let mut kept = None;
        for entry in of_slot {
            match kept {
                None => kept = Some(entry),
                Some(_) => {
                    self.esp.remove(&entry.name()).map_err(fail("remove a boot entry of bay", self.bay))?;
                    self.sync()?;
                }
            }
        }
        let Some(entry) = kept else { return Ok(()) };
        let changed = change(entry);
        if changed == entry { Ok(()) } else { self.rename(&entry.name(), &changed.name()) }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        self.esp.rename(from, to).map_err(fail("rename a boot entry of bay", self.bay))?;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.esp.sync_folder().map_err(fail("sync the boot entries of bay", self.bay))
    }
}

fn prepared(entry: &Entry) -> String {
    format!("{}{PREPARED_END}", entry.name())
}

fn is_prepared(name: &str) -> bool {
    name.strip_suffix(PREPARED_END).is_some_and(|name| Entry::parse(name).is_some())
}

/// The rank of a new entry: above everything that is there.
#[must_use]
pub fn next_rank<'a>(entries: impl IntoIterator<Item = &'a Entry>, sequence: u64) -> u64 {
    entries.into_iter().map(|entry| entry.rank.saturating_add(1)).fold(sequence, u64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_the_loader_has_them() {
        let good = |rank, slot| Entry { rank, slot, tries: None };
        let tries = |left, done| Entry { rank: 7, slot: Slot::B, tries: Some(Tries { left, done }) };
        for (name, entry) in [
            ("twinpost-7-a.efi", good(7, Slot::A)),
            ("twinpost-1790000000-b.efi", good(1_790_000_000, Slot::B)),
            ("twinpost-7-b+3.efi", tries(3, 0)),
            ("twinpost-7-b+2-1.efi", tries(2, 1)),
            ("twinpost-7-b+0-3.efi", tries(0, 3)),
        ] {
            assert_eq!(Entry::parse(name), Some(entry));
            assert_eq!(entry.name(), name);
        }
        assert_eq!(Entry::parse("TWINPOST-7-B+2-1.EFI"), Some(tries(2, 1)));
        for other in [
            "twinpost-7-b.efi.new",
            "twinpost-7-c.efi",
            "twinpost--b.efi",
            "twinpost-+7-b.efi",
            "twinpost-7-b+.efi",
            "twinpost-7-b+3-.efi",
            "twinpost-7-b+-1.efi",
            "twinpost-7-b+99999999999.efi",
            "twinpost-99999999999999999999-b.efi",
            "linux.efi",
            "",
        ] {
            assert_eq!(Entry::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_loader_s_order() {
        let mut names = ["twinpost-9-b+0-3.efi", "twinpost-5-a.efi", "twinpost-10-b+2-1.efi", "twinpost-9-b.efi"];
        names.sort_by(|a, b| Entry::parse(a).unwrap().order(&Entry::parse(b).unwrap()));
        assert_eq!(names, ["twinpost-10-b+2-1.efi", "twinpost-9-b.efi", "twinpost-5-a.efi", "twinpost-9-b+0-3.efi"]);
        let entries = names.map(|name| Entry::parse(name).unwrap());
        assert_eq!(Marks::of(&entries, Slot::B), Marks { good: true, counting: true, exhausted: true });
        assert_eq!(Marks::of(&entries, Slot::A), Marks { good: true, ..Marks::default() });
        assert_eq!((next_rank(&entries, 3), next_rank(&entries, 30)), (11, 30));
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_read(name in "\\PC{0,30}", tail in "[0-9ab+.-]{0,12}") {
            for name in [name, format!("twinpost-{tail}.efi")] {
                if let Some(entry) = Entry::parse(&name) {
                    proptest::prop_assert_eq!(Entry::parse(&entry.name()), Some(entry));
                }
            }
        }
    }
}
