//! The line to the modem's process: whether a way out is ready, and what people should hear.

use super::{CALL_AGAIN, Readiness, Texts};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use twinpost_sms::Seen;
use twinpost_sms::api::{Condition, Event, State, Way};

/// Subject of the trouble that the process itself is away.
const PROCESS: &str = "process";

fn sends(way: &Way) -> bool {
    matches!(way.condition, Condition::Ready | Condition::StorageFull)
}

impl Texts {
    /// Watches the modem's process for as long as the mail process runs.
    pub(super) async fn watch_modem(self: Arc<Self>, stop: CancellationToken) {
        let mut away_since = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                why = self.watch_once() => tracing::debug!(why, "the line to the modem's process broke"),
            }
            let here = self
                .readiness
                .send_replace(Readiness::Not("the process of the modem does not answer".to_owned(), "短信进程无响应".to_owned()));
            if here == Readiness::Ready {
                away_since = Instant::now();
            }
            if away_since.elapsed() >= self.trouble_after {
                self.tell(&Event {
                    subject: PROCESS.to_owned(),
                    recovered: false,
                    condition: None,
                    text: "The process of the modem (twinpost sms) does not answer. No texts are sent or received until it does; mail to numbers waits. Look at its log, and start it again.".to_owned(),
                    zh: "短信进程（twinpost sms）无响应。恢复之前无法收发短信，发往手机号码的邮件在队列中等待。请查看日志并重新启动该进程。".to_owned(),
                    at_ms: 0,
                })
                .await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CALL_AGAIN) => {}
            }
        }
    }

    /// One connection; gives the reason of its end.
    async fn watch_once(self: &Arc<Self>) -> String {
        let mut watch = match self.client.watch().await {
            Ok(watch) => watch,
            Err(error) => return error.to_string(),
        };
        let mut first = true;
        loop {
            match watch.next().await {
                Ok(Seen::State(state)) => {
                    if std::mem::take(&mut first) {
                        self.catch_up(&state).await;
                    }
                    self.see(&state);
                }
                Ok(Seen::Event(event)) => self.tell(&event).await,
                Err(error) => return error.to_string(),
            }
        }
    }

    fn see(self: &Arc<Self>, state: &State) {
        let ready = state.ways.iter().find(|way| sends(way));
        *self.operator.lock() = ready.or(state.ways.first()).and_then(|way| way.operator.clone());
        let now = match (ready, state.ways.first()) {
            (Some(_), _) => Readiness::Ready,
            (None, Some(way)) => Readiness::Not(way.text.clone(), way.zh.clone()),
            (None, None) => Readiness::Not("no modem is set up".to_owned(), "没有设置调制解调器".to_owned()),
        };
        let before = self.readiness.send_replace(now.clone());
        if now == Readiness::Ready && before != now {
            tracing::info!("texts can go");
            self.wake_resting();
        } else if let (Readiness::Not(why, _), true) = (&now, before != now) {
            tracing::info!(why, "texts wait");
        }
    }

    /// What began or ended while nobody listened.
    async fn catch_up(&self, state: &State) {
        for trouble in &state.troubles {
            self.tell(trouble).await;
        }
        for subject in self.told_subjects() {
            if !state.troubles.iter().any(|t| t.subject == subject) {
                let text = if subject == PROCESS {
                    "The process of the modem (twinpost sms) answers again."
                } else {
                    "The trouble is over."
                };
                let zh = if subject == PROCESS { "短信进程已恢复响应。" } else { "故障已恢复。" };
                let over =
                    Event { subject, recovered: true, condition: None, text: text.to_owned(), zh: zh.to_owned(), at_ms: 0 };
                self.tell(&over).await;
            }
        }
    }
}
