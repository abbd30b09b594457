//! Notices by SMS that mail has come: the rules of an account, and what they say about a mail.
//!
//! Contract: pure; any bytes. A mail that this gateway made, or that comes from a number, never causes a notice: a telephone that answers by
//! itself would ring for ever. Automatic and list mail does only where a rule says so.

use crate::automatic::{self, Automatic};
use crate::clock;
use crate::count;
use crate::error::Error;
use crate::number::Number;
use crate::outgoing::is_urgent;
use crate::policy::{Policy, hours_are_sound};
use crate::sender::{self, Pattern};
use crate::settings::{Hours, Language};
use crate::text;
use serde::{Deserialize, Serialize};
use twinpost_message::header::fields;
use twinpost_message::{Address, Envelope, Parsed};

/// Most numbers of one rule.
const NUMBERS_MAX: usize = 5;
/// Most senders of one rule.
const SENDERS_MAX: usize = 100;
/// All days of the week.
const ALL_DAYS: u8 = 0x7f;

/// When an account wants a notice. All conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Its name, once in an account: 1 to 64 characters.
    pub name: String,
    /// It is in force.
    pub enabled: bool,
    /// Who is told: 1 to 5 numbers.
    pub numbers: Vec<String>,
    /// Only mail that is marked urgent.
    pub urgent_only: bool,
    /// Only mail from these addresses and domains; none given: from everybody.
    pub senders: Vec<String>,
    /// Days of the week as bits, Monday is 1, Sunday is 64; 127 is every day.
    pub days: u8,
    /// Hours of the day; none: always.
    pub hours: Option<Hours>,
    /// Notices a day; none: as many as the site allows. Counted for the account, over all its rules.
    pub per_day_max: Option<u16>,
    /// Automatic and list mail too.
    pub automatic: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: String::new(),
            enabled: true,
            numbers: Vec::new(),
            urgent_only: false,
            senders: Vec::new(),
            days: ALL_DAYS,
            hours: None,
            per_day_max: None,
            automatic: false,
        }
    }
}

/// What of a mail the rules look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Address of From.
    pub from: Option<Address>,
    /// Name of From, else its address.
    pub author: String,
    /// Subject.
    pub subject: String,
    /// First words.
    pub preview: String,
    /// Marked urgent.
    pub urgent: bool,
    /// From a list or a program.
    pub automatic: bool,
    /// Made by this gateway.
    pub own: bool,
}

impl Arrival {
    /// Reads a mail.
    #[must_use]
    pub fn of(mail: &[u8]) -> Self {
        let parsed = Parsed::parse(mail);
        let header = mail.get(..parsed.root.body_start as usize).unwrap_or_default();
        let kind = automatic::kind_of(header);
        let returned = fields(header).any(|f| f.is("return-path") && f.text(None).trim() == "<>");
        let (name, address) = text::author(&parsed.envelope);
        let from = Envelope::mailboxes(&parsed.envelope.from).next().and_then(|m| Address::new(&m.local, &m.host).ok());
        Self {
            from,
            author: if name.is_empty() { address } else { name },
            subject: text::one_line(&parsed.envelope.subject_text),
            preview: text::one_line(&parsed.preview),
            urgent: is_urgent(header),
            automatic: kind.is_some() || returned,
            own: kind == Some(Automatic::Own),
        }
    }
}

/// Who is told, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The numbers.
    pub to: Vec<Number>,
    /// The text.
    pub text: String,
    /// Short messages that it takes.
    pub parts: u8,
    /// Most notices of the account a day.
    pub per_day_max: u16,
}

impl Policy {
    /// Checks a rule and brings its numbers into their one form.
    ///
    /// # Errors
    /// [`Error::Rule`] says what is wrong.
    pub fn rule(&self, mut rule: Rule) -> Result<Rule, Error> {
        let fault = |what: String| Err(Error::Rule(what));
        let name = text::one_line(&rule.name);
        if name.is_empty() || name.chars().count() > 64 {
            return fault("its name must have 1 to 64 characters".to_owned());
        }
        rule.name = name;
        if rule.numbers.is_empty() || rule.numbers.len() > NUMBERS_MAX {
            return fault(format!("it must have 1 to {NUMBERS_MAX} numbers"));
        }
        for number in &mut rule.numbers {
            match self.plan().parse(number) {
                Ok(good) if self.plan().allows(&good) => *number = good.to_string(),
                Ok(_) => return fault(format!("text messages to {number} are not allowed here")),
                Err(why) => return fault(format!("{number}: {}", why.refusal().sentence.en)),
            }
        }
        rule.numbers.sort();
        rule.numbers.dedup();
        if rule.senders.len() > SENDERS_MAX {
            return fault(format!("it may name at most {SENDERS_MAX} senders"));
        }
        if let Some(bad) = rule.senders.iter().find(|s| Pattern::parse(s).is_none()) {
            return fault(format!("{bad:?} is neither an address like anna@school.example nor a domain like school.example"));
        }
        if rule.days == 0 || rule.days > ALL_DAYS {
            return fault("its days must be 1 to 127, the sum of Monday 1, Tuesday 2 ... Sunday 64".to_owned());
        }
        if rule.hours.as_ref().is_some_and(|h| !hours_are_sound(h)) {
            return fault("its hours must be two different minutes of the day, 0 to 1440".to_owned());
        }
        Ok(rule)
    }

