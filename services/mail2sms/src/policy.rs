//! The settings, checked, and what they say about a sender and a recipient. Pure: no clock, no database.
//!
//! Contract: [`Policy::new`] refuses settings that make no sense with the key named; afterwards every question has an answer.

use crate::error::Error;
use crate::local_part;
use crate::number::{Number, Plan};
use crate::refusal::{Fault, Refusal};
use crate::sender::{self, Pattern, Sender};
use crate::settings::{Hours, Pin, Settings, SignedIn};
use std::collections::HashMap;
use twinpost_message::Address;

/// Most numbers of a group, and of a mail.
pub const NUMBERS_MAX: usize = 500;
/// Most groups.
const GROUPS_MAX: usize = 10_000;

struct Group {
    numbers: Vec<Number>,
    senders: Vec<Pattern>,
}

/// The checked settings.
pub struct Policy {
    settings: Settings,
    /// In their one form, see [`Address`].
    domains: Vec<String>,
    plan: Plan,
    listed: Vec<Pattern>,
    outside: Vec<Pattern>,
    denied: Vec<Pattern>,
    groups: HashMap<String, Group>,
    account_pins: HashMap<String, Pin>,
    domain_pins: HashMap<String, Pin>,
    account_quotas: HashMap<String, u32>,
    domain_quotas: HashMap<String, u32>,
    strays_to: Option<Address>,
}

/// A recipient that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Where the texts go: one number, or those of the group; none that the mail goes to already.
    pub numbers: Vec<Number>,
    /// The same as addresses for the queue: `+8613800138000@mail2sms.example`, without PIN. One queue recipient each.
    pub addresses: Vec<Address>,
    /// The group that was written to.
    pub group: Option<String>,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("domains", &self.domains).finish_non_exhaustive()
    }
}

fn fault(key: impl Into<String>, value: impl Into<String>, want: &'static str) -> Error {
    Error::Setting { key: key.into(), value: value.into(), want }
}

fn patterns(key: &str, list: &[String]) -> Result<Vec<Pattern>, Error> {
    let want = "an address like anna@school.example or a domain like school.example";
    list.iter().map(|p| Pattern::parse(p).ok_or_else(|| fault(key, p, want))).collect()
}

fn domain(name: &str) -> Option<String> {
    Address::new("x", name.trim_start_matches('@')).ok().map(|a| a.domain().to_owned())
}

/// The keys of a table by account, in their one form.
fn by_account<'s, V: Clone + 's>(
    key: &str,
    table: impl Iterator<Item = (&'s String, &'s V)>,
) -> Result<HashMap<String, V>, Error> {
    let one = |(name, value): (&String, &V)| match Address::parse(name) {
        Ok(address) => Ok((sender::key(&address), value.clone())),
        Err(_) => Err(fault(key, name, "an address like anna@school.example")),
    };
    table.map(one).collect()
}

fn by_domain<'s, V: Clone + 's>(
    key: &str,
    table: impl Iterator<Item = (&'s String, &'s V)>,
) -> Result<HashMap<String, V>, Error> {
    let one = |(name, value): (&String, &V)| match domain(name) {
        Some(name) => Ok((name, value.clone())),
        None => Err(fault(key, name, "a domain like school.example")),
    };
    table.map(one).collect()
}

/// Hours of a day that can be.
pub(crate) fn hours_are_sound(hours: &Hours) -> bool {
    hours.from_min < 1440 && hours.to_min <= 1440 && hours.from_min != hours.to_min
}

