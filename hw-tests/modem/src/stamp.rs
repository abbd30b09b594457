//! 3GPP TS 23.040 9.2.3.11: moments as seven semi-octet pairs with a time zone in quarters of an hour; and RFC 3339 for the record.

/// Days since 1970 as year, month, day (Howard Hinnant's "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// Year, month, day, hour, minute, second of a moment.
pub(crate) fn parts(seconds: i64) -> [i64; 6] {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let s = seconds.rem_euclid(86_400);
    [year, month, day, s / 3600, s / 60 % 60, s % 60]
}

/// A moment as TP-SCTS, in local time `quarters` of an hour east of Greenwich.
pub(crate) fn octets(seconds: i64, quarters: i8) -> [u8; 7] {
    let swapped = |n: i64| (n % 10) as u8 * 16 + (n / 10 % 10) as u8;
    let local = parts(seconds + i64::from(quarters) * 900);
    let mut out = [0; 7];
    for (to, n) in out.iter_mut().zip(local) {
        *to = swapped(n % 100);
    }
    // Bit 3 of the first semi-octet is the sign.
    out[6] = swapped(i64::from(quarters).abs()) | u8::from(quarters < 0) << 3;
    out
}

/// Seconds since 1970 of seven octets; `None` when they are no moment.
pub(crate) fn seconds(octets: &[u8]) -> Option<i64> {
    let two = |o: u8| (o & 15 < 10 && o >> 4 < 10).then(|| i64::from(o & 15) * 10 + i64::from(o >> 4));
    let [year, month, day, hour, minute, second, zone] = *<&[u8; 7]>::try_from(octets).ok()?;
    let (month, day) = (two(month)?, two(day)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || two(hour)? > 23 || two(minute)? > 59 || two(second)? > 59 {
        return None;
    }
    let quarters = two(zone & !8)? * if zone & 8 == 0 { 1 } else { -1 };
    Some(days(2000 + two(year)?, month, day) * 86_400 + two(hour)? * 3600 + two(minute)? * 60 + two(second)? - quarters * 900)
}

/// `24/06/30,12:00:00+32` of 27.005 (text mode, `+CCLK`).
pub(crate) fn text(octets: &[u8; 7]) -> String {
    let d = |o: u8| format!("{}{}", o & 15, o >> 4 & 15);
    let o = octets;
    let sign = if o[6] & 8 == 0 { '+' } else { '-' };
    format!("{}/{}/{},{}:{}:{}{sign}{}", d(o[0]), d(o[1]), d(o[2]), d(o[3]), d(o[4]), d(o[5]), d(o[6] & !8))
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(ms: i64) -> String {
    let [year, month, day, hour, minute, second] = parts(ms.div_euclid(1000));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms.rem_euclid(1000))
}
