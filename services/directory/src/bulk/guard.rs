//! Cells that a spreadsheet would take for formulas.
//!
//! A display name `=HYPERLINK(...)` in an exported list runs as a formula on the machine of whoever opens the list (CWE-1236). The
//! export puts an apostrophe before such a cell, as spreadsheets themselves do for text; the import takes it off. A cell that
//! begins with apostrophes before such a character gets one more, so that each cell comes back as it was.

use std::borrow::Cow;

/// What may begin a formula.
const RISKY: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

fn is_risky(cell: &str) -> bool {
    cell.trim_start_matches('\'').starts_with(RISKY)
}

/// The cell as it may stand in a list.
pub(super) fn guarded(cell: &str) -> Cow<'_, str> {
    if is_risky(cell) { Cow::Owned(format!("'{cell}")) } else { Cow::Borrowed(cell) }
}

/// The cell as it was before [`guarded`].
pub(super) fn plain(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if is_risky(rest) => rest,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn formulas_are_text_and_names_stay() {
        for (cell, shown) in
            [("=1+1", "'=1+1"), ("+49 30", "'+49 30"), ("@x", "'@x"), ("-", "'-"), ("'=x", "''=x"), ("\t=1", "'\t=1")]
        {
            assert_eq!((guarded(cell).as_ref(), plain(shown)), (shown, cell));
        }
        for cell in ["", "O'Neill", "'quoted' name", "a=b", "张三", "a@b.example"] {
            assert_eq!((guarded(cell).as_ref(), plain(cell)), (cell, cell));
        }
    }

    proptest! {
        #[test]
        fn each_cell_comes_back(cell in "['=+@a\\-]{0,6}.{0,5}") {
            let shown = guarded(&cell);
            prop_assert!(!shown.starts_with(RISKY));
            prop_assert_eq!(plain(&shown), cell.as_str());
        }
    }
}
