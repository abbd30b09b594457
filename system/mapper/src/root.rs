//! The root of a running node: from which disks it is read, and taking a disk into it again.
//!
//! Contract: [`look`] says of each leg whether the root is read from it. [`join`] makes a partition with the slot that runs a leg, and lets go of those
//! that failed or whose disk is gone; the root never stands without a leg, and nothing that runs notices more than a pause of milliseconds.
//!
//! Failure classes: [`Error`]; the root goes on as it was.

use crate::cmdline::Cmdline;
use crate::mapper::Line;
use crate::table::{self, Number};
use crate::{Error, Mapper};
use std::path::Path;

/// Name of the root's device.
pub const NAME: &str = "root";
/// Names of legs: `leg1` to `leg16`. Two disks are all that a node has; each that is replaced gets the next free one.
const NAMES_MAX: usize = 16;

/// A disk's part in the root.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Leg {
    /// Name of its verified device.
    pub name: String,
    /// That device.
    #[serde(skip)]
    pub device: Number,
    /// The slot's partition, `259:2`.
    #[serde(skip)]
    pub partition: Number,
    /// The root is read from it, or can be.
    pub good: bool,
}

/// The legs that a root's table names.
fn legs_of(table: &Line) -> Option<Vec<Number>> {
    let words: Vec<&str> = table.words.split_ascii_whitespace().collect();
    let number = |word: &&str| Number::parse(word);
    match table.target.as_str() {
        "linear" => Some(vec![number(words.first()?)?]),
        // mirror_ctr: log type, number of its arguments, these, number of legs, then each with its offset.
        "mirror" => {
            let count: usize = words.get(1)?.parse().ok()?;
            let at = count.checked_add(2)?;
            let legs: usize = words.get(at)?.parse().ok().filter(|legs| *legs <= NAMES_MAX)?;
            (0..legs).map(|leg| number(words.get(at + 1 + 2 * leg)?)).collect()
        }
        _ => None,
    }
}

/// Which legs of a mirror live (drivers/md/dm-raid1.c, mirror_status: `A` alive; `D` failed to write, `S` to synchronise, `R` to read). Others
/// have no such words: they live.
fn living(status: &Line, legs: usize) -> Vec<bool> {
    let words: Vec<&str> = status.words.split_ascii_whitespace().collect();
    // <legs> <device> * <legs> <in sync>/<all> 1 <letters> ...
    let letters = words.get(legs + 3).filter(|_| status.target == "mirror");
    (0..legs).map(|leg| letters.is_none_or(|letters| letters.as_bytes().get(leg) == Some(&b'A'))).collect()
}

/// The parsers with arbitrary words.
pub fn fuzz(text: &str) {
    for target in ["linear", "mirror", "verity"] {
        let line = Line { target: target.to_owned(), words: text.to_owned() };
        let legs = legs_of(&line).map_or(2, |legs| legs.len());
        assert!(legs <= NAMES_MAX && living(&line, legs).len() == legs);
    }
}

fn names() -> impl Iterator<Item = String> {
    (1..=NAMES_MAX).map(|n| format!("leg{n}"))
}

/// The legs of the running root; `None`: its root is none of ours. `sys` stands for /sys.
///
/// # Errors
/// The kernel's.
pub fn look(mapper: &Mapper, sys: &Path) -> Result<Option<Vec<Leg>>, Error> {
    let (Some(table), Some(status)) = (mapper.table_of(NAME)?, mapper.status_of(NAME)?) else { return Ok(None) };
    let numbers = legs_of(&table).ok_or_else(|| Error::Strange(format!("{} {}", table.target, table.words)))?;
    let living = living(&status, numbers.len());
    let mut legs = Vec::new();
    for name in names() {
        let Some((device, below)) = mapper.stands_on(&name)? else { continue };
        let Some(partition) = below.first().copied() else { continue };
        let Some(at) = numbers.iter().position(|number| *number == device) else { continue };
        // A disk that was pulled has no entry any more, even while its device is still held. `C`: a wrong block was read (verity.rst).
        let there = sys.join("dev/block").join(partition.to_string()).exists();
        let sound = mapper.status_of(&name)?.is_some_and(|line| !line.words.starts_with('C'));
        legs.push(Leg { name, device, partition, good: there && sound && living[at] });
    }
    Ok(Some(legs))
}

