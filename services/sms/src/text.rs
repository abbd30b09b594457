//! How a text is cut into parts here: the same for every way, so that a message can go on by another one.

use twinpost_gsm::{Class, Dcs, Options, TooLong, UserData, segment};

/// 8-bit references, because every phone knows them; no national tables, because many phones do not.
fn options(parts_max: u8) -> Options {
    Options { parts_max, ..Options::default() }
}

/// So many parts does the text take.
pub(crate) fn parts(text: &str, parts_max: u8) -> Result<u8, TooLong> {
    segment(text, &options(parts_max)).map(|s| s.total())
}

/// One part (from 1) as text, and whether it goes in the 7-bit alphabet.
pub(crate) fn piece(text: &str, number: u8) -> Option<(&str, bool)> {
    let segments = segment(text, &options(255)).ok()?;
    let part = segments.parts(0).nth(usize::from(number.checked_sub(1)?))?;
    Some((part.text, segments.dcs(None).coding() == twinpost_gsm::Coding::Septets))
}

/// One part (from 1), ready for a PDU. `None`: there is no such part.
pub(crate) fn part(text: &str, reference: u16, number: u8, flash: bool) -> Option<(Dcs, UserData)> {
    let segments = segment(text, &options(255)).ok()?;
    let part = segments.parts(reference).nth(usize::from(number.checked_sub(1)?))?;
    Some((segments.dcs(flash.then_some(Class::Flash)), part.data))
}
