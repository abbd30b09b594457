//! Alarms about the modem, by mail to the operators: once when a trouble lasts, once when it is over.
//!
//! What was told stands in a small file, so that a restart neither repeats an alarm nor forgets to say that it is over.

use super::Texts;
use crate::adapter::now_s;
use crate::node::write_whole;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;
use twinpost_directory::{Account, Language, Role, State};
use twinpost_message::TraceId;
use twinpost_queue::dsn;
use twinpost_sms::api::Event;

impl Texts {
    /// The troubles that operators know of.
    pub(super) fn told_subjects(&self) -> BTreeSet<String> {
        std::fs::read(&self.told).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Tells the operators of a trouble or its end, unless they know.
    pub(super) async fn tell(&self, event: &Event) {
        let mut told = self.told_subjects();
        let news = if event.recovered { told.remove(&event.subject) } else { told.insert(event.subject.clone()) };
        if !news {
            return;
        }
        tracing::warn!(subject = event.subject, recovered = event.recovered, "{}", event.text);
        let operators = match self.directory.accounts(None) {
            Ok(all) => all.into_iter().filter(|a| a.role == Role::Operator && matches!(a.state, State::Active)),
            Err(error) => return tracing::error!(%error, "nobody can be told about the modem: the directory does not answer"),
        };
        for operator in operators {
            let trace = TraceId(rand::random());
            let message = self.alarm(event, &operator, trace);
            match self.deliver(&operator.address, &message, trace).await {
                Ok(()) => {
                    tracing::info!(%trace, to = %operator.address, subject = event.subject, "told an operator about the modem");
                }
                // It is told again at the next change: better twice than never.
                Err(error) => {
                    return tracing::error!(%trace, to = %operator.address, %error, "an operator could not be told about the modem");
                }
            }
        }
        let known = serde_json::to_vec(&told).unwrap_or_default();
        if let Err(error) = write_whole(&self.told, &known, 0o600) {
            tracing::error!(file = %self.told.display(), %error, "what operators were told cannot be written down: they may be told again");
        }
    }

    fn alarm(&self, event: &Event, to: &Account, trace: TraceId) -> Vec<u8> {
        let host = &self.host_name;
        let (subject, text, end) = match (to.language, event.recovered) {
            (Language::ZhCn, false) => {
                (format!("告警：{host} 的短信功能异常"), &event.zh, "恢复后会再发一封邮件。查看状态：twinpost ctl sms status")
            }
            (Language::ZhCn, true) => (format!("恢复：{host} 的短信功能已恢复"), &event.zh, "等待中的短信正在发送。"),
            (Language::En, false) => (
                format!("Alarm: text messages of {host} are in trouble"),
                &event.text,
                "You get another mail when it is over. Look closer with: twinpost ctl sms status",
            ),
            (Language::En, true) => {
                (format!("Recovered: text messages of {host} work again"), &event.text, "What waited is being sent.")
            }
        };
        let coded = |text: &str| STANDARD.encode(text);
        // RFC 2047 2: an encoded word has at most 75 characters; 42 bytes of text make 56 of them.
        let mut words = Vec::new();
        let mut rest = subject.as_str();
        while !rest.is_empty() {
            let (word, after) = rest.split_at(rest.floor_char_boundary(42));
            words.push(format!("=?utf-8?B?{}?=", coded(word)));
            rest = after;
        }
        let body = coded(&format!("{text}\r\n\r\n{end}\r\n"));
        let lines: Vec<&str> =
            body.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
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
}
