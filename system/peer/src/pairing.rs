//! Pairing: two nodes come to know each other's keys by eight digits that a person carries from one screen to the other.
//!
//! Contract: the connection is TLS 1.3 between the two nodes' own keys, not believed yet. Inside it SPAKE2 (Abdalla, Pointcheval 2005; RFC 9382 is a later form
//! of it) turns the code into a key. Its transcript holds both roles, both public keys and the exporter of this very TLS connection (RFC 8446 7.5), so a relay that
//! ends TLS has other keys and another exporter and fails as a wrong code does. The joining node confirms first: who guesses learns
//! one bit for one counted try. Then both tell who they are, both decide the same by [`plan`], and one of them (the *authority*) sets the terms.
//!
//! Order of the end, so that a crash at any step leaves nothing that a repetition does not repair: the other node writes the terms beside its
//! present state; the authority makes them its state; the other node does so. A node that wrote them and then hears nothing finishes when the authority
//! greets it over the channel, or when the pairing is repeated.
//!
//! Failure classes: [`PairingError`].

mod join;
mod offer;

pub use join::pair_join;
pub use offer::{Offer, pair_offer};

use crate::error::{Error, PairingError};
use crate::frame::{Codec, Frame, MAX_PAIRING_BYTES};
use crate::identity::Identity;
use crate::pair::{About, FrameKeys, Letter, Pair, Partner};
use crate::secret::{PublicKey, hex, random, unhex};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use spake2::{Ed25519Group, Identity as Party, Password, Spake2};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::Framed;

/// The version of pairing that this code speaks, and the oldest that it understands.
const VERSION: u32 = 1;
/// How long a code is valid.
pub const VALID: Duration = Duration::from_secs(600);
/// Wrong codes that end an offer.
pub const MAX_WRONG: u8 = 3;
/// Nobody types while a connection is open: it is through in a second, or it is nothing.
const LIMIT: Duration = Duration::from_secs(20);

/// The eight digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(u32);

impl Code {
    const COUNT: u64 = 100_000_000;

    fn new() -> Result<Self, Error> {
        // 64 random bits for 27: some codes are likelier than others by one part in 10^11.
        let drawn = u64::from_be_bytes(random()?) % Self::COUNT;
        Ok(Self(u32::try_from(drawn).unwrap_or_default()))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

impl FromStr for Code {
    type Err = PairingError;

    /// As people type it: spaces and hyphens anywhere.
    fn from_str(text: &str) -> Result<Self, PairingError> {
        let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        if digits.len() != 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PairingError::CodeForm);
        }
        digits.parse().map(Self).map_err(|_| PairingError::CodeForm)
    }
}

/// What a pairing came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paired {
    /// This node's half.
    pub pair: Pair,
    /// What was done.
    pub kind: Kind,
    /// Whether the other node set the terms. Where that is so and the kind is a replacement, this node is the blank one: its document yields
    /// ([`twinpost_config::history::History::yield_to_other`]) and its data is never the source.
    pub follows: bool,
    /// What a person should know: other boards, other versions.
    pub warnings: Vec<String>,
}

/// Kinds of pairing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Two nodes without a pair.
    New,
    /// A blank node takes the place of a partner that is gone. Data flows to it, never from it.
    Replacement,
    /// The nodes were (at least half) paired already.
    Again,
}

/// How this node pairs.
#[derive(Clone, Debug, Default)]
pub struct PairAs {
    /// What it tells about itself.
    pub about: About,
    /// The administrator said that a present partner is to be replaced.
    pub replace: bool,
}

/// Who is in the room, told after the code was confirmed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Card {
    about: About,
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    paired: Option<Present>,
}

/// The pair of a node as it tells it: no secrets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Present {
    cluster: u32,
    node: Letter,
    partner: PublicKey,
    name: String,
}

/// One message.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
enum Say {
    Start { version: u32, oldest: u32, share: String },
    Reply { version: u32, oldest: u32, share: String },
    Confirm { tag: String },
    Card(Card),
    Terms { pair: Box<Pair> },
    Ready,
    Done,
    Thanks,
    No { why: PairingError },
}

/// What both nodes decide from both cards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Plan {
    kind: Kind,
    /// Whether the offering node sets the terms.
    offerer_rules: bool,
}

/// Decides from the cards and keys of the offering and the joining node; both nodes come to the same.
fn plan(offers: (&Card, &PublicKey), joins: (&Card, &PublicKey)) -> Result<Plan, PairingError> {
    let (offerer, joiner) = (offers.0, joins.0);
    if offers.1 == joins.1 {
        return Err(PairingError::SameKey);
    }
    if offerer.about.name.to_lowercase() == joiner.about.name.to_lowercase() {
        return Err(PairingError::SameName { name: offerer.about.name.clone() });
    }
    let one = |present: &Present, holder: &Card, blank: &PublicKey, offerer_rules| {
        if present.partner == *blank {
            return Ok(Plan { kind: Kind::Again, offerer_rules });
        }
        if holder.replace {
            return Ok(Plan { kind: Kind::Replacement, offerer_rules });
        }
        Err(PairingError::AlreadyPaired { node: holder.about.name.clone(), with: present.name.clone() })
    };
    match (&offerer.paired, &joiner.paired) {
        (None, None) => Ok(Plan { kind: Kind::New, offerer_rules: true }),
        (Some(present), None) => one(present, offerer, joins.1, true),
        (None, Some(present)) => one(present, joiner, offers.1, false),
        (Some(first), Some(second)) if first.partner == *joins.1 && second.partner == *offers.1 => {
            Ok(Plan { kind: Kind::Again, offerer_rules: true })
        }
        (Some(first), Some(second)) => Err(PairingError::TwoPairs {
            first: offerer.about.name.clone(),
            first_with: first.name.clone(),
            second: joiner.about.name.clone(),
            second_with: second.name.clone(),
        }),
    }
}

