//! The tables about text messages.

use crate::schema::{Faults, section};
use crate::value::{DayHours, HostPort, SmsLanguage, SmsReports, SmsSenders, SmsSubject, Span, ZoneOffset};
use std::collections::BTreeMap;
use std::path::PathBuf;

section! {
    /// Text messages: the modem of this node.
    Sms {
        /// There is a modem (or an SMPP service), and text messages are sent and received.
        enabled: bool = "false";
        /// Serial port of the modem. A path that does not begin with / lies in the node's folder. None: there is no modem, only smpp.
        port: Option<PathBuf> = "\"/dev/ttyS1\"";
        /// Speed of the port in bit/s; none: it is found.
        baud: Option<u32> = "\"\"", in "300" ..= "921600";
        /// File that holds the PIN of the SIM card, readable by this program only.
        pin_file: Option<PathBuf> = "\"\"";
        /// Family of the modem, when it should not be told from what the modem says of itself.
        family: Option<String> = "\"\"";
        /// Number of the service centre, when the SIM card holds none.
        service_centre: Option<String> = "\"\"";
        /// Domains whose addresses are telephone numbers, as mail2sms.example. The first one is where answers come from. Empty: no
        /// mail becomes a text message.
        domains: Vec<String> = "[]";
        /// Parts of messages a minute that the network and the contract of the SIM card bear.
        parts_per_minute: u32 = "30", in "1" ..= "60000";
        /// Share of it, in percent, that only alarms may use.
        alarm_share: u32 = "20", in "0" ..= "90";
        /// A modem that cannot send for so long is told to the operators by mail.
        trouble_after: Span = "\"1 min\"", in "1 s" ..= "1 d";
        /// A modem that sends again for so long is told as recovered.
        recovered_after: Span = "\"20 s\"", in "0 ms" ..= "1 h";
        tables {
        /// How telephone numbers are written here.
        [numbers]: SmsNumbers;
        /// Mail to text messages: who may, how much, how the text is made.
        [gateway]: SmsGateway;
        /// Orders to this node by text message.
        [orders]: SmsOrders;
        /// A contract with an operator, reached by SMPP 3.4.
        [smpp]: Smpp;
        }
    }
}

section! {
    /// How telephone numbers are written here.
    SmsNumbers {
        /// Country code of this site, without +.
        country: String = "\"86\"";
        /// What is dialled before a national number and is no part of it internationally; none in some countries.
        trunk_prefix: String = "\"0\"";
        /// What is dialled instead of +.
        international_prefix: String = "\"00\"";
        /// Fewest digits of a national number without its trunk prefix.
        digits_min: u32 = "7", in "1" ..= "15";
        /// Most digits of a national number without its trunk prefix.
        digits_max: u32 = "12", in "1" ..= "15";
        /// National numbers that begin so have exactly so many digits: finds mistyped mobile numbers.
        exact_digits: BTreeMap<String, u32> = "{ 13 = 11, 14 = 11, 15 = 11, 16 = 11, 17 = 11, 18 = 11, 19 = 11 }", in "1" ..= "15";
        /// Short numbers that may be written to, as they are dialled.
        short: Vec<String> = "[]";
        /// Beginnings of international numbers that may be written to, with +; "+" means every country. Empty: this country only.
        allowed: Vec<String> = "[]";
        /// Beginnings that may not be written to, with +. The longest beginning decides.
        forbidden: Vec<String> = "[]";
    }
}

