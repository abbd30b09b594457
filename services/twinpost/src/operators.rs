//! Mail to the operators of this site, in the language of each.
//!
//! Contract: each active operator gets the notice once; quotas do not keep it out. Failure: the first operator who could not be told
//! ends it with an error, and the caller tells everybody again: better twice than never.

use crate::adapter::{now_s, report_delivery};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use twinpost_directory::{Account, Directory, Language, Role, State};
use twinpost_message::TraceId;
use twinpost_queue::dsn;
use twinpost_store::Store;

/// Words in both languages.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Words {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

/// What operators are told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// In the list of mails.
    pub subject: Words,
    /// What happened, what it means, what to do.
    pub text: Words,
}

/// Tells every active operator; gives how many there are.
///
/// # Errors
/// A sentence: who could not be told, and why.
pub async fn tell(directory: &Directory, store: &Store, host: &str, expire: Duration, notice: &Notice) -> Result<usize, String> {
    let accounts = directory.accounts(None).map_err(|e| format!("the directory does not answer: {e}"))?;
    let mut told = 0;
    for operator in accounts.into_iter().filter(|a| a.role == Role::Operator && matches!(a.state, State::Active)) {
        let trace = TraceId(rand::random());
        let message = message(host, notice, &operator, trace);
        let delivery = report_delivery(directory, &operator.address, &message, trace, expire);
        store.deliver(delivery).await.map_err(|e| format!("{} could not be told: {e}", operator.address))?;
        tracing::info!(%trace, to = %operator.address, subject = notice.subject.en, "told an operator");
        told += 1;
    }
    Ok(told)
}

fn message(host: &str, notice: &Notice, to: &Account, trace: TraceId) -> Vec<u8> {
    let chosen = |words: &Words| if to.language == Language::ZhCn { words.zh.clone() } else { words.en.clone() };
    let (subject, text) = (chosen(&notice.subject), chosen(&notice.text));
    let coded = |text: &str| STANDARD.encode(text);
    // RFC 2047 2: an encoded word has at most 75 characters; 42 bytes of text make 56 of them.
    let mut words = Vec::new();
    let mut rest = subject.as_str();
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.floor_char_boundary(42));
        words.push(format!("=?utf-8?B?{}?=", coded(word)));
        rest = after;
    }
    let body = coded(&format!("{}\r\n", text.replace("\r\n", "\n").replace('\n', "\r\n")));
    let lines: Vec<&str> = body.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!(
        "From: Twinpost <MAILER-DAEMON@{host}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: {date}\r\nMessage-ID: <{trace}@{host}>\r\n\
         Auto-Submitted: auto-generated\r\nImportance: high\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{body}\r\n",
        to = to.address.to_ascii_domain(),
        subject = words.join("\r\n "),
        date = dsn::date(now_s()),
        body = lines.join("\r\n"),
    )
    .into_bytes()
}
