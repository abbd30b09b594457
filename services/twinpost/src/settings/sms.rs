//! The tables of the appliance document about text messages, as the settings of the modem's process and of the gateway.

use crate::node::Folder;
use std::path::Path;
use twinpost_config::{Document, SmsGateway, SmsLanguage, SmsReports, SmsSenders, SmsSubject};
use twinpost_mail2sms as mail2sms;
use twinpost_sms::{By, Limits, OrdersSettings, Pace, SmppSettings, WaySettings};

fn secret(path: &Path, key: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{key}: cannot read {}: {e}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn modem(document: &Document, folder: &Folder, port: &Path) -> Result<twinpost_modem::Settings, String> {
    let sms = &document.sms;
    let port = folder.within(port);
    let pin = match &sms.pin_file {
        None => None,
        Some(file) => {
            let path = folder.within(file);
            let digits = secret(&path, "sms.pin_file")?;
            Some(twinpost_modem::Pin::new(&digits).map_err(|e| format!("sms.pin_file: {}: {e}", path.display()))?)
        }
    };
    let own = port.starts_with(folder.path());
    let default = twinpost_modem::Settings::new(&port);
    Ok(twinpost_modem::Settings {
        baud: sms.baud,
        pin,
        pin_memory: Some(folder.sms().join("pin-refused")),
        family: sms.family.clone(),
        smsc: sms.service_centre.clone(),
        // Nobody else looks for a port in the node's folder.
        lock_dir: if own { None } else { default.lock_dir.clone() },
        ..default
    })
}

/// The modem's process.
///
/// # Errors
/// A file with a secret cannot be read.
pub fn process(document: &Document, folder: &Folder) -> Result<twinpost_sms::Settings, String> {
    let sms = &document.sms;
    // Where there is none, its way is taken out again: the document's own rules see to it that there is another.
    let (port, without) = sms.port.as_deref().map_or((Path::new("no-modem"), true), |port| (port, false));
    let mut settings = twinpost_sms::Settings::new(folder.sms_socket(), folder.sms(), modem(document, folder, port)?);
    if without {
        settings.ways.clear();
    }
    if let Some(server) = &sms.smpp.server {
        let password = match &sms.smpp.password_file {
            Some(file) => secret(&folder.within(file), "sms.smpp.password_file")?,
            None => String::new(),
        };
        let system_id = sms.smpp.system_id.clone().unwrap_or_default();
        let smpp = SmppSettings {
            tls_ca: sms.smpp.ca.as_ref().map(|ca| folder.within(ca)),
            system_type: sms.smpp.system_type.clone(),
            source: sms.smpp.source.clone(),
            ..SmppSettings::new(&server.host, server.port, system_id, password)
        };
        let at = if sms.smpp.first { 0 } else { settings.ways.len() };
        settings.ways.insert(at, WaySettings { name: "smpp".to_owned(), by: By::Smpp(Box::new(smpp)) });
    }
    settings.pace = Pace {
        parts_per_minute: sms.parts_per_minute,
        alarm_share_percent: u8::try_from(sms.alarm_share).unwrap_or(20),
        trouble_after: sms.trouble_after.0,
        recovered_after: sms.recovered_after.0,
        ..Pace::default()
    };
    settings.limits = Limits { parts: u8::try_from(sms.gateway.parts).unwrap_or(u8::MAX), ..Limits::default() };
    settings.country = Some(format!("+{}", sms.numbers.country));
    settings.orders = (!sms.orders.numbers.is_empty()).then(|| OrdersSettings {
        code_valid: sms.orders.code_valid.0,
        answers_per_hour: sms.orders.answers_per_hour,
        ..OrdersSettings::new(sms.orders.numbers.clone())
    });
    Ok(settings)
}

/// The gateway, with its ledger; none when text messages are switched off.
///
/// # Errors
/// A setting makes no sense, or the ledger cannot be opened.
pub async fn open_gateway(document: &Document, folder: &Folder) -> Result<Option<mail2sms::Gateway>, String> {
    if !document.sms.enabled {
        return Ok(None);
    }
    let location = super::sms_ledger_location(document, folder);
    mail2sms::Gateway::open(&location, gateway(document)).await.map(Some).map_err(|e| e.to_string())
}

/// What the document's own limits cannot see.
///
/// # Errors
/// The setting at fault.
pub fn check(document: &Document) -> Result<(), String> {
    mail2sms::Policy::new(gateway(document)).map(drop).map_err(|e| e.to_string())
}

/// Whole numbers of the document within their limits, in the type of the gateway.
fn small<T: TryFrom<u32>>(value: u32, most: T) -> T {
    T::try_from(value).unwrap_or(most)
}

/// The gateway in the mail path.
pub fn gateway(document: &Document) -> mail2sms::Settings {
    let (sms, wished) = (&document.sms, &document.sms.gateway);
    let numbers = &sms.numbers;
    mail2sms::Settings {
        domains: if sms.enabled { sms.domains.clone() } else { Vec::new() },
        numbers: mail2sms::Numbers {
            country: numbers.country.clone(),
            trunk_prefix: numbers.trunk_prefix.clone(),
            international_prefix: numbers.international_prefix.clone(),
            national_digits: (small(numbers.digits_min, 15), small(numbers.digits_max, 15)),
            exact_digits: numbers.exact_digits.iter().map(|(begin, n)| (begin.clone(), small(*n, 15))).collect(),
            short: numbers.short.clone(),
            allowed: numbers.allowed.clone(),
            forbidden: numbers.forbidden.clone(),
        },
        who: mail2sms::Who {
            signed_in: match wished.signed_in {
                SmsSenders::All => mail2sms::SignedIn::All,
                SmsSenders::Nobody => mail2sms::SignedIn::Nobody,
                SmsSenders::Listed => mail2sms::SignedIn::Listed(wished.senders.clone()),
                SmsSenders::Admins => mail2sms::SignedIn::AtLeast(mail2sms::Role::DomainAdmin),
                SmsSenders::Operators => mail2sms::SignedIn::AtLeast(mail2sms::Role::Operator),
            },
            outside: wished.outside.clone(),
            outside_without_pin: wished.outside_without_pin,
            denied: wished.denied.clone(),
        },
        pins: pins(wished),
        quotas: quotas(wished),
        parts_max: small(wished.parts, u8::MAX),
        numbers_per_mail_max: small(wished.numbers_per_mail, 500),
        groups: groups(wished),
        quiet: wished.quiet.map(|hours| mail2sms::Quiet {
            hours: mail2sms::Hours { from_min: hours.from_min, to_min: hours.to_min },
            urgent_passes: wished.urgent_passes,
        }),
        zone_min: wished.time_zone.minutes,
        text: mail2sms::Text {
            subject: match wished.subject {
                SmsSubject::Never => mail2sms::SubjectLine::Never,
                SmsSubject::Always => mail2sms::SubjectLine::Always,
                SmsSubject::IfNoText => mail2sms::SubjectLine::IfNoText,
            },
            cut_signature: wished.cut_signature,
            cut_quotes: wished.cut_quotes,
            plain_punctuation: wished.plain_punctuation,
            footer: wished.footer.clone(),
        },
        language: match wished.language {
            SmsLanguage::Chinese => mail2sms::Language::ZhCn,
            SmsLanguage::English => mail2sms::Language::En,
        },
        reply_days: small(wished.reply_days, 90),
        strays_to: wished.strays_to.clone(),
        reports: match wished.reports {
            SmsReports::Never => mail2sms::ReportMode::Never,
            SmsReports::OnRequest => mail2sms::ReportMode::OnRequest,
            SmsReports::Always => mail2sms::ReportMode::Always,
        },
        notices: mail2sms::Notices {
            enabled: wished.notices,
            per_day_max: small(wished.notices_per_day, u16::MAX),
            ..mail2sms::Notices::default()
        },
        audit_days: small(wished.audit_days, u16::MAX),
        statistics_days: small(wished.statistics_days, u16::MAX),
    }
}

fn pins(wished: &SmsGateway) -> mail2sms::Pins {
    let (accounts, domains): (Vec<_>, Vec<_>) = wished.pins.iter().partition(|(name, _)| name.contains('@'));
    let owned = |(name, pin): (&String, &String)| (name.clone(), mail2sms::Pin::new(pin.clone()));
    mail2sms::Pins {
        everybody: wished.pin.clone().map(mail2sms::Pin::new),
        domains: domains.into_iter().map(owned).collect(),
        accounts: accounts.into_iter().map(owned).collect(),
    }
}

fn quotas(wished: &SmsGateway) -> mail2sms::Quotas {
    let (accounts, domains): (Vec<_>, Vec<_>) = wished.quotas.iter().partition(|(name, _)| name.contains('@'));
    let owned = |(name, parts): (&String, &u32)| (name.clone(), *parts);
    mail2sms::Quotas {
        account: wished.account_quota,
        domain: wished.domain_quota,
        accounts: accounts.into_iter().map(owned).collect(),
        domains: domains.into_iter().map(owned).collect(),
    }
}

fn groups(wished: &SmsGateway) -> std::collections::BTreeMap<String, mail2sms::Group> {
    let group = |(name, numbers): (&String, &Vec<String>)| {
        let senders = wished.group_senders.get(name).cloned().unwrap_or_default();
        (name.clone(), mail2sms::Group { numbers: numbers.clone(), senders })
    };
    wished.groups.iter().map(group).collect()
}
