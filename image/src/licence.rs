//! Licences of Debian packages as SPDX expressions, from copyright files in their machine-readable form.
//!
//! Contract: a file in another form, or one whose licences cannot be told, gives `None`: then the bill says NOASSERTION, not a guess.
//! Names without an entry in the SPDX list become `LicenseRef-...`. Sources: Debian's copyright-format 1.0; SPDX 2.3, annexes A and D.

use std::collections::BTreeSet;

/// Debian's short name (small letters) -> name in the SPDX list.
const NAMES: [(&str, &str); 44] = [
    ("apache-2", "Apache-2.0"),
    ("apache-2.0", "Apache-2.0"),
    ("artistic", "Artistic-1.0-Perl"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd-4-clause-uc", "BSD-4-Clause-UC"),
    ("bsl-1.0", "BSL-1.0"),
    ("bzip2", "bzip2-1.0.6"),
    ("cc0", "CC0-1.0"),
    ("cc0-1.0", "CC0-1.0"),
    ("expat", "MIT"),
    ("mit", "MIT"),
    ("gfdl-1.3", "GFDL-1.3-only"),
    ("gfdl-1.3+", "GFDL-1.3-or-later"),
    ("gfdl-1.2+", "GFDL-1.2-or-later"),
    ("gpl-1+", "GPL-1.0-or-later"),
    ("gpl-1", "GPL-1.0-only"),
    ("gpl-2", "GPL-2.0-only"),
    ("gpl-2.0", "GPL-2.0-only"),
    ("gpl-2+", "GPL-2.0-or-later"),
    ("gpl-2.0+", "GPL-2.0-or-later"),
    ("gpl-2.0-or-later", "GPL-2.0-or-later"),
    ("gpl-2.0-only", "GPL-2.0-only"),
    ("gpl-3", "GPL-3.0-only"),
    ("gpl-3+", "GPL-3.0-or-later"),
    ("gpl-3.0+", "GPL-3.0-or-later"),
    ("isc", "ISC"),
    ("lgpl-2", "LGPL-2.0-only"),
    ("lgpl-2.0", "LGPL-2.0-only"),
    ("lgpl-2+", "LGPL-2.0-or-later"),
    ("lgpl-2.0+", "LGPL-2.0-or-later"),
    ("lgpl-2.1", "LGPL-2.1-only"),
    ("lgpl-2.1+", "LGPL-2.1-or-later"),
    ("lgpl-2.1-or-later", "LGPL-2.1-or-later"),
    ("lgpl-3", "LGPL-3.0-only"),
    ("lgpl-3+", "LGPL-3.0-or-later"),
    ("lgpl-3.0+", "LGPL-3.0-or-later"),
    ("mpl-2.0", "MPL-2.0"),
    ("mpl-1.1", "MPL-1.1"),
    ("openssl", "OpenSSL"),
    ("unicode", "Unicode-DFS-2016"),
    ("x11", "X11"),
    ("zlib", "Zlib"),
    ("bsd-0-clause", "0BSD"),
];

/// A licence that the SPDX list has not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// `LicenseRef-...`.
    pub id: String,
    /// The name in Debian's file.
    pub name: String,
}

/// The expression of a copyright file, and the names in it that SPDX has not.
#[must_use]
pub fn expression(copyright: &str) -> Option<(String, BTreeSet<Reference>)> {
    let first = copyright.lines().find(|line| !line.trim().is_empty())?;
    if !(first.starts_with("Format:") && first.contains("copyright-format/1.0")) {
        return None;
    }
    let (mut terms, mut references) = (BTreeSet::new(), BTreeSet::new());
    // Paragraphs with `Files` say what holds; those without are the texts.
    for paragraph in paragraphs(copyright).filter(|paragraph| paragraph.iter().any(|line| line.starts_with("Files:"))) {
        let licence = paragraph.iter().find_map(|line| line.strip_prefix("License:"))?;
        terms.insert(alternatives(licence.trim(), &mut references)?);
    }
    if terms.is_empty() {
        return None;
    }
    // Only an alternative among several terms needs its parentheses.
    let alone = terms.len() == 1;
    let terms: Vec<String> =
        terms.into_iter().map(|term| if !alone && term.contains(" OR ") { format!("({term})") } else { term }).collect();
    Some((terms.join(" AND "), references))
}

