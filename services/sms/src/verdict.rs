//! What a refusal means for the message, the others, and the way.

use crate::api::Reason;
use crate::reasons;
use crate::transport::{Blame, Fate, Outcome};
use twinpost_gsm::{Blame as Whose, Cause, Lasting, Status, StatusClass, cms_error};

/// SM Rejected-Duplicate SM. TS 23.040 9.2.3.22.
const DUPLICATE: u16 = 0xC5;
/// No network service. TS 27.005 3.2.5.
const NO_NETWORK: u16 = 331;
/// Network timeout: the modem heard nothing from the network. TS 27.005 3.2.5.
const NETWORK_TIMEOUT: u16 = 332;

/// The outcome of a part that was refused with this `+CMS ERROR`.
pub(crate) fn refused(cms: u16) -> Outcome {
    let cause = cms_error(cms);
    let blame = match (cms, cause.blame, cause.lasting) {
        // The network may have taken it, and the answer was lost.
        (NETWORK_TIMEOUT, _, _) => return Outcome::Unknown(reasons::unknown(cause.en)),
        (DUPLICATE, _, _) => Blame::Duplicate,
        (NO_NETWORK, _, _) => Blame::Way,
        (_, _, Lasting::Unknown) => Blame::Unclear,
        (_, Whose::Recipient | Whose::Message | Whose::Unknown, Lasting::Permanent) => Blame::Message,
        (_, Whose::Recipient | Whose::Message | Whose::Unknown | Whose::Network, Lasting::Temporary) => Blame::Moment,
        (_, Whose::Subscription | Whose::Modem, _) | (_, Whose::Network, Lasting::Permanent) => Blame::Way,
    };
    Outcome::Refused(blame, reason(&cause))
}

fn reason(cause: &Cause) -> Reason {
    Reason {
        permanent: cause.lasting == Lasting::Permanent,
        code: Some(u32::from(cause.code)),
        text: format!("{} (+CMS ERROR: {})", cause.en.trim_end_matches('.'), cause.code),
        zh: format!("{}（+CMS ERROR：{}）", cause.zh.trim_end_matches('。'), cause.code),
    }
}

/// What a status report says.
pub(crate) fn fate(status: Status) -> Fate {
    let reason = |permanent| Reason {
        permanent,
        code: Some(u32::from(status.0)),
        text: status.en().to_owned(),
        zh: status.zh().to_owned(),
    };
    match status.class() {
        StatusClass::Done => Fate::Delivered,
        StatusClass::Trying => Fate::Pending(reason(false)),
        StatusClass::Permanent => Fate::Lost(reason(true)),
        StatusClass::GaveUp => Fate::Lost(reason(false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_outcome_and_the_known_ones_the_right_one() {
        for code in 0..=2000 {
            assert!(!matches!(refused(code), Outcome::Accepted(_)), "{code}");
        }
        let blame = |code| match refused(code) {
            Outcome::Refused(blame, _) => Some(blame),
            _ => None,
        };
        // TS 24.011 annex E: 1 unassigned number, 28 unidentified subscriber, 38 network out of order, 42 congestion.
        assert_eq!(blame(1), Some(Blame::Message));
        assert_eq!(blame(28), Some(Blame::Message));
        assert_eq!(blame(38), Some(Blame::Moment));
        assert_eq!(blame(42), Some(Blame::Moment));
        // 8 operator determined barring, 310 SIM not inserted, 331 no network service.
        for way in [8, 310, 311, 316, 331] {
            assert_eq!(blame(way), Some(Blame::Way), "{way}");
        }
        assert_eq!(blame(197), Some(Blame::Duplicate));
        assert_eq!(blame(332), None);
        assert_eq!(blame(500), Some(Blame::Unclear));
    }
}
