//! Telephone numbers as they are compared here.

/// Whether two ways of writing a number can be the same phone. Both international: only when they are equal. Otherwise
/// the digits at the end decide, where one of them may lack the country's prefix (and a trunk prefix 0 stands for it).
pub(crate) fn same_phone(a: &str, b: &str) -> bool {
    let international = |s: &str| s.starts_with('+') || s.starts_with("00");
    let digits = |s: &str| s.trim_start_matches('+').trim_start_matches('0').to_owned();
    let (x, y) = (digits(a), digits(b));
    if x == y {
        return !x.is_empty();
    }
    if international(a) == international(b) {
        return false;
    }
    let (long, short) = if international(a) { (x, y) } else { (y, x) };
    // E.164: a country's prefix has one to three digits. Short numbers are never national forms of long ones.
    let prefix = long.len().checked_sub(short.len());
    short.len() >= 7 && prefix.is_some_and(|p| (1..=3).contains(&p)) && long.ends_with(&short)
}

/// The international form where the country is known: `country` such as `+86`.
pub(crate) fn international(number: &str, country: Option<&str>) -> String {
    let number = number.trim();
    if number.starts_with('+') {
        return number.to_owned();
    }
    if let Some(rest) = number.strip_prefix("00") {
        return format!("+{rest}");
    }
    match country {
        // Service numbers such as 10086 have no international form.
        Some(country) if number.len() >= 7 => format!("{country}{}", number.strip_prefix('0').unwrap_or(number)),
        _ => number.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_phone_is_known_in_its_forms_and_no_other() {
        for (a, b) in [
            ("+8613800138000", "13800138000"),
            ("+4915112345678", "015112345678"),
            ("+4915112345678", "004915112345678"),
            ("10086", "10086"),
        ] {
            assert!(same_phone(a, b) && same_phone(b, a), "{a} {b}");
        }
        for (a, b) in [("+8613800138000", "+113800138000"), ("10086", "+8610086"), ("", ""), ("+8613800138000", "13800138001")] {
            assert!(!same_phone(a, b) && !same_phone(b, a), "{a} {b}");
        }
    }

    #[test]
    fn a_known_country_makes_one_form() {
        assert_eq!(international("13800138000", Some("+86")), "+8613800138000");
        assert_eq!(international("015112345678", Some("+49")), "+4915112345678");
        assert_eq!(international("10086", Some("+86")), "10086");
        assert_eq!(international("0086138", None), "+86138");
    }
}