fn paragraphs(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines: Vec<&str> = text.lines().collect();
    let parts: Vec<Vec<&str>> =
        lines.split(|line| line.trim().is_empty()).filter(|part| !part.is_empty()).map(<[&str]>::to_vec).collect();
    parts.into_iter()
}

/// `GPL-2+ or Artistic, and Expat`: `or` binds weaker than `and`, a comma before `and` turns that round; that rare form is taken as written
/// without the comma, so that nothing is left out.
fn alternatives(licence: &str, references: &mut BTreeSet<Reference>) -> Option<String> {
    let licence = licence.replace(',', " ").replace(" and/or ", " or ");
    let words: Vec<&str> = licence.split_whitespace().collect();
    let mut alternatives: BTreeSet<String> = BTreeSet::new();
    for alternative in words.split(|word| word.eq_ignore_ascii_case("or")) {
        let mut parts: BTreeSet<String> = BTreeSet::new();
        for part in alternative.split(|word| word.eq_ignore_ascii_case("and")) {
            parts.insert(name(&part.join(" "), references)?);
        }
        alternatives.insert(parts.into_iter().collect::<Vec<_>>().join(" AND "));
    }
    Some(alternatives.into_iter().collect::<Vec<_>>().join(" OR "))
}

fn name(name: &str, references: &mut BTreeSet<Reference>) -> Option<String> {
    let small = name.to_ascii_lowercase();
    if small.is_empty() {
        return None;
    }
    if let Some((_, id)) = NAMES.iter().find(|(debian, _)| *debian == small) {
        return Some((*id).to_owned());
    }
    let word: String = name.chars().map(|char| if char.is_ascii_alphanumeric() || char == '.' { char } else { '-' }).collect();
    let id = format!("LicenseRef-Debian-{}", word.trim_matches('-'));
    references.insert(Reference { id: id.clone(), name: name.to_owned() });
    Some(id)
}

/// Entry point of the property test.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = expression(&text);
    let _ = expression(&format!("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORMAT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n";

    #[test]
    fn machine_readable_files() {
        let of = |body: &str| expression(&format!("{FORMAT}{body}"));
        let (text, references) =
            of("Files: *\nLicense: LGPL-2.1+\n\nFiles: a\nLicense: GPL-2 or Expat\n text\n\nLicense: GPL-2\n text\n").unwrap();
        assert_eq!(text, "(GPL-2.0-only OR MIT) AND LGPL-2.1-or-later");
        assert!(references.is_empty());
        let (text, references) = of("Files: *\nLicense: GPL-2+ with OpenSSL exception and public-domain\n").unwrap();
        assert_eq!(text, "LicenseRef-Debian-GPL-2--with-OpenSSL-exception AND LicenseRef-Debian-public-domain");
        assert_eq!(references.len(), 2);
        assert_eq!(of("Files: *\nCopyright: x\n"), None);
        assert_eq!(expression("This is free software.\nLicense: GPL\n"), None);
        assert_eq!(expression(""), None);
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz(&data);
        }

        #[test]
        fn an_expression_has_only_what_spdx_allows(licences in proptest::collection::vec("[A-Za-z0-9+. ]{0,20}", 1..4)) {
            let body: String = licences.iter().map(|licence| format!("Files: x\nLicense: {licence}\n\n")).collect();
            if let Some((text, _)) = expression(&format!("{FORMAT}{body}")) {
                let fits = text.split([' ', '(', ')']).all(|word| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte)));
                prop_assert!(fits, "{}", text);
            }
        }
    }
}
