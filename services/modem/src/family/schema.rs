//! Reading a family file: TOML into [`Family`], strictly.
//!
//! Contract: every key is known, of its type and in its range, or the file is refused. Failure class: [`FamilyError`].

use std::fmt;

use toml_edit::{Document, Item, TableLike};

use super::{Dtr, Family};
use crate::at::Dialect;

/// What is wrong with a family file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyError {
    /// The file's name.
    pub file: String,
    /// The line, from 1; 0 when no line can be named.
    pub line: usize,
    /// What is wrong, with the key.
    pub what: String,
}

impl std::error::Error for FamilyError {}

impl fmt::Display for FamilyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reading the modem family {}.toml, line {}: {}", self.file, self.line, self.what)
    }
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn error<T>(&self, at: Option<std::ops::Range<usize>>, what: impl Into<String>) -> Result<T, FamilyError> {
        let before = at.and_then(|at| self.text.get(..at.start));
        let line = before.map_or(0, |before| before.matches('\n').count() + 1);
        Err(FamilyError { file: self.file.to_owned(), line, what: what.into() })
    }

    fn only(&self, table: &dyn TableLike, path: &str, known: &[&str]) -> Result<(), FamilyError> {
        for (key, item) in table.iter() {
            if !known.contains(&key) {
                return self.error(item.span(), format!("{path}{key} is no known key; there are: {}", known.join(", ")));
            }
        }
        Ok(())
    }

    fn table<'t>(&self, root: &'t dyn TableLike, key: &str) -> Result<&'t dyn TableLike, FamilyError> {
        match root.get(key) {
            None => Ok(&*EMPTY),
            Some(item) => match item.as_table_like() {
                Some(table) => Ok(table),
                None => self.error(item.span(), format!("{key} is a table")),
            },
        }
    }

    fn text(&self, item: &Item, key: &str) -> Result<String, FamilyError> {
        match item.as_str() {
            Some(text) if !text.is_empty() && text.len() <= 500 && !text.chars().any(char::is_control) => Ok(text.to_owned()),
            _ => self.error(item.span(), format!("{key} is a text of 1 to 500 characters without control characters")),
        }
    }

    fn texts(&self, table: &dyn TableLike, key: &str, default: &[&str]) -> Result<Vec<String>, FamilyError> {
        let Some(item) = table.get(key) else { return Ok(default.iter().map(|&s| s.to_owned()).collect()) };
        let Some(array) = item.as_array() else { return self.error(item.span(), format!("{key} is a list of texts")) };
        array.iter().map(|value| self.text(&Item::Value(value.clone()), key)).collect()
    }

    /// Texts that are written to the modem.
    fn commands(&self, table: &dyn TableLike, key: &str, default: &[&str]) -> Result<Vec<String>, FamilyError> {
        let commands = self.texts(table, key, default)?;
        match commands.iter().find(|c| !is_command(c)) {
            Some(bad) => {
                self.error(table.get(key).and_then(Item::span), format!("{key}: {bad:?} is no command, which begins with AT"))
            }
            None => Ok(commands),
        }
    }

    fn number(&self, table: &dyn TableLike, key: &str, default: u64, most: u64) -> Result<u64, FamilyError> {
        let Some(item) = table.get(key) else { return Ok(default) };
        match item.as_integer().and_then(|n| u64::try_from(n).ok()) {
            Some(n) if n <= most => Ok(n),
            _ => self.error(item.span(), format!("{key} is a whole number from 0 to {most}")),
        }
    }

    fn numbers(&self, table: &dyn TableLike, key: &str, default: &[u32], most: u32) -> Result<Vec<u32>, FamilyError> {
        let Some(item) = table.get(key) else { return Ok(default.to_vec()) };
        let numbers = item
            .as_array()
            .and_then(|a| a.iter().map(|v| v.as_integer().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= most)).collect());
        match numbers {
            Some(numbers) => Ok(numbers),
            None => self.error(item.span(), format!("{key} is a list of whole numbers up to {most}")),
        }
    }

    fn flag(&self, table: &dyn TableLike, key: &str, default: bool) -> Result<bool, FamilyError> {
        let Some(item) = table.get(key) else { return Ok(default) };
        item.as_bool().map_or_else(|| self.error(item.span(), format!("{key} is true or false")), Ok)
    }
}