impl Policy {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] with the key at fault.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let plan = Plan::new(&settings.numbers).map_err(|(key, value, want)| fault(key, value, want))?;
        let own = |name: &String| domain(name).ok_or_else(|| fault("domains", name, "a domain like mail2sms.example"));
        let domains = settings.domains.iter().map(own).collect::<Result<Vec<_>, _>>()?;
        if settings.parts_max == 0 {
            return Err(fault("parts_max", "0", "1 to 255"));
        }
        if !(1..=NUMBERS_MAX).contains(&usize::from(settings.numbers_per_mail_max)) {
            return Err(fault("numbers_per_mail_max", settings.numbers_per_mail_max.to_string(), "1 to 500"));
        }
        if !(1..=90).contains(&settings.reply_days) {
            return Err(fault("reply_days", settings.reply_days.to_string(), "1 to 90"));
        }
        if settings.zone_min.abs() > 14 * 60 {
            return Err(fault("zone_min", settings.zone_min.to_string(), "minutes east of UTC, -840 to 840"));
        }
        if let Some(quiet) = &settings.quiet
            && !hours_are_sound(&quiet.hours)
        {
            let value = format!("{} to {}", quiet.hours.from_min, quiet.hours.to_min);
            return Err(fault("quiet.hours", value, "two different minutes of the day, 0 to 1440"));
        }
        if settings.notices.parts_max == 0 {
            return Err(fault("notices.parts_max", "0", "1 to 255"));
        }
        let strays_to = match &settings.strays_to {
            Some(text) => Some(Address::parse(text).map_err(|_| fault("strays_to", text, "an address"))?),
            None => None,
        };
        let pins = &settings.pins;
        let all = pins.everybody.iter().chain(pins.domains.values()).chain(pins.accounts.values());
        if all.into_iter().any(|pin| !pin.is_sound()) {
            return Err(fault("pins", "...", "4 to 16 letters and digits"));
        }
        let no_pin = pins.everybody.is_none() && pins.domains.is_empty() && pins.accounts.is_empty();
        if !settings.who.outside.is_empty() && no_pin && !settings.who.outside_without_pin {
            let want = "a PIN for these senders, as a sender address can be forged (or outside_without_pin)";
            return Err(fault("who.outside", settings.who.outside.join(" "), want));
        }
        let listed = match &settings.who.signed_in {
            SignedIn::Listed(list) => patterns("who.signed_in", list)?,
            _ => Vec::new(),
        };
        let mut policy = Self {
            listed,
            outside: patterns("who.outside", &settings.who.outside)?,
            denied: patterns("who.denied", &settings.who.denied)?,
            groups: HashMap::new(),
            account_pins: by_account("pins.accounts", pins.accounts.iter())?,
            domain_pins: by_domain("pins.domains", pins.domains.iter())?,
            account_quotas: by_account("quotas.accounts", settings.quotas.accounts.iter())?,
            domain_quotas: by_domain("quotas.domains", settings.quotas.domains.iter())?,
            domains,
            plan,
            strays_to,
            settings,
        };
        policy.groups = policy.checked_groups()?;
        Ok(policy)
    }

    fn checked_groups(&self) -> Result<HashMap<String, Group>, Error> {
        if self.settings.groups.len() > GROUPS_MAX {
            return Err(fault("groups", self.settings.groups.len().to_string(), "at most 10000 groups"));
        }
        let mut groups = HashMap::with_capacity(self.settings.groups.len());
        for (name, group) in &self.settings.groups {
            let key = || format!("groups.{name}");
            if name.len() > 64 || !local_part::is_name(name) || name.contains(['+', '@']) {
                return Err(fault(key(), name, "a name with a letter in it, without + and @, like class3a"));
            }
            if group.numbers.is_empty() || group.numbers.len() > NUMBERS_MAX {
                return Err(fault(key(), group.numbers.len().to_string(), "1 to 500 numbers"));
            }
            let mut numbers = Vec::with_capacity(group.numbers.len());
            for text in &group.numbers {
                let number = self.plan.parse(text).map_err(|_| fault(key(), text, "a telephone number like 13800138000"))?;
                // An administrator wrote it down: the allowed beginnings are for what people type.
                if !numbers.contains(&number) {
                    numbers.push(number);
                }
            }
            let senders = patterns(&key(), &group.senders)?;
            groups.insert(name.to_lowercase(), Group { numbers, senders });
        }
        Ok(groups)
    }

    /// The settings that were checked.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
    /// The numbering.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// Mail to this domain becomes SMS.
    #[must_use]
    pub fn is_sms_domain(&self, domain: &str) -> bool {
        self.domains.iter().any(|own| own == domain)
    }
    /// The domain that answers come from; none when the gateway is off.
    #[must_use]
    pub fn reply_domain(&self) -> Option<&str> {
        self.domains.first().map(String::as_str)
    }
    pub(crate) fn strays_to(&self) -> Option<&Address> {
        self.strays_to.as_ref()
    }

    /// The number of an address that [`Policy::recipient`] gave: what the queue holds.
    #[must_use]
    pub fn number_of(&self, address: &Address) -> Option<Number> {
        self.is_sms_domain(address.domain()).then(|| Number::from_canonical(address.local()))?
    }

    /// Parts that this sender and its domain may send a day.
    pub(crate) fn quotas_of(&self, who: &Address) -> (Option<u32>, Option<u32>) {
        let quotas = &self.settings.quotas;
        let account = self.account_quotas.get(&sender::key(who)).copied().or(quotas.account);
        let domain = self.domain_quotas.get(who.domain()).copied().or(quotas.domain);
        (account, domain)
    }

    fn pin_of(&self, who: &Address) -> Option<&Pin> {
        let close = self.account_pins.get(&sender::key(who)).or_else(|| self.domain_pins.get(who.domain()));
        close.or(self.settings.pins.everybody.as_ref())
    }

    /// The sender may write to numbers.
    ///
    /// # Errors
    /// The refusal to tell.
    pub fn sender(&self, sender: &Sender) -> Result<(), Refusal> {
        // RFC 3834 2: a report or an automatic answer has no sender; it must not become an SMS.
        if sender.address.is_none() {
            return Err(crate::automatic::null_sender());
        }
        let denied = [&sender.account, &sender.address].into_iter().flatten().any(|a| sender::any(&self.denied, a));
        let may = !denied
            && match &sender.account {
                Some(account) => match &self.settings.who.signed_in {
                    SignedIn::Nobody => false,
                    SignedIn::All => true,
                    SignedIn::Listed(_) => sender::any(&self.listed, account),
                    SignedIn::AtLeast(role) => sender.role >= *role,
                },
                None => sender.address.as_ref().is_some_and(|a| sender::any(&self.outside, a)),
            };
        if may { Ok(()) } else { Err(not_you(sender.account.is_some())) }
    }

    /// The recipient may be written to by this sender. `so_far`: numbers that the mail goes to already. `answering`: the
    /// number sent this sender an SMS lately, so a signed-in sender needs no PIN for the answer.
    ///
    /// # Errors
    /// The refusal to tell.
    pub fn recipient(
        &self,
        sender: &Sender,
        to: &Address,
        so_far: &[Number],
        answering: impl Fn(&Number) -> bool,
    ) -> Result<Recipient, Refusal> {
        self.sender(sender)?;
        let who = sender.who();
        let pin = who.and_then(|w| self.pin_of(w));
        let part = local_part::take_apart(to.local(), pin.is_some());
        let whole = local_part::take_apart(to.local(), false).target;
        let waived = || sender.account.is_some() && self.plan.parse(whole).is_ok_and(|number| answering(&number));
        let target = match (pin, part.pin) {
            (Some(pin), Some(given)) if pin.is(given) => part.target,
            (Some(_), _) if waived() => whole,
            (Some(_), given) => return Err(wrong_pin(given.is_some())),
            (None, _) if sender.account.is_none() && !self.settings.who.outside_without_pin => return Err(not_you(false)),
            (None, _) => part.target,
        };
        let (group, mut numbers) = self.target(target, who)?;
        let mut seen = so_far.to_vec();
        numbers.retain(|n| {
            !seen.contains(n) && {
                seen.push(n.clone());
                true
            }
        });
        let most = usize::from(self.settings.numbers_per_mail_max);
        if seen.len() > most {
            return Err(too_many_numbers(seen.len(), most));
        }
        let address = |n: &Number| Address::new(n.as_str(), to.domain()).ok();
        let addresses = numbers.iter().filter_map(address).collect();
        Ok(Recipient { numbers, addresses, group })
    }

    fn target(&self, target: &str, who: Option<&Address>) -> Result<(Option<String>, Vec<Number>), Refusal> {
        let name = target.to_lowercase();
        if let Some(group) = self.groups.get(&name) {
            let may = group.senders.is_empty() || who.is_some_and(|w| sender::any(&group.senders, w));
            return if may { Ok((Some(name), group.numbers.clone())) } else { Err(not_your_group()) };
        }
        match self.plan.parse(target) {
            Ok(number) if self.plan.allows(&number) => Ok((None, vec![number])),
            Ok(_) => Err(forbidden_number()),
            Err(_) if local_part::is_name(target) && !target.starts_with(|c: char| c.is_ascii_digit() || c == '+') => {
                Err(no_group())
            }
            Err(fault) => Err(fault.refusal()),
        }
    }
}

