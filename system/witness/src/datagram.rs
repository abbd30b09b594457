//! Questions and answers on the wire: one datagram each, fixed layout, big-endian.
//!
//! | bytes | question | answer |
//! |---|---|---|
//! | 0-3 | `TPWq` | `TPWa` |
//! | 4 | version, 1 | version, 1 |
//! | 5 | 1 claim, 2 renew, 3 read | 0 greeting, 1 won, 2 lost, 3 held, 4 renewed, 5 renewal lost, 6 state, 7 refused |
//! | 6 | node | node asked by |
//! | 7 | 0 | holder (state), reason (refused), else 0 |
//! | 8-11 | cluster | cluster |
//! | 12-15 | lease_ms | milliseconds (won, held), else 0 |
//! | 16-23 | nonce | the same |
//! | 24-31 | run of the witness | run of the witness |
//! | 32-39 | session | session |
//! | 40-43 | sequence | sequence |
//! | 44-47 | reign known, or 0 | reign, or 0 |
//! | 48-51 | reign claimed or renewed | 0 |
//! | 52-63 | 0 | 0 |
//! | 64-95 | keyed BLAKE3 of 0-63 | keyed BLAKE3 of 0-63 |
//!
//! Why no replay works: a question counts only in the *run* of the witness (random at each start) and in a *session* that this run gave
//! out, and sessions and sequences only grow. A question of another run is answered with a greeting that names run and session and does
//! nothing else. An answer is no longer than its question, so nobody is flooded through a witness. Questions and answers are hashed
//! under different keys.

use crate::error::Refusal;
use crate::key::Key;
use crate::register::{Question, Verdict};
use crate::{Claimed, Renewed};

pub(crate) const DATAGRAM_BYTES: usize = 96;
const HASHED: usize = 64;
const VERSION: u8 = 1;

pub(crate) type Datagram = [u8; DATAGRAM_BYTES];

/// Why a datagram is none of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unreadable {
    /// Length, magic, version or a value that no sender writes.
    Cut,
    /// The hash does not fit: another key, or altered on the way.
    Forged,
}

/// What identifies a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub cluster: u32,
    pub node: u8,
    /// Of the client, random.
    pub nonce: u64,
    pub run: u64,
    pub session: u64,
    pub sequence: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    pub stamp: Stamp,
    pub question: Question,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    /// The stamp names the run and a new session: ask again with them.
    Greeting,
    Verdict(Verdict),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub stamp: Stamp,
    pub reply: Reply,
}

