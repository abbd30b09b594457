//! Telephone numbers: every way in which people write them, made into one (ITU-T E.164).
//!
//! Contract: any text; a number comes out as `+` and 7 to 15 digits, or as one of the short numbers that the site allows;
//! everything else is a [`NumberFault`]. Whether a number may be written to is [`Plan::allows`], not its form.

use crate::refusal::{Fault, Refusal};
use crate::settings::Numbers;
use std::collections::BTreeSet;
use std::fmt;

/// E.164 6.1: a number has at most 15 digits, country code included.
const E164_DIGITS_MAX: usize = 15;
/// Shorter international numbers exist only on paper.
const E164_DIGITS_MIN: usize = 7;
/// Longest text that is looked at: a local part has at most 64 bytes.
const TEXT_MAX_BYTES: usize = 64;

/// A number that an SMS can go to: `+8613800138000`, or a short one as it is dialled: `10086`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(String);

impl Number {
    /// `+` with digits, or the short number's digits: what the modem process takes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// A short number, without country code.
    #[must_use]
    pub fn is_short(&self) -> bool {
        !self.0.starts_with('+')
    }
    /// Reads the form that [`Number::as_str`] gives.
    #[must_use]
    pub fn from_canonical(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let all_digits = !digits.is_empty() && digits.len() <= E164_DIGITS_MAX && digits.bytes().all(|b| b.is_ascii_digit());
        (all_digits && (text.len() == digits.len() || is_e164(digits))).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_e164(digits: &str) -> bool {
    (E164_DIGITS_MIN..=E164_DIGITS_MAX).contains(&digits.len()) && !digits.starts_with('0')
}

/// Why a text is no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumberFault {
    /// Letters or signs that no number has, or nothing at all.
    NotANumber,
    /// A country code does not begin with 0.
    Country,
    /// Fewer digits than any number has.
    TooShort {
        /// How many there are.
        digits: usize,
    },
    /// More digits than any number has.
    TooLong {
        /// How many there are.
        digits: usize,
        /// How many there may be.
        most: usize,
    },
    /// Numbers that begin so have another length.
    Exact {
        /// Beginning.
        begins: String,
        /// How many there are.
        digits: usize,
        /// How many there must be.
        want: usize,
    },
}

impl NumberFault {
    /// The refusal to tell.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        // RFC 3463 3.2: X.1.3, bad destination mailbox address syntax.
        let digits_fault = |en: String, zh: String| Refusal::new(Fault::Digits, 553, (1, 3), en, zh);
        match self {
            Self::NotANumber => Refusal::new(
                Fault::Address,
                553,
                (1, 3),
                "this is not a telephone number: write it like 13800138000 or +8613800138000 before the @",
                "这不是电话号码：请在 @ 前面写手机号，例如 13800138000 或 +8613800138000",
            ),
            Self::Country => digits_fault(
                "a country code never begins with 0: write the number like +8613800138000".to_owned(),
                "国家代码不会以 0 开头：请写成 +8613800138000 这样的格式".to_owned(),
            ),
            Self::TooShort { digits } => digits_fault(
                format!("the telephone number has only {digits} digits: please check whether some are missing"),
                format!("电话号码只有 {digits} 位数字，请检查是否少输了几位"),
            ),
            Self::TooLong { digits, most } => digits_fault(
                format!("the telephone number has {digits} digits, at most {most} are possible: please check it"),
                format!("电话号码有 {digits} 位数字，最多只能有 {most} 位，请检查号码"),
            ),
            Self::Exact { begins, digits, want } => digits_fault(
                format!("numbers that begin with {begins} have {want} digits, this one has {digits}: please check it"),
                format!("以 {begins} 开头的号码应为 {want} 位，您输入了 {digits} 位，请检查号码"),
            ),
        }
    }
}

/// The numbering of this site, checked.
#[derive(Clone, Debug)]
pub struct Plan {
    country: String,
    trunk: String,
    international: String,
    national_digits: (usize, usize),
    exact: Vec<(String, usize)>,
    short: BTreeSet<String>,
    allowed: Vec<String>,
    forbidden: Vec<String>,
}

