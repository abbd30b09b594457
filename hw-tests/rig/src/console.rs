//! A node's console line: orders to it, and everything that it says.
//!
//! Contract: [`Console::order`] gives the words of `twinpost ctl` to the node's console as a machine order and waits for the framed
//! answer. The line may end and come back (power, reboot): it is opened again and again. Before the first order after a silence the console
//! is asked for attention with an empty order until it answers, so that no order is typed into a boot. An order whose answer broke
//! off is *not* repeated: it may have been carried out ([`Error::Garbage`]).
//!
//! Failure classes: no answer in time ([`Error::TimedOut`]), an answer that broke off, an exit code that is not 0 ([`Console::well`]).

use crate::frame::{Answer, Decoder, Item};
use crate::place::Place;
use crate::timeline::{Timeline, lock};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an order may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long the console may take to come up.
pub const BOOT_PATIENCE: Duration = Duration::from_secs(240);
/// Between two asks for attention.
const ATTENTION: Duration = Duration::from_millis(700);
/// How much of an answer that is not whole can be seen.
const COMING_MOST: usize = 64 << 10;
/// What a console that waits for an order ends with.
const PROMPT: &str = "twinpost>";
/// A console that shows no prompt is asked all the same each time so much has passed: a line that came late may have covered it.
const ASK_ANYWAY: Duration = Duration::from_secs(4);
/// Between two attempts to open the line.
const RETRY: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Heard {
    answers: HashMap<u64, Result<Answer, ()>>,
    /// The answer that is coming, its first part.
    coming: Option<(u64, String)>,
    /// The prompt was the last thing on the line.
    prompt: bool,
    /// How often the line was opened.
    lives: u64,
    writer: Option<Box<dyn Write + Send>>,
    /// Others who use the line ([`Console::serve`]): they get every byte.
    lookers: Vec<std::os::unix::net::UnixStream>,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Heard>,
    news: Condvar,
    over: AtomicBool,
    /// The console has answered in this life of the line, and nothing says that it is gone.
    attentive: AtomicBool,
}

/// See the module.
pub struct Console {
    node: String,
    timeline: Timeline,
    shared: Arc<Shared>,
    next: AtomicU64,
    /// One order at a time.
    turn: Mutex<()>,
    /// When it was asked for attention last: whoever asks again and again for a moment each counts as one.
    asked: Mutex<Instant>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        lock(&self.shared.heard).writer = None;
    }
}

