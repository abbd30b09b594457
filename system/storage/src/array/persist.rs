//! SCSI-3 persistent reservations through `sg_persist`.
//!
//! Contract: [`Persist::take`] answers `true` only after it read back that the reservation is this node's and that no other
//! key is registered: then the array itself refuses every write of the other node. Keys name node and reign, so what an array
//! remembers says whose it is.
//!
//! The type is Write Exclusive - Registrants Only (5): a node may reach the array over several paths and every one of them is a registrant;
//! others may read, which a standby needs to know the position. Since registrants may write, a node that does not hold the
//! volume is never left registered.
//!
//! Source: SPC-4 5.9 (persistent reservations), sg_persist(8).

use crate::program::shorten;
use crate::{Error, Program};
use std::path::PathBuf;
use std::time::Duration;

/// Write Exclusive - Registrants Only.
const TYPE: &str = "5";
/// sg3_utils(8): the device answered RESERVATION CONFLICT.
const CONFLICT: i32 = 24;
/// sg3_utils(8): UNIT ATTENTION; the command was not carried out and may be repeated.
const ATTENTION: i32 = 6;
const LIMIT: Duration = Duration::from_secs(10);
/// First 16 bits of our keys: "TP".
const TAG: u64 = 0x5450;
/// More keys than this are not believed.
const KEYS_MAX: usize = 1024;

/// A reservation key: node and reign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// 0 or 1.
    pub node: u8,
    /// Reign under which the volume was taken.
    pub reign: u32,
}

impl Key {
    /// As the array knows it.
    #[must_use]
    pub const fn number(self) -> u64 {
        TAG << 48 | (self.node as u64) << 40 | self.reign as u64
    }

    /// `None`: another cluster's.
    #[must_use]
    pub fn of(number: u64) -> Option<Self> {
        let node = u8::try_from(number >> 40 & 0xFF).ok()?;
        let key = Self { node, reign: u32::try_from(number & 0xFFFF_FFFF).ok()? };
        (key.number() == number).then_some(key)
    }
}

/// What the array says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Registered keys; one of several paths counts as one.
    pub keys: Vec<u64>,
    /// Key of the holder.
    pub holder: Option<u64>,
}

impl Found {
    /// The volume is this key's alone.
    #[must_use]
    pub fn is_only(&self, key: Key) -> bool {
        self.holder == Some(key.number()) && self.keys == [key.number()]
    }

    /// The newest key of this cluster.
    #[must_use]
    pub fn newest(&self) -> Option<Key> {
        self.keys.iter().chain(&self.holder).filter_map(|number| Key::of(*number)).max_by_key(|key| key.reign)
    }
}

fn number(word: &str) -> Option<u64> {
    u64::from_str_radix(word.trim().strip_prefix("0x")?, 16).ok()
}

/// `PR generation=0x4, 2 registered reservation keys follow:` and a key on each line, or `there are NO registered reservation keys`.
fn parse_keys(text: &str) -> Option<Vec<u64>> {
    let mut lines = text.lines().skip_while(|line| !line.contains("PR generation="));
    let head = lines.next()?;
    if head.contains("NO registered") {
        return Some(Vec::new());
    }
    let count: usize = head.split(", ").nth(1)?.split(' ').next()?.parse().ok()?;
    let mut keys = Vec::new();
    for line in lines.map(str::trim).filter(|line| !line.is_empty()).take(count.min(KEYS_MAX)) {
        keys.push(number(line.split_whitespace().next()?)?);
    }
    if keys.len() != count {
        return None;
    }
    keys.sort_unstable();
    keys.dedup();
    Some(keys)
}

/// `PR generation=0x4, Reservation follows:`, `Key=0x...`, or `there is NO reservation held`. The inner `None`: nobody holds it.
fn parse_holder(text: &str) -> Option<Option<u64>> {
    let mut lines = text.lines().skip_while(|line| !line.contains("PR generation="));
    let head = lines.next()?;
    if head.contains("NO reservation") {
        return Some(None);
    }
    if !head.contains("Reservation follows") {
        return None;
    }
    lines.find_map(|line| line.trim().strip_prefix("Key=")).and_then(|word| number(word.split_whitespace().next()?)).map(Some)
}

/// Parsers of any text, for tests with arbitrary bytes.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(keys) = parse_keys(&text) {
        assert!(keys.len() <= KEYS_MAX, "bounded");
    }
    let _ = parse_holder(&text);
}

/// The array.
#[derive(Clone, Debug)]
pub struct Persist {
    /// `sg_persist`.
    pub program: Program,
    /// The disk.
    pub device: PathBuf,
}

enum Said {
    Done(String),
    Conflict,
}

impl Persist {
    async fn say(&self, args: &[&str]) -> Result<Said, Error> {
        let device =
            self.device.to_str().ok_or_else(|| Error::Unfit { path: self.device.clone(), why: "is not UTF-8".into() })?;
        let all: Vec<&str> = args.iter().copied().chain([device]).collect();
        // A unit attention is news about something else; the order is given again.
        for _ in 0..5 {
            let answer = self.program.run(&all, LIMIT).await?;
            match answer.code {
                Some(ATTENTION) => {}
                Some(CONFLICT) => return Ok(Said::Conflict),
                // 5: illegal request, 9: not supported.
                Some(5 | 9) => {
                    let why = format!("the array knows no persistent reservations: {}", shorten(&answer.stderr));
                    return Err(Error::NoLocks { path: self.device.clone(), why });
                }
                _ => return answer.ok().map(Said::Done),
            }
        }
        Err(Error::Held { what: self.device.clone(), by: "something that resets the array again and again".into() })
    }

