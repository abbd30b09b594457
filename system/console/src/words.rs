//! A line as words, as a shell would split it, and nothing else of a shell.
//!
//! Contract: blanks separate; `'...'` is taken as it stands; in `"..."` and outside of quotes a backslash takes the next
//! character as it stands. No variable, no pattern, no redirection: `$`, `*`, `>` and `;` are letters like others.
//!
//! Failure classes: a quote that is not closed, a backslash at the end ([`Unclosed`]).

/// A quote or a backslash has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not closed")]
pub struct Unclosed(
    /// What was opened: `'`, `"` or `\`.
    pub char,
);

/// The words of a line.
///
/// # Errors
/// [`Unclosed`].
pub fn split(line: &str) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or(Unclosed('\''))? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or(Unclosed('"'))? {
                        '"' => break,
                        '\\' => word.push(letters.next().ok_or(Unclosed('"'))?),
                        other => word.push(other),
                    }
                }
            }
            '\\' => {
                let next = letters.next().ok_or(Unclosed('\\'))?;
                word.get_or_insert_default().push(next);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// The words as one line that [`split`] takes apart again.
pub(crate) fn join(words: &[String]) -> String {
    let plain = |word: &String| !word.is_empty() && !word.contains([' ', '\t', '\'', '"', '\\']);
    let quoted = |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The words as they may stand in a log: no password, no key, no user in an address.
pub(crate) fn for_log(words: &[String]) -> String {
    const SECRET: [&str; 4] = ["password", "secret", "code", "token"];
    let secret = |name: &str| name.starts_with('-') && SECRET.iter().any(|part| name.contains(part));
    let mut shown = Vec::with_capacity(words.len());
    let mut hide = false;
    for word in words {
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        shown.push(if hide {
            "***".to_owned()
        } else if secret(name) && value.is_some() {
            format!("{name}=***")
        } else {
            hide_user(word)
        });
        hide = !hide && secret(name) && value.is_none() && !name.ends_with("-stdin");
    }
    // `pair pairing join ADDRESS CODE`
    if let [first, second, third, .., last] = words
        && (first.as_str(), second.as_str(), third.as_str()) == ("pair", "pairing", "join")
        && last != third
        && let Some(code) = shown.last_mut()
    {
        "***".clone_into(code);
    }
    join(&shown)
}

/// `redfish:https://user:word@host` without its word.
fn hide_user(word: &str) -> String {
    match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 < at => format!("{}://***{}", &word[..scheme], &word[at..]),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_and_backslashes() {
        let words = |line| split(line).unwrap();
        assert_eq!(words("  pair \t status --json "), ["pair", "status", "--json"]);
        assert_eq!(words(r#"a 'b  c' "d \" e" f\ g "" h'i'j"#), ["a", "b  c", "d \" e", "f g", "", "hij"]);
        assert_eq!(words("$HOME * > ; `x` | y"), ["$HOME", "*", ">", ";", "`x`", "|", "y"]);
        assert_eq!(split("a 'b"), Err(Unclosed('\'')));
        assert_eq!(split("a \"b\\"), Err(Unclosed('"')));
        assert_eq!(split("a\\"), Err(Unclosed('\\')));
        assert_eq!(words(""), Vec::<String>::new());
    }

    #[test]
    fn secrets_stay_out_of_the_log() {
        let log = |line| for_log(&split(line).unwrap());
        assert_eq!(log("setup --power redfish:https://root:x@10.0.0.1 --power-password y --lan 1/2"), {
            "setup --power redfish:https://***@10.0.0.1 --power-password *** --lan 1/2"
        });
        assert_eq!(log("x --bmc-password=abc z"), "x --bmc-password=*** z");
        assert_eq!(log("pair pairing join 169.254.77.1:6943 1234-5678"), "pair pairing join 169.254.77.1:6943 ***");
        assert_eq!(
            log("account add a@b.example --password-stdin --role user"),
            "account add a@b.example --password-stdin --role user"
        );
    }

    proptest! {
        #[test]
        fn what_was_joined_is_split_again(words in proptest::collection::vec("[ -~é中]{0,12}", 0..8)) {
            prop_assert_eq!(split(&join(&words)).unwrap(), words);
        }
        #[test]
        fn no_line_panics(line in "\\PC{0,200}") {
            let _ = split(&line);
            if let Ok(words) = split(&line) {
                let _ = for_log(&words);
            }
        }
    }
}