/// One side of a pairing after the handshake.
struct Side<S> {
    stream: Framed<S, Codec>,
    identity: Arc<Identity>,
    mine: PairAs,
    key: PublicKey,
    offers: bool,
    /// For [`PairingError::Interrupted`].
    step: &'static str,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Side<S> {
    fn new(stream: S, identity: Arc<Identity>, mine: PairAs, key: PublicKey, offers: bool) -> Self {
        let stream = Framed::new(stream, Codec::new(MAX_PAIRING_BYTES));
        Self { stream, identity, mine, key, offers, step: "greeting" }
    }

    fn interrupted(&self, why: impl fmt::Display) -> Error {
        PairingError::Interrupted { step: self.step.to_owned(), why: why.to_string() }.into()
    }

    async fn say(&mut self, say: &Say) -> Result<(), Error> {
        let json = serde_json::to_vec(say).map_err(|e| self.interrupted(e))?;
        let sent = self.stream.send(Frame { json: json.into(), data: Bytes::new() }).await;
        sent.map_err(|e| self.interrupted(e))
    }

    async fn hear(&mut self) -> Result<Say, Error> {
        match self.stream.next().await {
            None => Err(self.interrupted("the other node closed the connection")),
            Some(Err(why)) => Err(self.interrupted(why)),
            Some(Ok(frame)) => match serde_json::from_slice(&frame.json) {
                Ok(Say::No { why }) => Err(why.into()),
                Ok(say) => Ok(say),
                Err(_) => Err(self.interrupted("the other node said something that is no part of pairing")),
            },
        }
    }

    /// Refuses with a reason, best effort, and waits until the other node has read it.
    async fn refuse(&mut self, why: &PairingError) {
        if self.say(&Say::No { why: why.clone() }).await.is_ok() {
            let _ = self.stream.close().await;
            let _ = self.stream.next().await;
        }
    }

    fn out_of_turn(&self, say: &Say) -> Error {
        let name = serde_json::to_value(say).ok().and_then(|v| Some(v.get("say")?.as_str()?.to_owned()));
        self.interrupted(format!("the other node said `{}` out of turn", name.unwrap_or_default()))
    }

    fn common_version(version: u32, oldest: u32) -> Result<(), PairingError> {
        if oldest > VERSION || version < VERSION {
            return Err(PairingError::Version { ours: VERSION, theirs: version });
        }
        Ok(())
    }

    /// The part after both have proven that they know the code.
    async fn settle(&mut self) -> Result<Paired, Error> {
        self.step = "introduction";
        let present = self.identity.pair();
        let mine = Card {
            about: self.mine.about.clone(),
            replace: self.mine.replace,
            paired: present.as_ref().map(|pair| Present {
                cluster: pair.cluster,
                node: pair.node,
                partner: pair.partner.key.clone(),
                name: pair.partner.about.name.clone(),
            }),
        };
        self.say(&Say::Card(mine.clone())).await?;
        let theirs = match self.hear().await? {
            Say::Card(card) if card.about.is_short() => card,
            Say::Card(_) => return Err(self.interrupted("the other node's name, board or version is too long")),
            other => return Err(self.out_of_turn(&other)),
        };
        let own_key = self.identity.public().clone();
        let ours = (&mine, &own_key);
        let others = (&theirs, &self.key);
        // Both come to the same end, so a refusal need not be sent.
        let plan = if self.offers { plan(ours, others)? } else { plan(others, ours)? };
        let partner = Partner { key: self.key.clone(), about: theirs.about.clone() };
        let follows = plan.offerer_rules != self.offers;
        let pair = if follows { self.follow(plan.kind, partner).await? } else { self.rule(plan.kind, present, partner).await? };
        let mut warnings = Vec::new();
        for (what, ours, others) in
            [("boards", &mine.about.board, &theirs.about.board), ("program versions", &mine.about.program, &theirs.about.program)]
        {
            if ours != others {
                warnings.push(format!(
                    "the nodes have different {what}: {} has `{ours}`, {} has `{others}`",
                    mine.about.name, theirs.about.name
                ));
            }
        }
        tracing::info!(cluster = pair.cluster, node = %pair.node, partner = theirs.about.name, kind = ?plan.kind, "paired");
        Ok(Paired { pair, kind: plan.kind, follows, warnings })
    }