fn digits_of(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

impl Plan {
    /// Checks the settings.
    ///
    /// # Errors
    /// The key at fault, its value, and what it should be.
    pub fn new(settings: &Numbers) -> Result<Self, (&'static str, String, &'static str)> {
        let fault = |key, value: &str, want| Err((key, value.to_owned(), want));
        let country = settings.country.trim_start_matches('+');
        if country.is_empty() || country.len() > 3 || !digits_of(country) || country.starts_with('0') {
            return fault("numbers.country", &settings.country, "a country code has 1 to 3 digits, like 86");
        }
        for (key, prefix) in
            [("numbers.trunk_prefix", &settings.trunk_prefix), ("numbers.international_prefix", &settings.international_prefix)]
        {
            if prefix.len() > 5 || !digits_of(prefix) {
                return fault(key, prefix, "at most 5 digits");
            }
        }
        let (least, most) = settings.national_digits;
        let most_fits = country.len() + usize::from(most) <= E164_DIGITS_MAX;
        if least < 4 || least > most || !most_fits {
            let value = format!("{least} to {most}");
            return fault("numbers.national_digits", &value, "4 digits or more, and at most 15 with the country code");
        }
        for (begins, _) in &settings.exact_digits {
            if begins.is_empty() || !digits_of(begins) {
                return fault("numbers.exact_digits", begins, "digits");
            }
        }
        for short in &settings.short {
            if !(2..=15).contains(&short.len()) || !digits_of(short) {
                return fault("numbers.short", short, "2 to 15 digits");
            }
        }
        for (key, list) in [("numbers.allowed", &settings.allowed), ("numbers.forbidden", &settings.forbidden)] {
            for prefix in list {
                if !prefix.strip_prefix('+').is_some_and(|p| digits_of(p) && p.len() <= E164_DIGITS_MAX) {
                    return fault(key, prefix, "+ and digits, like +86");
                }
            }
        }
        let home = || vec![format!("+{country}")];
        Ok(Self {
            country: country.to_owned(),
            trunk: settings.trunk_prefix.clone(),
            international: settings.international_prefix.clone(),
            national_digits: (usize::from(least), usize::from(most)),
            exact: settings.exact_digits.iter().map(|(begins, n)| (begins.clone(), usize::from(*n))).collect(),
            short: settings.short.iter().cloned().collect(),
            allowed: if settings.allowed.is_empty() { home() } else { settings.allowed.clone() },
            forbidden: settings.forbidden.clone(),
        })
    }

    /// Reads a number: national (`138 0013 8000`, `010-12345678`), international (`+86...`, `0086...`), or a short one that
    /// is allowed. Separators are spaces and `-`, `.`, `_`, `/`, `(`, `)`; a `(0)` as in `+86 (0)10` is passed over. Full-width digits
    /// are read as plain ones.
    ///
    /// # Errors
    /// [`NumberFault`].
    pub fn parse(&self, text: &str) -> Result<Number, NumberFault> {
        let text = text.trim();
        if text.is_empty() || text.len() > TEXT_MAX_BYTES {
            return Err(NumberFault::NotANumber);
        }
        let (plus, rest) = match text.strip_prefix(['+', '＋']) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut digits = String::with_capacity(rest.len());
        for c in rest.replace("(0)", "").chars() {
            match c {
                '0'..='9' => digits.push(c),
                '０'..='９' => digits.extend(char::from_digit(u32::from(c) - u32::from('０'), 10)),
                ' ' | '-' | '.' | '_' | '/' | '(' | ')' => {}
                _ => return Err(NumberFault::NotANumber),
            }
        }
        if digits.is_empty() {
            return Err(NumberFault::NotANumber);
        }
        if plus {
            return self.international(&digits);
        }
        if self.short.contains(&digits) {
            return Ok(Number(digits));
        }
        if !self.international.is_empty()
            && let Some(number) = digits.strip_prefix(&self.international)
        {
            return self.international(number);
        }
        self.national(&digits)
    }

    fn international(&self, digits: &str) -> Result<Number, NumberFault> {
        if let Some(national) = digits.strip_prefix(&self.country) {
            // People leave the trunk prefix in: +86 010 1234567.
            // Where that is not 0, it may be the first digit of a number (+7 8..).
            return self.national_checked(if self.trunk == "0" { self.without_trunk(national) } else { national });
        }
        if digits.starts_with('0') {
            return Err(NumberFault::Country);
        }
        match digits.len() {
            n if n < E164_DIGITS_MIN => Err(NumberFault::TooShort { digits: n }),
            n if n > E164_DIGITS_MAX => Err(NumberFault::TooLong { digits: n, most: E164_DIGITS_MAX }),
            _ => Ok(Number(format!("+{digits}"))),
        }
    }

    fn national(&self, digits: &str) -> Result<Number, NumberFault> {
        // 8613800138000: too long for a number of the country, exact with the code taken off.
        if digits.len() > self.national_digits.1
            && let Some(national) = digits.strip_prefix(&self.country)
            && let Ok(number) = self.national_checked(national)
        {
            return Ok(number);
        }
        self.national_checked(self.without_trunk(digits))
    }

    fn without_trunk<'d>(&self, digits: &'d str) -> &'d str {
        match self.trunk.as_str() {
            "0" => digits.trim_start_matches('0'),
            "" => digits,
            trunk => digits.strip_prefix(trunk).unwrap_or(digits),
        }
    }

    fn national_checked(&self, national: &str) -> Result<Number, NumberFault> {
        let digits = national.len();
        let rule = self.exact.iter().filter(|(begins, _)| national.starts_with(begins)).max_by_key(|(begins, _)| begins.len());
        let (least, most) = self.national_digits;
        match rule {
            Some((begins, want)) if *want != digits => Err(NumberFault::Exact { begins: begins.clone(), digits, want: *want }),
            _ if digits < least => Err(NumberFault::TooShort { digits }),
            _ if digits > most => Err(NumberFault::TooLong { digits, most }),
            _ => Ok(Number(format!("+{}{national}", self.country))),
        }
    }

    /// The number as a person here would write it: without the home country's code.
    #[must_use]
    pub fn shown<'n>(&self, number: &'n Number) -> &'n str {
        let national = number.0.strip_prefix('+').and_then(|n| n.strip_prefix(&self.country));
        national.unwrap_or(&number.0)
    }

    /// The number may be written to: its longest matching beginning is an allowed one. Short numbers were allowed by name.
    #[must_use]
    pub fn allows(&self, number: &Number) -> bool {
        let longest = |list: &[String]| list.iter().filter(|p| number.0.starts_with(p.as_str())).map(String::len).max();
        number.is_short() || longest(&self.allowed).is_some_and(|yes| longest(&self.forbidden).is_none_or(|no| yes > no))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn china() -> Plan {
        let short = vec!["10086".to_owned()];
        Plan::new(&Numbers { short, ..Numbers::default() }).expect("the default settings are sound")
    }

    #[test]
    fn every_way_to_write_a_number() {
        let plan = china();
        for (text, number) in [
            ("13800138000", "+8613800138000"),
            ("138-0013-8000", "+8613800138000"),
            ("138.0013.8000", "+8613800138000"),
            ("138 0013 8000", "+8613800138000"),
            ("013800138000", "+8613800138000"),
            ("+8613800138000", "+8613800138000"),
            ("008613800138000", "+8613800138000"),
            ("8613800138000", "+8613800138000"),
            ("+86-138-0013-8000", "+8613800138000"),
            ("＋８６１３８００１３８０００", "+8613800138000"),
            ("010-62345678", "+861062345678"),
            ("+86 (0)10 62345678", "+861062345678"),
            ("+85261234567", "+85261234567"),
            ("0085261234567", "+85261234567"),
            ("+4915112345678", "+4915112345678"),
            ("10086", "10086"),
        ] {
            assert_eq!(plan.parse(text).as_ref().map(Number::as_str), Ok(number), "{text}");
        }
        assert_eq!(plan.shown(&Number("+8613800138000".to_owned())), "13800138000");
        assert_eq!(plan.shown(&Number("+85261234567".to_owned())), "+85261234567");
    }

    #[test]
    fn what_is_no_number_is_told_by_what_is_wrong() {
        use NumberFault::{Country, Exact, NotANumber, TooLong, TooShort};
        let plan = china();
        let exact = |digits| Exact { begins: "13".to_owned(), digits, want: 11 };
        for (text, fault) in [
            ("", NotANumber),
            ("anna", NotANumber),
            ("1380013800o", NotANumber),
            ("138+00138000", NotANumber),
            ("++8613800138000", NotANumber),
            ("---", NotANumber),
            ("1380013800", exact(10)),
            ("138001380000", exact(12)),
            ("+861380013800", exact(10)),
            ("110", TooShort { digits: 3 }),
            ("95588", TooShort { digits: 5 }),
            ("+1234", TooShort { digits: 4 }),
            ("+0138", Country),
            ("+4912345678901234", TooLong { digits: 16, most: 15 }),
            ("2345678901234", TooLong { digits: 13, most: 12 }),
        ] {
            assert_eq!(plan.parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn the_longest_beginning_decides() {
        let rules = |allowed: &[&str], forbidden: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect();
            Plan::new(&Numbers { allowed: own(allowed), forbidden: own(forbidden), ..Numbers::default() }).expect("sound")
        };
        let may = |plan: &Plan, number: &str| plan.allows(&plan.parse(number).expect("a number"));
        let home = rules(&[], &["+8617"]);
        assert!(may(&home, "13800138000") && !may(&home, "17000138000") && !may(&home, "+85261234567"));
        let world = rules(&["+", "+8813"], &["+88"]);
        assert!(may(&world, "+85261234567") && !may(&world, "+88212345678") && may(&world, "+88131234567"));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let bad = |change: fn(&mut Numbers)| {
            let mut numbers = Numbers::default();
            change(&mut numbers);
            Plan::new(&numbers).expect_err("not sound").0
        };
        assert_eq!(bad(|n| n.country = "0".to_owned()), "numbers.country");
        assert_eq!(bad(|n| n.national_digits = (9, 8)), "numbers.national_digits");
        assert_eq!(bad(|n| n.allowed = vec!["86".to_owned()]), "numbers.allowed");
        assert_eq!(bad(|n| n.short = vec!["x".to_owned()]), "numbers.short");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_number_that_reads_as_itself_or_none(text in "[+＋]?([0-9０-９ ()./_-]|\\PC){0,24}") {
            let plan = china();
            if let Ok(number) = plan.parse(&text) {
                proptest::prop_assert_eq!(plan.parse(number.as_str()), Ok(number.clone()));
                proptest::prop_assert_eq!(Number::from_canonical(number.as_str()), Some(number));
            }
        }
    }
}
