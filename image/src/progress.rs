//! What a person sees while an image is built: one line a stage with its seconds.
//!
//! Contract: writes to standard error only, so that standard output stays for results; a terminal gets a moving line, anything else
//! gets one line when a stage ends. No failure.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Collects the stages of a build.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    done: Arc<Mutex<Vec<Timing>>>,
    quiet: bool,
}

/// How long a stage took.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Timing {
    /// Name of the stage.
    pub stage: String,
    /// Seconds.
    pub seconds: f64,
    /// True if an earlier build had made it.
    pub cached: bool,
}

/// A stage at work.
#[derive(Debug)]
pub struct Step {
    name: &'static str,
    bar: ProgressBar,
    started: Instant,
    cached: std::cell::Cell<bool>,
}

impl Progress {
    /// One that shows nothing (tests).
    #[must_use]
    pub fn quiet() -> Self {
        Self { quiet: true, ..Self::default() }
    }

    /// Runs a stage and shows it.
    pub fn stage<T>(&self, name: &'static str, work: impl FnOnce(&Step) -> crate::Result<T>) -> crate::Result<T> {
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.set_style(
            ProgressStyle::with_template("  {spinner} {prefix:<11} {elapsed:>4}  {wide_msg}").expect("the template is fixed"),
        );
        bar.set_prefix(name);
        bar.enable_steady_tick(Duration::from_millis(120));
        let step = Step { name, bar, started: Instant::now(), cached: std::cell::Cell::new(false) };
        let result = work(&step);
        step.bar.finish_and_clear();
        let seconds = step.started.elapsed().as_secs_f64();
        let cached = step.cached.get();
        if !self.quiet {
            let end = match (&result, cached) {
                (Err(_), _) => "failed",
                (Ok(_), true) => "as before",
                (Ok(_), false) => "",
            };
            line(&format!("  {:<11} {seconds:6.1} s  {end}", step.name));
        }
        let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.push(Timing { stage: name.to_owned(), seconds, cached });
        result
    }

    /// The stages so far.
    #[must_use]
    pub fn timings(&self) -> Vec<Timing> {
        self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Step {
    /// What the stage does just now.
    pub fn says(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// The result of an earlier build is used.
    pub fn cached(&self) {
        self.cached.set(true);
    }
}

fn line(text: &str) {
    use std::io::Write;
    // Nobody reads: nobody misses it.
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}
