//! Orders about texts that go straight to the SMS process: they work whether mail runs or not.

use super::show;
use crate::cli::SmsOrder;
use crate::node::Folder;
use crate::{EXIT_DONE, EXIT_FAILED, EXIT_UNREACHABLE, complain};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use twinpost_sms::api::{Class, Count, Reason, ResetStep, SmsState, State, Status, Submit, Way};
use twinpost_sms::{Client, Error, Submitted};

/// How long `send` and `test` wait for the network's word.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The same when a delivery report is waited for.
const REPORT_MAX: Duration = Duration::from_secs(600);

/// Carries the order out if it is one for the SMS process; gives the exit code.
pub async fn run(order: &SmsOrder, folder: &Folder, json: bool) -> Option<u8> {
    let client = Client::new(folder.sms_socket());
    let outcome = match order {
        SmsOrder::Status => client.state().await.map(|state| show::note(&status(&state), &value(&state), json)),
        SmsOrder::Signal => client.state().await.map(|state| show::note(&signal(&state), &value(&state.ways), json)),
        SmsOrder::Queue { limit } => client.queue(*limit).await.map(|(entries, total)| {
            let row = |e: &twinpost_sms::api::QueueEntry| {
                json!({
                    "key": e.status.key, "class": e.class, "to": e.to, "account": e.account, "state": e.status.state,
                    "parts": format!("{}/{}", e.status.accepted, e.status.parts), "attempts": e.attempts,
                    "reason": e.status.reason.as_ref().map(|r| r.text.clone()),
                })
            };
            let rows: Vec<Value> = entries.iter().map(row).collect();
            let text = if rows.is_empty() { "nothing waits".to_owned() } else { show::rows(&rows, QUEUE) };
            show::note(&text, &json!({ "total": total, "entries": value(&entries) }), json);
        }),
        SmsOrder::Send { number, text, person, flash, report, no_wait } => {
            let message = Submit {
                key: format!("ctl-{:016x}", rand::random::<u64>()),
                class: if *person { Class::Person } else { Class::Alarm },
                to: digits(number),
                text: text.join(" "),
                validity_s: None,
                report: *report,
                flash: *flash,
                durable: true,
                account: None,
                domain: None,
                parts_max: None,
            };
            return Some(done(send(&client, message, *no_wait, json).await));
        }
        SmsOrder::Test { number } => {
            let tested = async {
                let key = client.test(&digits(number)).await?;
                follow(&client, &key, false, json).await
            };
            return Some(done(tested.await));
        }
        SmsOrder::Show { key } => {
            let shown = async {
                match client.follow(key).await? {
                    None => Ok(unknown(key, json)),
                    Some(mut statuses) => Ok(statuses.next().await?.map_or(EXIT_FAILED, |status| told(&status, json))),
                }
            };
            return Some(done(shown.await));
        }
        SmsOrder::Cancel { key } => {
            let canceled = client.cancel(key).await.map(|status| match status {
                None => unknown(key, json),
                Some(status) => {
                    show::note(&sentence(&status), &value(&status), json);
                    if status.state == SmsState::Canceled { EXIT_DONE } else { EXIT_FAILED }
                }
            });
            return Some(done(canceled));
        }
        SmsOrder::Reset { step } => {
            let step = match step.as_deref() {
                None => None,
                Some("attention") => Some(ResetStep::Attention),
                Some("restart") => Some(ResetStep::Restart),
                Some("dtr") => Some(ResetStep::Dtr),
                Some("power") => Some(ResetStep::Power),
                Some(other) => {
                    complain(&format!("{other:?} is no step of a reset: attention, restart, dtr or power"));
                    return Some(EXIT_FAILED);
                }
            };
            client.reset(step).await.map(|()| show::note("the modem is being reset", &json!({ "reset": true }), json))
        }
        SmsOrder::Statistics { days, of } => client.statistics(*days).await.map(|counts| {
            let wanted = |c: &&Count| of.as_ref().is_none_or(|of| *of == c.account || *of == c.domain);
            let counts: Vec<&Count> = counts.iter().filter(wanted).collect();
            show::note(&totals(&counts), &value(&counts), json);
        }),
        SmsOrder::Log { .. } | SmsOrder::Usage { .. } | SmsOrder::Rules(_) => return None,
    };
    Some(done(outcome.map(|()| EXIT_DONE)))
}

