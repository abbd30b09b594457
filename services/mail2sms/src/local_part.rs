//! What stands before the `@` of an address at an SMS domain.
//!
//! Contract: `target[.PIN][+tag]`. The rules, in this order:
//! 1. A tag is what follows a `+` that is not the first character, when it begins with a letter (`13800138000+math`); it is
//!    passed over. A `+` before anything else is a mistake in the number, and the number is refused: a text must never go to the
//!    first half of it.
//! 2. Where the sender needs a PIN, it is what stands behind the **last** dot. Where the sender needs none, every dot is a
//!    separator of the number; nothing is taken for a PIN.
//! 3. The target is a group when it is the name of one (any case, dots and all), a number when it holds no letter, and an
//!    unknown group else.
//!
//! Quoted local parts come here unquoted, so `"138 0013 8000"@` is a number too.

/// A local part taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalPart<'a> {
    /// Number or name of a group.
    pub target: &'a str,
    /// What stands where a PIN is expected; none when no PIN is expected or there is no dot.
    pub pin: Option<&'a str>,
}

/// Takes a local part apart.
pub(crate) fn take_apart(local: &str, pin_wanted: bool) -> LocalPart<'_> {
    let untagged = without_tag(local);
    match untagged.rsplit_once('.') {
        Some((target, pin)) if pin_wanted => LocalPart { target, pin: Some(pin) },
        _ => LocalPart { target: untagged, pin: None },
    }
}

fn without_tag(local: &str) -> &str {
    let is_tag = |(at, _): &(usize, &str)| *at > 0 && local[at + 1..].starts_with(char::is_alphabetic);
    local.match_indices('+').find(is_tag).map_or(local, |(at, _)| &local[..at])
}

/// The target cannot be meant as a number.
pub(crate) fn is_name(target: &str) -> bool {
    target.chars().any(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_pins_and_tags() {
        for (local, wanted, target, pin) in [
            ("13800138000", false, "13800138000", None),
            ("13800138000", true, "13800138000", None),
            ("13800138000.4711", true, "13800138000", Some("4711")),
            ("13800138000.4711", false, "13800138000.4711", None),
            ("138.0013.8000.aB12", true, "138.0013.8000", Some("aB12")),
            ("138.0013.8000", false, "138.0013.8000", None),
            ("+8613800138000.4711+math", true, "+8613800138000", Some("4711")),
            ("+8613800138000+math", false, "+8613800138000", None),
            ("138+00138000", false, "138+00138000", None),
            ("13800138000+math.4711", true, "13800138000", None),
            ("class.3a", false, "class.3a", None),
            ("class.3a.4711", true, "class.3a", Some("4711")),
            ("+", false, "+", None),
            ("+a", false, "+a", None),
            ("", false, "", None),
            ("一班+家长", false, "一班", None),
        ] {
            assert_eq!(take_apart(local, wanted), LocalPart { target, pin }, "{local}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_local_part_comes_apart(local in "\\PC{0,64}", wanted: bool) {
            let part = take_apart(&local, wanted);
            proptest::prop_assert!(local.starts_with(part.target));
        }
    }
}
