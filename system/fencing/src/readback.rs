//! What makes an order a proof: the power is read until it says off twice.
//!
//! Contract: [`Verified`] gives every driver the same patience. Off counts when two readings in a row, [`Times::settle`] apart, say off. If the power comes back
//! in between, it is ordered off again. A refused order is an error only if the power is not read as off. Nothing takes
//! longer than [`Times::limit`].

use crate::{Error, Power, PowerOff, PowerSwitch};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

/// How long the steps of a switch may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// One order or one reading.
    pub step: Duration,
    /// All of `off` or `on`, reading back included.
    pub limit: Duration,
    /// Between two readings.
    pub poll: Duration,
    /// How long the power must be read as off before it counts.
    pub settle: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            step: Duration::from_secs(5),
            limit: Duration::from_secs(15),
            poll: Duration::from_millis(100),
            settle: Duration::from_millis(100),
        }
    }
}

/// One device: orders that may be lies, and readings.
pub trait Device: Send + Sync {
    /// For people.
    fn name(&self) -> &str;
    /// Times of this device.
    fn times(&self) -> Times;
    /// Gives the order; the device accepted it.
    fn order(&self, on: bool) -> impl Future<Output = Result<(), Error>> + Send;
    /// Reads the power.
    fn read(&self) -> impl Future<Output = Result<Power, Error>> + Send;
}

/// A device whose orders are read back.
#[derive(Debug)]
pub struct Verified<D> {
    pub(crate) device: D,
    turn: Mutex<()>,
}

impl<D: Device> Verified<D> {
    pub(crate) fn of(device: D) -> Self {
        Self { device, turn: Mutex::new(()) }
    }

    fn late(&self, doing: &'static str, limit: Duration) -> Error {
        Error::TimedOut {
            switch: self.device.name().to_owned(),
            doing,
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn step<T>(&self, doing: &'static str, end: Instant, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let limit = self.device.times().step;
        timeout_at(end.min(Instant::now() + limit), step).await.unwrap_or_else(|_| Err(self.late(doing, limit)))
    }

    async fn order(&self, on: bool, end: Instant) -> Result<(), Error> {
        self.step(if on { "switch on" } else { "switch off" }, end, self.device.order(on)).await
    }

    async fn read_once(&self, end: Instant) -> Result<Power, Error> {
        self.step("read the power", end, self.device.read()).await
    }

    async fn switch_off(&self) -> Result<PowerOff, Error> {
        let times = self.device.times();
        let end = Instant::now() + times.limit;
        let turn = timeout_at(end, self.turn.lock()).await;
        let _turn = turn.map_err(|_| self.late("wait for its turn", times.limit))?;
        let mut ordered = self.order(false, end).await;
        let mut off_since: Option<Instant> = None;
        let mut unread = None;
        while Instant::now() < end {
            match self.read_once(end).await {
                Ok(Power::Off) => match off_since {
                    Some(since) if since.elapsed() >= times.settle => return Ok(PowerOff::ReadBackOff),
                    Some(_) => {}
                    None => off_since = Some(Instant::now()),
                },
                // Off, and on again by itself: not off. What becomes of the new order, the next reading tells.
                Ok(Power::On) if off_since.take().is_some() => match self.order(false, end).await {
                    Ok(()) => ordered = Ok(()),
                    Err(error) => unread = Some(error),
                },
                Ok(Power::On) | Err(_) if refused(&ordered) => break,
                Ok(Power::On | Power::Unknown) => off_since = None,
                Err(error) => {
                    off_since = None;
                    unread = Some(error);
                }
            }
            sleep(if off_since.is_some() { times.settle.max(Duration::from_millis(1)) } else { times.poll }).await;
        }
        if let (Ok(()), Some(error)) = (&ordered, unread) {
            tracing::warn!(switch = self.device.name(), %error, "the order was taken, but the power cannot be read back");
        }
        ordered.map(|()| PowerOff::Unread)
    }

    async fn switch_on(&self) -> Result<(), Error> {
        let times = self.device.times();
        let end = Instant::now() + times.limit;
        let turn = timeout_at(end, self.turn.lock()).await;
        let _turn = turn.map_err(|_| self.late("wait for its turn", times.limit))?;
        let ordered = self.order(true, end).await;
        let mut last = Ok(Power::Unknown);
        while Instant::now() < end {
            last = self.read_once(end).await;
            match &last {
                Ok(Power::On) => return Ok(()),
                _ if refused(&ordered) => break,
                _ => sleep(times.poll).await,
            }
        }
        ordered?;
        last?;
        Err(Error::StaysOff { switch: self.device.name().to_owned() })
    }

    async fn read_now(&self) -> Result<Power, Error> {
        let times = self.device.times();
        let end = Instant::now() + times.limit;
        let turn = timeout_at(end, self.turn.lock()).await;
        let _turn = turn.map_err(|_| self.late("wait for its turn", times.limit))?;
        self.read_once(end).await
    }
}

/// The device said no, so waiting for its effect is idle. An order without an answer may still have one.
fn refused(ordered: &Result<(), Error>) -> bool {
    matches!(ordered, Err(error) if !matches!(error, Error::TimedOut { .. }))
}

impl<D: Device> PowerSwitch for Verified<D> {
    fn off(&self) -> BoxFuture<'_, Result<PowerOff, Error>> {
        self.switch_off().boxed()
    }

    fn on(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.switch_on().boxed()
    }

    fn read(&self) -> BoxFuture<'_, Result<Power, Error>> {
        self.read_now().boxed()
    }

