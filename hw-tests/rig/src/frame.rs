//! Answers of a node's console in a stream of other things.
//!
//! Contract: a machine order `@N words` is answered by `STX N`, what the order printed, `ETX N exit`. Around and inside of it the kernel
//! may speak, the node may reboot in the middle, and a person may have typed: [`Decoder`] gives each line outside of frames, each whole
//! answer, and says which answer broke off. Kernel messages inside an answer are taken out of it ([`Answer::kernel`]).
//!
//! Failure classes: none; a frame longer than [`FRAME_MOST`] breaks off.

/// Largest answer.
pub const FRAME_MOST: usize = 8 << 20;
/// Largest line outside of frames.
const LINE_MOST: usize = 4096;
const STX: u8 = 2;
const ETX: u8 = 3;

/// What a node answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What the order printed, with plain line ends.
    pub text: String,
    /// Its exit code.
    pub exit: i32,
    /// Messages of the kernel that came in between.
    pub kernel: Vec<String>,
    /// All that came, with what looks like messages of the kernel: the text of an order that prints such lines itself.
    pub raw: String,
}

impl Answer {
    /// What was printed, as JSON: the last of the values that follow each other, or the last line that is one.
    #[must_use]
    pub fn json(&self) -> Option<serde_json::Value> {
        values(&self.text)
            .into_iter()
            .rfind(is_compound)
            .or_else(|| self.text.lines().rev().find_map(|line| serde_json::from_str(line.trim()).ok().filter(is_compound)))
    }
}

/// The JSON values at the begin of a text, as far as they are whole.
#[must_use]
pub fn values(text: &str) -> Vec<serde_json::Value> {
    serde_json::Deserializer::from_str(text).into_iter().map_while(Result::ok).collect()
}

fn is_compound(value: &serde_json::Value) -> bool {
    value.is_object() || value.is_array()
}

/// What came out of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A line outside of answers.
    Line(String),
    /// An answer to the order of this number.
    Answer(u64, Answer),
    /// The answer of this number began and broke off.
    Broken(u64),
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Outside,
    /// After STX, in the number.
    Opening(Vec<u8>),
    Inside(u64, Vec<u8>),
    /// After ETX, up to the line's end.
    Closing(u64, Vec<u8>, Vec<u8>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    line: Vec<u8>,
}