    async fn out(&self, action: &str, rk: Option<Key>, sark: Option<u64>) -> Result<bool, Error> {
        let mut args = vec!["--out".to_owned(), action.to_owned()];
        if let Some(rk) = rk {
            args.push(format!("--param-rk={:#x}", rk.number()));
        }
        if let Some(sark) = sark {
            args.push(format!("--param-sark={sark:#x}"));
        }
        if action.starts_with("--register") {
            // Kept over a power loss of the array.
            args.push("--param-aptpl".into());
        } else {
            args.push(format!("--prout-type={TYPE}"));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Ok(matches!(self.say(&args).await?, Said::Done(_)))
    }

    /// READ KEYS and READ RESERVATION.
    pub async fn look(&self) -> Result<Found, Error> {
        let ask = async |what: &str| match self.say(&["--in", what]).await? {
            Said::Done(text) => Ok(text),
            Said::Conflict => Err(Error::Held { what: self.device.clone(), by: "a node that allows no questions".into() }),
        };
        let nonsense = |what: &str, said: &str| Error::Answer { command: format!("sg_persist --in {what}"), said: shorten(said) };
        let text = ask("--read-keys").await?;
        let keys = parse_keys(&text).ok_or_else(|| nonsense("--read-keys", &text))?;
        let text = ask("--read-reservation").await?;
        let holder = parse_holder(&text).ok_or_else(|| nonsense("--read-reservation", &text))?;
        Ok(Found { keys, holder })
    }

    /// Takes the volume under this key; `false`: another was faster. Who held it before can write no more.
    pub async fn take(&self, mine: Key) -> Result<bool, Error> {
        let before = self.look().await?;
        if before.is_only(mine) {
            return Ok(true);
        }
        if let Some(foreign) = before.keys.iter().chain(&before.holder).find(|number| Key::of(**number).is_none()) {
            return Err(Error::Held { what: self.device.clone(), by: format!("another cluster (key {foreign:#x})") });
        }
        // SPC-4 5.9.7: this node's earlier key, if any, is replaced, and a reservation that it holds stays its own.
        if !self.out("--register-ignore", None, Some(mine.number())).await? {
            return Ok(false);
        }
        let taken = match before.holder.and_then(Key::of) {
            // SPC-4 5.9.11.4: takes the place of the holder, removes its registrations and ends its commands.
            Some(holder) if holder.node != mine.node => self.out("--preempt-abort", Some(mine), Some(holder.number())).await?,
            _ => self.out("--reserve", Some(mine), None).await?,
        };
        let mut after = self.look().await?;
        if taken && after.holder == Some(mine.number()) {
            // Registrants may write: one that came in between is put out.
            for other in after.keys.iter().filter(|number| **number != mine.number()) {
                if Key::of(*other).is_some() {
                    self.out("--preempt-abort", Some(mine), Some(*other)).await?;
                }
            }
            after = self.look().await?;
        }
        if after.is_only(mine) {
            return Ok(true);
        }
        self.give_back(mine).await?;
        Ok(false)
    }

    /// Gives the volume back. A conflict means that it was taken away meanwhile.
    pub async fn give_back(&self, mine: Key) -> Result<(), Error> {
        // SPC-4 5.9.11.3: the holder's own unregistration would release it as well; releasing first leaves no doubt.
        self.out("--release", Some(mine), None).await?;
        self.out("--register", Some(mine), Some(0)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_sg_persist_prints() {
        let head = "  LIO-ORG   disk0             4.0 \n  Peripheral device type: disk\n";
        let none = format!("{head}  PR generation=0x0, there are NO registered reservation keys\n");
        assert_eq!(parse_keys(&none), Some(vec![]));
        let keys = format!(
            "{head}  PR generation=0x4, 3 registered reservation keys follow:\n    0x5450000000000007\n    0x123abc\n    0x123abc\n"
        );
        assert_eq!(parse_keys(&keys), Some(vec![0x0012_3abc, 0x5450_0000_0000_0007]));
        let one = "  PR generation=0x4, 1 registered reservation key follows:\n    0x1\n";
        assert_eq!(parse_keys(one), Some(vec![1]));
        assert_eq!(parse_keys("  PR generation=0x4, 2 registered reservation keys follow:\n    0x1\n"), None, "one is missing");
        assert_eq!(parse_keys("sg_persist failed"), None);
        let free = format!("{head}  PR generation=0x2, there is NO reservation held\n");
        assert_eq!(parse_holder(&free), Some(None));
        let held = format!(
            "{head}  PR generation=0x2, Reservation follows:\n    Key=0x123abc\n    scope: LU_SCOPE,  type: Write Exclusive, registrants only\n"
        );
        assert_eq!(parse_holder(&held), Some(Some(0x0012_3abc)));
        assert_eq!(parse_holder("  PR generation=0x2, Reservation follows:\n"), None);
        assert_eq!(parse_holder(""), None);
    }

    proptest! {
        #[test]
        fn a_key_says_node_and_reign(node in 0u8..=255, reign: u32, other: u64) {
            let key = Key { node, reign };
            prop_assert_eq!(Key::of(key.number()), Some(key));
            prop_assert!(Key::of(other).is_none_or(|key| key.number() == other));
        }

        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz(&data);
        }

        #[test]
        fn any_answer(count: u32, lines in proptest::collection::vec("(0x[0-9a-f]{0,20}|Key=0x[0-9a-f]{1,16}|[ -~]{0,20})", 0..8)) {
            let text = format!("  PR generation=0x1, {count} registered reservation keys follow:\n{}\n", lines.join("\n"));
            fuzz(text.as_bytes());
            fuzz(text.replace("registered reservation keys follow", "Reservation follows").as_bytes());
        }
    }
}
