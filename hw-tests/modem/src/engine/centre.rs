//! The service centre: it takes messages, hands them to phones that are on, keeps them for those that are off until their validity is
//! over, and reports what became of them (23.040 3.2.9, 9.2.3.12, 9.2.3.15).

use super::{Engine, Timer};
use crate::tpdu::{Submit, Validity};

/// Messages kept for phones that are off.
const KEPT_MOST: usize = 10_000;
/// What the service centre keeps a message for that names no validity: three days.
const OWN_VALIDITY_S: i64 = 3 * 86_400;
/// TP-ST: validity period expired.
const EXPIRED: u8 = 0x46;

/// A message whose phone is off.
#[derive(Debug)]
pub(super) struct Kept {
    number: u64,
    submit: Submit,
    octets: Vec<u8>,
    centre: String,
    sent_ms: i64,
    asked_ms: i64,
}

impl Engine {
    /// Takes a message; the TP-FCS of a refusal (23.040 9.2.3.22).
    pub(super) fn centre_takes(&mut self, submit: Submit, octets: Vec<u8>, centre: String) -> Result<(), u16> {
        let same = |k: &Kept| k.submit.to == submit.to && k.submit.data.raw == submit.data.raw;
        let held = self.kept.iter().any(same);
        let refused = held || self.centre.refuse_repeats && self.phones.knows(&submit);
        if submit.reject_duplicates && refused {
            // SM rejected, duplicate SM.
            return Err(0xc5);
        }
        if self.kept.len() >= KEPT_MOST {
            // SC busy.
            return Err(0xc0);
        }
        self.counters.accepted += 1;
        let (sent_ms, asked_ms) = (self.now_ms(), self.asked_ms);
        if !self.phones_off.contains(&submit.to.to_string()) {
            self.hand_over(submit, &octets, &centre, sent_ms, asked_ms);
            return Ok(());
        }
        let left_s = match submit.validity {
            Validity::Own => OWN_VALIDITY_S,
            Validity::For(s) => s.into(),
            Validity::Until(at) => at - sent_ms.div_euclid(1000),
        };
        self.kept_told += 1;
        let number = self.kept_told;
        self.kept.push(Kept { number, submit, octets, centre, sent_ms, asked_ms });
        self.after(left_s.max(0) as u64 * 1000, Timer::Expired(number));
        Ok(())
    }

    fn hand_over(&mut self, submit: Submit, octets: &[u8], centre: &str, sent_ms: i64, asked_ms: i64) {
        let status = self.centre.report_status;
        self.report(&submit, sent_ms, status);
        let now_ms = self.now_ms();
        if let Some(message) = self.phones.take(submit, octets, centre, now_ms, asked_ms) {
            self.counters.received += 1;
            self.received.push(message);
        }
    }

    fn report(&mut self, submit: &Submit, sent_ms: i64, status: u8) {
        if submit.wants_report && self.centre.reports {
            let report = self.report_of(submit, sent_ms, status);
            self.counters.reports += 1;
            self.after(self.centre.report_delay_ms, Timer::Report(Box::new(report)));
        }
    }

    /// A phone is switched on or off.
    pub(super) fn switch_phone(&mut self, phone: &str, on: bool) {
        if !on {
            self.phones_off.insert(phone.to_owned());
            return;
        }
        self.phones_off.remove(phone);
        for kept in std::mem::take(&mut self.kept) {
            if kept.submit.to.to_string() == phone {
                self.hand_over(kept.submit, &kept.octets, &kept.centre, kept.sent_ms, kept.asked_ms);
            } else {
                self.kept.push(kept);
            }
        }
    }

    /// The validity of a kept message is over.
    pub(super) fn expired(&mut self, number: u64) {
        if let Some(at) = self.kept.iter().position(|k| k.number == number) {
            let kept = self.kept.remove(at);
            self.counters.expired += 1;
            self.report(&kept.submit, kept.sent_ms, EXPIRED);
        }
    }
}
