//! How two histories meet.
//!
//! Contract: a node's head moves only to a generation that descends from it, to another one with the same text, or away from a document of the factory.
//! Whatever order offers and answers come in, and whichever get lost: when both nodes have heard of each other's head they hold the same text,
//! or both say that there is a conflict, or one of them says which faults keep it from taking the other's.
//!
//! Failure classes: [`HistoryError`].

use super::store::{Validate, now_s};
use super::{ANCESTORS, Choice, Generation, History, HistoryError, Offer, Received, Seen};

/// What the offering node has to tell after the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settled {
    /// Both nodes hold the same text.
    Agreed,
    /// See [`History::conflict`].
    Conflict,
    /// The other node does not take this node's document.
    TheyRefuse {
        /// Its reasons.
        faults: Vec<String>,
    },
    /// This node does not take the other's.
    WeRefuse {
        /// The reasons.
        faults: Vec<String>,
    },
    /// There was nothing to offer, or the answer is of a newer version.
    Open,
}

/// How an offered generation stands to the head here.
enum Relation {
    Same,
    SameText,
    Newer,
    Older,
    Apart,
}

impl History {
    /// Decides about the other node's head, and does it.
    ///
    /// # Errors
    /// [`HistoryError::File`]; nothing has changed then.
    pub fn receive(&mut self, offer: &Offer, validate: Validate<'_>) -> Result<Received, HistoryError> {
        if !offer.is_whole() {
            return Ok(Received::Refused { faults: vec!["the offered document is damaged or too large".to_owned()] });
        }
        match self.notice(validate)? {
            Seen::Faults(faults) => return Ok(Received::Edited { faults }),
            Seen::Settling => return Ok(Received::Edited { faults: vec!["the file is being edited just now".to_owned()] }),
            Seen::Same | Seen::New(_) | Seen::Restored | Seen::Nothing => {}
        }
        let Some(mine) = self.offer() else { return self.follow(offer, validate) };
        match relation(&mine, offer) {
            Relation::Same => {
                self.calm()?;
                Ok(Received::Same { mine: Box::new(mine) })
            }
            Relation::SameText => {
                // Both nodes pick the same one of the two.
                let key = |g: &Generation| (g.number, g.id.clone());
                if key(&offer.generation) > key(&mine.generation) {
                    self.advance(offer.generation.clone(), offer.ancestors.clone(), None, false)?;
                } else {
                    self.calm()?;
                }
                Ok(Received::Same { mine: Box::new(self.offer().unwrap_or(mine)) })
            }
            Relation::Newer => self.follow(offer, validate),
            Relation::Older => Ok(Received::Behind { mine: Box::new(mine) }),
            Relation::Apart => {
                if self.state.conflict.as_ref() != Some(offer) {
                    let mut next = self.state.clone();
                    next.conflict = Some(offer.clone());
                    self.save(&next)?;
                    self.state = next;
                }
                Ok(Received::Conflict { mine: Box::new(mine) })
            }
        }
    }

    /// Draws the consequences from the other node's answer to this node's offer.
    ///
    /// # Errors
    /// As [`History::receive`].
    pub fn answered(&mut self, answer: &Received, validate: Validate<'_>) -> Result<Settled, HistoryError> {
        match answer {
            Received::Taken => {
                self.calm()?;
                Ok(Settled::Agreed)
            }
            Received::Refused { faults } | Received::Edited { faults } => Ok(Settled::TheyRefuse { faults: faults.clone() }),
            Received::Other => Ok(Settled::Open),
            Received::Same { mine } | Received::Behind { mine } | Received::Conflict { mine } => {
                Ok(match self.receive(mine, validate)? {
                    Received::Taken | Received::Same { .. } => Settled::Agreed,
                    Received::Conflict { .. } => Settled::Conflict,
                    Received::Refused { faults } | Received::Edited { faults } => Settled::WeRefuse { faults },
                    // This node went on while the answer was on its way: the next offer settles it.
                    Received::Behind { .. } | Received::Other => Settled::Open,
                })
            }
        }
    }

    /// A person decides the conflict: the chosen text becomes a generation that descends from both sides.
    ///
    /// # Errors
    /// [`HistoryError::NoConflict`]; [`HistoryError::Faults`] where the chosen document does not hold here; those of [`History::take`].
    pub fn choose(&mut self, choice: Choice, who: &str, validate: Validate<'_>) -> Result<Generation, HistoryError> {
        self.undisturbed(validate)?;
        let (Some(ours), Some(theirs)) = (self.head.clone(), self.state.conflict.clone()) else {
            return Err(HistoryError::NoConflict);
        };
        let text = match choice {
            Choice::Ours => &ours.text,
            Choice::Theirs => &theirs.generation.text,
        };
        validate(text).map_err(HistoryError::Faults)?;
        let number = ours.number.max(theirs.generation.number).saturating_add(1);
        let parents = vec![ours.id.clone(), theirs.generation.id.clone()];
        let who: String = who.chars().take(100).collect();
        let made = Generation::new(number, parents, now_s(), &who, text);
        // The side that was not chosen can be looked up afterwards.
        self.keep(&theirs.generation)?;
        if !self.state.kept.contains(&theirs.generation.id) {
            let mut next = self.state.clone();
            next.kept.insert(next.kept.len().min(1), theirs.generation.id.clone());
            self.save(&next)?;
            self.state = next;
        }
        self.advance(made.clone(), theirs.ancestors, None, choice == Choice::Theirs)?;
        Ok(made)
    }

    fn follow(&mut self, offer: &Offer, validate: Validate<'_>) -> Result<Received, HistoryError> {
        if let Err(faults) = validate(&offer.generation.text) {
            return Ok(Received::Refused { faults });
        }
        let write = self.head.as_ref().is_none_or(|head| head.text != offer.generation.text);
        self.advance(offer.generation.clone(), offer.ancestors.clone(), None, write)?;
        Ok(Received::Taken)
    }

    /// There is no conflict (any more).
    fn calm(&mut self) -> Result<(), HistoryError> {
        if self.state.conflict.is_some() {
            let mut next = self.state.clone();
            next.conflict = None;
            self.save(&next)?;
            self.state = next;
        }
        Ok(())
    }
}

fn relation(mine: &Offer, theirs: &Offer) -> Relation {
    let (ours, other) = (&mine.generation, &theirs.generation);
    debug_assert!(mine.ancestors.len() <= ANCESTORS);
    if ours.id == other.id {
        return Relation::Same;
    }
    if theirs.ancestors.contains(&ours.id) {
        return Relation::Newer;
    }
    if mine.ancestors.contains(&other.id) {
        return Relation::Older;
    }
    if ours.hash == other.hash {
        return Relation::SameText;
    }
    match (ours.number, other.number) {
        (0, 0) if other.id > ours.id => Relation::Newer,
        (0, 0) => Relation::Older,
        (0, _) => Relation::Newer,
        (_, 0) => Relation::Older,
        _ => Relation::Apart,
    }
}
