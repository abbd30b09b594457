//! `format=flowed` (RFC 3676): lines that were broken for the way are joined again.
//!
//! Contract: any text; a quoted line keeps its `>` marks in front, so that quotes can be told afterwards.

/// Undoes the flowing. `delsp`: the space that marks a soft break is no part of the text (RFC 3676 4.2), as in Chinese.
pub(super) fn unflow(text: &str, delsp: bool) -> String {
    let mut out = String::with_capacity(text.len());
    // Quote depth of the paragraph that goes on in the next line.
    let mut open: Option<usize> = None;
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let depth = line.bytes().take_while(|b| *b == b'>').count();
        let unquoted = &line[depth..];
        // RFC 3676 4.4: space stuffing.
        let content = unquoted.strip_prefix(' ').unwrap_or(unquoted);
        // RFC 3676 4.3: the line before a signature never flows.
        let is_signature = content == "-- ";
        if open != Some(depth) || is_signature {
            if !out.is_empty() {
                out.push('\n');
            }
            if depth > 0 {
                out.extend(std::iter::repeat_n('>', depth));
                out.push(' ');
            }
        }
        let flows = content.ends_with(' ') && !is_signature;
        out.push_str(if flows && delsp { &content[..content.len() - 1] } else { content });
        open = flows.then_some(depth);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_come_together() {
        for (flowed, delsp, plain) in [
            ("one \r\ntwo\r\nthree", false, "one two\nthree"),
            ("中文 \r\n字 \r\n完", true, "中文字完"),
            ("a \r\n> b \r\n> c\r\nd", false, "a \n> b c\nd"),
            (" >not quoted\r\n From", false, ">not quoted\nFrom"),
            ("text \r\n-- \r\nname \r\nx", false, "text \n-- \nname x"),
            (">> deep \r\n> shallow", false, ">> deep \n> shallow"),
            ("", false, ""),
        ] {
            assert_eq!(unflow(flowed, delsp), plain, "{flowed:?}");
        }
    }
}
