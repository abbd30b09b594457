//! Path patterns of the recipe: `*` and `?` stay within one part of a path, `**` crosses parts (`usr/share/**`, `**/*.la`).
//!
//! Contract: pure, no failure; the time is bounded by pattern length times path length for each `**`.

/// True if the whole `path` fits `pattern`.
#[must_use]
pub fn fits(pattern: &str, path: &str) -> bool {
    parts(&pattern.split('/').collect::<Vec<_>>(), &path.split('/').collect::<Vec<_>>())
}

fn parts(pattern: &[&str], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        // `a/**` means what is below a, not a itself; in the middle `**` may be nothing.
        Some((&"**", [])) => !path.is_empty(),
        Some((&"**", rest)) => (0..=path.len()).any(|skip| parts(rest, &path[skip..])),
        Some((first, rest)) => {
            path.split_first().is_some_and(|(part, path)| word(first.as_bytes(), part.as_bytes()) && parts(rest, path))
        }
    }
}

fn word(pattern: &[u8], text: &[u8]) -> bool {
    // The usual two-pointer walk: on a mismatch give the last `*` one byte more.
    let (mut p, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                t += 1;
            }
            Some(&byte) if byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;
    use proptest::prelude::*;

    #[test]
    fn stars() {
        for (pattern, path, want) in [
            ("usr/share/**", "usr/share/doc/x", true),
            ("usr/share/**", "usr/share", false),
            ("usr/*/doc", "usr/share/doc", true),
            ("usr/*/doc", "usr/a/b/doc", false),
            ("**/*.la", "x.la", true),
            ("**/*.la", "usr/lib/x.la", true),
            ("**/*.la", "usr/lib/x.lab", false),
            ("lib*.so.?", "libcap.so.2", true),
            ("lib*.so.?", "libcap.so.22", false),
            ("a/**/b", "a/b", true),
            ("*", "", true),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, path), want, "{pattern} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_path_fits_itself_and_any_shortening_by_a_star(path in "[a-c/.]{0,12}", at in 0_usize..12, len in 0_usize..12) {
            prop_assert!(fits(&path, &path));
            let (start, end) = (at.min(path.len()), (at + len).min(path.len()));
            if !path[start..end].contains('/') {
                let pattern = format!("{}*{}", &path[..start], &path[end..]);
                prop_assert!(fits(&pattern, &path), "{} {}", pattern, path);
            }
        }
    }
}
