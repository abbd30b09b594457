//! The modem as a way out: PDUs for [`twinpost_modem`], which knows nothing of what is in them.

use crate::api::{Condition, Kind, Way};
use crate::book::{Body, Fragment, Reference};
use crate::reasons;
use crate::text;
use crate::transport::{Inbound, Outcome, Parcel, Report, Token, Transport};
use crate::verdict;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};
use twinpost_gsm::{Address, Coding, Deliver, Direction, Framed, Pdu, Submit, Validity};
use twinpost_modem::{Event, Modem, Phase, ResetStep, SendError, Settings, State};

type Tokens = Arc<Mutex<HashMap<u64, twinpost_modem::Token>>>;

/// A modem.
pub(crate) struct ByModem {
    modem: Modem,
    state: watch::Receiver<Way>,
    /// What was handed over and is not confirmed. The modem's own channel bounds it.
    tokens: Tokens,
}

impl ByModem {
    /// Starts the modem's task.
    pub(crate) fn start(settings: Settings) -> (ByModem, mpsc::Receiver<Inbound>) {
        let (modem, events) = Modem::start(settings);
        let (inbound_in, inbound) = mpsc::channel(16);
        let mut states = modem.state();
        let first = way(&states.borrow_and_update());
        let (state_in, state) = watch::channel(first);
        tokio::spawn(async move {
            while states.changed().await.is_ok() {
                let now = way(&states.borrow_and_update());
                state_in.send_if_modified(|old| {
                    let new = *old != now;
                    *old = now;
                    new
                });
            }
        });
        let tokens = Tokens::default();
        tokio::spawn(take(events, inbound_in, tokens.clone()));
        (ByModem { modem, state, tokens }, inbound)
    }
}

impl Transport for ByModem {
    fn kind(&self) -> Kind {
        Kind::Modem
    }

    fn window(&self) -> usize {
        1
    }

    fn state(&self) -> watch::Receiver<Way> {
        self.state.clone()
    }

    async fn send(&self, parcel: Parcel) -> Outcome {
        let Some(tpdu) = encode(&parcel) else {
            return Outcome::Refused(crate::transport::Blame::Message, reasons::bad_number("it cannot be written into a PDU"));
        };
        match self.modem.send(&tpdu, None, parcel.more_follows).await {
            Ok(mr) => Outcome::Accepted(Reference::Mr(mr)),
            Err(SendError::Refused { cms }) => verdict::refused(cms),
            Err(e @ (SendError::Unknown | SendError::Garbled)) => Outcome::Unknown(reasons::unknown(&e.to_string())),
            Err(SendError::NotReady(phase)) => {
                let (text, zh) = reasons::condition(condition(phase));
                Outcome::NotSent(reasons::way(text, zh))
            }
            Err(e @ (SendError::NoPrompt | SendError::Stopped)) => {
                Outcome::NotSent(reasons::way(&e.to_string(), "调制解调器未接受短信，稍后重试"))
            }
            Err(e @ SendError::BadPdu(_)) => {
                Outcome::Refused(crate::transport::Blame::Message, reasons::bad_number(&e.to_string()))
            }
        }
    }

    async fn confirm(&self, token: Token) {
        let token = self.tokens.lock().remove(&token.0);
        if let Some(token) = token {
            self.modem.confirm(token).await;
        }
    }

    async fn reset(&self, step: ResetStep) {
        self.modem.reset(step).await;
    }

    async fn stop(&self) {
        self.modem.clone().stop().await;
    }
}

/// The TPDU of a part. TS 23.040 9.2.2.2.
pub(crate) fn encode(parcel: &Parcel) -> Option<twinpost_gsm::Tpdu> {
    let to = Address::parse(&parcel.to).ok()?;
    let (dcs, data) = text::part(&parcel.text, parcel.reference, parcel.number, parcel.flash)?;
    let mut submit = Submit::new(to, dcs, data);
    submit.reference = parcel.mr;
    submit.reject_duplicates = parcel.again;
    submit.report = parcel.report;
    submit.validity = Validity::at_least_s(parcel.validity_s);
    Some(submit.encode())
}

/// Takes what the modem tells, until the modem has ended.
async fn take(mut events: mpsc::Receiver<Event>, inbound: mpsc::Sender<Inbound>, tokens: Tokens) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = |token| {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        tokens.lock().insert(n, token);
        Token(n)
    };
    while let Some(event) = events.recv().await {
        let message = match event {
            Event::Deliver { pdu, token } => read(&pdu, number(token)),
            Event::StatusReport { pdu, token } => read(&pdu, number(token)),
            Event::Ring { number } => {
                tracing::info!(from = number.as_deref().unwrap_or("?"), "somebody calls the modem; nobody answers");
                continue;
            }
            // The state tells the phases, and the modem's own log the rest.
            Event::Phase { .. } | Event::Reset { .. } | Event::Restarted { .. } => continue,
        };
        if inbound.send(message).await.is_err() {
            return;
        }
    }
}

