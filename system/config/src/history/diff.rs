//! What differs between two documents, for people.
//!
//! Contract: [`diff`] shows whole lines, three of context around each change; equal documents give an empty text. Time and memory are bounded: where the differing
//! middle is too large to compare line by line it is shown as replaced.
//!
//! Failure classes: none.

/// Lines around a change.
const CONTEXT: usize = 3;
/// Cells of the table of the comparison.
const MAX_CELLS: usize = 4 << 20;

/// One line of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line<'a> {
    Both(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// The lines of `old` that go, those of `new` that come, and those that stay, as `diff -u` shows them.
#[must_use]
pub fn diff(old: &str, new: &str) -> String {
    let script = compare(old, new);
    let changed: Vec<usize> = (0..script.len()).filter(|&i| !matches!(script[i], Line::Both(_))).collect();
    let mut out = String::new();
    let (mut at, mut old_line, mut new_line) = (0, 1, 1);
    let mut next = 0;
    while next < changed.len() {
        // One hunk takes in every change whose context touches the last one's.
        let from = changed[next].saturating_sub(CONTEXT);
        let mut last = changed[next];
        while next < changed.len() && changed[next] <= last + 2 * CONTEXT + 1 {
            last = changed[next];
            next += 1;
        }
        let to = (last + CONTEXT + 1).min(script.len());
        for line in &script[at..from] {
            step(line, &mut old_line, &mut new_line);
        }
        let hunk = &script[from..to];
        let count = |wanted: fn(&Line<'_>) -> bool| hunk.iter().filter(|line| wanted(line)).count();
        let olds = count(|line| !matches!(line, Line::New(_)));
        let news = count(|line| !matches!(line, Line::Old(_)));
        out.push_str(&format!("@@ -{old_line},{olds} +{new_line},{news} @@\n"));
        for line in hunk {
            let (mark, text) = match line {
                Line::Both(text) => (' ', text),
                Line::Old(text) => ('-', text),
                Line::New(text) => ('+', text),
            };
            out.push(mark);
            out.push_str(text);
            out.push('\n');
            step(line, &mut old_line, &mut new_line);
        }
        at = to;
    }
    out
}

fn step(line: &Line<'_>, old_line: &mut usize, new_line: &mut usize) {
    *old_line += usize::from(!matches!(line, Line::New(_)));
    *new_line += usize::from(!matches!(line, Line::Old(_)));
}

/// A shortest way from `old` to `new` in whole lines (longest common subsequence of the middle part).
pub(super) fn compare<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (middle_old, middle_new) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut script: Vec<Line<'a>> = old[..head].iter().map(|line| Line::Both(line)).collect();
    let (n, m) = (middle_old.len(), middle_new.len());
    if (n + 1).saturating_mul(m + 1) > MAX_CELLS {
        script.extend(middle_old.iter().map(|line| Line::Old(line)));
        script.extend(middle_new.iter().map(|line| Line::New(line)));
    } else {
        // common[i][j]: length of the longest common subsequence of what is left from i and j on.
        let mut common = vec![0_u32; (n + 1) * (m + 1)];
        let cell = |i: usize, j: usize| i * (m + 1) + j;
        for i in (0..n).rev() {
            for j in (0..m).rev() {
                common[cell(i, j)] = if middle_old[i] == middle_new[j] {
                    common[cell(i + 1, j + 1)] + 1
                } else {
                    common[cell(i + 1, j)].max(common[cell(i, j + 1)])
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < n || j < m {
            if i < n && j < m && middle_old[i] == middle_new[j] {
                script.push(Line::Both(middle_old[i]));
                (i, j) = (i + 1, j + 1);
            } else if j == m || (i < n && common[cell(i + 1, j)] >= common[cell(i, j + 1)]) {
                script.push(Line::Old(middle_old[i]));
                i += 1;
            } else {
                script.push(Line::New(middle_new[j]));
                j += 1;
            }
        }
    }
    script.extend(old[old.len() - tail..].iter().map(|line| Line::Both(line)));
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_change_is_shown_with_its_surroundings() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n";
        let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n";
        let expected = "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n@@ -12,4 +12,5 @@\n 12\n 13\n 14\n+15\n \n";
        assert_eq!(diff(old, new), expected);
        assert_eq!(diff(old, old), "");
        assert_eq!(diff("", "a"), "@@ -1,1 +1,1 @@\n-\n+a\n");
    }

    #[test]
    fn the_work_is_bounded() {
        let (old, new): (String, String) =
            ((0..40_000).map(|n| format!("{n}\n")).collect(), (0..40_000).map(|n| format!("x{n}\n")).collect());
        assert_eq!(compare(&old, &new).len(), 80_001);
    }

    proptest! {
        #[test]
        fn both_documents_can_be_read_back(old in "[abc\n]{0,40}", new in "[abc\n]{0,40}") {
            let script = compare(&old, &new);
            let read = |skip: fn(&Line<'_>) -> bool| -> String {
                let lines: Vec<&str> = script.iter().filter(|l| !skip(l)).map(|l| match l { Line::Both(t) | Line::Old(t) | Line::New(t) => *t }).collect();
                lines.join("\n")
            };
            prop_assert_eq!(read(|l| matches!(l, Line::New(_))), old.clone());
            prop_assert_eq!(read(|l| matches!(l, Line::Old(_))), new.clone());
            prop_assert_eq!(diff(&old, &new).is_empty(), old == new);
        }
    }
}
