//! The gateway between mail and text messages: plain data in, plain data out, without network.
//!
//! Contract: knows neither SMTP, queue, store, directory nor the process at the modem. What is asked of it has an answer for any
//! bytes; every "no" is a [`Refusal`] with SMTP code and a sentence in two languages. Time comes in as seconds since 1970.
//! Only the ledger (usage, routes of answers, rules, audit) is kept, in SQL; calls that touch it are async.
//! Failure classes: [`Error`] for settings and database; a database that does not answer refuses mail for now (451).
//!
//! How the mail system calls it ([`Gateway`] is one shared handle):
//!
//! ```text
//! start      Gateway::open(&Location, Settings) -> Result<Gateway, Error>;  replace(Settings);  is_sms_domain(domain) -> bool
//! RCPT       recipient(&Sender, &Address, so_far: &[Number], now_s) -> Result<Recipient, Refusal>        async
//!            Recipient.addresses go to the queue instead of the address that was typed: canonical, one number each, no PIN
//! DATA       accept(Intake { sender, trace, numbers, mail: &[u8], now_s }) -> Result<Outgoing, Refusal>  async, reserves quota
//!            release(trace)                   when the store did not take the mail after all             async
//! courier    number_of(&Address) -> Option<Number>;  outgoing(mail: &[u8]) -> Result<Outgoing, Refusal>  what to submit
//!            not_before_s(urgent, now_s) -> Option<i64>                                                  quiet hours
//!            settle(&Settle { trace, number, outcome, now_s }) -> Result<Report, Error>                  async, idempotent
//!            Report { action, code, detail, sentence, diagnostic } is what a delivery status notice says
//! incoming   incoming(&Incoming { from, text, sent_s, received_s, id }, now_s) -> Result<Option<Mail>, Error>  async
//!            Mail { to, message }: null envelope sender; then Take at the modem process
//! arrival    notices(&account, mail: &[u8], trace, now_s) -> Result<Vec<Notice>, Error>                  async, cheap without rules
//! ctl        rules, set_rule, remove_rule, statistics, audit, usage, prune(now_s)                        async
//! ```

mod answer;
pub mod automatic;
mod clock;
mod count;
mod error;
mod gateway;
mod guesses;
pub mod ledger;
mod local_part;
mod notice;
mod number;
mod outgoing;
mod policy;
mod refusal;
mod report;
mod sender;
mod settings;
pub mod text;

pub use answer::{Incoming, Mail};
pub use error::Error;
pub use gateway::{Gateway, Intake, Settle, Told};
pub use ledger::{AuditLine, AuditQuery, Counts, Kind, Row, StatisticsBy, StatisticsQuery, Usage};
pub use notice::{Arrival, Notice, Rule};
pub use number::{Number, NumberFault, Plan};
pub use outgoing::Outgoing;
pub use policy::{NUMBERS_MAX, Policy, Recipient};
pub use refusal::{Fault, Refusal, Sentence};
pub use report::{Action, Outcome, Reason, Report};
pub use sender::Sender;
pub use settings::*;

/// Entry point for random input: addresses, numbers, headers and whole mails.
///
/// # Panics
/// When a contract of this crate is broken: that is what it looks for.
pub fn fuzz(data: &[u8]) {
    let words = String::from_utf8_lossy(data);
    for pin_wanted in [true, false] {
        let _ = local_part::take_apart(&words, pin_wanted);
    }
    let plan = Plan::new(&Numbers::default()).expect("the default settings are sound: a test reads numbers by them");
    if let Ok(number) = plan.parse(&words) {
        assert_eq!(plan.parse(number.as_str()), Ok(number));
    }
    let _ = Arrival::of(data);
    text::fuzz(data);
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) { super::fuzz(&data); }
    }
}