/// What a received PDU (with the service centre's address) says. Never panics.
pub(crate) fn read(pdu: &[u8], token: Token) -> Inbound {
    match Framed::decode(pdu, Direction::ToMobile).map(|f| f.pdu) {
        Ok(Pdu::Deliver(deliver)) if deliver.is_silent() => Inbound::Nothing(token),
        Ok(Pdu::Deliver(deliver)) => Inbound::Fragment(Box::new(fragment(&deliver)), token),
        Ok(Pdu::StatusReport(report)) => Inbound::Report(
            Report { reference: Reference::Mr(report.reference), to: report.to.to_string(), fate: verdict::fate(report.status) },
            token,
        ),
        Ok(_) => Inbound::Nothing(token),
        Err(error) => {
            // To keep it would fill the SIM. The log has all of it.
            let hex: String = pdu.iter().map(|b| format!("{b:02X}")).collect();
            tracing::error!(%error, pdu = %hex, "received what is no PDU");
            Inbound::Nothing(token)
        }
    }
}

fn fragment(deliver: &Deliver) -> Fragment {
    let info = deliver.data.info();
    let body = match deliver.dcs.coding() {
        Coding::Septets if !deliver.dcs.compressed() => Body::Text(deliver.data.text(deliver.dcs).collect()),
        Coding::Ucs2 if !deliver.dcs.compressed() => Body::Utf16(deliver.data.payload().to_vec()),
        _ => {
            let hex: String = deliver.data.payload().iter().map(|b| format!("{b:02X}")).collect();
            Body::Text(format!("[data: {hex}]"))
        }
    };
    let from = deliver.from.to_string();
    // The same part shown again has the same sender, time stamp and content, whatever the modem put around it.
    let mut hash = blake3::Hasher::new();
    hash.update(from.as_bytes());
    hash.update(&deliver.time.0);
    hash.update(&[deliver.dcs.0, deliver.data.length()]);
    hash.update(deliver.data.octets());
    let whole = info.concatenation.filter(|c| c.total > 1 && (1..=c.total).contains(&c.number));
    Fragment {
        from,
        reference: whole.map_or(0, |c| c.reference),
        total: whole.map_or(1, |c| c.total),
        number: whole.map_or(1, |c| c.number),
        body,
        sent_s: deliver.time.unix_s().unwrap_or(0),
        received_s: 0,
        digest: *hash.finalize().as_bytes(),
        until_confirmed: false,
    }
}

fn way(state: &State) -> Way {
    let condition = condition(state.phase);
    let (text, zh) = reasons::condition(condition);
    let detail = state.detail.trim();
    let ready = condition == Condition::Ready || detail.is_empty();
    Way {
        name: String::new(),
        kind: Kind::Modem,
        condition,
        text: if ready { text.to_owned() } else { format!("{text} ({detail})") },
        zh: zh.to_owned(),
        since_ms: state.since_s.saturating_mul(1000),
        signal_dbm: state.signal_dbm,
        operator: state.operator.clone(),
        family: state.family.clone(),
        model: match (&state.maker, &state.model) {
            (Some(maker), Some(model)) => Some(format!("{maker} {model}")),
            (maker, model) => maker.clone().or_else(|| model.clone()),
        },
        imei: state.imei.clone(),
        smsc: state.smsc.clone(),
        registration: Some(format!("{:?}", state.registration).to_lowercase()),
    }
}

fn condition(phase: Phase) -> Condition {
    match phase {
        Phase::NoPort => Condition::NoPort,
        Phase::PortBusy => Condition::PortBusy,
        Phase::NotAModem => Condition::NotAModem,
        Phase::WrongSpeed => Condition::WrongSpeed,
        Phase::Starting => Condition::Starting,
        Phase::NoSim => Condition::NoSim,
        Phase::PinWanted => Condition::PinWanted,
        Phase::PinWrong => Condition::PinWrong,
        Phase::PukWanted => Condition::PukWanted,
        Phase::NoNetwork => Condition::NoNetwork,
        Phase::Denied => Condition::Denied,
        Phase::Ready => Condition::Ready,
        Phase::StorageFull => Condition::StorageFull,
        Phase::Silent => Condition::Silent,
        Phase::Resetting => Condition::Resetting,
        Phase::Stopped => Condition::Stopped,
    }
}
