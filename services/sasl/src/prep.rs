//! SASLprep (RFC 4013) of names and passwords.
//!
//! Contract: pure. [`prepare`] is strict, for SCRAM; [`prepare_stored`] never refuses, for PLAIN and LOGIN, where the
//! check compares with a hash that was made through the same function.

use std::borrow::Cow;

/// SASLprep, strict.
///
/// # Errors
/// `()` when a prohibited character is in the text (RFC 4013 2.3) or its bidirectional check fails (2.4), or nothing
/// is left.
#[allow(clippy::result_unit_err)] // The caller knows whether it was a name or a password; there is nothing to add.
pub fn prepare(text: &str) -> Result<Cow<'_, str>, ()> {
    let done = stringprep::saslprep(text).map_err(|_| ())?;
    if done.is_empty() { Err(()) } else { Ok(done) }
}

/// SASLprep where possible, the text as it came otherwise. RFC 4616 2 asks for SASLprep, but an old password with a
/// character that Unicode 3.2 did not know must still open its account. Use it on both sides: when a password hash is
/// made and when a password is checked.
#[must_use]
pub fn prepare_stored(text: &str) -> Cow<'_, str> {
    stringprep::saslprep(text).unwrap_or(Cow::Borrowed(text))
}
