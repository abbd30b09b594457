//! Which board a machine is.

use crate::Error;
use crate::board::Board;
use crate::dmi::Dmi;
use crate::load::Boards;

/// The choice among boards, with the reason of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The board; none fits: use [`Boards::careful`].
    pub board: Option<Board>,
    /// What was thought of each board that has a match.
    pub verdicts: Vec<Verdict>,
}

/// What was thought of one board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its full name.
    pub name: String,
    /// How narrow the match is; none: it does not fit.
    pub weight: Option<u32>,
    /// Why, in words.
    pub why: String,
}

impl Boards {
    /// The board that fits best: the narrower match wins.
    ///
    /// # Errors
    /// [`Error::Ambiguous`]: two fit equally well.
    pub fn matching(&self, dmi: &Dmi) -> Result<Choice, Error> {
        let mut verdicts = Vec::new();
        let mut best: Option<(u32, &Board)> = None;
        let mut equal: Option<(u32, &Board)> = None;
        for board in self.boards.iter().filter(|board| !board.matches.is_empty()) {
            let outcomes: Vec<_> = board.matches.iter().map(|m| (m, m.against(dmi))).collect();
            let fit = outcomes.iter().filter_map(|(m, outcome)| outcome.as_ref().ok().map(|w| (*w, m))).max_by_key(|(w, _)| *w);
            let verdict = match fit {
                Some((weight, m)) => {
                    match best {
                        Some((most, _)) if most > weight => {}
                        Some((most, _)) if most == weight => equal = Some((weight, board)),
                        _ => best = Some((weight, board)),
                    }
                    Verdict { name: board.full_name(), weight: Some(weight), why: format!("fits by {}", m.words()) }
                }
                None => {
                    let why: Vec<String> = outcomes.iter().filter_map(|(_, o)| o.as_ref().err()).map(|d| d.join("; ")).collect();
                    Verdict { name: board.full_name(), weight: None, why: why.join(", or ") }
                }
            };
            verdicts.push(verdict);
        }
        match (best, equal) {
            (Some((weight, first)), Some((same, second))) if weight == same => {
                Err(Error::Ambiguous { first: first.full_name(), second: second.full_name() })
            }
            (best, _) => Ok(Choice { board: best.map(|(_, board)| board.clone()), verdicts }),
        }
    }
}