/// Makes a partition of so many sectors a leg of the running root. Legs that are no good are let go. `false`: it was one already.
///
/// # Errors
/// The partition does not hold the slot, or the kernel refuses.
pub fn join(mapper: &Mapper, sys: &Path, root: &Cmdline, partition: Number, sectors: u64) -> Result<bool, Error> {
    let strange = || Error::Strange("there is no such device".to_owned());
    let legs = look(mapper, sys)?.ok_or_else(strange)?;
    let good: Vec<&Leg> = legs.iter().filter(|leg| leg.good).collect();
    if good.iter().any(|leg| leg.partition == partition) && good.len() == legs.len() {
        return Ok(false);
    }
    let mut numbers: Vec<Number> = good.iter().map(|leg| leg.device).collect();
    let mut made = None;
    if !good.iter().any(|leg| leg.partition == partition) {
        let name = free_name(mapper)?;
        numbers.push(mapper.leg(&name, root, partition, sectors)?);
        made = Some(name);
    }
    let exchanged = match table::root(&numbers, root.data_blocks) {
        Some(table) => mapper.exchange(NAME, &table),
        None => Err(strange()),
    };
    if let Err(error) = exchanged {
        // What was made for it is of no use.
        if let Some(name) = made {
            let _ = mapper.remove(&name);
        }
        return Err(error);
    }
    for leg in legs.iter().filter(|leg| !leg.good) {
        // Nothing stands on it any more; one that stays disturbs nobody and keeps its name.
        let _ = mapper.remove(&leg.name);
    }
    Ok(made.is_some())
}

fn free_name(mapper: &Mapper) -> Result<String, Error> {
    for name in names() {
        if mapper.stands_on(&name)?.is_none() {
            return Ok(name);
        }
    }
    Err(Error::Strange(format!("{NAMES_MAX} legs are there already")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(target: &str, words: &str) -> Line {
        Line { target: target.to_owned(), words: words.to_owned() }
    }

    #[test]
    fn the_kernels_words_for_a_root() {
        let minor = |list: Option<Vec<Number>>| list.map(|list| list.iter().map(|n| n.minor).collect::<Vec<_>>());
        assert_eq!(minor(legs_of(&line("linear", "254:0 0"))), Some(vec![0]));
        // `dmsetup table` and `dmsetup status` of a root made by `table::root`, Linux 6.1.
        assert_eq!(minor(legs_of(&line("mirror", "core 2 8192 nosync 2 254:0 0 254:3 0 1 handle_errors"))), Some(vec![0, 3]));
        assert_eq!(living(&line("mirror", "2 254:0 254:3 18/18 1 AA 1 core"), 2), [true, true]);
        assert_eq!(living(&line("mirror", "2 254:0 254:3 18/18 1 AR 1 core"), 2), [true, false]);
        assert_eq!(living(&line("linear", ""), 1), [true]);
        assert_eq!(legs_of(&line("striped", "254:0 0")), None);
    }

    #[test]
    fn what_table_makes_is_read_back() {
        let number = |minor| Number { major: 254, minor };
        for legs in [vec![number(0)], vec![number(2), number(5)]] {
            let table = table::root(&legs, 18_000).unwrap();
            assert_eq!(legs_of(&line(table.target, &table.parameters)), Some(legs));
        }
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(text in "\\PC{0,80}", words in "[0-9:/AR core]{0,60}") {
            fuzz(&text);
            fuzz(&words);
        }
    }
}