impl Decoder {
    /// Takes what came and gives what it completes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        for byte in bytes {
            self.byte(*byte, &mut items);
        }
        items
    }

    /// A line that has no end yet, such as a prompt.
    #[must_use]
    pub fn open_line(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }

    /// The answer that is coming, as far as it came, at most so many bytes.
    #[must_use]
    pub fn so_far(&self, most: usize) -> Option<(u64, String)> {
        let (State::Inside(number, text) | State::Closing(number, text, _)) = &self.state else { return None };
        let text = String::from_utf8_lossy(&text[..text.len().min(most)]).replace('\r', "");
        Some((*number, text.trim_start().to_owned()))
    }

    fn end_line(&mut self, items: &mut Vec<Item>) {
        let line = String::from_utf8_lossy(&self.line).trim_end_matches('\r').to_owned();
        self.line.clear();
        if !line.is_empty() {
            items.push(Item::Line(line));
        }
    }

    fn byte(&mut self, byte: u8, items: &mut Vec<Item>) {
        match std::mem::take(&mut self.state) {
            State::Outside if byte == STX => {
                self.end_line(items);
                self.state = State::Opening(Vec::new());
            }
            State::Outside => self.outside(byte, items),
            State::Opening(mut digits) => match byte {
                b'0'..=b'9' if digits.len() < 19 => {
                    digits.push(byte);
                    self.state = State::Opening(digits);
                }
                STX => self.state = State::Opening(Vec::new()),
                _ => match number(&digits) {
                    // The byte after the number parts it from the text, unless it ends the frame.
                    Some(number) if byte == ETX => self.state = State::Closing(number, Vec::new(), Vec::new()),
                    Some(number) => self.state = State::Inside(number, if byte == b' ' { Vec::new() } else { vec![byte] }),
                    None => self.outside(byte, items),
                },
            },
            State::Inside(number, text) if byte == STX || text.len() >= FRAME_MOST => {
                self.broken(number, &text, items);
                self.state = if byte == STX { State::Opening(Vec::new()) } else { State::Outside };
            }
            State::Inside(number, text) if byte == ETX => self.state = State::Closing(number, text, Vec::new()),
            State::Inside(number, mut text) => {
                text.push(byte);
                self.state = State::Inside(number, text);
            }
            State::Closing(number, text, mut tail) => match byte {
                b'\n' => self.closed(number, &text, &tail, items),
                STX => {
                    self.broken(number, &text, items);
                    self.state = State::Opening(Vec::new());
                }
                _ if tail.len() < 64 => {
                    tail.push(byte);
                    self.state = State::Closing(number, text, tail);
                }
                _ => self.broken(number, &text, items),
            },
        }
    }

    fn outside(&mut self, byte: u8, items: &mut Vec<Item>) {
        if byte == b'\n' || self.line.len() >= LINE_MOST {
            self.end_line(items);
        }
        if byte != b'\n' {
            self.line.push(byte);
        }
    }

    fn closed(&mut self, number: u64, text: &[u8], tail: &[u8], items: &mut Vec<Item>) {
        let tail = String::from_utf8_lossy(tail);
        let mut words = tail.split_ascii_whitespace();
        let (of, exit) = (words.next().and_then(|w| w.parse::<u64>().ok()), words.next().and_then(|w| w.parse().ok()));
        match (of, exit) {
            (Some(of), Some(exit)) if of == number => items.push(Item::Answer(number, clean(text, exit))),
            _ => self.broken(number, text, items),
        }
    }

    /// What had come of an answer is shown as lines: the rest of it is elsewhere.
    fn broken(&mut self, number: u64, text: &[u8], items: &mut Vec<Item>) {
        items.push(Item::Broken(number));
        for line in String::from_utf8_lossy(&text[..text.len().min(16 * LINE_MOST)]).lines() {
            items.push(Item::Line(line.to_owned()));
        }
        self.state = State::Outside;
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Length of a kernel message's stamp, `[   12.345678] `, at the begin of these bytes.
fn stamp(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(b"[")?;
    let close = rest.iter().take(20).position(|b| *b == b']')?;
    let (whole, fraction) = std::str::from_utf8(&rest[..close]).ok()?.split_once('.')?;
    let whole = whole.trim_start();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(whole) && fraction.len() == 6 && digits(fraction) && rest.get(close + 1) == Some(&b' ')).then_some(close + 3)
}

/// Takes kernel messages out: each runs from its stamp to the end of its line.
fn clean(bytes: &[u8], exit: i32) -> Answer {
    let (mut text, mut kernel, mut at) = (Vec::with_capacity(bytes.len()), Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at] == b'[' && stamp(&bytes[at..]).is_some() {
            let end = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n);
            kernel.push(String::from_utf8_lossy(&bytes[at..end]).trim_end().to_owned());
            at = (end + 1).min(bytes.len());
            continue;
        }
        if bytes[at] != b'\r' {
            text.push(bytes[at]);
        }
        at += 1;
    }
    let text = String::from_utf8_lossy(&text);
    // The line end behind the number.
    let text = text.strip_prefix('\n').unwrap_or(&text).trim_end().to_owned();
    let raw = String::from_utf8_lossy(bytes).replace('\r', "").trim().to_owned();
    Answer { text, exit, kernel, raw }
}

/// No input panics, and what comes in pieces is what comes at once.
pub fn fuzz(data: &[u8]) {
    let whole = Decoder::default().push(data);
    let mut pieces = Decoder::default();
    let split: Vec<Item> = data.chunks(3).flat_map(|chunk| pieces.push(chunk)).collect();
    assert_eq!(whole, split, "pieces make no difference");
}

