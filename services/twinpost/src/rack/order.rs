//! The words of the rack's control socket.

use super::cable::Way;
use std::time::Duration;

/// What the words are.
pub const HELP: &str = "\
cut LINK [a>b|b>a|both]      LINK is eth1, lan or serial: nothing passes any more
mend LINK|all [a>b|b>a|both] sound again: no cut, no loss, no garbling
loss LINK PERCENT [WAY]      this share of the datagrams of eth1 or lan is lost
garble serial P [WAY]        each byte is changed with probability P (0 to 1)
seed N                       chance begins anew from this number, on every cable
power NODE off|on|read|reset the power of node a or b; off comes back when no process of it is left
pause NODE [SECONDS]         every process of the node stands still; without a time until `resume`
resume NODE                  they go on
show                         the present state, as JSON
help                         these lines";

/// A cable, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The crossover cable.
    Eth1,
    /// The path through the LAN.
    Lan,
    /// The null-modem cable.
    Serial,
}

/// What is done to the power of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Off, read back.
    Off,
    /// On.
    On,
    /// Off and on.
    Reset,
    /// Only looked at.
    Read,
}

/// One order.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Nothing passes.
    Cut(Link, Vec<Way>),
    /// Sound again; none: all cables.
    Mend(Option<Link>, Vec<Way>),
    /// A share of 0 to 1 is lost.
    Loss(Link, f64, Vec<Way>),
    /// Bytes change with this probability.
    Garble(f64, Vec<Way>),
    /// Chance begins anew.
    Seed(u64),
    /// The power of a node.
    Power(&'static str, Switch),
    /// All processes stand still.
    Pause(&'static str, Option<Duration>),
    /// They go on.
    Resume(&'static str),
    /// The present state.
    Show,
    /// The words.
    Help,
}

/// Longest pause: a forgotten one ends by itself.
const PAUSE_MAX_S: f64 = 3600.0;

fn link(word: &str) -> Result<Link, String> {
    match word {
        "eth1" => Ok(Link::Eth1),
        "lan" => Ok(Link::Lan),
        "serial" => Ok(Link::Serial),
        other => Err(format!("{other:?} is no cable: eth1, lan or serial")),
    }
}

fn node(word: &str) -> Result<&'static str, String> {
    match word {
        "a" => Ok("a"),
        "b" => Ok("b"),
        other => Err(format!("{other:?} is no node: a or b")),
    }
}

fn ways(word: Option<&str>) -> Result<Vec<Way>, String> {
    match word {
        None | Some("both") => Ok(Way::BOTH.to_vec()),
        Some("a>b") => Ok(vec![Way::ToB]),
        Some("b>a") => Ok(vec![Way::ToA]),
        Some(other) => Err(format!("{other:?} is no way: a>b, b>a or both")),
    }
}

fn number(word: &str, max: f64, what: &str) -> Result<f64, String> {
    let number: Option<f64> = word.parse().ok().filter(|n: &f64| n.is_finite() && (0.0..=max).contains(n));
    number.ok_or_else(|| format!("{word:?} is no {what}: 0 to {max}"))
}

impl Order {
    /// Reads a line.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let order = match words.as_slice() {
            [] => return Err("an empty line; `help` lists the words".to_owned()),
            ["help"] => Self::Help,
            ["show"] => Self::Show,
            ["cut", to, rest @ ..] if rest.len() < 2 => Self::Cut(link(to)?, ways(rest.first().copied())?),
            ["mend", "all", rest @ ..] if rest.len() < 2 => Self::Mend(None, ways(rest.first().copied())?),
            ["mend", to, rest @ ..] if rest.len() < 2 => Self::Mend(Some(link(to)?), ways(rest.first().copied())?),
            ["loss", "serial", ..] => return Err("a serial line garbles bytes, it loses none: `garble serial P`".to_owned()),
            ["loss", to, percent, rest @ ..] if rest.len() < 2 => {
                let share = number(percent.trim_end_matches('%'), 100.0, "percentage")? / 100.0;
                Self::Loss(link(to)?, share, ways(rest.first().copied())?)
            }
            ["garble", "serial", p, rest @ ..] if rest.len() < 2 => {
                Self::Garble(number(p, 1.0, "probability")?, ways(rest.first().copied())?)
            }
            ["garble", ..] => return Err("only the serial line garbles: `garble serial P [WAY]`".to_owned()),
            ["seed", n] => Self::Seed(n.parse().map_err(|_| format!("{n:?} is no whole number"))?),
            ["power", which, what] => {
                let switch = match *what {
                    "off" => Switch::Off,
                    "on" => Switch::On,
                    "reset" => Switch::Reset,
                    "read" => Switch::Read,
                    other => return Err(format!("{other:?}: the power is switched off or on, reset or read")),
                };
                Self::Power(node(which)?, switch)
            }
            ["pause", which] => Self::Pause(node(which)?, None),
            ["pause", which, seconds] => {
                let seconds = number(seconds, PAUSE_MAX_S, "time in seconds")?;
                Self::Pause(node(which)?, Some(Duration::from_secs_f64(seconds)))
            }
            ["resume", which] => Self::Resume(node(which)?),
            [first, ..] => return Err(format!("{first:?}: not understood; `help` lists the words")),
        };
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_understood() {
        let both = Way::BOTH.to_vec();
        for (line, order) in [
            ("cut eth1", Order::Cut(Link::Eth1, both.clone())),
            (" cut  lan a>b ", Order::Cut(Link::Lan, vec![Way::ToB])),
            ("mend all", Order::Mend(None, both.clone())),
            ("mend serial b>a", Order::Mend(Some(Link::Serial), vec![Way::ToA])),
            ("loss eth1 20", Order::Loss(Link::Eth1, 0.2, both.clone())),
            ("loss lan 5% a>b", Order::Loss(Link::Lan, 0.05, vec![Way::ToB])),
            ("garble serial 0.01", Order::Garble(0.01, both)),
            ("seed 77", Order::Seed(77)),
            ("power a off", Order::Power("a", Switch::Off)),
            ("power b read", Order::Power("b", Switch::Read)),
            ("pause a 5", Order::Pause("a", Some(Duration::from_secs(5)))),
            ("pause b", Order::Pause("b", None)),
            ("resume b", Order::Resume("b")),
            ("show", Order::Show),
            ("help", Order::Help),
        ] {
            assert_eq!(Order::parse(line), Ok(order), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_what_was_expected() {
        for (line, word) in [
            ("", "help"),
            ("cut eth2", "eth1, lan or serial"),
            ("cut eth1 a<b", "a>b"),
            ("cut eth1 both both", "help"),
            ("loss eth1 120", "0 to 100"),
            ("loss eth1 NaN", "0 to 100"),
            ("loss serial 5", "garble"),
            ("garble lan 0.1", "serial"),
            ("garble serial -1", "0 to 1"),
            ("power c off", "a or b"),
            ("power a of", "off or on"),
            ("pause a 1e9", "3600"),
            ("dance", "help"),
        ] {
            let refused = Order::parse(line).expect_err(line);
            assert!(refused.contains(word), "{line}: {refused}");
        }
    }
}
