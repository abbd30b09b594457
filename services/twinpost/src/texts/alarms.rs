//! Alarms about the modem, by mail to the operators: once when a trouble lasts, once when it is over.
//!
//! What was told stands in a small file, so that a restart neither repeats an alarm nor forgets to say that it is over.

use super::Texts;
use crate::node::write_whole;
use crate::operators::{self, Notice, Words};
use std::collections::BTreeSet;
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
        let notice = notice(&self.host_name, event);
        // What failed is told again at the next change.
        if let Err(error) = operators::tell(&self.directory, &self.store, &self.host_name, self.wishes.expire(), &notice).await {
            return tracing::error!(subject = event.subject, error, "the operators could not be told about the modem");
        }
        let known = serde_json::to_vec(&told).unwrap_or_default();
        if let Err(error) = write_whole(&self.told, &known, 0o600) {
            tracing::error!(file = %self.told.display(), %error, "what operators were told cannot be written down: they may be told again");
        }
    }
}

fn notice(host: &str, event: &Event) -> Notice {
    let (subject, end) = if event.recovered {
        (
            Words {
                en: format!("Recovered: text messages of {host} work again"), zh: format!("恢复：{host} 的短信功能已恢复")
            },
            Words { en: "What waited is being sent.".to_owned(), zh: "等待中的短信正在发送。".to_owned() },
        )
    } else {
        (
            Words {
                en: format!("Alarm: text messages of {host} are in trouble"), zh: format!("告警：{host} 的短信功能异常")
            },
            Words {
                en: "You get another mail when it is over. Look closer with: twinpost ctl sms status".to_owned(),
                zh: "恢复后会再发一封邮件。查看状态：twinpost ctl sms status".to_owned(),
            },
        )
    };
    let text = Words { en: format!("{}\n\n{}", event.text, end.en), zh: format!("{}\n\n{}", event.zh, end.zh) };
    Notice { subject, text }
}
