//! How a table of keys reads itself and describes itself.

use crate::value::Value;
use std::fmt;
use toml_edit::{Item, TableLike};

/// One thing wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line from 1; 0 when the fault belongs to no line (a key that is missing).
    pub line: usize,
    /// Full name of the key, `smtp.max_message`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The faults of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    file: String,
    line_starts: Vec<usize>,
    list: Vec<Fault>,
}

impl Faults {
    /// No faults yet of this file with this text.
    #[must_use]
    pub fn new(file: &str, text: &str) -> Self {
        let line_starts = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1));
        Self { file: file.to_owned(), line_starts: line_starts.collect(), list: Vec::new() }
    }
    /// Line, from 1, of this byte.
    #[must_use]
    pub fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }
    /// Adds one, at these bytes of the text if it has a place.
    pub fn add(&mut self, at: Option<std::ops::Range<usize>>, key: &str, message: impl Into<String>) {
        let line = at.map_or(0, |range| self.line_of(range.start));
        self.list.push(Fault { line, key: key.to_owned(), message: message.into() });
    }
    /// Adds one at this line; 0: it has no place.
    pub fn add_at_line(&mut self, line: usize, key: &str, message: impl Into<String>) {
        self.list.push(Fault { line, key: key.to_owned(), message: message.into() });
    }
    /// Adds that the text is no TOML.
    pub fn syntax(&mut self, error: &toml_edit::TomlError) {
        self.add(error.span(), "", format!("this is not TOML: {}", error.message()));
    }
    /// No fault was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
    /// All faults in the order of their lines.
    #[must_use]
    pub fn sorted(&self) -> Vec<Fault> {
        let mut list = self.list.clone();
        list.sort_by_key(|f| f.line);
        list
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.sorted().iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match fault.line {
                0 => write!(f, "{}: ", self.file)?,
                line => write!(f, "{}:{line}: ", self.file)?,
            }
            if !fault.key.is_empty() {
                write!(f, "{}: ", fault.key)?;
            }
            write!(f, "{}", fault.message)?;
        }
        Ok(())
    }
}

/// What the reference says of one key.
#[derive(Clone, Debug)]
pub struct KeyDoc {
    /// Name of the table, `smtp`; empty for the document itself.
    pub section: String,
    /// Name of the key.
    pub key: &'static str,
    /// What may stand there, with unit and limits.
    pub kind: String,
    /// What holds when the key is absent, as TOML.
    pub default: String,
    /// What it does.
    pub doc: String,
}

/// A table of the document.
pub(crate) trait Section: Sized {
    /// Reads the table; an absent table gives the defaults. Each fault is added, none stops the reading.
    fn read(table: Option<&dyn TableLike>, path: &str, faults: &mut Faults) -> Self;
    /// Describes every key.
    fn describe(path: &str, out: &mut Vec<KeyDoc>);
}

/// Full name of a key in a table.
#[must_use]
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Refuses what is not in `known`, with the nearest known name as advice.
pub fn refuse_unknown(table: &dyn TableLike, path: &str, known: &[&str], faults: &mut Faults) {
    for (key, item) in table.iter() {
        if known.contains(&key) {
            continue;
        }
        let at = table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span());
        let advice = known.iter().map(|k| (distance(k, key), k)).min().filter(|(d, k)| *d <= k.len().max(3) / 2);
        let message = match advice {
            Some((_, near)) => format!("there is no such key; did you mean \"{near}\"?"),
            None => format!("there is no such key here; known are: {}", known.join(", ")),
        };
        faults.add(at, &join(path, key), message);
    }
}

/// Levenshtein distance, for advice only.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Reads one key, or its default when absent or at fault (the fault is noted).
pub(crate) fn key<V: Value>(
    table: Option<&dyn TableLike>,
    path: &str,
    name: &str,
    faults: &mut Faults,
    default: impl FnOnce() -> V,
    limits: impl Fn(&V) -> Result<(), String>,
) -> V {
    let Some(item) = table.and_then(|t| t.get(name)).filter(|item| !item.is_none()) else { return default() };
    let full = join(path, name);
    match V::read(item).and_then(|value| limits(&value).map(|()| value)) {
        Ok(value) => value,
        Err(message) => {
            faults.add(item.span(), &full, message);
            default()
        }
    }
}

/// Reads a sub-table.
pub(crate) fn table<S: Section>(parent: Option<&dyn TableLike>, path: &str, name: &str, faults: &mut Faults) -> S {
    let full = join(path, name);
    match parent.and_then(|t| t.get(name)) {
        None | Some(Item::None) => S::read(None, &full, faults),
        Some(item) => match item.as_table_like() {
            Some(inner) => S::read(Some(inner), &full, faults),
            None => {
                faults.add(item.span(), &full, format!("this is a table: write [{full}]"));
                S::read(None, &full, faults)
            }
        },
    }
}

/// Declares a table: its struct, how it is read and how it is described.
///
/// `name: Type = "default as TOML text", limits` — `limits` is `..` for none or a range of the type's own measure.
macro_rules! section {
    ($(#[doc = $sdoc:literal])* $name:ident { $( $(#[doc = $doc:literal])+ $key:ident : $type:ty = $default:literal $(, in $low:literal ..= $high:literal)? ; )* $( tables { $( $(#[doc = $tdoc:literal])+ [$table:ident] : $ttype:ty ; )* } )? }) => {
        $(#[doc = $sdoc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $key: $type, )*
            $( $( $(#[doc = $tdoc])+ pub $table: $ttype, )* )?
        }
        impl $crate::schema::Section for $name {
            fn read(table: Option<&dyn toml_edit::TableLike>, path: &str, faults: &mut $crate::schema::Faults) -> Self {
                if let Some(table) = table {
                    $crate::schema::refuse_unknown(table, path, &[$(stringify!($key),)* $($(stringify!($table),)*)?], faults);
                }
                Self {
                    $( $key: $crate::schema::key::<$type>(table, path, stringify!($key), faults,
                        || <$type as $crate::value::Value>::from_text($default).expect("the default in the table above is valid: a test reads them all"),
                        |_value| { $( <$type as $crate::value::Value>::within(_value, $low, $high)?; )? Ok(()) }), )*
                    $( $( $table: $crate::schema::table::<$ttype>(table, path, stringify!($table), faults), )* )?
                }
            }
            fn describe(path: &str, out: &mut Vec<$crate::schema::KeyDoc>) {
                $( out.push($crate::schema::KeyDoc {
                    section: path.to_owned(),
                    key: stringify!($key),
                    kind: {
                        let limits: &[(&str, &str)] = &[$(($low, $high))?];
                        let kind = <$type as $crate::value::Value>::kind();
                        limits.first().map_or(kind.clone(), |(low, high)| format!("{kind}, {low} to {high}"))
                    },
                    default: $default.to_owned(),
                    doc: [$($doc),+].map(str::trim).join(" "),
                }); )*
                $( $( <$ttype as $crate::schema::Section>::describe(&$crate::schema::join(path, stringify!($table)), out); )* )?
            }
        }
        impl Default for $name {
            fn default() -> Self {
                let mut none = $crate::schema::Faults::new("", "");
                <Self as $crate::schema::Section>::read(None, "", &mut none)
            }
        }
    };
}
pub(crate) use section;