    fn name(&self) -> &str {
        self.device.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex as Lock;

    /// A device that follows a script; the last reading stays.
    struct Scripted {
        orders: Lock<Vec<bool>>,
        refuses: bool,
        hangs: bool,
        readings: Lock<Vec<Result<Power, Error>>>,
    }

    impl Device for Scripted {
        fn name(&self) -> &str {
            "script"
        }

        fn times(&self) -> Times {
            let ms = Duration::from_millis;
            Times { step: ms(20), limit: ms(150), poll: ms(1), settle: ms(2) }
        }

        async fn order(&self, on: bool) -> Result<(), Error> {
            self.orders.lock().unwrap().push(on);
            if self.hangs {
                std::future::pending::<()>().await;
            }
            if self.refuses { Err(no()) } else { Ok(()) }
        }

        async fn read(&self) -> Result<Power, Error> {
            let mut readings = self.readings.lock().unwrap();
            if readings.len() > 1 { readings.remove(0) } else { readings[0].clone() }
        }
    }

    fn no() -> Error {
        Error::Refused { switch: "script".to_owned(), doing: "switch", why: "no".to_owned() }
    }

    fn scripted(readings: &[Result<Power, Error>]) -> Scripted {
        Scripted { orders: Lock::default(), refuses: false, hangs: false, readings: Lock::new(readings.to_vec()) }
    }

    const ON: Result<Power, Error> = Ok(Power::On);
    const OFF: Result<Power, Error> = Ok(Power::Off);
    const BETWEEN: Result<Power, Error> = Ok(Power::Unknown);

    #[tokio::test(start_paused = true)]
    async fn off_is_what_was_read_twice() {
        for readings in [&[OFF][..], &[ON, ON, OFF], &[BETWEEN, OFF], &[Err(no()), OFF], &[OFF, BETWEEN, OFF]] {
            let switch = Verified::of(scripted(readings));
            assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff, "{readings:?}");
            assert_eq!(*switch.device.orders.lock().unwrap(), [false]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_accepted_order_alone_is_no_proof() {
        for readings in [&[ON][..], &[BETWEEN], &[Err(no())], &[OFF, ON], &[OFF, Err(no())], &[OFF, BETWEEN]] {
            assert_eq!(Verified::of(scripted(readings)).off().await.unwrap(), PowerOff::Unread, "{readings:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn power_that_comes_back_is_ordered_off_again() {
        let switch = Verified::of(scripted(&[OFF, ON, OFF]));
        assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
        assert_eq!(*switch.device.orders.lock().unwrap(), [false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_order_counts_by_what_is_read() {
        let refusing = |readings: &[Result<Power, Error>]| Verified::of(Scripted { refuses: true, ..scripted(readings) });
        assert_eq!(refusing(&[OFF]).off().await.unwrap(), PowerOff::ReadBackOff, "off already");
        assert_eq!(refusing(&[BETWEEN, OFF]).off().await.unwrap(), PowerOff::ReadBackOff);
        for readings in [&[ON][..], &[Err(no())], &[BETWEEN]] {
            assert!(matches!(refusing(readings).off().await, Err(Error::Refused { .. })));
        }
        assert!(matches!(refusing(&[OFF]).on().await, Err(Error::Refused { .. })));
        assert!(refusing(&[ON]).on().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_hangs_may_still_take_effect() {
        let hanging = |readings: &[Result<Power, Error>]| Verified::of(Scripted { hangs: true, ..scripted(readings) });
        assert_eq!(hanging(&[ON, OFF]).off().await.unwrap(), PowerOff::ReadBackOff);
        assert!(matches!(hanging(&[ON]).off().await, Err(Error::TimedOut { doing: "switch off", .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn on_is_what_was_read() {
        assert!(Verified::of(scripted(&[OFF, BETWEEN, ON])).on().await.is_ok());
        assert!(matches!(Verified::of(scripted(&[OFF])).on().await, Err(Error::StaysOff { .. })));
        assert!(matches!(Verified::of(scripted(&[Err(no())])).on().await, Err(Error::Refused { .. })));
    }
}
