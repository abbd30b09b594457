//! Days and hours of the site: a fixed offset from UTC, which China has. No clock: the time comes in.

use crate::settings::Hours;

const DAY_S: i64 = 86_400;

/// Days since 1970-01-01 by the site's clock.
pub(crate) fn day(now_s: i64, zone_min: i16) -> i64 {
    local_s(now_s, zone_min).div_euclid(DAY_S)
}

/// Minute of the day, 0 to 1439.
pub(crate) fn minute(now_s: i64, zone_min: i16) -> u16 {
    u16::try_from(local_s(now_s, zone_min).rem_euclid(DAY_S) / 60).unwrap_or(0)
}

/// Day of the week: 0 is Monday.
pub(crate) fn weekday(now_s: i64, zone_min: i16) -> u8 {
    // 1970-01-01 was a Thursday.
    u8::try_from((day(now_s, zone_min) + 3).rem_euclid(7)).unwrap_or(0)
}

fn local_s(now_s: i64, zone_min: i16) -> i64 {
    now_s.saturating_add(i64::from(zone_min) * 60)
}

impl Hours {
    /// This minute of the day lies in these hours.
    #[must_use]
    pub fn hold(&self, minute: u16) -> bool {
        if self.from_min < self.to_min {
            (self.from_min..self.to_min).contains(&minute)
        } else {
            minute >= self.from_min || minute < self.to_min
        }
    }
    /// Seconds until these hours are over; none when it is not within them.
    #[must_use]
    pub fn left_s(&self, now_s: i64, zone_min: i16) -> Option<i64> {
        if !self.hold(minute(now_s, zone_min)) {
            return None;
        }
        let of_day = local_s(now_s, zone_min).rem_euclid(DAY_S);
        let left = (i64::from(self.to_min) * 60 - of_day).rem_euclid(DAY_S);
        Some(if left == 0 { DAY_S } else { left })
    }
}

/// `Mon, 16 Nov 2026 15:00:00 +0800` (RFC 5322 3.3).
pub(crate) fn rfc_5322(at_s: i64, zone_min: i16) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // Years of four digits: 1970 to 9999.
    let at_s = at_s.clamp(DAY_S, 253_402_300_799 - DAY_S);
    let (year, month, day_of_month) = civil(day(at_s, zone_min));
    let of_day = local_s(at_s, zone_min).rem_euclid(DAY_S);
    let month = MONTHS[usize::try_from(month - 1).unwrap_or(0) % 12];
    let weekday = DAYS[usize::from(weekday(at_s, zone_min)) % 7];
    let (sign, zone) = if zone_min < 0 { ('-', -zone_min) } else { ('+', zone_min) };
    format!(
        "{weekday}, {day_of_month} {month} {year} {:02}:{:02}:{:02} {sign}{:02}{:02}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        zone / 60,
        zone % 60
    )
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years that begin in March put the leap day last; 400 years have 146,097 days.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: Hours = Hours { from_min: 22 * 60, to_min: 7 * 60 };

    #[test]
    fn hours_go_over_midnight() {
        let at = |h: i64, m: i64| h * 3600 + m * 60;
        assert_eq!(NIGHT.left_s(at(22, 0), 0), Some(9 * 3600));
        assert_eq!(NIGHT.left_s(at(6, 59), 0), Some(60));
        assert_eq!((NIGHT.left_s(at(7, 0), 0), NIGHT.left_s(at(21, 59), 0)), (None, None));
        // 22:00 UTC is 06:00 in China.
        assert_eq!(NIGHT.left_s(at(22, 0), 480), Some(3600));
        let noon = Hours { from_min: 720, to_min: 780 };
        assert_eq!((noon.left_s(at(12, 30), 0), noon.left_s(at(13, 0), 0)), (Some(1800), None));
        let evening = Hours { from_min: 1200, to_min: 1440 };
        assert_eq!(evening.left_s(at(23, 0), 0), Some(3600));
    }

    proptest::proptest! {
        #[test]
        fn dates_read_back(at in DAY_S..253_402_000_000i64, zone in -840i16..=840) {
            proptest::prop_assert_eq!(twinpost_message::date::parse(&rfc_5322(at, zone)), Some((at, zone)));
        }
        #[test]
        fn after_what_is_left_the_hours_are_over(from in 0u16..1440, to in 0u16..=1440, now in 0i64..4_000_000_000, zone in -840i16..=840) {
            let hours = Hours { from_min: from, to_min: to };
            if from != to && (from, to) != (0, 1440) && let Some(left) = hours.left_s(now, zone) {
                proptest::prop_assert!(left > 0 && !hours.hold(minute(now + left, zone)));
            }
        }
    }

    #[test]
    fn known_days() {
        assert_eq!(rfc_5322(1_795_330_800, 480), "Sun, 22 Nov 2026 15:00:00 +0800");
        assert_eq!(weekday(1_795_330_800, 480), 6);
    }
}
