//! Waiting for an event: with an end, and with a line now and then for the person who waits too.

use crate::{Error, Result, Timeline};
use std::time::{Duration, Instant};

/// A line is shown each time so much has passed.
const SHOWN_EVERY: Duration = Duration::from_secs(10);
/// Between two questions.
const PACE: Duration = Duration::from_millis(50);
/// Between two questions that cost the node something: an order on its console is a process on its one slow processor.
const SLOW_PACE: Duration = Duration::from_millis(1500);

/// Asks again and again until there is an answer.
///
/// # Errors
/// There is none in time.
pub fn until<T>(timeline: &Timeline, what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    ask_until(timeline, what, patience, PACE, || Ok(ask()))
}

/// The same of a question to a node's console: rarely, so that asking does not hold up what is waited for.
///
/// # Errors
/// There is none in time.
pub fn until_told<T>(timeline: &Timeline, what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    ask_until(timeline, what, patience, SLOW_PACE, || Ok(ask()))
}

/// The same of a question that may fail for good.
///
/// # Errors
/// There is no answer in time, or the question failed.
pub fn until_ok<T>(timeline: &Timeline, what: &str, patience: Duration, ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    ask_until(timeline, what, patience, PACE, ask)
}

fn ask_until<T>(
    timeline: &Timeline,
    what: &str,
    patience: Duration,
    pace: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    let mut shown = Duration::ZERO;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        let gone = begun.elapsed();
        if gone >= patience {
            return Err(Error::TimedOut { what: what.to_owned(), after_s: patience.as_secs() });
        }
        if gone >= shown + SHOWN_EVERY {
            shown = gone;
            timeline.say(&format!("... {what} ({} s)", gone.as_secs()));
        }
        // The pace of asking.
        std::thread::sleep(pace);
    }
}
