//! The checks of a running group, round after round.
//!
//! Contract: a round asks every service; who fails is asked once more before it counts. A round that falls into a start, stop or
//! restart says nothing. The group is not held while waiting, so that it can end.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::{Check, GroupEvent, Service, ServiceState, group::Inner};

/// While a service starts: between two tries, growing.
const FIRST_TRY: Duration = Duration::from_millis(2);
const LAST_TRY: Duration = Duration::from_millis(50);

impl Inner {
    /// One round: every service; those that fail once more.
    async fn round(&self) -> (bool, String) {
        let services = self.settings.services.iter().enumerate();
        let results = join_all(services.map(|(index, service)| async move {
            let mut result = ask(service).await;
            if result.is_err() {
                sleep(self.settings.check_again_after).await;
                result = ask(service).await;
            }
            (index, result)
        }));
        let mut failed = Vec::new();
        for (index, result) in results.await {
            let service = &self.settings.services[index];
            self.tell(index, |s| match (&result, s.state) {
                (Err(why), ServiceState::Up | ServiceState::Failing) => {
                    if s.state == ServiceState::Up {
                        tracing::warn!(service = service.name, why, "does not answer");
                    }
                    (s.state, s.why) = (ServiceState::Failing, why.clone());
                }
                (Ok(()), ServiceState::Failing) => {
                    tracing::info!(service = service.name, "answers again");
                    s.state = ServiceState::Up;
                }
                _ => {}
            });
            if let Err(why) = result
                && service.essential
            {
                failed.push(format!("{}: {why}", service.name));
            }
        }
        (failed.is_empty(), failed.join("; "))
    }
}

/// All checks of a service at once; all must answer.
async fn ask(service: &Service) -> Result<(), String> {
    let failed: Vec<String> = join_all(service.check.iter().map(Check::run))
        .await
        .into_iter()
        .filter_map(|result| result.err().map(|failure| failure.to_string()))
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join(", ")) }
}

/// Until all checks of a service are good; `why` is the last failure.
pub(crate) async fn answers(service: &Service, why: &mut String) {
    let mut wait = FIRST_TRY;
    while let Err(failed) = ask(service).await {
        *why = failed;
        sleep(wait).await;
        wait = (wait * 3 / 2).min(LAST_TRY);
    }
}

/// The checks, for as long as the group is there.
pub(crate) async fn watch_over(group: Weak<Inner>) {
    loop {
        let Some(inner) = group.upgrade() else { return };
        let every = inner.settings.check_every;
        let mut checking = inner.checking.subscribe();
        let epoch = inner.epoch.load(Ordering::Acquire);
        let wanted = epoch % 2 == 0 && inner.work.try_lock().is_ok_and(|work| work.wanted);
        if *checking.borrow_and_update() && wanted {
            let (ok, why) = inner.round().await;
            if inner.epoch.load(Ordering::Acquire) == epoch && *inner.checking.borrow() {
                let _ = inner.events.try_send(GroupEvent::Checked { ok, why });
            }
        }
        let on = *checking.borrow();
        let check_now = Arc::clone(&inner.check_now);
        // The group is not held while waiting, so that it can end.
        drop(inner);
        if on {
            tokio::select! {
                () = check_now.notified() => {}
                () = sleep(every) => {}
            }
        } else {
            let _ = checking.changed().await;
        }
    }
}
