//! Dialogue files, parsed.

use crate::pattern::{Token, parse};
use std::path::Path;

/// A dialogue file.
#[derive(Clone, Debug)]
pub struct Script {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Line in the file, from 1.
    pub(crate) line: usize,
    /// The text as written.
    pub(crate) text: String,
    pub(crate) connection: u32,
    pub(crate) action: Action,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Send.
    Send { tokens: Vec<Token>, line_end: bool },
    /// Expect a line.
    Expect(Vec<Token>),
    /// Skip lines up to the next expected one.
    Skip,
    /// The server closes.
    Closed,
    /// `+ ...`
    Call(String),
}

/// A dialogue file is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct ScriptError {
    /// File name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl Script {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ScriptError`] with the line (0: the file cannot be read).
    pub fn load(path: &Path) -> Result<Self, ScriptError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| ScriptError { file: file.clone(), line: 0, what: e.to_string() })?;
        Self::parse(&file, &text)
    }

    /// Parses a text.
    ///
    /// # Errors
    /// [`ScriptError`] with the line.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScriptError> {
        let mut steps = Vec::new();
        let mut lines = text.lines().enumerate().map(|(i, l)| (i + 1, l));
        while let Some((line, text)) = lines.next() {
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let fault = |what: &str| ScriptError { file: name.to_owned(), line, what: what.to_owned() };
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let connection = match &text[..digits] {
                "" => 1,
                number => number.parse().map_err(|_| fault("connections are numbered from 1"))?,
            };
            let rest = &text[digits..];
            let mut step = |action| steps.push(Step { line, text: text.to_owned(), connection, action });
            // `C:` alone is an empty line.
            let body = |mark: &str| rest.strip_prefix(mark).map(|b| b.strip_prefix(' ').unwrap_or(b));
            if let Some(body) = body("C:") {
                step(Action::Send { tokens: parse(body, false).map_err(|e| fault(&e))?, line_end: true });
            } else if let Some(body) = body("C~") {
                step(Action::Send { tokens: parse(body, false).map_err(|e| fault(&e))?, line_end: false });
            } else if body("S:") == Some("[closed]") {
                step(Action::Closed);
            } else if let Some(body) = body("S:") {
                step(Action::Expect(parse(body, true).map_err(|e| fault(&e))?));
            } else if rest.trim_end() == "S*" {
                step(Action::Skip);
            } else if let Some(body) = body("+") {
                step(Action::Call(body.trim().to_owned()));
            } else if let Some(end) = body("C<<").or_else(|| body("S<<")) {
                let sends = rest.starts_with('C');
                loop {
                    let Some((line, text)) = lines.next() else {
                        return Err(fault(&format!("the block has no end: {end}")));
                    };
                    if text == end {
                        break;
                    }
                    let tokens: Vec<Token> = if text.is_empty() { vec![] } else { vec![Token::Bytes(text.as_bytes().to_vec())] };
                    let action = if sends { Action::Send { tokens, line_end: true } } else { Action::Expect(tokens) };
                    steps.push(Step { line, text: text.to_owned(), connection, action });
                }
            } else {
                return Err(fault("neither C:, C~, C<<, S:, S*, S<<, + nor a # comment"));
            }
        }
        Ok(Self { name: name.to_owned(), steps })
    }
}
