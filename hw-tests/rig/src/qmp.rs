//! QEMU's monitor: orders, answers, events.
//!
//! Contract: one order at a time; an answer or the monitor's end within [`PATIENCE`]. Every order and event stands in the timeline.
//!
//! Failure classes: the monitor refuses ([`Error::Qmp`]), or QEMU has ended ([`Error::Off`]).

use crate::timeline::{Timeline, lock};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long the monitor may take for an answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest line of the monitor.
const LINE_MOST: u64 = 4 << 20;
/// Events that are kept.
const EVENTS_MOST: usize = 1024;

#[derive(Default)]
struct Heard {
    answers: VecDeque<Value>,
    events: VecDeque<(u64, Value)>,
    count: u64,
    over: bool,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Heard>,
    news: Condvar,
}

/// See the module.
pub struct Qmp {
    node: String,
    timeline: Timeline,
    out: Mutex<UnixStream>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qmp").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Qmp {
    /// Connects to a monitor's socket and leaves its negotiation mode.
    ///
    /// # Errors
    /// Nobody listens there, or it is no monitor.
    pub fn connect(socket: &Path, node: &str, timeline: &Timeline) -> Result<Self> {
        let what = || format!("monitor of node {node}");
        let stream = UnixStream::connect(socket).map_err(Error::io(what()))?;
        let reading = stream.try_clone().map_err(Error::io(what()))?;
        let shared = Arc::new(Shared::default());
        let (heard, notes, source) = (shared.clone(), timeline.clone(), format!("{node} qmp"));
        std::thread::Builder::new()
            .name(source.clone())
            .spawn(move || listen(reading, &heard, &notes, &source))
            .map_err(Error::io(what()))?;
        let qmp = Self { node: node.to_owned(), timeline: timeline.clone(), out: Mutex::new(stream), shared };
        qmp.order("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// An order and its answer.
    ///
    /// # Errors
    /// It refuses, or has ended.
    pub fn order(&self, name: &str, arguments: Value) -> Result<Value> {
        let mut out = lock(&self.out);
        let mut order = json!({ "execute": name });
        if !arguments.is_null() {
            order["arguments"] = arguments;
        }
        if name != "query-status" && name != "qmp_capabilities" {
            self.timeline.note(&format!("{} qmp", self.node), &format!("> {order}"));
        }
        let off = || Error::Off { node: self.node.clone(), what: name.to_owned() };
        lock(&self.shared.heard).answers.clear();
        out.write_all(format!("{order}\n").as_bytes()).map_err(|_| off())?;
        let end = Instant::now() + PATIENCE;
        let mut heard = lock(&self.shared.heard);
        loop {
            if let Some(answer) = heard.answers.pop_front() {
                return match answer.get("return") {
                    Some(value) => Ok(value.clone()),
                    None => {
                        let said = answer["error"]["desc"].as_str().unwrap_or("no reason").to_owned();
                        Err(Error::Qmp { node: self.node.clone(), order: name.to_owned(), said })
                    }
                };
            }
            if heard.over {
                return Err(off());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut { what: format!("{name} of node {}", self.node), after_s: PATIENCE.as_secs() });
            }
            heard = self.shared.news.wait_timeout(heard, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// How many events there have been: where [`Qmp::event`] begins to look.
    #[must_use]
    pub fn events(&self) -> u64 {
        lock(&self.shared.heard).count
    }

    /// Waits for an event of this name behind the first `from`.
    ///
    /// # Errors
    /// It does not come in time, or QEMU ends first.
    pub fn event(&self, name: &str, from: u64, patience: Duration) -> Result<Value> {
        self.wait(name, from, patience, |_| true)
    }

    /// The same of this device: its parts have events of their own, which may come before or after.
    ///
    /// # Errors
    /// As [`Qmp::event`].
    pub fn event_of(&self, name: &str, device: &str, from: u64, patience: Duration) -> Result<Value> {
        self.wait(name, from, patience, |data| data["device"] == device)
    }

    fn wait(&self, name: &str, from: u64, patience: Duration, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + patience;
        let mut heard = lock(&self.shared.heard);
        loop {
            let mut later = heard.events.iter().filter(|(number, event)| *number >= from && event["event"] == name);
            if let Some((_, event)) = later.find(|(_, event)| is(&event["data"])) {
                return Ok(event["data"].clone());
            }
            if heard.over {
                return Err(Error::Off { node: self.node.clone(), what: format!("event {name}") });
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let what = format!("event {name} of node {}", self.node);
                return Err(Error::TimedOut { what, after_s: patience.as_secs() });
            }
            heard = self.shared.news.wait_timeout(heard, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        // Ends the listening thread.
        let _ = lock(&self.out).shutdown(std::net::Shutdown::Both);
    }
}

fn listen(stream: UnixStream, shared: &Shared, timeline: &Timeline, source: &str) {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.by_ref().take(LINE_MOST).read_until(b'\n', &mut line);
        let whole = matches!(read, Ok(n) if n > 0) && line.ends_with(b"\n");
        let mut heard = lock(&shared.heard);
        if !whole {
            heard.over = true;
            shared.news.notify_all();
            return;
        }
        let Ok(value) = serde_json::from_slice::<Value>(&line) else { continue };
        if value.get("event").is_some() {
            timeline.note(source, &format!("{} {}", value["event"].as_str().unwrap_or_default(), value["data"]));
            if heard.events.len() == EVENTS_MOST {
                heard.events.pop_front();
            }
            let number = heard.count;
            heard.events.push_back((number, value));
            heard.count += 1;
        } else if value.get("QMP").is_none() {
            heard.answers.push_back(value);
        }
        drop(heard);
        shared.news.notify_all();
    }
}
