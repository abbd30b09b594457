//! Reads recipe files strictly: a key that is not known is an error with file and line, not a silent nothing.
//!
//! Contract: every table hands out its keys once; [`Table::done`] refuses what nobody asked for. Failure class: the recipe
//! ([`Error::Recipe`]).

use std::path::Path;

use toml_edit::{Document, Item, TableLike, Value};

use crate::error::{Error, Result, io};

/// A recipe file, parsed, with its text for line numbers.
pub struct Source {
    file: String,
    document: Document<String>,
}

impl Source {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(io("cannot read", path))?;
        Self::parse(&path.file_name().unwrap_or_default().to_string_lossy(), &text)
    }

    /// Parses `text` of the file named `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let document = Document::parse(text.to_owned()).map_err(|error| Error::Recipe {
            file: file.to_owned(),
            line: error.span().map_or(0, |span| line(text, span.start)),
            why: error.message().to_owned(),
        })?;
        Ok(Self { file: file.to_owned(), document })
    }

    /// The top table.
    #[must_use]
    pub fn table(&self) -> Table<'_> {
        Table { source: self, table: self.document.as_table(), asked: Vec::new(), at: 0 }
    }

    fn error(&self, at: usize, why: impl Into<String>) -> Error {
        Error::Recipe { file: self.file.clone(), line: line(self.document.raw(), at), why: why.into() }
    }
}

fn line(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count() + 1
}

/// One table of a recipe file.
pub struct Table<'a> {
    source: &'a Source,
    table: &'a dyn TableLike,
    asked: Vec<&'static str>,
    at: usize,
}

impl<'a> Table<'a> {
    fn item(&mut self, key: &'static str) -> Option<&'a Item> {
        self.asked.push(key);
        self.table.get(key)
    }

    fn wrong(&self, key: &str, item: &Item, wanted: &str) -> Error {
        self.source.error(item.span().map_or(self.at, |span| span.start), format!("{key} must be {wanted}"))
    }

    /// An error at this table.
    #[must_use]
    pub fn error(&self, why: impl Into<String>) -> Error {
        self.source.error(self.at, why)
    }

    /// An optional text.
    pub fn text_or_none(&mut self, key: &'static str) -> Result<Option<String>> {
        let Some(item) = self.item(key) else { return Ok(None) };
        item.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| self.wrong(key, item, "a text in quotes"))
    }

    /// A text that must be there and not be empty.
    pub fn text(&mut self, key: &'static str) -> Result<String> {
        match self.text_or_none(key)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(self.error(format!("{key} is missing"))),
        }
    }

    /// An optional whole number.
    pub fn number_or_none(&mut self, key: &'static str) -> Result<Option<u64>> {
        let Some(item) = self.item(key) else { return Ok(None) };
        let number = item.as_integer().and_then(|number| u64::try_from(number).ok());
        number.map(Some).ok_or_else(|| self.wrong(key, item, "a whole number, not negative"))
    }

    /// A whole number that must be there.
    pub fn number(&mut self, key: &'static str) -> Result<u64> {
        self.number_or_none(key)?.ok_or_else(|| self.error(format!("{key} is missing")))
    }

    /// An optional true or false; false if it is not there.
    pub fn flag(&mut self, key: &'static str) -> Result<bool> {
        let Some(item) = self.item(key) else { return Ok(false) };
        item.as_bool().ok_or_else(|| self.wrong(key, item, "true or false"))
    }

    /// A list of texts; empty if it is not there.
    pub fn list(&mut self, key: &'static str) -> Result<Vec<String>> {
        let Some(item) = self.item(key) else { return Ok(Vec::new()) };
        let wrong = || self.wrong(key, item, "a list of texts");
        item.as_array().ok_or_else(wrong)?.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    /// The tables under `[[key]]`, in their order.
    pub fn tables(&mut self, key: &'static str) -> Result<Vec<Table<'a>>> {
        let Some(item) = self.item(key) else { return Ok(Vec::new()) };
        let source = self.source;
        if let Some(tables) = item.as_array_of_tables() {
            return Ok(tables.iter().map(|table| open(source, table, table.span())).collect());
        }
        let wrong = || self.wrong(key, item, "a list of tables");
        let values = item.as_array().ok_or_else(wrong)?;
        values
            .iter()
            .map(|value| match value {
                Value::InlineTable(table) => Ok(open(source, table, table.span())),
                _ => Err(wrong()),
            })
            .collect()
    }

    /// Refuses every key that nobody asked for.
    pub fn done(self) -> Result<()> {
        for (key, item) in self.table.iter() {
            if !self.asked.contains(&key) {
                let at =
                    self.table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span()).map_or(self.at, |span| span.start);
                return Err(self.source.error(at, format!("unknown key {key}; known here: {}", self.asked.join(", "))));
            }
        }
        Ok(())
    }
}

fn open<'a>(source: &'a Source, table: &'a dyn TableLike, span: Option<std::ops::Range<usize>>) -> Table<'a> {
    Table { source, table, asked: Vec::new(), at: span.map_or(0, |span| span.start) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse("x.toml", text).unwrap()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let source = source("suite = 'bookworm'\n\n[[drop]]\npaths = ['a']\nwhyy = 'x'\n");
        let mut top = source.table();
        assert_eq!(top.text("suite").unwrap(), "bookworm");
        for mut table in top.tables("drop").unwrap() {
            assert_eq!(table.list("paths").unwrap(), ["a"]);
            table.text_or_none("why").unwrap();
            assert_eq!(table.done().unwrap_err().to_string(), "x.toml:5: unknown key whyy; known here: paths, why");
        }
        top.done().unwrap();
    }

    #[test]
    fn wrong_kinds_and_syntax_name_the_line() {
        let text = source("a = 1\nb = 'x'\n[[c]]\nd = [1]\n");
        let mut top = text.table();
        assert!(top.text("a").unwrap_err().to_string().starts_with("x.toml:1: a must be"));
        assert!(top.number("b").unwrap_err().to_string().starts_with("x.toml:2: b must be"));
        let mut c = top.tables("c").unwrap().remove(0);
        assert!(c.list("d").unwrap_err().to_string().starts_with("x.toml:4: d must be"));
        assert!(c.text("e").unwrap_err().to_string().starts_with("x.toml:3: e is missing"));
        assert!(Source::parse("y.toml", "a = 1\n=\n").err().unwrap().to_string().starts_with("y.toml:2:"));
    }
}
