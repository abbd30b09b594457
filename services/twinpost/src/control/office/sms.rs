//! Orders about the gateway: notices of new mail, what became of texts, what is used up.

use super::{Failure, Office, address, moment};
use crate::adapter::now_s;
use crate::cli::{SmsOrder, SmsRules};
use serde_json::{Value, json};
use twinpost_mail2sms::{AuditQuery, Gateway, Hours, Rule};

/// `08:00-18:00`
fn hours(text: &str) -> Result<Hours, Failure> {
    let wrong = || Failure::because(format!("{text:?} is no part of the day; write for example 08:00-18:00"));
    let minutes = |clock: &str| {
        let (h, m) = clock.trim().split_once(':')?;
        let (h, m): (u16, u16) = (h.parse().ok()?, m.parse().ok()?);
        (h <= 24 && m < 60 && h * 60 + m <= 1440).then_some(h * 60 + m)
    };
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    match (minutes(from), minutes(to)) {
        (Some(from_min), Some(to_min)) => Ok(Hours { from_min, to_min }),
        _ => Err(wrong()),
    }
}

fn clock(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn rule_value(rule: &Rule) -> Value {
    let conditions = [
        rule.urgent_only.then(|| "urgent".to_owned()),
        (!rule.senders.is_empty()).then(|| format!("from {}", rule.senders.join(", "))),
        rule.hours.map(|h| format!("{}-{}", clock(h.from_min), clock(h.to_min))),
        rule.automatic.then(|| "automatic mail too".to_owned()),
    ];
    json!({
        "name": rule.name, "numbers": rule.numbers, "enabled": rule.enabled,
        "only": conditions.into_iter().flatten().collect::<Vec<_>>().join("; "), "per_day": rule.per_day_max,
    })
}

impl Office {
    fn gateway(&self) -> Result<&Gateway, Failure> {
        self.gateway
            .as_ref()
            .ok_or_else(|| Failure::because("text messages are switched off: the document says [sms] enabled = false"))
    }

    /// What `twinpost ctl` did not answer by itself.
    pub(super) async fn sms(&self, order: SmsOrder, actor: &str) -> Result<Value, Failure> {
        match order {
            SmsOrder::Rules(order) => self.rules(order, actor).await,
            SmsOrder::Log { limit, of } => {
                let query = AuditQuery { who: of.map(|w| w.to_lowercase()), before_id: None, limit };
                let lines = self.gateway()?.audit(&query).await.map_err(Failure::because)?;
                let line = |l: &twinpost_mail2sms::AuditLine| {
                    json!({
                        "when": moment(l.at_s), "event": l.event, "who": l.who, "number": l.number, "parts": l.parts,
                        "detail": l.detail, "trace": l.trace,
                    })
                };
                Ok(lines.iter().map(line).collect())
            }
            SmsOrder::Usage { address: text } => {
                let who = address(&text)?;
                let (usage, most) = self.gateway()?.usage(&who, now_s()).await.map_err(Failure::because)?;
                Ok(json!({ "address": who.to_string(), "used": usage.used, "under_way": usage.reserved, "quota_a_day": most }))
            }
            _ => Err(Failure::because("this is answered by the SMS process itself, through `twinpost ctl`")),
        }
    }

    async fn rules(&self, order: SmsRules, actor: &str) -> Result<Value, Failure> {
        let gateway = self.gateway()?;
        match order {
            SmsRules::List { address: text } => Ok(gateway.rules(&self.account_address(&text)?).iter().map(rule_value).collect()),
            SmsRules::Add { address: text, number, name, urgent, from, hours: when, per_day, automatic } => {
                let account = self.account_address(&text)?;
                let rule = Rule {
                    name,
                    numbers: number,
                    urgent_only: urgent,
                    senders: from,
                    hours: when.as_deref().map(hours).transpose()?,
                    per_day_max: per_day,
                    automatic,
                    ..Rule::default()
                };
                gateway.set_rule(&account, rule.clone()).await.map_err(Failure::because)?;
                tracing::info!(actor, account = %account, rule = rule.name, "a rule for notices by text was set");
                Ok(rule_value(&rule))
            }
            SmsRules::Remove { address: text, name } => {
                let account = self.account_address(&text)?;
                if !gateway.remove_rule(&account, &name).await.map_err(Failure::because)? {
                    return Err(Failure::because(format!("{account} has no rule named {name:?}")));
                }
                tracing::info!(actor, account = %account, rule = name, "a rule for notices by text was removed");
                Ok(Value::Null)
            }
        }
    }

    /// The address of an account that is here.
    fn account_address(&self, text: &str) -> Result<twinpost_message::Address, Failure> {
        let wanted = address(text)?;
        let found = self.directory.account(&wanted).map(|account| account.address);
        found.ok_or_else(|| Failure::because(format!("there is no account {wanted}")))
    }
}
