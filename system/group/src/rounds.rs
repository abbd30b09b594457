//! The checks of a running group, round after round.
//!
//! Contract: a round asks every service; who fails is asked once more before it counts. One whose checks are only late fails when none was good
//! for [`Settings::hung_after`](crate::Settings::hung_after): a busy machine is no broken service, and a hung one is found all the same. A round that falls into a start, stop or
//! restart says nothing. The group is not held while waiting, so that it can end.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::{Check, Failure, GroupEvent, Service, ServiceState, group::Inner};

/// While a service starts: between two tries, growing.
const FIRST_TRY: Duration = Duration::from_millis(2);
const LAST_TRY: Duration = Duration::from_millis(50);

impl Inner {
    /// One round: every service; those that fail once more. `good`: when each answered last. None: some are late, which says nothing yet.
    async fn round(&self, good: &mut [Instant]) -> Option<(bool, String)> {
        let services = self.settings.services.iter().enumerate();
        let results = join_all(services.map(|(index, service)| async move {
            let mut result = ask(service).await;
            if result.as_ref().is_err_and(|failed| !failed.late) {
                sleep(self.settings.check_again_after).await;
                result = ask(service).await;
            }
            (index, result)
        }));
        let (mut failed, mut late) = (Vec::new(), false);
        for (index, result) in results.await {
            let service = &self.settings.services[index];
            let result = match result {
                Ok(()) => {
                    good[index] = Instant::now();
                    Ok(())
                }
                Err(Unwell { late: true, why }) if good[index].elapsed() < self.settings.hung_after => {
                    let silent_ms = good[index].elapsed().as_millis();
                    tracing::warn!(service = service.name, why, silent_ms, "is late");
                    late |= service.essential;
                    continue;
                }
                Err(Unwell { late: true, why }) => Err(format!("{why}, for {} s", good[index].elapsed().as_secs())),
                Err(Unwell { why, .. }) => Err(why),
            };
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
        (!failed.is_empty() || !late).then(|| (failed.is_empty(), failed.join("; ")))
    }
}

/// A service that did not answer all its checks.
struct Unwell {
    why: String,
    /// All that failed did so by their time limit.
    late: bool,
}

/// All checks of a service at once; all must answer.
async fn ask(service: &Service) -> Result<(), Unwell> {
    let failed: Vec<Failure> = join_all(service.check.iter().map(Check::run)).await.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let why: Vec<String> = failed.iter().map(ToString::to_string).collect();
    Err(Unwell { why: why.join(", "), late: failed.iter().all(|failure| failure.late) })
}

/// Until all checks of a service are good; `why` is the last failure.
pub(crate) async fn answers(service: &Service, why: &mut String) {
    let mut wait = FIRST_TRY;
    while let Err(failed) = ask(service).await {
        *why = failed.why;
        sleep(wait).await;
        wait = (wait * 3 / 2).min(LAST_TRY);
    }
}

/// The checks, for as long as the group is there.
pub(crate) async fn watch_over(group: Weak<Inner>) {
    let (mut good, mut since): (Vec<Instant>, u64) = (Vec::new(), 0);
    loop {
        let Some(inner) = group.upgrade() else { return };
        let every = inner.settings.check_every;
        let mut checking = inner.checking.subscribe();
        let epoch = inner.epoch.load(Ordering::Acquire);
        let wanted = epoch % 2 == 0 && inner.work.try_lock().is_ok_and(|work| work.wanted);
        if *checking.borrow_and_update() && wanted {
            // After a start all begin anew: it ended with a good check of each.
            if good.is_empty() || std::mem::replace(&mut since, epoch) != epoch {
                good = vec![Instant::now(); inner.settings.services.len()];
            }
            if let Some((ok, why)) = inner.round(&mut good).await
                && inner.epoch.load(Ordering::Acquire) == epoch
                && *inner.checking.borrow()
            {
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