static EMPTY: std::sync::LazyLock<toml_edit::Table> = std::sync::LazyLock::new(toml_edit::Table::new);

fn is_command(text: &str) -> bool {
    text.starts_with("AT") && text.len() < 200 && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// Reads a family file.
pub(super) fn read(file: &str, text: &str) -> Result<Family, FamilyError> {
    let r = Reader { file, text };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => return r.error(error.span(), error.message().to_owned()),
    };
    let root: &dyn TableLike = document.as_table();
    r.only(root, "", &["title", "sources", "match", "port", "setup", "pin", "receive", "send", "reset", "notices"])?;
    let title = match root.get("title") {
        Some(item) => r.text(item, "title")?,
        None => return r.error(None, "title is missing"),
    };

    let matching = r.table(root, "match")?;
    r.only(matching, "match.", &["maker", "model"])?;
    let port = r.table(root, "port")?;
    r.only(port, "port.", &["bauds", "rts_cts", "dtr"])?;
    let setup = r.table(root, "setup")?;
    r.only(setup, "setup.", &["init", "command_ms"])?;
    let pin = r.table(root, "pin")?;
    r.only(pin, "pin.", &["iccid", "iccid_answer", "tries", "tries_answer", "tries_field"])?;
    let receive = r.table(root, "receive")?;
    r.only(receive, "receive.", &["csms", "cnmi", "wake_ack", "memories"])?;
    let send = r.table(root, "send")?;
    r.only(send, "send.", &["prompt", "prompt_s", "prompt_pause_ms", "answer_s", "chunk_bytes", "chunk_gap_ms", "cmms"])?;
    let reset = r.table(root, "reset")?;
    r.only(reset, "reset.", &["commands", "boot_s", "boot_lines"])?;
    let notices = r.table(root, "notices")?;
    r.only(notices, "notices.", &["unsolicited", "full"])?;

    let dtr = match port.get("dtr") {
        None => Dtr::HangsUp,
        Some(item) => match item.as_str() {
            Some("ignored") => Dtr::Ignored,
            Some("hangs_up") => Dtr::HangsUp,
            Some("starts") => Dtr::Starts,
            _ => return r.error(item.span(), "port.dtr is \"ignored\", \"hangs_up\" or \"starts\""),
        },
    };
    let prompt_space = match send.get("prompt") {
        None => true,
        Some(item) => match item.as_str() {
            Some("> ") => true,
            Some(">") => false,
            _ => return r.error(item.span(), "send.prompt is \">\" or \"> \""),
        },
    };
    let pair = |command: &str, answer: &str| -> Result<Option<(String, String)>, FamilyError> {
        let Some(item) = pin.get(command) else { return Ok(None) };
        let text = r.text(item, command)?;
        if !is_command(&text) {
            return r.error(item.span(), format!("pin.{command}: {text:?} is no command, which begins with AT"));
        }
        let answer = match pin.get(answer) {
            Some(item) => r.text(item, answer)?,
            None => return r.error(item.span(), format!("pin.{command} needs pin.{answer}, the beginning of its answer")),
        };
        Ok(Some((text, answer)))
    };
    let iccid = pair("iccid", "iccid_answer")?;
    let field = usize::try_from(r.number(pin, "tries_field", 0, 20)?).unwrap_or(0);
    let pin_tries = pair("tries", "tries_answer")?.map(|(command, answer)| (command, answer, field));

    let cnmi =
        r.texts(receive, "cnmi", &["2,1,0,1,0", "2,1,0,1,1", "2,1,0,2,0", "2,1,0,0,0", "2,1", "1,1,0,1,0", "1,1", "3,1"])?;
    if let Some(bad) = cnmi.iter().find(|c| c.is_empty() || !c.bytes().all(|b| b.is_ascii_digit() || b == b',')) {
        return r.error(receive.get("cnmi").and_then(Item::span), format!("receive.cnmi: {bad:?} is not digits and commas"));
    }
    let narrow = |list: Vec<u32>| list.into_iter().filter_map(|n| u8::try_from(n).ok()).collect::<Vec<u8>>();
    let bauds = r.numbers(port, "bauds", &[], 4_000_000)?;
    if bauds.iter().any(|b| *b < 300) {
        return r.error(port.get("bauds").and_then(Item::span), "port.bauds: a speed is at least 300 bit/s");
    }
    let mut boot = r.texts(reset, "boot_lines", &[])?;
    boot.sort();

    Ok(Family {
        name: file.to_owned(),
        title,
        sources: r.texts(root, "sources", &[])?,
        maker: r.texts(matching, "maker", &["*"])?,
        model: r.texts(matching, "model", &["*"])?,
        bauds,
        rts_cts: r.flag(port, "rts_cts", false)?,
        dtr,
        init: r.commands(setup, "init", &[])?,
        iccid,
        pin_tries,
        csms: narrow(r.numbers(receive, "csms", &[1, 0], 255)?),
        cnmi,
        wake_ack: r.flag(receive, "wake_ack", false)?,
        memories: r.texts(receive, "memories", &[])?,
        cmms: u8::try_from(r.number(send, "cmms", 0, 2)?).unwrap_or(0),
        prompt_s: r.number(send, "prompt_s", 10, 120)?,
        answer_s: r.number(send, "answer_s", 60, 600)?,
        command_ms: r.number(setup, "command_ms", 2_000, 60_000)?,
        restart: r.commands(reset, "commands", &["AT+CFUN=1,1"])?,
        boot_s: r.number(reset, "boot_s", 30, 300)?,
        dialect: Dialect {
            unsolicited: r.texts(notices, "unsolicited", &[])?,
            boot,
            full: r.texts(notices, "full", &[])?,
            prompt_space,
            prompt_pause_ms: r.number(send, "prompt_pause_ms", 0, 5_000)?,
            chunk_bytes: usize::try_from(r.number(send, "chunk_bytes", 0, 1_000)?).unwrap_or(0),
            chunk_gap_ms: r.number(send, "chunk_gap_ms", 0, 1_000)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> String {
        read("test", text).unwrap_err().to_string()
    }

    #[test]
    fn faults_name_line_and_key() {
        let head = "title = \"T\"\n";
        assert!(refused("").contains("title is missing"));
        let cases = [
            ("[match]\nmakers = [\"X\"]\n", "line 3: match.makers is no known key; there are: maker, model"),
            ("[send]\nprompt = \"?\"\n", "line 3: send.prompt is \">\" or \"> \""),
            ("[send]\nanswer_s = 100000\n", "line 3: answer_s is a whole number from 0 to 600"),
            ("[setup]\ninit = [\"rm -rf\"]\n", "line 3: init: \"rm -rf\" is no command"),
            ("[receive]\ncnmi = [\"2,x\"]\n", "line 3: receive.cnmi: \"2,x\" is not digits and commas"),
            ("[pin]\niccid = \"AT+CCID\"\n", "line 3: pin.iccid needs pin.iccid_answer"),
            ("[port]\ndtr = 3\n", "line 3: port.dtr is"),
            ("[port]\nbauds = [3]\n", "line 3: port.bauds: a speed"),
            ("[port\n", "line 2"),
            ("match = 3\n", "line 2: match is a table"),
        ];
        for (body, message) in cases {
            let error = refused(&format!("{head}{body}"));
            assert!(error.contains(message), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_or_is_refused(text in "(\\PC|\n){0,200}") {
            let _ = read("test", &text);
        }
    }
}
