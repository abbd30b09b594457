//! Full-text index of message texts: exact substring search, as IMAP SEARCH wants it (RFC 9051 6.4.4).
//!
//! # What it promises
//! A body that the index knows and whose text it kept whole is found by a needle **if and only if** the folded needle is a
//! substring of the folded text (`twinpost_message::fold`). No candidate needs to be read again to confirm it. Two kinds of
//! bodies are not decided here, and [`Hits`] names them, so that an answer is never short:
//! * bodies of messages that came behind [`Hits::position`] in the change log: the index does not have them yet;
//! * bodies whose text was cut when it was added ([`SearchText::complete`](twinpost_message::SearchText) false) and whose kept
//!   text does not match: [`Hits::unsure`].
//!
//! The caller looks into those messages itself, with `search_text_within` and `Needle`.
//!
//! # How
//! Each text becomes overlapping grams, one beginning at each character, with their positions: two characters where the first
//! is Chinese, Japanese or Korean, three elsewhere (see `grams`). A needle is a phrase of such grams that cover it, at their
//! exact distances; one or two letters, or one ideograph, are a prefix of the gram dictionary. So any needle in any mixture of
//! scripts is exact, and the dictionary stays small: it does not grow with message ids and other words that occur once.
//!
//! The alternative, an index of words, is a third of the size and several times faster to build, but it finds no `chool`
//! in `school` without walking a dictionary that grows with the mail. Grams without positions need every candidate's text read
//! again, which is slowest just for the words that many messages hold.
//!
//! One document stands for one body, however many mailboxes hold it; its accounts are terms of it. The index never knows
//! mailboxes: it is fed by [`Index::plan`] from the change log, and the caller intersects the answer with the bodies of the mailbox (a stale account on a body shows nothing).
//!
//! # Failure
//! The index holds nothing that cannot be made again. A damaged one is found when it is opened (structure always, checksums
//! of all files after an unclean end, unless it is so large that mail would wait for it: [`Index::is_unchecked`]) or when a search stumbles ([`Error::Damaged`]); it is wiped, which sets its position to 0,
//! and fed again from the change log. All calls block on files: call them where blocking is allowed. A search never waits for
//! a writer, and never for a merge.

mod grams;
mod index;
mod query;

pub use grams::fuzz;
pub use index::{Error, Hits, Index};
pub use query::{Field, Query};