const QUEUE: &[&str] = &["key", "class", "to", "account", "state", "parts", "attempts", "reason"];

fn value(of: impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_else(|e| json!({ "error": e.to_string() }))
}

fn done(outcome: Result<u8, Error>) -> u8 {
    match outcome {
        Ok(code) => code,
        Err(Error::Request(why)) => {
            complain(&why);
            EXIT_FAILED
        }
        Err(error) => {
            complain(&format!("{error}. Is [sms] enabled in the document, and does the node run?"));
            EXIT_UNREACHABLE
        }
    }
}

/// A number as people write it, without what is only for the eye.
fn digits(number: &str) -> String {
    number.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '.' | '/')).collect()
}

fn unknown(key: &str, json: bool) -> u8 {
    show::note(&format!("no text has the key {key}, or it is forgotten by now"), &json!({ "key": key, "state": null }), json);
    EXIT_FAILED
}

async fn send(client: &Client, message: Submit, no_wait: bool, json: bool) -> Result<u8, Error> {
    let (key, report) = (message.key.clone(), message.report);
    match client.submit(message).await? {
        Submitted::Refused(reason) => Ok(refused(&reason, json)),
        Submitted::Accepted { parts, stored } if no_wait => {
            let how = if stored { "kept on disk" } else { "in memory only: the disk takes nothing" };
            let note = json!({ "key": key, "parts": parts, "stored": stored });
            show::note(&format!("accepted as {key}, {parts} part(s), {how}"), &note, json);
            Ok(EXIT_DONE)
        }
        Submitted::Accepted { .. } | Submitted::Known(_) => follow(client, &key, report, json).await,
    }
}

fn refused(reason: &Reason, json: bool) -> u8 {
    if json {
        show::note("", &json!({ "error": reason.text, "reason": value(reason) }), true);
    } else {
        complain(&format!("refused: {}", reason.text));
    }
    EXIT_FAILED
}

/// Waits for the network's word (or the telephone's), and tells it; what waits for the modem is told as it stands.
async fn follow(client: &Client, key: &str, report: bool, json: bool) -> Result<u8, Error> {
    let Some(mut statuses) = client.follow(key).await? else { return Ok(unknown(key, json)) };
    let mut last: Option<Status> = None;
    let until_known = async {
        while let Some(status) = statuses.next().await? {
            let enough = match status.state {
                SmsState::Queued | SmsState::Sending => false,
                SmsState::Accepted => !report,
                SmsState::Delivered | SmsState::NotDelivered | SmsState::Failed | SmsState::Waiting | SmsState::Canceled => true,
            };
            last = Some(status);
            if enough {
                break;
            }
        }
        Ok::<(), Error>(())
    };
    // What is not known by then is told as it stands: the text is kept, and goes on its way without us.
    if let Ok(outcome) = tokio::time::timeout(if report { REPORT_MAX } else { WAIT_MAX }, until_known).await {
        outcome?;
    }
    Ok(last.map_or(EXIT_FAILED, |status| told(&status, json)))
}

fn told(status: &Status, json: bool) -> u8 {
    show::note(&sentence(status), &value(status), json);
    match status.state {
        SmsState::Failed | SmsState::NotDelivered | SmsState::Canceled => EXIT_FAILED,
        _ => EXIT_DONE,
    }
}

fn sentence(status: &Status) -> String {
    let parts = format!("{} of {} part(s) accepted", status.accepted, status.parts);
    let what = match status.state {
        SmsState::Queued => "waits for its turn",
        SmsState::Sending => "is being sent",
        SmsState::Accepted => "was accepted by the network",
        SmsState::Delivered => "reached the phone",
        SmsState::NotDelivered => "was accepted by the network and could not be delivered",
        SmsState::Failed => "was given up",
        SmsState::Waiting => "waits and will be tried again",
        SmsState::Canceled => "was taken back",
    };
    let why = status.reason.as_ref().map_or_else(String::new, |r| format!(": {}", r.text));
    let twice = if status.possible_duplicate { " (the phone may show it twice)" } else { "" };
    format!("{} {what}{why} ({parts}){twice}", status.key)
}