    /// What the rules of an account say about a mail that comes now.
    #[must_use]
    pub fn notice(&self, rules: &[Rule], mail: &Arrival, language: Language, now_s: i64) -> Option<Notice> {
        let settings = &self.settings().notices;
        let from_number = mail.from.as_ref().is_some_and(|from| self.is_sms_domain(from.domain()));
        if !settings.enabled || mail.own || from_number {
            return None;
        }
        let mut to: Vec<Number> = Vec::new();
        let mut per_day_max = None;
        for rule in rules.iter().filter(|rule| self.holds(rule, mail, now_s)) {
            for number in rule.numbers.iter().filter_map(|n| Number::from_canonical(n)) {
                // The site's rules may have become stricter since.
                if self.plan().allows(&number) && !to.contains(&number) {
                    to.push(number);
                }
            }
            per_day_max = per_day_max.max(Some(rule.per_day_max.unwrap_or(u16::MAX)));
        }
        let per_day_max = per_day_max?.min(settings.per_day_max);
        if to.is_empty() || per_day_max == 0 {
            return None;
        }
        let text = count::within(&count::cheapest(words(mail, language)), settings.parts_max);
        let parts = u8::try_from(count::cost(&text).parts).unwrap_or(settings.parts_max);
        Some(Notice { to, text, parts, per_day_max })
    }

    fn holds(&self, rule: &Rule, mail: &Arrival, now_s: i64) -> bool {
        let zone = self.settings().zone_min;
        let from = |from: &Address| rule.senders.iter().filter_map(|s| Pattern::parse(s)).any(|p| sender::any(&[p], from));
        rule.enabled
            && (mail.urgent || !rule.urgent_only)
            && (rule.automatic || !mail.automatic)
            && rule.days & (1 << clock::weekday(now_s, zone)) != 0
            && rule.hours.is_none_or(|hours| hours.hold(clock::minute(now_s, zone)))
            && (rule.senders.is_empty() || mail.from.as_ref().is_some_and(from))
    }
}

