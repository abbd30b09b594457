//! Time stamps and validity periods (3GPP TS 23.040 9.2.3.11, 9.2.3.12).
//!
//! Contract: a time stamp keeps its seven octets, whatever they hold, so that a message with a nonsense date is still a message;
//! `unix_s` says `None` for it. Nothing fails.

use core::fmt;

/// Seven octets: year, month, day, hour, minute, second, time zone in quarters of an hour; semi-octets exchanged.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TimeStamp(pub [u8; 7]);

const DAY_S: i64 = 86_400;

impl TimeStamp {
    /// The local time of a zone `quarters` of an hour east of Greenwich (-79 to 79, else clamped) at `unix_s`, in the years 1990 to
    /// 2089 (else the nearest).
    #[must_use]
    pub fn from_unix(unix_s: i64, quarters: i8) -> Self {
        let quarters = quarters.clamp(-79, 79);
        let local = unix_s.saturating_add(i64::from(quarters) * 900).clamp(631_152_000, 3_786_911_999);
        let (days, second) = (local.div_euclid(DAY_S), local.rem_euclid(DAY_S));
        let (year, month, day) = civil(days);
        let zone = swapped(quarters.unsigned_abs()) | if quarters < 0 { 0x08 } else { 0 };
        Self([
            swapped((year % 100) as u8),
            swapped(month),
            swapped(day),
            swapped((second / 3600) as u8),
            swapped((second / 60 % 60) as u8),
            swapped((second % 60) as u8),
            zone,
        ])
    }

    /// Seconds since 1970 UTC; `None` when a field is out of range or no digit.
    #[must_use]
    pub fn unix_s(&self) -> Option<i64> {
        let [year, month, day, hour, minute, second, _] = self.0.map(digits);
        let (month, day, hour, minute, second) = (month?, day?, hour?, minute?, second?);
        // TS 23.040 9.2.3.11 gives two digits. Short messages began in 1992.
        let year = i64::from(year?) + if year? >= 90 { 1900 } else { 2000 };
        if !(1..=12).contains(&month) || day < 1 || day > month_days(year, month) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        Some(days(year, month, day) * DAY_S + seconds - i64::from(self.quarters()) * 900)
    }

    /// Time zone in quarters of an hour east of Greenwich. Some networks write a digit over 9 here; it counts as what it is.
    #[must_use]
    pub fn quarters(&self) -> i8 {
        // TS 23.040 9.2.3.11: bit 3 of the octet is the sign.
        let zone = ((self.0[6] & 0x07) * 10 + (self.0[6] >> 4)) as i8;
        if self.0[6] & 0x08 == 0 { zone } else { -zone }
    }
}

/// `2026-11-22 03:15:00 +08:00`, as it stands there, sensible or not.
impl fmt::Display for TimeStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = |octet: u8| (octet & 0x0F) * 10 + (octet >> 4);
        let [year, month, day, hour, minute, second, _] = self.0.map(d);
        let century = if (90..100).contains(&year) { 19 } else { 20 };
        write!(f, "{century}{year:02}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")?;
        let sign = if self.quarters() < 0 { '-' } else { '+' };
        let quarters = self.quarters().unsigned_abs();
        write!(f, " {sign}{:02}:{:02}", quarters / 4, quarters % 4 * 15)
    }
}

impl fmt::Debug for TimeStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeStamp({self})")
    }
}

/// How long the service centre tries, TP-VP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Validity {
    /// Not given: the service centre decides.
    #[default]
    Unset,
    /// Relative, the octet of TS 23.040 9.2.3.12.1.
    Relative(u8),
    /// Until a moment.
    Absolute(TimeStamp),
    /// Enhanced, TS 23.040 9.2.3.12.3.
    Enhanced(EnhancedValidity),
}

impl Validity {
    /// The relative period that is at least so long: 5 minutes to 63 weeks.
    #[must_use]
    pub fn at_least_s(seconds: u32) -> Self {
        // TS 23.040 9.2.3.12.1: steps of 5 minutes to 12 hours, of 30 minutes to a day, of a day to 30 days, of a week.
        let octet = match seconds {
            0..=43_200 => seconds.div_ceil(300).max(1) - 1,
            43_201..=86_400 => (seconds - 43_200).div_ceil(1_800) + 143,
            86_401..=2_592_000 => seconds.div_ceil(86_400) + 166,
            _ => (seconds.div_ceil(604_800) + 192).min(255),
        };
        Self::Relative(octet as u8)
    }

    /// The period in seconds from when the service centre takes the message; `None` when not given or a moment.
    #[must_use]
    pub fn seconds(&self) -> Option<u32> {
        match self {
            Self::Relative(octet) => Some(relative_s(*octet)),
            Self::Enhanced(enhanced) => enhanced.seconds(),
            Self::Unset | Self::Absolute(_) => None,
        }
    }
}

fn relative_s(octet: u8) -> u32 {
    let n = u32::from(octet);
    match octet {
        0..=143 => (n + 1) * 300,
        144..=167 => 43_200 + (n - 143) * 1_800,
        168..=196 => (n - 166) * 86_400,
        197..=255 => (n - 192) * 604_800,
    }
}

/// The seven octets of an enhanced validity period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EnhancedValidity(pub [u8; 7]);

impl EnhancedValidity {
    /// A period in seconds, up to 255: shorter than the relative form can say.
    #[must_use]
    pub const fn short_s(seconds: u8) -> Self {
        Self([2, seconds, 0, 0, 0, 0, 0])
    }

    /// Whether the service centre tries only once.
    #[must_use]
    pub const fn single_shot(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// The period; `None` when none is given, the form is reserved, or its digits are none.
    #[must_use]
    pub fn seconds(&self) -> Option<u32> {
        // Bit 7 says that another indicator octet follows; no release defines one.
        let at = if self.0[0] & 0x80 == 0 { 1 } else { 2 };
        // TS 23.040 9.2.3.12.3
        match self.0[0] & 7 {
            1 => Some(relative_s(self.0[at])),
            2 => Some(u32::from(self.0[at])),
            3 => {
                let [hour, minute, second] = [digits(self.0[at])?, digits(self.0[at + 1])?, digits(self.0[at + 2])?];
                Some(u32::from(hour) * 3600 + u32::from(minute) * 60 + u32::from(second))
            }
            _ => None,
        }
    }
}

/// Two digits, the lower semi-octet first.
fn digits(octet: u8) -> Option<u8> {
    let (tens, ones) = (octet & 0x0F, octet >> 4);
    (tens < 10 && ones < 10).then_some(tens * 10 + ones)
}

fn swapped(number: u8) -> u8 {
    (number / 10) | ((number % 10) << 4)
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64, month: u8) -> u8 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days(year: i64, month: u8, day: u8) -> i64 {
    let before = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum::<i64>();
    let months = (1..month).map(|month| i64::from(month_days(year, month))).sum::<i64>();
    before + months + i64::from(day) - 1
}

/// The date of a day since 1970-01-01, from 1970 on.
fn civil(mut days: i64) -> (i64, u8, u8) {
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let mut month = 1;
    while days >= i64::from(month_days(year, month)) {
        days -= i64::from(month_days(year, month));
        month += 1;
    }
    (year, month, days as u8 + 1)
}
