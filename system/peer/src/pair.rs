//! What a node knows about its pair: letters, cluster, pinned partner, frame keys.
//!
//! Contract: plain data with a text form; both halves of a pair hold the same [`Pair::cluster`], [`Pair::keys`] and [`Pair::witness_key`] and
//! opposite letters.
//!
//! Failure classes: none; text that is not a pair is refused by serde.

use crate::error::Error;
use crate::secret::{self, PublicKey, Secret};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Letter of a node within its pair. It never changes while the pair lasts; a replacement takes the letter that is free.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Letter {
    /// 0 in heartbeat frames.
    A,
    /// 1 in heartbeat frames.
    B,
}

impl Letter {
    /// The partner's.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// As heartbeat frames write it.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// What a node tells about itself when it is paired and whenever it connects.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// `node.name`, unique within the pair.
    pub name: String,
    /// Board of the machine, as the image knows it; empty where there is none.
    #[serde(default)]
    pub board: String,
    /// Version of the program.
    #[serde(default)]
    pub program: String,
}

impl About {
    /// Short enough to be kept: the file of a pair is a few kilobytes.
    pub(crate) fn is_short(&self) -> bool {
        [&self.name, &self.board, &self.program].iter().all(|text| text.len() <= 400)
    }
}

/// The partner as pinned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Partner {
    /// Its key: no other key is believed.
    pub key: PublicKey,
    /// What it told about itself at pairing.
    pub about: About,
}

/// Keys that sign heartbeat frames. Frames leave under `current`; those under `other` are accepted too, so that a change leaves no gap.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrameKeys {
    /// Counts the changes.
    pub epoch: u32,
    /// Signs and is accepted.
    pub current: Secret,
    /// Accepted: the next key before the change, the previous one after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<OtherKey>,
}

/// A key that is accepted beside the current one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OtherKey {
    /// `epoch` of the [`FrameKeys`] in which it is the current one.
    pub epoch: u32,
    /// The key.
    pub key: Secret,
}

/// One step of a key change. Each is idempotent; node a drives all three, see [`crate::Channel::rotate_keys`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum KeyStep {
    /// Accept this key from now on.
    Accept(OtherKey),
    /// Sign with the key of this epoch, keep accepting the one before.
    Use {
        /// Which.
        epoch: u32,
    },
    /// Accept only the key of this epoch.
    Forget {
        /// Which stays.
        epoch: u32,
    },
}

impl FrameKeys {
    /// The first keys of a pair.
    ///
    /// # Errors
    /// [`Error::Crypto`] where the system has no randomness.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { epoch: 1, current: Secret::new()?, other: None })
    }

    /// The keys after `step`.
    ///
    /// # Errors
    /// A sentence for the one who asked, when the step does not fit; nothing is changed then.
    pub fn after(&self, step: &KeyStep) -> Result<Self, String> {
        let mut keys = self.clone();
        match step {
            KeyStep::Accept(new) if new.epoch == self.epoch => {
                if new.key != self.current {
                    return Err(format!("epoch {} has another key here", new.epoch));
                }
            }
            KeyStep::Accept(new) if Some(new.epoch) == self.epoch.checked_add(1) => keys.other = Some(new.clone()),
            KeyStep::Use { epoch } | KeyStep::Forget { epoch } if *epoch == self.epoch => {
                if matches!(step, KeyStep::Forget { .. }) {
                    keys.other = None;
                }
            }
            KeyStep::Use { epoch } => match &self.other {
                Some(next) if next.epoch == *epoch && *epoch > self.epoch => {
                    let before = OtherKey { epoch: self.epoch, key: self.current };
                    keys = Self { epoch: *epoch, current: next.key, other: Some(before) };
                }
                _ => return Err(format!("the key of epoch {epoch} is not known here, the current one is of {}", self.epoch)),
            },
            KeyStep::Accept(OtherKey { epoch, .. }) | KeyStep::Forget { epoch } => {
                return Err(format!("the frame keys here are of epoch {}, the step is for {epoch}", self.epoch));
            }
        }
        Ok(keys)
    }
}

/// A pair as one of its nodes knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pair {
    /// This node's letter.
    pub node: Letter,
    /// Number of the pair in heartbeat frames and at the witness; never 0.
    pub cluster: u32,
    /// The other node.
    pub partner: Partner,
    /// Keys of heartbeat frames.
    pub keys: FrameKeys,
    /// Key that both nodes show the witness.
    pub witness_key: Secret,
    /// When the pair was made, seconds since 1970 by the clock of that time; for people only.
    #[serde(default)]
    pub since_s: u64,
}

impl Pair {
    /// A new pair from the side of `node`.
    ///
    /// # Errors
    /// [`Error::Crypto`] where the system has no randomness.
    pub fn new(node: Letter, partner: Partner) -> Result<Self, Error> {
        let cluster = loop {
            let cluster = u32::from_be_bytes(secret::random()?);
            if cluster != 0 {
                break cluster;
            }
        };
        Ok(Self { node, cluster, partner, keys: FrameKeys::new()?, witness_key: Secret::new()?, since_s: now_s() })
    }

    /// The same pair from the side of the partner; `own` is this node as it sees it.
    #[must_use]
    pub fn mirrored(&self, own: Partner) -> Self {
        Self { node: self.node.other(), partner: own, ..self.clone() }
    }
}

pub(crate) fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_change_leaves_no_moment_in_which_a_frame_is_not_accepted() -> Result<(), Error> {
        let start = FrameKeys::new()?;
        let next = OtherKey { epoch: 2, key: Secret::new()? };
        let steps = [KeyStep::Accept(next.clone()), KeyStep::Use { epoch: 2 }, KeyStep::Forget { epoch: 2 }];
        let accepts = |at: &FrameKeys, key: &Secret| at.current == *key || at.other.as_ref().is_some_and(|o| o.key == *key);
        // Both nodes take each step, one of them later, and each step comes twice (an answer got lost).
        let (mut a, mut b) = (start.clone(), start.clone());
        for step in &steps {
            a = a.after(step).expect("fits");
            assert!(accepts(&a, &b.current) && accepts(&b, &a.current), "between the nodes at {step:?}");
            b = b.after(step).expect("fits");
            b = b.after(step).expect("fits again");
            assert_eq!(a, b);
        }
        assert_eq!((b.epoch, b.current, b.other.clone()), (2, next.key, None));
        assert!(b.after(&KeyStep::Use { epoch: 3 }).is_err());
        assert!(b.after(&KeyStep::Forget { epoch: 1 }).is_err());
        assert!(b.after(&KeyStep::Accept(OtherKey { epoch: 2, key: start.current })).is_err());
        assert!(b.after(&KeyStep::Accept(OtherKey { epoch: 9, key: start.current })).is_err());
        // A drive that died after Accept starts anew with another key for the same epoch.
        let again = start.after(&steps[0]).and_then(|k| k.after(&KeyStep::Accept(OtherKey { epoch: 2, key: start.current })));
        assert!(again.is_ok());
        Ok(())
    }
}
