//! `Date:` values (RFC 5322 3.3, obsolete forms of 4.3).
//!
//! Contract: any text; `None` when it names no moment. Day names are not checked, seconds may be missing, two-digit years and
//! zone names are read as RFC 5322 4.3 says.

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Seconds since 1970 UTC and the zone in minutes east of UTC.
#[must_use]
pub fn parse(text: &str) -> Option<(i64, i16)> {
    let plain = without_comments(text);
    let mut tokens = plain.split([' ', '\t', ',']).filter(|t| !t.is_empty()).peekable();
    if tokens.peek()?.starts_with(|c: char| c.is_ascii_alphabetic()) {
        tokens.next();
    }
    let day: i64 = tokens.next()?.parse().ok()?;
    let name = tokens.next()?.get(..3)?.to_ascii_lowercase();
    let month = i64::try_from(MONTHS.iter().position(|m| *m == name)?).ok()? + 1;
    let year = year(tokens.next()?)?;
    let mut clock = tokens.next()?.split([':', '.']);
    let hour: i64 = clock.next()?.parse().ok()?;
    let minute: i64 = clock.next()?.parse().ok()?;
    let second: i64 = clock.next().map_or(Some(0), |s| s.parse().ok())?;
    if !(1..=31).contains(&day) || !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let zone_min = tokens.next().map_or(0, zone);
    let local = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((local - i64::from(zone_min) * 60, zone_min))
}

fn without_comments(text: &str) -> String {
    let mut depth = 0u32;
    text.chars()
        .filter(|c| match c {
            '(' => {
                depth += 1;
                false
            }
            ')' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        })
        .collect()
}

/// RFC 5322 4.3: two digits below 50 are 20xx, others and three digits count from 1900.
fn year(token: &str) -> Option<i64> {
    let year: i64 = token.parse().ok()?;
    match token.len() {
        2 if year < 50 => Some(year + 2000),
        2 | 3 => Some(year + 1900),
        4 if year >= 1900 => Some(year),
        _ => None,
    }
}

/// Minutes east of UTC; an unknown name is UTC, as RFC 5322 4.3 says of military zones.
fn zone(token: &str) -> i16 {
    let (sign, digits) = match token.split_at_checked(1) {
        Some(("+", digits)) => (1, digits),
        Some(("-", digits)) => (-1, digits),
        _ => {
            let hours = match token.to_ascii_uppercase().as_str() {
                "EDT" => -4,
                "EST" | "CDT" => -5,
                "CST" | "MDT" => -6,
                "MST" | "PDT" => -7,
                "PST" => -8,
                _ => 0,
            };
            return hours * 60;
        }
    };
    match digits.parse::<i16>() {
        Ok(number) if digits.len() == 4 && number % 100 < 60 && number < 2400 => sign * (number / 100 * 60 + number % 100),
        _ => 0,
    }
}

/// Days from 1970-01-01 to this day of the Gregorian calendar; days beyond the month's end run into the next month.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March put the leap day last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * m + 2) / 5 + day - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + day_of_year - 719_468
}

/// Entry point for random input.
pub fn fuzz(data: &[u8]) {
    let _ = parse(&String::from_utf8_lossy(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, want) in [
            // RFC 5322 appendix A
            ("Fri, 21 Nov 1997 09:55:06 -0600", Some((880_127_706, -360))),
            ("Thu,\r\n 13\r\n Feb\r\n 1969\r\n 23:32\r\n -0330 (Newfoundland Time)", None),
            ("Thu, 13 Feb 1969 23:32 -0330 (Newfoundland Time)", Some((-27_723_480, -210))),
            ("21 Nov 97 09:55:06 GMT", Some((880_106_106, 0))),
            ("Mon, 29 Feb 2016 00:00:00 +0800", Some((1_456_675_200, 480))),
            ("1 January 2000 0:0:0 PST", Some((946_713_600, -480))),
            ("Thu, 1 Jan 1970 00:00:00", Some((0, 0))),
            ("99 Jan 2000 00:00:00 +0000", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_second_is_found_again(at in -2_208_988_800i64..32_503_680_000, zone in -12i16..=12) {
            let moment = time::OffsetDateTime::from_unix_timestamp(at).unwrap().to_offset(time::UtcOffset::from_hms(zone.try_into().unwrap(), 0, 0).unwrap());
            if moment.year() >= 1900 {
                let text = moment.format(&time::format_description::well_known::Rfc2822).unwrap();
                proptest::prop_assert_eq!(parse(&text), Some((at, zone * 60)), "{}", text);
            }
        }
        #[test]
        fn any_text(text in "\\PC{0,40}") { let _ = parse(&text); }
    }
}