/// Sender, subject, first words.
fn words(mail: &Arrival, language: Language) -> String {
    let (plain, urgent, nobody) = match language {
        Language::ZhCn => ("新邮件", "紧急邮件", "未知发件人"),
        Language::En => ("Mail", "URGENT mail", "unknown sender"),
    };
    let head = if mail.urgent { urgent } else { plain };
    let author = if mail.author.is_empty() { nobody } else { &mail.author };
    let mut text = format!("{head} {author}");
    if !mail.subject.is_empty() {
        text.push_str(&format!(": {}", mail.subject));
    }
    // A preview that repeats the subject says nothing.
    if !mail.preview.is_empty() && mail.preview != mail.subject {
        text.push('\n');
        text.push_str(&mail.preview);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn policy() -> Policy {
        let domains = vec!["sms.example".to_owned()];
        Policy::new(Settings { domains, ..Settings::default() }).expect("sound")
    }
    fn rule(change: impl Fn(&mut Rule)) -> Rule {
        let mut rule = Rule { name: "r".to_owned(), numbers: vec!["13800138000".to_owned()], ..Rule::default() };
        change(&mut rule);
        policy().rule(rule).expect("a sound rule")
    }
    fn arrival(header: &str) -> Arrival {
        Arrival::of(format!("From: Anna <anna@school.example>\r\n{header}\r\nWe meet at eight.\r\n").as_bytes())
    }
    /// Sunday, 22 November 2026, 15:00 in China.
    const NOW_S: i64 = 1_795_330_800;

    fn told(rules: &[Rule], header: &str) -> Option<String> {
        policy().notice(rules, &arrival(header), Language::En, NOW_S).map(|n| n.text)
    }

    #[test]
    fn who_is_told_what() {
        let all = [rule(|_| {})];
        assert_eq!(told(&all, "Subject: Trip\r\n").as_deref(), Some("Mail Anna: Trip\nWe meet at eight."));
        assert_eq!(
            told(&all, "Subject: Trip\r\nX-Priority: 1 (Highest)\r\n").as_deref(),
            Some("URGENT mail Anna: Trip\nWe meet at eight.")
        );
        let zh = policy().notice(&all, &arrival("Subject: =?utf-8?B?5Lya6K6u?=\r\n"), Language::ZhCn, NOW_S).expect("told");
        assert_eq!((zh.text.as_str(), zh.parts, zh.per_day_max), ("新邮件 Anna: 会议\nWe meet at eight.", 1, 20));
        let long =
            policy().notice(&all, &arrival(&format!("Subject: {}\r\n", "x".repeat(400))), Language::En, NOW_S).expect("told");
        assert!(long.parts == 1 && long.text.ends_with("...") && long.text.len() == 160, "{}", long.text);
    }

    #[test]
    fn conditions_of_a_rule() {
        let urgent = [rule(|r| r.urgent_only = true)];
        assert!(told(&urgent, "Subject: a\r\n").is_none() && told(&urgent, "Importance: High\r\n").is_some());
        for (senders, yes) in
            [(vec!["anna@school.example"], true), (vec!["school.example"], true), (vec!["other.example"], false)]
        {
            let rules = [rule(|r| r.senders = senders.iter().map(|s| (*s).to_owned()).collect())];
            assert_eq!(told(&rules, "Subject: a\r\n").is_some(), yes, "{senders:?}");
        }
        let hours = |from_min, to_min| [rule(|r| r.hours = Some(Hours { from_min, to_min }))];
        assert!(told(&hours(900, 901), "").is_some() && told(&hours(901, 900), "").is_none());
        assert!(told(&[rule(|r| r.days = 64)], "").is_some() && told(&[rule(|r| r.days = 63)], "").is_none());
        assert!(told(&[rule(|r| r.enabled = false)], "").is_none() && told(&[], "").is_none());
    }

    #[test]
    fn automatic_mail_only_if_wanted_and_our_own_never() {
        let (all, automatic) = ([rule(|_| {})], [rule(|r| r.automatic = true)]);
        for header in ["Auto-Submitted: auto-generated\r\n", "List-Id: <a.example>\r\n", "Return-Path: <>\r\n"] {
            assert!(told(&all, header).is_none() && told(&automatic, header).is_some(), "{header}");
        }
        assert!(told(&automatic, "X-Twinpost-Sms: answer\r\n").is_none());
        let from_number = Arrival::of(b"From: <+8613800138000@sms.example>\r\n\r\nhello\r\n");
        assert_eq!(policy().notice(&automatic, &from_number, Language::En, NOW_S), None);
    }

    #[test]
    fn rules_are_checked_and_joined() {
        let bad = |change: fn(&mut Rule)| {
            let mut rule = Rule { name: "r".to_owned(), numbers: vec!["13800138000".to_owned()], ..Rule::default() };
            change(&mut rule);
            policy().rule(rule).is_err()
        };
        assert!(!bad(|_| {}));
        assert!(bad(|r| r.name.clear()) && bad(|r| r.numbers.clear()) && bad(|r| r.numbers = vec!["x".to_owned()]));
        assert!(
            bad(|r| r.numbers = vec!["+85261234567".to_owned()])
                && bad(|r| r.days = 0)
                && bad(|r| r.senders = vec![" ".to_owned()])
        );
        let two = [
            rule(|r| r.per_day_max = Some(3)),
            rule(|r| r.numbers = vec!["13900139000".to_owned(), "+86 138 0013 8000".to_owned()]),
        ];
        let notice = policy().notice(&two, &arrival(""), Language::En, NOW_S).expect("told");
        let to: Vec<&str> = notice.to.iter().map(Number::as_str).collect();
        assert_eq!((to.as_slice(), notice.per_day_max), (["+8613800138000", "+8613900139000"].as_slice(), 20));
    }

    proptest::proptest! {
        #[test]
        fn any_mail_makes_a_bounded_notice(data: Vec<u8>) {
            if let Some(notice) = policy().notice(&[rule(|r| r.automatic = true)], &Arrival::of(&data), Language::ZhCn, NOW_S) {
                proptest::prop_assert!(notice.parts == 1 && notice.text.chars().count() <= 160);
            }
        }
    }
}