fn put(out: &mut Datagram, at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn word(data: &Datagram, at: usize) -> u32 {
    data[at..at + 4].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn long(data: &Datagram, at: usize) -> u64 {
    u64::from(word(data, at)) << 32 | u64::from(word(data, at + 4))
}

fn seal(key: &[u8; 32], stamp: &Stamp, magic: &[u8; 4], kind: u8, detail: u8, words: [u32; 3]) -> Datagram {
    let mut out = [0; DATAGRAM_BYTES];
    put(&mut out, 0, magic);
    (out[4], out[5], out[6], out[7]) = (VERSION, kind, stamp.node, detail);
    put(&mut out, 8, &stamp.cluster.to_be_bytes());
    put(&mut out, 12, &words[0].to_be_bytes());
    put(&mut out, 16, &stamp.nonce.to_be_bytes());
    put(&mut out, 24, &stamp.run.to_be_bytes());
    put(&mut out, 32, &stamp.session.to_be_bytes());
    put(&mut out, 40, &stamp.sequence.to_be_bytes());
    put(&mut out, 44, &words[1].to_be_bytes());
    put(&mut out, 48, &words[2].to_be_bytes());
    let hash = blake3::keyed_hash(key, &out[..HASHED]);
    put(&mut out, HASHED, hash.as_bytes());
    out
}

fn shape(data: &[u8], magic: &[u8; 4]) -> Result<Datagram, Unreadable> {
    let data: Datagram = data.try_into().map_err(|_| Unreadable::Cut)?;
    if data[..4] == *magic && data[4] == VERSION { Ok(data) } else { Err(Unreadable::Cut) }
}

/// Hash first: nothing of an unauthentic datagram is interpreted. The comparison takes the same time whatever differs.
fn open(data: &Datagram, key: &[u8; 32]) -> Result<(Stamp, [u32; 3]), Unreadable> {
    let told: [u8; 32] = std::array::from_fn(|i| data[HASHED + i]);
    if blake3::keyed_hash(key, &data[..HASHED]) != blake3::Hash::from_bytes(told) {
        return Err(Unreadable::Forged);
    }
    if data[52..HASHED].iter().any(|byte| *byte != 0) {
        return Err(Unreadable::Cut);
    }
    let stamp = Stamp {
        cluster: word(data, 8),
        node: data[6],
        nonce: long(data, 16),
        run: long(data, 24),
        session: long(data, 32),
        sequence: word(data, 40),
    };
    Ok((stamp, [word(data, 12), word(data, 44), word(data, 48)]))
}

const QUESTION: [u8; 4] = *b"TPWq";
const ANSWER: [u8; 4] = *b"TPWa";

/// Keys of one cluster, derived once.
#[derive(Clone)]
pub(crate) struct Seals {
    requests: [u8; 32],
    answers: [u8; 32],
}

impl Seals {
    pub(crate) fn new(key: &Key) -> Self {
        Self { requests: key.for_requests(), answers: key.for_answers() }
    }

    pub(crate) fn write_request(&self, request: &Request) -> Datagram {
        let (kind, words) = match request.question {
            Question::Claim { knows, new, lease_ms } => (1, [lease_ms, knows, new]),
            Question::Renew { reign, lease_ms } => (2, [lease_ms, 0, reign]),
            Question::Read => (3, [0; 3]),
        };
        seal(&self.requests, &request.stamp, &QUESTION, kind, 0, words)
    }

    pub(crate) fn read_request(&self, data: &[u8]) -> Result<Request, Unreadable> {
        let data = shape(data, &QUESTION)?;
        let (stamp, [lease_ms, knows, reign]) = open(&data, &self.requests)?;
        let question = match (data[5], knows, data[7]) {
            (1, _, 0) => Question::Claim { knows, new: reign, lease_ms },
            (2, 0, 0) => Question::Renew { reign, lease_ms },
            (3, 0, 0) if reign == 0 && lease_ms == 0 => Question::Read,
            _ => return Err(Unreadable::Cut),
        };
        Ok(Request { stamp, question })
    }

    pub(crate) fn write_answer(&self, answer: &Answer) -> Datagram {
        let (kind, detail, ms, reign) = match answer.reply {
            Reply::Greeting => (0, 0, 0, 0),
            Reply::Verdict(Verdict::Claim(Claimed::Won { reign, granted_ms })) => (1, 0, granted_ms, reign),
            Reply::Verdict(Verdict::Claim(Claimed::Lost { reign })) => (2, 0, 0, reign),
            Reply::Verdict(Verdict::Claim(Claimed::Held { left_ms })) => (3, 0, left_ms, 0),
            Reply::Verdict(Verdict::Renew(Renewed::Renewed)) => (4, 0, 0, 0),
            Reply::Verdict(Verdict::Renew(Renewed::Lost { reign })) => (5, 0, 0, reign),
            Reply::Verdict(Verdict::State { reign, holder }) => (6, holder, 0, reign),
            Reply::Verdict(Verdict::Refused(Refusal::Disk)) => (7, 1, 0, 0),
            Reply::Verdict(Verdict::Refused(Refusal::Damaged)) => (7, 2, 0, 0),
            Reply::Verdict(Verdict::Refused(Refusal::Senseless)) => (7, 3, 0, 0),
        };
        seal(&self.answers, &answer.stamp, &ANSWER, kind, detail, [ms, reign, 0])
    }

    pub(crate) fn read_answer(&self, data: &[u8]) -> Result<Answer, Unreadable> {
        let data = shape(data, &ANSWER)?;
        let (stamp, [ms, reign, rest]) = open(&data, &self.answers)?;
        let verdict = match (data[5], data[7], ms, reign) {
            (0, 0, 0, 0) => None,
            (1, 0, granted_ms, reign) => Some(Verdict::Claim(Claimed::Won { reign, granted_ms })),
            (2, 0, 0, reign) => Some(Verdict::Claim(Claimed::Lost { reign })),
            (3, 0, left_ms, 0) => Some(Verdict::Claim(Claimed::Held { left_ms })),
            (4, 0, 0, 0) => Some(Verdict::Renew(Renewed::Renewed)),
            (5, 0, 0, reign) => Some(Verdict::Renew(Renewed::Lost { reign })),
            (6, holder, 0, reign) => Some(Verdict::State { reign, holder }),
            (7, 1, 0, 0) => Some(Verdict::Refused(Refusal::Disk)),
            (7, 2, 0, 0) => Some(Verdict::Refused(Refusal::Damaged)),
            (7, 3, 0, 0) => Some(Verdict::Refused(Refusal::Senseless)),
            _ => return Err(Unreadable::Cut),
        };
        if rest != 0 {
            return Err(Unreadable::Cut);
        }
        Ok(Answer { stamp, reply: verdict.map_or(Reply::Greeting, Reply::Verdict) })
    }
}

/// The cluster that a question names, before anything is verified; `None` for what is no question of this version.
pub(crate) fn cluster_of(data: &[u8]) -> Option<u32> {
    shape(data, &QUESTION).ok().map(|data| word(&data, 8))
}

/// Reads any bytes as a question. The first 64 bytes are also hashed as a sender with the key would do, so that the parser behind the hash is reached. Entry point of property tests.
pub fn fuzz_request(data: &[u8]) {
    let seals = Seals::new(&Key::from([7; 32]));
    let _ = seals.read_request(data);
    let sealed = sealed(data, &QUESTION, &seals.requests);
    if let Ok(request) = seals.read_request(&sealed) {
        assert_eq!(seals.write_request(&request), sealed, "what is read is what was written");
    }
}

/// The same for an answer.
pub fn fuzz_answer(data: &[u8]) {
    let seals = Seals::new(&Key::from([7; 32]));
    let _ = seals.read_answer(data);
    let sealed = sealed(data, &ANSWER, &seals.answers);
    if let Ok(answer) = seals.read_answer(&sealed) {
        assert_eq!(seals.write_answer(&answer), sealed, "what is read is what was written");
    }
}

fn sealed(data: &[u8], magic: &[u8; 4], key: &[u8; 32]) -> Datagram {
    let mut out = [0; DATAGRAM_BYTES];
    let n = data.len().min(HASHED);
    out[..n].copy_from_slice(&data[..n]);
    put(&mut out, 0, magic);
    out[4] = VERSION;
    let hash = blake3::keyed_hash(key, &out[..HASHED]);
    put(&mut out, HASHED, hash.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_question() -> impl Strategy<Value = Question> {
        prop_oneof![
            any::<(u32, u32, u32)>().prop_map(|(knows, new, lease_ms)| Question::Claim { knows, new, lease_ms }),
            any::<(u32, u32)>().prop_map(|(reign, lease_ms)| Question::Renew { reign, lease_ms }),
            Just(Question::Read),
        ]
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        prop_oneof![
            Just(Reply::Greeting),
            any::<(u32, u32)>()
                .prop_map(|(reign, granted_ms)| Reply::Verdict(Verdict::Claim(Claimed::Won { reign, granted_ms }))),
            any::<u32>().prop_map(|reign| Reply::Verdict(Verdict::Claim(Claimed::Lost { reign }))),
            any::<u32>().prop_map(|left_ms| Reply::Verdict(Verdict::Claim(Claimed::Held { left_ms }))),
            Just(Reply::Verdict(Verdict::Renew(Renewed::Renewed))),
            any::<u32>().prop_map(|reign| Reply::Verdict(Verdict::Renew(Renewed::Lost { reign }))),
            any::<(u32, u8)>().prop_map(|(reign, holder)| Reply::Verdict(Verdict::State { reign, holder })),
            Just(Reply::Verdict(Verdict::Refused(Refusal::Disk))),
            Just(Reply::Verdict(Verdict::Refused(Refusal::Damaged))),
            Just(Reply::Verdict(Verdict::Refused(Refusal::Senseless))),
        ]
    }

    fn any_stamp() -> impl Strategy<Value = Stamp> {
        any::<(u32, u8, u64, u64, u64, u32)>().prop_map(|(cluster, node, nonce, run, session, sequence)| Stamp {
            cluster,
            node,
            nonce,
            run,
            session,
            sequence,
        })
    }

    proptest! {
        #[test]
        fn survives_the_wire(stamp in any_stamp(), question in any_question(), reply in any_reply(), key: [u8; 32]) {
            let seals = Seals::new(&Key::from(key));
            let request = Request { stamp, question };
            let wire = seals.write_request(&request);
            prop_assert_eq!(seals.read_request(&wire), Ok(request));
            prop_assert_eq!(cluster_of(&wire), Some(stamp.cluster));
            let answer = Answer { stamp, reply };
            let back = seals.write_answer(&answer);
            prop_assert_eq!(seals.read_answer(&back), Ok(answer));
            // Neither passes for the other, not even with the magic exchanged.
            let mut crossed = wire;
            crossed[..4].copy_from_slice(&ANSWER);
            prop_assert_eq!(seals.read_answer(&crossed), Err(Unreadable::Forged));
        }

        #[test]
        fn one_bit_is_enough(stamp in any_stamp(), question in any_question(), bit in 0..DATAGRAM_BYTES * 8, length in 0..DATAGRAM_BYTES) {
            let seals = Seals::new(&Key::from([9; 32]));
            let wire = seals.write_request(&Request { stamp, question });
            let mut bent = wire;
            bent[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(seals.read_request(&bent).is_err());
            prop_assert_eq!(seals.read_request(&wire[..length]), Err(Unreadable::Cut));
            prop_assert_eq!(Seals::new(&Key::from([8; 32])).read_request(&wire), Err(Unreadable::Forged));
        }

        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..120)) {
            fuzz_request(&data);
            fuzz_answer(&data);
        }
    }
}