impl Console {
    /// Listens at a place from now on; a thread of the caller's network namespace does it.
    ///
    /// # Errors
    /// No thread.
    pub fn listen(node: &str, place: Place, timeline: &Timeline) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (heard, notes, source) = (shared.clone(), timeline.clone(), format!("{node} console"));
        std::thread::Builder::new()
            .name(source.clone())
            .spawn(move || listen(&place, &heard, &notes, &source))
            .map_err(Error::io(format!("console of node {node}")))?;
        // A number that no earlier rig has used on this line: an old answer is never taken for a new one.
        let first = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_millis() as u64);
        let next = AtomicU64::new(first);
        Ok(Self {
            node: node.to_owned(),
            timeline: timeline.clone(),
            shared,
            next,
            turn: Mutex::default(),
            asked: Mutex::new(Instant::now()),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The node lost its power or was reset: the next order waits until the console answers again.
    pub fn forget(&self) {
        self.shared.attentive.store(false, Ordering::Relaxed);
    }

    fn write(&self, bytes: &[u8]) -> bool {
        let mut heard = lock(&self.shared.heard);
        heard.writer.as_mut().is_some_and(|writer| writer.write_all(bytes).and_then(|()| writer.flush()).is_ok())
    }

    /// Waits for the answer of a number; none when it does not come in time.
    fn answer(&self, number: u64, patience: Duration) -> Option<Result<Answer, ()>> {
        let end = Instant::now() + patience;
        let mut noted = 0;
        let mut heard = lock(&self.shared.heard);
        loop {
            // Progress comes line by line: its times are what a person wants to know later.
            if let Some((_, text)) = heard.coming.as_ref().filter(|(of, _)| *of == number) {
                let whole = text.rfind('\n').map_or(0, |at| at + 1);
                for line in text.get(noted..whole).unwrap_or_default().lines().filter(|line| line.contains("\"progress\"")) {
                    self.timeline.note(&format!("{} order", self.node), line);
                }
                noted = whole.max(noted);
            }
            if let Some(answer) = heard.answers.remove(&number) {
                return Some(answer);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            heard = self.shared.news.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the console answers.
    ///
    /// # Errors
    /// It does not in time.
    pub fn attend(&self, patience: Duration) -> Result<()> {
        let _turn = lock(&self.turn);
        self.attend_in_turn(patience)
    }

    fn attend_in_turn(&self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut shown = Duration::from_secs(10);
        let mut asked = lock(&self.asked);
        while !self.shared.attentive.load(Ordering::Relaxed) {
            // A machine that boots would only echo it.
            if lock(&self.shared.heard).prompt || asked.elapsed() >= ASK_ANYWAY {
                // Ctrl-C ends what a person may have left running; an order without words is answered at once.
                let begin = if asked.elapsed() >= ASK_ANYWAY { "\x03\r" } else { "" };
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                *asked = Instant::now();
                self.write(format!("{begin}@{number}\r").as_bytes());
                if matches!(self.answer(number, ATTENTION), Some(Ok(_))) {
                    self.shared.attentive.store(true, Ordering::Relaxed);
                    break;
                }
            } else {
                // The pace of looking.
                std::thread::sleep(RETRY);
            }
            if begun.elapsed() >= patience {
                let what = format!("an answer of the console of node {}", self.node);
                return Err(Error::TimedOut { what, after_s: patience.as_secs() });
            }
            if begun.elapsed() >= shown {
                self.timeline.say(&format!("... the console of node {} ({} s)", self.node, begun.elapsed().as_secs()));
                shown += Duration::from_secs(10);
            }
        }
        Ok(())
    }

    /// An order and its answer, whatever its exit code is.
    ///
    /// # Errors
    /// No answer in time, or a broken one.
    pub fn order(&self, words: &str) -> Result<Answer> {
        self.order_within(words, PATIENCE)
    }

    /// The same with another time limit.
    ///
    /// # Errors
    /// No answer in time, or a broken one.
    pub fn order_within(&self, words: &str, patience: Duration) -> Result<Answer> {
        let _turn = lock(&self.turn);
        self.attend_in_turn(BOOT_PATIENCE)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.timeline.note(&format!("{} order", self.node), &format!("> {words}"));
        let begun = Instant::now();
        self.write(format!("@{number} {words}\r").as_bytes());
        match self.answer(number, patience) {
            Some(Ok(answer)) => {
                let took = begun.elapsed().as_millis();
                // A value on many lines would drown the rest.
                let said = answer.json().map_or_else(|| answer.text.clone(), |json| json.to_string());
                self.timeline.note(&format!("{} order", self.node), &format!("< {} in {took} ms: {said}", answer.exit));
                Ok(answer)
            }
            Some(Err(())) => {
                self.forget();
                let (node, words) = (self.node.clone(), words.to_owned());
                Err(Error::Garbage { node, words, said: "it broke off; the node may have restarted".to_owned() })
            }
            None => {
                self.forget();
                let what = format!("the answer of node {} to `{words}`", self.node);
                Err(Error::TimedOut { what, after_s: patience.as_secs() })
            }
        }
    }

    /// Begins an order that says something and goes on, and waits until what it said is enough; [`Begun::end`] waits for its
    /// end.
    ///
    /// # Errors
    /// It says nothing in time, or ended before it said anything.
    pub fn begin(&self, words: &str, enough: impl Fn(&str) -> bool, patience: Duration) -> Result<Begun<'_>> {
        let turn = lock(&self.turn);
        self.attend_in_turn(BOOT_PATIENCE)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.timeline.note(&format!("{} order", self.node), &format!("> {words}"));
        self.write(format!("@{number} {words}\r").as_bytes());
        let end = Instant::now() + patience;
        let mut heard = lock(&self.shared.heard);
        loop {
            if let Some((_, text)) = heard.coming.as_ref().filter(|(of, text)| *of == number && enough(text)) {
                let first = text.clone();
                return Ok(Begun { console: self, _turn: turn, number, words: words.to_owned(), first });
            }
            if let Some(answer) = heard.answers.remove(&number) {
                let answer = answer.unwrap_or_default();
                if answer.exit == 0 {
                    let first = answer.text.clone();
                    heard.answers.insert(number, Ok(answer));
                    return Ok(Begun { console: self, _turn: turn, number, words: words.to_owned(), first });
                }
                let (node, words) = (self.node.clone(), words.to_owned());
                return Err(Error::Refused { node, words, exit: answer.exit, text: answer.text });
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let what = format!("the first words of node {} to `{words}`", self.node);
                return Err(Error::TimedOut { what, after_s: patience.as_secs() });
            }
            heard = self.shared.news.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// An order that must succeed; gives what it printed.
    ///
    /// # Errors
    /// As [`Console::order`]; it ended with another code than 0.
    pub fn well(&self, words: &str) -> Result<String> {
        self.well_within(words, PATIENCE)
    }

    /// The same with another time limit.
    ///
    /// # Errors
    /// As [`Console::well`].
    pub fn well_within(&self, words: &str, patience: Duration) -> Result<String> {
        let answer = self.order_within(words, patience)?;
        if answer.exit == 0 {
            return Ok(answer.text);
        }
        let (node, words) = (self.node.clone(), words.to_owned());
        Err(Error::Refused { node, words, exit: answer.exit, text: answer.text })
    }

    /// An order with `--json` that must succeed; gives its answer.
    ///
    /// # Errors
    /// As [`Console::well`]; the answer is no JSON.
    pub fn json(&self, words: &str) -> Result<Value> {
        self.json_within(words, PATIENCE)
    }

    /// The same with another time limit.
    ///
    /// # Errors
    /// As [`Console::json`].
    pub fn json_within(&self, words: &str, patience: Duration) -> Result<Value> {
        let words = format!("--json {words}");
        let answer = self.order_within(&words, patience)?;
        let node = self.node.clone();
        if answer.exit != 0 {
            return Err(Error::Refused { node, words, exit: answer.exit, text: answer.text });
        }
        answer.json().ok_or(Error::Garbage { node, words, said: answer.text })
    }

    /// Types bytes, as a person does.
    pub fn type_in(&self, bytes: &[u8]) -> bool {
        self.write(bytes)
    }

    /// Lets somebody else use it, as a console server does: every byte from now on goes to this stream too, and what comes from it is typed,
    /// until it is closed.
    ///
    /// # Errors
    /// The stream cannot be used.
    pub fn serve(&self, stream: &std::os::unix::net::UnixStream) -> std::io::Result<()> {
        let looker = stream.try_clone()?;
        looker.set_write_timeout(Some(Duration::from_millis(200)))?;
        lock(&self.shared.heard).lookers.push(looker);
        let mut bytes = [0; 256];
        let mut typed = stream;
        while let Ok(count) = typed.read(&mut bytes)
            && count > 0
        {
            self.type_in(&bytes[..count]);
        }
        stream.shutdown(std::net::Shutdown::Both)
    }

    /// How often the line has come up: one more after each power-on of a machine in QEMU.
    #[must_use]
    pub fn lives(&self) -> u64 {
        lock(&self.shared.heard).lives
    }
}

/// An order that goes on.
#[derive(Debug)]
pub struct Begun<'a> {
    console: &'a Console,
    _turn: MutexGuard<'a, ()>,
    number: u64,
    words: String,
    /// What it had said when it was enough.
    pub first: String,
}

impl Begun<'_> {
    /// Waits for its end; it must succeed.
    ///
    /// # Errors
    /// It does not end in time, or failed.
    pub fn end(self, patience: Duration) -> Result<Answer> {
        let node = self.console.node.clone();
        match self.console.answer(self.number, patience) {
            Some(Ok(answer)) if answer.exit == 0 => Ok(answer),
            Some(Ok(answer)) => Err(Error::Refused { node, words: self.words, exit: answer.exit, text: answer.text }),
            Some(Err(())) => Err(Error::Garbage { node, words: self.words, said: "it broke off".to_owned() }),
            None => {
                self.console.write(b"\x03");
                self.console.forget();
                Err(Error::TimedOut { what: format!("the end of `{}` on node {node}", self.words), after_s: patience.as_secs() })
            }
        }
    }
}

/// What ends a console's attention: the words of a machine that starts.
fn is_restart(line: &str) -> bool {
    ["Linux version ", "twinpost-init", "reboot: ", "BdsDxe: "].iter().any(|word| line.contains(word))
}

fn listen(place: &Place, shared: &Shared, timeline: &Timeline, source: &str) {
    let mut bytes = [0; 4096];
    while !shared.over.load(Ordering::Relaxed) {
        let Ok((mut reader, writer)) = place.open() else {
            // The pace of trying.
            std::thread::sleep(RETRY);
            continue;
        };
        let mut decoder = Decoder::default();
        {
            let mut heard = lock(&shared.heard);
            heard.writer = Some(writer);
            heard.lives += 1;
        }
        shared.attentive.store(false, Ordering::Relaxed);
        while let Ok(count) = reader.read(&mut bytes)
            && count > 0
            && !shared.over.load(Ordering::Relaxed)
        {
            let items = decoder.push(&bytes[..count]);
            let mut heard = lock(&shared.heard);
            heard.lookers.retain_mut(|looker| looker.write_all(&bytes[..count]).is_ok());
            for item in items {
                match item {
                    Item::Line(line) => {
                        if is_restart(&line) {
                            shared.attentive.store(false, Ordering::Relaxed);
                        }
                        timeline.note(source, &line);
                    }
                    Item::Answer(number, answer) => {
                        for line in &answer.kernel {
                            timeline.note(source, line);
                        }
                        // Answers that nobody waits for any more do not pile up.
                        if heard.answers.len() > 64 {
                            heard.answers.clear();
                        }
                        heard.answers.insert(number, Ok(answer));
                    }
                    Item::Broken(number) => {
                        heard.answers.insert(number, Err(()));
                    }
                }
            }
            heard.coming = decoder.so_far(COMING_MOST);
            heard.prompt = decoder.open_line().trim_end().ends_with(PROMPT);
            drop(heard);
            shared.news.notify_all();
        }
        let rest = decoder.open_line();
        if !rest.trim().is_empty() {
            timeline.note(source, &rest);
        }
        let mut heard = lock(&shared.heard);
        heard.writer = None;
        heard.prompt = false;
        drop(heard);
        shared.attentive.store(false, Ordering::Relaxed);
        if !shared.over.load(Ordering::Relaxed) {
            timeline.note(source, "(the line ended)");
        }
    }
}

/// A word as it stands in an order: quoted when it must be.
#[must_use]
pub fn quoted(word: &str) -> String {
    if !word.is_empty() && !word.contains([' ', '\t', '\'', '"', '\\']) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::Console;
    use crate::place::Place;
    use crate::{Error, Timeline};
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    /// Answers orders by the framing of `twinpost_console::frame` until a line says otherwise.
    fn node(listener: &UnixListener) {
        let mut life = 0;
        while let Ok((stream, _)) = listener.accept() {
            life += 1;
            if serve(stream, life).is_none() {
                return;
            }
        }
    }

    fn serve(stream: UnixStream, life: u32) -> Option<()> {
        let mut out = stream.try_clone().unwrap();
        let mut lines = BufReader::new(stream).split(b'\r');
        let mut say = |text: &str| out.write_all(text.as_bytes()).unwrap();
        say("\r\n[    0.000000] Linux version 6\r\n");
        // Whatever is typed into a boot is lost.
        lines.next();
        say("Twinpost\r\n 1  Status\r\n\r\ntwinpost> ");
        for line in lines {
            let line = String::from_utf8(line.unwrap()).unwrap();
            let Some((number, words)) = line.strip_prefix('@').map(|order| order.split_once(' ').unwrap_or((order, ""))) else {
                continue;
            };
            let mut answer =
                |text: &str, exit: i32| say(&format!("\x02{number}\r\n{text}\r\n\x03{number} {exit}\r\n\r\ntwinpost> "));
            match words {
                "" => answer("no order", 127),
                "--json life" => answer(&format!("{{\"life\":[   3.141592] noise\r\n {life}}}"), 0),
                "fail" => answer("it is impossible", 3),
                "slow" => {
                    say(&format!("\x02{number}\r\n{{\"code\":\"1\"}}\r\n"));
                    say(&format!("well\r\n\x03{number} 0\r\n"));
                }
                "reboot" => {
                    say(&format!("\x02{number}\r\ngoing "));
                    return Some(());
                }
                "end" => return None,
                other => answer(&format!("{life} {other}"), 0),
            }
        }
        Some(())
    }

    #[test]
    fn orders_are_answered_across_noise_and_reboots() {
        let folder = tempfile::tempdir().unwrap();
        let timeline = Timeline::begin(folder.path()).quiet();
        let socket = folder.path().join("console");
        let listener = UnixListener::bind(&socket).unwrap();
        let made = std::thread::spawn(move || node(&listener));
        let console = Console::listen("a", Place::Unix(socket), &timeline).unwrap();
        assert_eq!(console.well("hello there").unwrap(), "1 hello there");
        assert_eq!(console.json("life").unwrap()["life"], 1);
        assert!(matches!(console.well("fail"), Err(Error::Refused { exit: 3, .. })));
        assert_eq!(console.order("fail").unwrap().exit, 3);

        let begun = console.begin("slow", |text| text.contains('\n'), Duration::from_secs(10)).unwrap();
        assert!(begun.first.starts_with("{\"code\":\"1\"}"));
        assert_eq!(begun.end(Duration::from_secs(10)).unwrap().text.lines().last(), Some("well"));
        assert!(console.begin("fail", |_| false, Duration::from_secs(10)).is_err());

        // The answer breaks off with the line; the next order waits for the next life.
        let broken = console.order_within("reboot", Duration::from_secs(2));
        assert!(matches!(broken, Err(Error::TimedOut { .. } | Error::Garbage { .. })), "{broken:?}");
        assert_eq!(console.json("life").unwrap()["life"], 2);
        assert_eq!(console.lives(), 2);
        assert!(timeline.find("a console", "noise", Duration::ZERO).is_some(), "the kernel's words are kept");
        let _ = console.order_within("end", Duration::from_millis(100));
        made.join().unwrap();
    }
}
