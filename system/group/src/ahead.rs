//! Services that can wait: kept there ahead on a standby, and told to serve.
//!
//! Contract: while it is wanted, what is missing is started; one that ends is started again, calmly when that happens soon after its start. The
//! group is not held while waiting, so that it can end.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{sleep, timeout_at},
};

use crate::{
    Error, Run, ServiceState,
    group::{Inner, Running, Work},
    waiting::{self, Waits},
};

/// A start ahead takes no longer; a takeover that falls into it waits for it.
const LIMIT: Duration = Duration::from_secs(30);
/// Before the next try, then twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_LAST: Duration = Duration::from_secs(60);
/// One that waited for so long did not fail at its start.
const GOOD: Duration = Duration::from_secs(60);

/// For as long as the group is there.
pub(crate) async fn keep(group: Weak<Inner>) {
    let mut again = AGAIN_FIRST;
    let mut last: Option<Instant> = None;
    loop {
        let Some(inner) = group.upgrade() else { return };
        let mut ahead = inner.ahead.subscribe();
        let mut pause = None;
        if *ahead.borrow_and_update() {
            if last.is_some_and(|last| last.elapsed() >= GOOD) {
                again = AGAIN_FIRST;
            }
            match inner.make_ready(LIMIT).await {
                Ok(()) => last = Some(Instant::now()),
                Err(Error::Stopped) => {}
                Err(error) => {
                    tracing::warn!(%error, again_ms = again.as_millis(), "no process waits to serve: a takeover takes longer");
                    pause = Some(again);
                }
            }
        } else {
            last = None;
        }
        drop(inner);
        match pause {
            Some(pause) => sleep(pause).await,
            None => {
                if ahead.changed().await.is_err() {
                    return;
                }
                // One that ended soon is not started at once.
                if *ahead.borrow() && last.is_some_and(|last| last.elapsed() < GOOD) {
                    sleep(again).await;
                } else {
                    continue;
                }
            }
        }
        again = (again * 2).min(AGAIN_LAST);
    }
}

impl Inner {
    /// Tells the one that waits to serve; if there is none, or it does not, one that is started now.
    pub(crate) async fn begin_told(
        self: &Arc<Self>,
        work: &mut Work,
        index: usize,
        unit: &str,
        waits: &Waits,
        deadline: tokio::time::Instant,
        cut: &mut watch::Receiver<u64>,
    ) -> Result<Running, Error> {
        let service = &self.settings.services[index];
        loop {
            let was_ahead = work.waiting[index].as_ref().is_some_and(|unit| unit.how().is_none());
            if !was_ahead {
                self.dismiss(work, index).await?;
                self.tell(index, |s| s.state = ServiceState::Starting);
                work.waiting[index] = Some(self.begin_unit(index, unit, service.start_limit, cut).await?);
            }
            let Some(told) = &work.waiting[index] else { continue };
            self.tell(index, |s| s.pid = Some(told.pid));
            let begun = Instant::now();
            let answer = timeout_at(deadline, async {
                tokio::select! {
                    biased;
                    _ = cut.changed() => Err(Error::Stopped),
                    answer = waiting::say(waits) => answer.map_err(|how| Error::Ended { name: service.name.clone(), how }),
                    how = told.over() => Err(Error::Ended { name: service.name.clone(), how }),
                }
            });
            let limit_ms = service.start_limit.as_millis();
            let why = || "it was told to serve and did not say that it listens".to_owned();
            let error = match answer.await {
                Ok(Ok(())) => match work.waiting[index].take() {
                    Some(unit) => {
                        let told_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                        tracing::info!(service = service.name, pid = unit.pid, was_ahead, told_ms, "told to serve");
                        return Ok(Running::Unit(unit));
                    }
                    None => continue,
                },
                Ok(Err(error)) => error,
                Err(_) => Error::NotReady { name: service.name.clone(), limit_ms, why: why() },
            };
            if !was_ahead || matches!(error, Error::Stopped | Error::NotReady { .. }) {
                // What waits is ended by the stop that follows a failed start.
                return Err(error);
            }
            tracing::warn!(service = service.name, %error, "the one that waited does not serve: started afresh");
            self.dismiss(work, index).await?;
        }
    }

    /// Starts ahead what can wait and is not there. With an error it may be tried again.
    pub(crate) async fn make_ready(self: &Arc<Self>, limit: Duration) -> Result<(), Error> {
        let mut cut = self.stops.subscribe();
        let mut work = self.lock(&cut).await?;
        self.clear(&mut work).await?;
        for (index, service) in self.settings.services.iter().enumerate() {
            let Run::Unit { unit, waits: Some(_) } = &service.run else { continue };
            let there = work.waiting[index].as_ref().is_some_and(|unit| unit.how().is_none());
            if work.wanted || !*self.ahead.borrow() || there || work.running[index].is_some() {
                continue;
            }
            self.dismiss(&mut work, index).await?;
            let begun = Instant::now();
            let waits = self.begin_unit(index, unit, limit, &mut cut).await?;
            let (pid, took_ms) = (waits.pid, u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
            self.tell(index, |s| (s.state, s.pid, s.why) = (ServiceState::Waiting, Some(pid), String::new()));
            if let Some(how) = waits.how() {
                self.tell(index, |s| (s.state, s.pid, s.why) = (ServiceState::Stopped, None, how.clone()));
                work.waiting[index] = Some(waits);
                return Err(Error::Ended { name: service.name.clone(), how });
            }
            work.waiting[index] = Some(waits);
            tracing::info!(service = service.name, pid, took_ms, "waits, ready to serve");
        }
        Ok(())
    }

    /// Ends one that waits, alive or dead, and proves it.
    pub(crate) async fn dismiss(&self, work: &mut Work, index: usize) -> Result<(), Error> {
        let Some(waiting) = &mut work.waiting[index] else { return Ok(()) };
        let service = &self.settings.services[index];
        waiting.ask();
        match waiting.end(service.stop_grace, self.settings.kill_limit).await {
            Ok(()) => {
                work.waiting[index] = None;
                self.tell(index, |s| {
                    if matches!(s.state, ServiceState::Waiting | ServiceState::Starting) {
                        (s.state, s.pid) = (ServiceState::Stopped, None);
                    }
                });
                Ok(())
            }
            Err(error) => {
                self.tell(index, |s| (s.state, s.why) = (ServiceState::Unverified, error.to_string()));
                Err(error)
            }
        }
    }
}