fn line(way: &Way) -> String {
    let mut text = format!("{}: {}", way.name, way.text);
    let mut more = |name: &str, what: Option<String>| {
        if let Some(what) = what {
            text.push_str(&format!("\n  {name:<14} {what}"));
        }
    };
    more("operator", way.operator.clone());
    more("signal", way.signal_dbm.map(|dbm| format!("{dbm} dBm, {}", strength(dbm))));
    more("registration", way.registration.clone());
    more("model", way.model.clone());
    more("family", way.family.clone());
    more("serial number", way.imei.clone());
    more("service centre", way.smsc.clone());
    text
}

/// A signal in words (TS 27.007 8.5 gives -113 to -51 dBm).
fn strength(dbm: i16) -> &'static str {
    match dbm {
        i16::MIN..=-110 => "none to speak of",
        -109..=-100 => "weak: texts may fail; move the antenna",
        -99..=-90 => "fair",
        -89..=-76 => "good",
        _ => "very good",
    }
}

fn status(state: &State) -> String {
    let mut text: Vec<String> = state.ways.iter().map(line).collect();
    let waiting = state.waiting;
    text.push(format!(
        "waiting: {} alarm(s), {} notice(s), {} of people; {} received and not taken yet",
        waiting.alarms, waiting.notices, waiting.people, state.incoming
    ));
    if !state.spool_writable {
        text.push("THE SPOOL CANNOT BE WRITTEN: texts are kept in memory only".to_owned());
    }
    text.extend(state.troubles.iter().map(|trouble| format!("trouble: {}", trouble.text)));
    text.join("\n")
}

fn signal(state: &State) -> String {
    let one = |way: &Way| match way.signal_dbm {
        Some(dbm) => format!(
            "{}: {dbm} dBm, {}{}",
            way.name,
            strength(dbm),
            way.operator.as_ref().map_or_else(String::new, |o| format!(", {o}"))
        ),
        None => format!("{}: no signal known; {}", way.name, way.text),
    };
    state.ways.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn totals(counts: &[&Count]) -> String {
    let mut sums: BTreeMap<(String, String), [u64; 6]> = BTreeMap::new();
    for count in counts {
        let account = if count.account.is_empty() { "(this appliance)" } else { &count.account };
        let sum = sums.entry((count.domain.clone(), account.to_owned())).or_default();
        let add = [count.sent, count.parts, count.failed, count.delivered, count.not_delivered, count.duplicates];
        sum.iter_mut().zip(add).for_each(|(sum, n)| *sum += n);
    }
    let row = |((domain, account), n): (&(String, String), &[u64; 6])| {
        json!({
            "account": account, "domain": domain, "sent": n[0], "parts": n[1], "failed": n[2], "delivered": n[3],
            "not_delivered": n[4], "possible_duplicates": n[5],
        })
    };
    let rows: Vec<Value> = sums.iter().map(row).collect();
    let columns = ["account", "domain", "sent", "parts", "failed", "delivered", "not_delivered", "possible_duplicates"];
    if rows.is_empty() { "nothing was sent in these days".to_owned() } else { show::rows(&rows, &columns) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lose_what_is_only_for_the_eye() {
        assert_eq!(digits("+86 138-0013 (8000)"), "+8613800138000");
        assert_eq!(digits("abc"), "abc", "nonsense is left to be refused");
    }

    #[test]
    fn a_status_is_a_sentence_with_reason_and_doubt() {
        let reason = Reason { permanent: true, code: Some(1), text: "the number is not assigned".into(), zh: String::new() };
        let mut status = Status {
            key: "k".into(),
            state: SmsState::Failed,
            parts: 3,
            accepted: 1,
            possible_duplicate: true,
            references: vec![7],
            reason: Some(reason),
            at_ms: 0,
            more: false,
        };
        assert_eq!(
            sentence(&status),
            "k was given up: the number is not assigned (1 of 3 part(s) accepted) (the phone may show it twice)"
        );
        assert_eq!(told(&status, false), EXIT_FAILED);
        status.state = SmsState::Waiting;
        assert_eq!(told(&status, false), EXIT_DONE);
    }
}