section! {
    /// Mail to text messages: who may, how much, how the text is made.
    SmsGateway {
        /// Which of the people with an account here may write to numbers, when they are signed in and have the service sms.
        signed_in: SmsSenders = "\"all\"";
        /// The addresses and domains that "listed" means: anna@school.example, school.example, .school.example (with all below it).
        senders: Vec<String> = "[]";
        /// Senders elsewhere that may. A sender can be forged, so each of them needs a PIN unless outside_without_pin says otherwise.
        outside: Vec<String> = "[]";
        /// Senders elsewhere need no PIN: right only where a server in front of this one checks who they are.
        outside_without_pin: bool = "false";
        /// Nobody of these, whatever else says yes.
        denied: Vec<String> = "[]";
        /// PIN that must stand behind the number (13800138000.4711@...), for everybody.
        pin: Option<String> = "\"\"";
        /// The same for senders by address or domain; the closest rule holds.
        pins: BTreeMap<String, String> = "{}";
        /// Parts a day of each account; none: no limit.
        account_quota: Option<u32> = "100", in "0" ..= "1000000";
        /// Parts a day of each domain; none: no limit.
        domain_quota: Option<u32> = "2000", in "0" ..= "10000000";
        /// Parts a day of single accounts (by address) and domains (by name).
        quotas: BTreeMap<String, u32> = "{}", in "0" ..= "10000000";
        /// Most parts of one text. Six hold 402 Chinese characters or 918 Latin ones.
        parts: u32 = "6", in "1" ..= "255";
        /// Most numbers that one mail may go to.
        numbers_per_mail: u32 = "50", in "1" ..= "500";
        /// Names that stand for several numbers: class3a = ["13800138000", "13900139000"].
        groups: BTreeMap<String, Vec<String>> = "{}";
        /// Who may write to a group, by addresses and domains; a group that is not named here is for everybody who may write to numbers.
        group_senders: BTreeMap<String, Vec<String>> = "{}";
        /// Time of the day in which ordinary texts wait, as 22:00-07:00.
        quiet: Option<DayHours> = "\"\"";
        /// Mail that is marked urgent goes out in the quiet hours too.
        urgent_passes: bool = "true";
        /// This site's clock, from UTC. Days of quotas and hours of rules go by it.
        time_zone: ZoneOffset = "\"+08:00\"";
        /// When the subject becomes the first line of the text.
        subject: SmsSubject = "\"if-no-text\"";
        /// Signatures are left out.
        cut_signature: bool = "true";
        /// What the mail quotes is left out.
        cut_quotes: bool = "true";
        /// Typographic quotes and dashes become plain ones when the text then needs half the room.
        plain_punctuation: bool = "true";
        /// Last line of each text; {name} and {address} are the sender's.
        footer: Option<String> = "\"\"";
        /// Language of sentences to people whose language is not known.
        language: SmsLanguage = "\"zh-CN\"";
        /// How long an answer by text message finds its way back to the sender, in days.
        reply_days: u32 = "7", in "1" ..= "90";
        /// Mail address that takes text messages that answer nobody; none: they are logged and dropped.
        strays_to: Option<String> = "\"\"";
        /// When a delivery report is asked of the network.
        reports: SmsReports = "\"on-request\"";
        /// Accounts may have rules that tell them of new mail by text message.
        notices: bool = "true";
        /// Most notices of an account a day.
        notices_per_day: u32 = "20", in "1" ..= "1000";
        /// How long the line about each text is kept, in days.
        audit_days: u32 = "180", in "1" ..= "3650";
        /// How long statistics are kept, in days.
        statistics_days: u32 = "400", in "1" ..= "3650";
    }
}

section! {
    /// Orders to this node by text message: STATUS, ACK n, SWITCH, HELP. Everybody else gets no answer.
    SmsOrders {
        /// Telephone numbers of the administrators, international with +.
        numbers: Vec<String> = "[]";
        /// A one-time code is good for so long.
        code_valid: Span = "\"5 min\"", in "30 s" ..= "1 h";
        /// Answers to one number an hour.
        answers_per_hour: u32 = "30", in "1" ..= "1000";
    }
}

section! {
    /// A contract with an operator, reached by SMPP 3.4.
    Smpp {
        /// Where the service is.
        server: Option<HostPort> = "\"\"";
        /// PEM file of the authority that its certificate is checked against; none: no TLS.
        ca: Option<PathBuf> = "\"\"";
        /// Name to sign in with (system_id).
        system_id: Option<String> = "\"\"";
        /// File that holds the password, readable by this program only.
        password_file: Option<PathBuf> = "\"\"";
        /// Kind of system (system_type), when the operator asks for one.
        system_type: String = "\"\"";
        /// Number or name that phones show as the sender; none: the operator sets it.
        source: Option<String> = "\"\"";
        /// Use it before the modem; otherwise it is used when the modem cannot send.
        first: bool = "true";
    }
}

/// Rules between keys.
pub(crate) fn check(sms: &Sms, faults: &mut Faults) {
    for domain in &sms.domains {
        let sound = domain.contains('.') && !domain.contains('@') && !domain.contains(char::is_whitespace);
        if !sound {
            faults.add(None, "sms.domains", format!("{domain:?} is no domain; write for example \"mail2sms.example\""));
        }
    }
    if sms.numbers.digits_min > sms.numbers.digits_max {
        faults.add(None, "sms.numbers.digits_min", "must not be more than digits_max");
    }
    for number in &sms.orders.numbers {
        let digits = number.strip_prefix('+').unwrap_or_default();
        if !(7..=15).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            faults.add(None, "sms.orders.numbers", format!("{number:?}: write it with + and country code, as +8613800138000"));
        }
    }
    for group in sms.gateway.group_senders.keys().filter(|name| !sms.gateway.groups.contains_key(*name)) {
        faults.add(None, "sms.gateway.group_senders", format!("there is no group {group:?} in groups"));
    }
    let smpp = &sms.smpp;
    if sms.enabled && sms.port.is_none() && smpp.server.is_none() {
        faults.add(None, "sms.port", "there is neither a modem nor an smpp.server: no text can go");
    }
    if smpp.server.is_some() && (smpp.system_id.is_none() || smpp.password_file.is_none()) {
        faults.add(None, "sms.smpp", "server needs system_id and password_file");
    }
}
