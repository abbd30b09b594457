//! Faults in words, for people who try a pair.

use crate::rig::{Cable, Fault, NODES, NewDisk, Rig};
use crate::{Error, Result};

/// The words.
pub const HELP: &str = "\
power a on|off          its power, at once
reset a                 its reset button
stall a, go a           stop processor and clock, and go on
panic a                 its kernel panics
pull|mend eth1          the crossover cable
pull|mend lan a         its cable to the LAN
pull|mend serial        the null-modem cable
garble serial a 0.01    each byte from node a is changed with this probability; `mend serial` ends it
pull|mend modem a       the cable to its modem
swap|unswap serial a    its null-modem cable and its modem's cable
pull|mend switch a      the controller that switches node a is out of reach
pull disk a 1           the disk of bay 1
insert disk a 1 same    the disk that was in it; or `new 2GiB`, `foreign 2GiB`
witness on|off          the witness
clock a +31536000       seconds added to the right time from its next start on
kernel a WORDS          further words for its kernel from its next start on, such as
                        `kernel a loglevel=7 systemd.journald.forward_to_console=1`";

fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match &text[digits..] {
        "" => 1,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(factor)
}

/// Carries a fault out; gives what to say.
///
/// # Errors
/// The words are none of the list, or the rig cannot.
pub fn carry_out(rig: &dyn Rig, words: &str) -> Result<String> {
    let wrong = || Error::Setting { what: format!("{words:?} is no fault; the words are\n{HELP}") };
    let words_list: Vec<&str> = words.split_ascii_whitespace().collect();
    let node = |word: &str| NODES.into_iter().find(|node| *node == word).ok_or_else(wrong);
    let state = |verb: &str| if verb == "pull" { Fault::Pulled } else { Fault::None };
    match words_list.as_slice() {
        ["help"] => return Ok(HELP.to_owned()),
        ["power", name, word @ ("on" | "off")] => rig.power(node(name)?, *word == "on")?,
        ["reset", name] => rig.reset(node(name)?)?,
        ["stall", name] => rig.stall(node(name)?)?,
        ["go", name] => rig.go_on(node(name)?)?,
        ["panic", name] => rig.panic(node(name)?)?,
        [verb @ ("pull" | "mend"), "eth1"] => rig.cable("a", Cable::Eth1, state(verb))?,
        [verb @ ("pull" | "mend"), "serial"] => rig.cable("a", Cable::Serial, state(verb))?,
        [verb @ ("pull" | "mend"), "lan", name] => rig.cable(node(name)?, Cable::Lan, state(verb))?,
        [verb @ ("pull" | "mend"), "modem", name] => rig.cable(node(name)?, Cable::Modem, state(verb))?,
        [verb @ ("pull" | "mend"), "switch", name] => rig.cable(node(name)?, Cable::Switch, state(verb))?,
        ["garble", "serial", name, share] => {
            let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(wrong)?;
            rig.cable(node(name)?, Cable::Serial, Fault::Garbled(share))?;
        }
        [verb @ ("swap" | "unswap"), "serial", name] => rig.swap_serial(node(name)?, *verb == "swap")?,
        ["pull", "disk", name, bay @ ("1" | "2")] => rig.pull_disk(node(name)?, if *bay == "1" { 1 } else { 2 })?,
        ["insert", "disk", name, bay @ ("1" | "2"), what @ ..] => {
            let disk = match what {
                ["same"] => NewDisk::Same,
                ["new", bytes] => NewDisk::Blank(size(bytes).ok_or_else(wrong)?),
                ["foreign", bytes] => NewDisk::Foreign(size(bytes).ok_or_else(wrong)?),
                _ => return Err(wrong()),
            };
            rig.insert_disk(node(name)?, if *bay == "1" { 1 } else { 2 }, disk)?;
        }
        ["witness", word @ ("on" | "off")] => rig.witness(*word == "on")?,
        ["kernel", name, more @ ..] => rig.kernel_words(node(name)?, &more.join(" "))?,
        ["clock", name, seconds] => rig.clock_offset(node(name)?, seconds.parse().map_err(|_| wrong())?)?,
        _ => return Err(wrong()),
    }
    Ok("done".to_owned())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        assert_eq!([size("2GiB"), size("512MiB"), size("7")], [Some(2 << 30), Some(512 << 20), Some(7)]);
        assert_eq!([size("2 GiB"), size("x"), size("99999999999GiB")], [None; 3]);
    }
}
