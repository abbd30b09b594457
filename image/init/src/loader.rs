//! The boot manager's variables: which entry runs, whether its starts are counted, and which entry to start once instead.
//!
//! Contract: pure; form and meaning are those of the Boot Loader Interface (systemd.io/BOOT_LOADER_INTERFACE): UTF-16LE, entries' names with
//! NUL after each. A file of efivarfs has 4 bytes of attributes before the content. Nothing that firmware may have left in a variable makes
//! this fail: what is not understood is passed over.

/// Vendor GUID of the boot manager's variables.
pub const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Non-volatile, boot service, runtime access.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];
/// Our own: what the start before this one found wrong. Content: UTF-8 JSON of [`Fallback`].
pub const FALLBACK: &str = "TwinpostFallback-8d7c1f2e-52ab-4c3a-9d0b-6a1f0c8e4b17";
/// Longest reason kept in a variable; firmware's store is small.
const MAX_WHY_BYTES: usize = 400;

/// Why the start before this one gave up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fallback {
    /// Slot that could not be started.
    pub slot: char,
    /// Reason, in plain words.
    pub why: String,
}

impl Fallback {
    /// The file's content for efivarfs.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut end = self.why.len().min(MAX_WHY_BYTES);
        while !self.why.is_char_boundary(end) {
            end -= 1;
        }
        let short = Self { slot: self.slot, why: self.why[..end].to_owned() };
        let json = serde_json::to_vec(&short).unwrap_or_default();
        [ATTRIBUTES.as_slice(), &json].concat()
    }

    /// From the file's content.
    #[must_use]
    pub fn decode(file: &[u8]) -> Option<Self> {
        serde_json::from_slice(file.get(4..)?).ok()
    }
}

/// File content of a variable that holds one text.
#[must_use]
pub fn encode(text: &str) -> Vec<u8> {
    let mut file = ATTRIBUTES.to_vec();
    for unit in text.encode_utf16().chain([0]) {
        file.extend_from_slice(&unit.to_le_bytes());
    }
    file
}

/// The texts of a variable: one, or a list with NUL after each.
#[must_use]
pub fn decode(file: &[u8]) -> Vec<String> {
    let units =
        file.get(4..).unwrap_or_default().as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect::<Vec<_>>();
    units.split(|unit| *unit == 0).filter(|text| !text.is_empty()).map(String::from_utf16_lossy).collect()
}

/// An entry of ours: `twinpost-<sequence>-<slot>[+<left>[-<done>]].efi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    sequence: u64,
    slot: char,
    /// Starts left when they are counted.
    left: Option<u32>,
}

impl Entry {
    fn parse(name: &str) -> Option<Self> {
        // The boot manager lowers the case of names that came from FAT.
        let lower = name.to_ascii_lowercase();
        let rest = lower.strip_prefix("twinpost-")?.strip_suffix(".efi")?;
        let (rest, counter) = rest.split_once('+').map_or((rest, None), |(rest, counter)| (rest, Some(counter)));
        let (sequence, slot) = rest.split_once('-')?;
        let slot = match slot {
            "a" => 'a',
            "b" => 'b',
            _ => return None,
        };
        let left = match counter {
            Some(counter) => Some(counter.split('-').next()?.parse().ok()?),
            None => None,
        };
        Some(Self { sequence: sequence.parse().ok()?, slot, left })
    }
}

/// The entry to start once because `slot` cannot be started: the newest of the other slot that has starts left. `None` when there is none,
/// or when the running entry's starts are counted: then the boot manager itself leaves it after the last.
#[must_use]
pub fn other_entry(slot: char, entries: &[String], selected: Option<&str>, counted: bool) -> Option<String> {
    if counted || selected.and_then(Entry::parse).is_some_and(|entry| entry.left.is_some()) {
        return None;
    }
    let mut others = entries.iter().filter_map(|name| Some((Entry::parse(name)?, name))).collect::<Vec<_>>();
    others.retain(|(entry, _)| entry.slot != slot && entry.left != Some(0));
    others.into_iter().max_by_key(|(entry, _)| entry.sequence).map(|(_, name)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_newest_of_the_other_slot_is_chosen() {
        let entries = list(&[
            "twinpost-9-b.efi",
            "twinpost-100-a.efi",
            "twinpost-7-a.efi",
            "auto-reboot-to-firmware-setup",
            "twinpost-x-a.efi",
        ]);
        assert_eq!(other_entry('b', &entries, Some("twinpost-9-b.efi"), false).as_deref(), Some("twinpost-100-a.efi"));
        assert_eq!(other_entry('a', &entries, Some("Twinpost-100-A.EFI"), false).as_deref(), Some("twinpost-9-b.efi"));
        assert_eq!(other_entry('b', &list(&["twinpost-9-b.efi"]), Some("twinpost-9-b.efi"), false), None);
        assert_eq!(
            other_entry('b', &list(&["twinpost-1-a+0-3.efi", "twinpost-0-a+1.efi"]), None, false).as_deref(),
            Some("twinpost-0-a+1.efi")
        );
    }

    #[test]
    fn a_counted_entry_is_left_to_the_boot_manager() {
        let entries = list(&["twinpost-9-b+2-1.efi", "twinpost-1-a.efi"]);
        assert_eq!(other_entry('b', &entries, Some("twinpost-9-b+2-1.efi"), false), None);
        assert_eq!(other_entry('b', &entries, Some("twinpost-9-b.efi"), true), None);
    }

    #[test]
    fn texts_are_utf16_with_a_nul() {
        assert_eq!(encode("aé"), [7, 0, 0, 0, b'a', 0, 0xe9, 0, 0, 0]);
        assert_eq!(decode(&encode("twinpost-1-a.efi")), ["twinpost-1-a.efi"]);
        assert_eq!(decode(&[7, 0, 0, 0, b'a', 0, 0, 0, b'b', 0, 0, 0, 9]), ["a", "b"]);
        assert!(decode(&[7]).is_empty());
        let long = Fallback { slot: 'b', why: "é".repeat(500) };
        let back = Fallback::decode(&long.encode()).unwrap();
        assert!(back.slot == 'b' && back.why.len() <= MAX_WHY_BYTES && long.why.starts_with(&back.why));
    }

    proptest! {
        #[test]
        fn no_variable_makes_it_panic(file in proptest::collection::vec(any::<u8>(), 0..60), name in "\\PC{0,40}", counter in "[-+0-9]{0,30}") {
            let mut entries = decode(&file);
            entries.push(name.clone());
            entries.push(format!("twinpost-1-a{counter}.efi"));
            let _ = other_entry('b', &entries, Some(&name), false);
            let _ = Fallback::decode(&file);
        }

        #[test]
        fn text_survives(text in "[^\u{0}]{1,40}") {
            prop_assert_eq!(decode(&encode(&text)), [text]);
        }
    }
}