    async fn rule(&mut self, kind: Kind, present: Option<Pair>, partner: Partner) -> Result<Pair, Error> {
        let pair = match (kind, present) {
            (Kind::New, _) | (_, None) => Pair::new(Letter::A, partner)?,
            (Kind::Again, Some(pair)) => Pair { partner, ..pair },
            // The replaced node knows the frame keys; from now on its frames are forged ones. The witness keeps its key: it is told by hand.
            (Kind::Replacement, Some(pair)) => {
                let keys = FrameKeys { epoch: pair.keys.epoch.saturating_add(1), ..FrameKeys::new()? };
                Pair { partner, keys, ..pair }
            }
        };
        self.step = "terms";
        let own = Partner { key: self.identity.public().clone(), about: self.mine.about.clone() };
        self.say(&Say::Terms { pair: Box::new(pair.mirrored(own)) }).await?;
        match self.hear().await? {
            Say::Ready => {}
            other => return Err(self.out_of_turn(&other)),
        }
        self.step = "confirmation";
        self.keep(pair.clone(), true).await?;
        // From here on this node is paired, whatever becomes of the connection.
        if self.say(&Say::Done).await.is_ok() {
            let _ = self.hear().await;
        }
        Ok(pair)
    }

    async fn follow(&mut self, kind: Kind, partner: Partner) -> Result<Pair, Error> {
        self.step = "terms";
        let mut pair = match self.hear().await? {
            Say::Terms { pair } => *pair,
            other => return Err(self.out_of_turn(&other)),
        };
        if pair.cluster == 0 || pair.partner.key != partner.key || (kind == Kind::New && pair.node != Letter::B) {
            return Err(self.interrupted("the terms contradict themselves"));
        }
        pair.partner = partner;
        self.keep(pair.clone(), false).await?;
        self.say(&Say::Ready).await?;
        self.step = "confirmation";
        match self.hear().await? {
            Say::Done => {}
            other => return Err(self.out_of_turn(&other)),
        }
        self.keep(pair.clone(), true).await?;
        // The other node does not need it to be sure.
        let _ = self.say(&Say::Thanks).await;
        Ok(pair)
    }

    /// Writes the pair beside the present state and, if `whole`, makes it the state.
    async fn keep(&self, pair: Pair, whole: bool) -> Result<(), Error> {
        let identity = self.identity.clone();
        crate::channel::blocking(move || {
            identity.prepare(&pair)?;
            if whole { identity.commit() } else { Ok(()) }
        })
        .await
    }
}

/// The exchange that turns the code into a key.
struct Exchange {
    spake: Spake2<Ed25519Group>,
    share: Vec<u8>,
}

/// Tags of both sides.
struct Tags {
    joiner: blake3::Hash,
    offerer: blake3::Hash,
}

impl Exchange {
    fn start(code: Code, joins: &PublicKey, offers: &PublicKey, binding: &[u8; 32], offering: bool) -> Self {
        let party = |role: &[u8], key: &PublicKey| Party::new(&[role, &binding[..], blake3::hash(key.der()).as_bytes()].concat());
        let password = Password::new(format!("{:08}", code.0));
        let joiner = party(b"twinpost pairing 1, joins ", joins);
        let offerer = party(b"twinpost pairing 1, offers ", offers);
        let (spake, share) =
            if offering { Spake2::start_b(&password, &joiner, &offerer) } else { Spake2::start_a(&password, &joiner, &offerer) };
        Self { spake, share }
    }

    fn share(&self) -> String {
        hex(&self.share)
    }

    /// `None` where the other's share is no share.
    fn finish(self, theirs: &str, offering: bool) -> Option<Tags> {
        let theirs = unhex(theirs)?;
        let key = self.spake.finish(&theirs).ok()?;
        let (first, second) = if offering { (&theirs, &self.share) } else { (&self.share, &theirs) };
        let tag = |context| blake3::keyed_hash(&blake3::derive_key(context, &key), &[&first[..], &second[..]].concat());
        Some(Tags {
            joiner: tag("twinpost 2026 pairing 1: the joining node confirms"),
            offerer: tag("twinpost 2026 pairing 1: the offering node confirms"),
        })
    }
}

/// Compared without an early end; text that is no tag fits none.
fn fits(tag: &str, expected: &blake3::Hash) -> bool {
    blake3::Hash::from_hex(tag).is_ok_and(|tag| tag == *expected)
}

const EXPORTER: &[u8] = b"EXPORTER-twinpost-pairing-1";

/// Fuzz entry point: a message of a stranger.
pub fn fuzz(data: &[u8]) {
    if let Ok(say) = serde_json::from_slice::<Say>(data) {
        let text = serde_json::to_vec(&say).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Say>(&text).ok(), Some(say), "written back the same");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(code) = text.parse::<Code>() {
            assert_eq!(code.to_string().parse(), Ok(code));
        }
        let (a, b) = (PublicKey::new(vec![1]), PublicKey::new(vec![2]));
        let _ = Exchange::start(Code(1), &a, &b, &[0; 32], true).finish(text, true);
    }
}

#[cfg(test)]
mod tests;