fn not_you(signed_in: bool) -> Refusal {
    // RFC 3463 3.8: X.7.1, delivery not authorized.
    let (en, zh) = if signed_in {
        ("your account may not send text messages: please ask your administrator", "您的账户没有发送短信的权限，请联系管理员")
    } else {
        (
            "only registered users may send text messages: please sign in to your mail account to send, or ask the administrator",
            "只有登记的用户可以发送短信：请登录您的邮箱账户后再发送，或联系管理员",
        )
    };
    Refusal::new(Fault::Sender, 550, (7, 1), en, zh)
}

fn wrong_pin(given: bool) -> Refusal {
    let (en, zh) = if given {
        (
            "the PIN behind the number is wrong: write the address like 13800138000.PIN@...",
            "号码后面的密码不正确：地址请写成 13800138000.密码@...",
        )
    } else {
        ("a PIN is needed: write the address like 13800138000.PIN@...", "需要密码：地址请写成 13800138000.密码@...")
    };
    Refusal::new(if given { Fault::Pin } else { Fault::NoPin }, 550, (7, 1), en, zh)
}

fn not_your_group() -> Refusal {
    Refusal::new(
        Fault::Sender,
        550,
        (7, 2),
        "you may not send text messages to this group: please ask your administrator",
        "您没有向该群组发送短信的权限，请联系管理员",
    )
}

fn no_group() -> Refusal {
    Refusal::new(
        Fault::NoGroup,
        550,
        (1, 1),
        "there is no such group of telephone numbers: write a number like 13800138000 before the @, or check the group's name",
        "没有这个短信群组：请在 @ 前面写手机号，例如 13800138000，或检查群组名称",
    )
}

fn forbidden_number() -> Refusal {
    Refusal::new(
        Fault::Prefix,
        550,
        (7, 1),
        "text messages to this number are not allowed here (country or kind of number): please ask your administrator",
        "不允许向该号码（国家或号段）发送短信，请联系管理员",
    )
}

fn too_many_numbers(given: usize, most: usize) -> Refusal {
    Refusal::new(
        Fault::TooManyNumbers,
        550,
        (5, 3),
        format!("this mail would go to {given} telephone numbers, at most {most} are allowed: please send it in several mails"),
        format!("这封邮件将发送到 {given} 个号码，最多允许 {most} 个，请分几封发送"),
    )
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
