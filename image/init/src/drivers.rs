//! Kernel modules of the initramfs: the tables that the image builder wrote, and which driver a device asks for.
//!
//! Contract: pure. `/modules/order` and `/modules/efi` name a file a line; `/modules/drivers` has blocks of one `module A.ko B.ko` line (the
//! last is the driver, the others what it needs, in order; `late` instead of `module` when its disks appear some time after it is loaded) and
//! its `alias PATTERN` lines. A device's `modalias` is matched as modprobe does
//! (fnmatch(3) without special treatment of `/`).

use std::collections::BTreeSet;

/// The table of drivers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Drivers {
    drivers: Vec<Driver>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Driver {
    files: Vec<String>,
    late: bool,
    aliases: Vec<String>,
}

impl Drivers {
    /// Parses `/modules/drivers`; a line of another shape is passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut drivers = Vec::<Driver>::new();
        for line in text.lines() {
            match line.split_once(' ') {
                Some((word @ ("module" | "late"), files)) => {
                    let files = files.split_ascii_whitespace().map(str::to_owned).collect();
                    drivers.push(Driver { files, late: word == "late", aliases: Vec::new() });
                }
                Some(("alias", pattern)) => {
                    if let Some(driver) = drivers.last_mut() {
                        driver.aliases.push(pattern.to_owned());
                    }
                }
                _ => {}
            }
        }
        Self { drivers }
    }

    /// Numbers of the drivers for a device, in the table's order; none when no driver of the initramfs is for it.
    pub fn of<'a>(&'a self, modalias: &'a str) -> impl Iterator<Item = usize> {
        let wanted = move |driver: &Driver| driver.aliases.iter().any(|pattern| matches(pattern.as_bytes(), modalias.as_bytes()));
        self.drivers.iter().enumerate().filter(move |(_, driver)| wanted(driver)).map(|(number, _)| number)
    }

    /// A driver: the files to be loaded, in order, and whether its disks appear late. Nothing for a number that is not from this table.
    #[must_use]
    pub fn driver(&self, number: usize) -> (&[String], bool) {
        self.drivers.get(number).map_or((&[], false), |driver| (driver.files.as_slice(), driver.late))
    }

    /// Names of the buses below `/sys/bus` whose devices can ask for one of the drivers (`pci`, `virtio`, `usb` ...).
    #[must_use]
    pub fn buses(&self) -> BTreeSet<&str> {
        self.drivers.iter().flat_map(|driver| &driver.aliases).filter_map(|alias| Some(alias.split_once(':')?.0)).collect()
    }
}

/// The file names of `/modules/order`.
#[must_use]
pub fn order(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// fnmatch(3) with `*`, `?` and `[...]`. Linear in the text for each `*`: only the last one is ever tried again.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut again = None;
    while t < text.len() {
        match one(&pattern[p..], text[t]) {
            Step::Star => {
                again = Some((p + 1, t));
                p += 1;
                continue;
            }
            Step::Yes(length) => {
                p += length;
                t += 1;
                continue;
            }
            Step::No => {}
        }
        // The last star takes one byte more.
        let Some((star, taken)) = again else { return false };
        again = Some((star, taken + 1));
        (p, t) = (star, taken + 1);
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

enum Step {
    Star,
    /// Matches; the pattern's element has this length.
    Yes(usize),
    No,
}

fn one(pattern: &[u8], byte: u8) -> Step {
    let yes = |matched: bool, length| if matched { Step::Yes(length) } else { Step::No };
    match pattern {
        [] => Step::No,
        [b'*', ..] => Step::Star,
        [b'?', ..] => Step::Yes(1),
        [b'[', rest @ ..] => match rest.iter().skip(1).position(|b| *b == b']') {
            Some(end) => {
                let set = &rest[..=end];
                let (negated, set) = match set {
                    [b'!' | b'^', set @ ..] => (true, set),
                    set => (false, set),
                };
                let mut found = false;
                let mut at = 0;
                while at < set.len() {
                    if at + 2 < set.len() && set[at + 1] == b'-' {
                        found |= (set[at]..=set[at + 2]).contains(&byte);
                        at += 3;
                    } else {
                        found |= set[at] == byte;
                        at += 1;
                    }
                }
                yes(found != negated, end + 3)
            }
            None => yes(byte == b'[', 1),
        },
        [other, ..] => yes(*other == byte, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_device_gets_its_driver_and_what_that_needs() {
        let text = "module virtio.ko virtio_pci.ko\nalias pci:v00001AF4d*sv*sd*bc*sc*i*\nlate ahci.ko\nalias pci:v*d*sv*sd*bc01sc06i01*\nalias virtio:x\njunk\n";
        let drivers = Drivers::parse(text);
        let of = |modalias: &str| drivers.of(modalias).map(|number| drivers.driver(number)).collect::<Vec<_>>();
        let (virtio, ahci) = (["virtio.ko".to_owned(), "virtio_pci.ko".to_owned()], ["ahci.ko".to_owned()]);
        assert_eq!(of("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00"), [(&virtio[..], false)]);
        assert_eq!(of("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"), [(&ahci[..], true)]);
        assert!(of("pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00").is_empty());
        assert_eq!(drivers.driver(9), (&[][..], false));
        assert_eq!(drivers.buses(), BTreeSet::from(["pci", "virtio"]));
        assert_eq!(order("a.ko\n\nb.ko\n"), ["a.ko", "b.ko"]);
    }

    #[test]
    fn patterns_as_fnmatch_has_them() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("usb:v*ic08isc06ip50in*", "usb:v0951p1666d0110dc00dsc00dp00ic08isc06ip50in00", true),
            ("x[0-9a]y", "x5y", true),
            ("x[0-9a]y", "xay", true),
            ("x[0-9a]y", "xby", false),
            ("x[!0-9]y", "xby", true),
            ("x[", "x[", true),
            ("scsi:t-0x00*", "scsi:t-0x00", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_with_any_part_starred(text in "[a-zA-Z0-9:]{1,40}", from in 0usize..40, length in 0usize..40) {
            let from = from.min(text.len());
            let to = (from + length).min(text.len());
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(matches(pattern.as_bytes(), text.as_bytes()));
            prop_assert!(matches(text.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn no_pattern_makes_it_panic(pattern in "[-a-c*?\\[\\]!^]{0,30}", text in "[-a-c\\[\\]]{0,60}") {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
            let _ = Drivers::parse(&format!("module {pattern}\nalias {text}\n"));
        }
    }
}