#[cfg(test)]
mod tests {
    use super::{Answer, Decoder, Item, fuzz};
    use proptest::prelude::*;

    fn one(bytes: &[u8]) -> Vec<Item> {
        Decoder::default().push(bytes)
    }

    fn answer(text: &str, exit: i32) -> Answer {
        Answer { text: text.to_owned(), exit, kernel: Vec::new(), raw: text.trim().to_owned() }
    }

    #[test]
    fn an_answer_between_lines() {
        let items = one(b"twinpost> \x027\r\n{\"a\": 1}\r\n\x037 0\r\nmore\r\n");
        let line = |text: &str| Item::Line(text.to_owned());
        assert_eq!(items, [line("twinpost> "), Item::Answer(7, answer("{\"a\": 1}", 0)), line("more")]);
    }

    #[test]
    fn a_kernel_message_inside_is_taken_out() {
        let items = one(b"\x021\n{\"a\":[   12.345678] md: disk gone\r\n 1}\n[1]\n\x031 3\n");
        let Item::Answer(1, answer) = &items[0] else { panic!("{items:?}") };
        assert_eq!(answer.text, "{\"a\": 1}\n[1]");
        assert_eq!(answer.kernel, ["[   12.345678] md: disk gone"]);
        assert_eq!(answer.exit, 3);
    }

    #[test]
    fn an_empty_answer() {
        assert_eq!(one(b"\x025\x035 0\n"), [Item::Answer(5, answer("", 0))]);
        assert_eq!(one(b"\x025\n\x035 0\n"), [Item::Answer(5, answer("", 0))]);
    }

    #[test]
    fn a_reboot_in_the_middle_breaks_off_and_the_next_answer_is_whole() {
        let items = one(b"\x021\nhalf\n[    0.000000] Linux version\nbooting\n\x022\nwell\n\x032 0\n");
        assert_eq!(items[0], Item::Broken(1));
        assert_eq!(items.last(), Some(&Item::Answer(2, answer("well", 0))));
    }

    #[test]
    fn an_end_of_another_number_is_no_end() {
        assert_eq!(one(b"\x021\nx\n\x032 0\n")[0], Item::Broken(1));
        assert_eq!(one(b"\x021\nx\n\x03zero\n")[0], Item::Broken(1));
    }

    #[test]
    fn json_is_found_behind_progress() {
        let json = answer("10 %\n100 %\n{\"done\":true}", 0).json().unwrap();
        assert_eq!(json["done"], true);
        let two = "{\n  \"code\": \"1\"\n}\n{\n  \"cluster\": 7\n}";
        assert_eq!(answer(two, 0).json().unwrap()["cluster"], 7);
        assert_eq!(super::values(&two[..two.len() - 4]).len(), 1);
        assert!(answer("nothing", 0).json().is_none());
    }

    proptest! {
        #[test]
        fn no_input_panics(data in proptest::collection::vec(prop_oneof![Just(2u8), Just(3), Just(b'\n'), Just(b'1'), Just(b' '), Just(b'['), any::<u8>()], 0..400)) {
            fuzz(&data);
        }

        /// Whatever noise came before, the next whole answer is understood, if a line's end comes first.
        #[test]
        fn it_resynchronises(noise in proptest::collection::vec(any::<u8>(), 0..200), text in "[a-z {}\n]{0,80}", exit in 0..256i32) {
            let mut decoder = Decoder::default();
            decoder.push(&noise);
            let items = decoder.push(format!("\n\x0299\n{text}\n\x0399 {exit}\n").as_bytes());
            let last = items.iter().rev().find_map(|item| match item { Item::Answer(99, answer) => Some(answer.clone()), _ => None });
            prop_assert_eq!(last, Some(answer(text.trim_end(), exit)));
        }
    }
}
