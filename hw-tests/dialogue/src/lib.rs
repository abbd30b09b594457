//! Runs dialogue files: what a client sends and what a server must answer, line by line.
//!
//! ```text
//! # comment                      (blank lines are ignored too)
//! S: 220 * ESMTP                 expected line; `*` is any run of characters
//! C: EHLO client.example         sent with CRLF
//! S*                             any lines up to the next expected one
//! S: 250 <last>                  captures the rest as `last`
//! C~ NOOP\r\nNOOP\r\n            sent as it is, without a line end of its own
//! C: X {last} {base64:\x00u\x00p}    captured text; base64 of a text
//! C<< END                        a block: each line up to END is sent with CRLF
//! Subject: hi
//! END
//! S<< END                        a block of expected lines, without patterns
//! +OK
//! END
//! 2C: NOOP                       a second connection; opened when first named
//! + TLS                          upgrades connection 1 (`2+ TLS`: connection 2)
//! + CLOSE                        drops the connection
//! + anything else                calls back into the test
//! S: [closed]                    the server closes
//! ```
//!
//! Escapes: `\r \n \t \\ \xHH`, and `\* \< \{` for the characters that mean something; any other `\` is itself
//! (`\Seen`). A `*` followed by a blank at the beginning of an expected line is itself too (IMAP's untagged answers).
//! Names are lower-case letters, digits and `_`, beginning with a letter, so `{12}` is no name.
//!
//! Contract: a dialogue ends with `Ok`, or with a [`Failure`] that shows file, line, what was expected, what came, and the
//! whole transcript. Every wait ends: after [`Dialogue::within`] at most.

mod pattern;
mod run;
mod script;

pub use run::{Dialogue, Duplex, Failure, Peer};
pub use script::{Script, ScriptError};

use std::path::{Path, PathBuf};

/// The dialogue files (`*.txt`) of a folder in order of their names.
///
/// # Errors
/// The folder cannot be read, or there is none in it: a test that runs nothing shows nothing.
pub fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    if files.is_empty() {
        let what = format!("{}: no dialogue files", dir.display());
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, what));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
