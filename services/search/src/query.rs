//! What can be asked, and its form for the engine.
//!
//! Contract: a query is monotone (no negation): a body that matches by a part of its text matches. The caller turns NOT
//! around with [`Hits`](crate::Hits): what is known, not sure and not unsure does not match.

use crate::grams::{Cover, cover};
use std::ops::Bound;
use tantivy::Term;
use tantivy::query::{AllQuery, BooleanQuery, PhraseQuery, Query as EngineQuery, RangeQuery, TermQuery};
use tantivy::schema::{Field as EngineField, IndexRecordOption};
use twinpost_message::fold;

/// Longest needle, in characters of its folded form, that is answered exactly. Of a longer one the beginning is searched, and
/// all hits are [`Hits::unsure`](crate::Hits::unsure).
pub(crate) const NEEDLE_MAX_CHARS: usize = 512;

/// Where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// SUBJECT
    Subject,
    /// FROM
    From,
    /// TO
    To,
    /// CC
    Cc,
    /// BCC
    Bcc,
    /// Anywhere in the header. A HEADER search narrows with it and confirms the field itself.
    Headers,
    /// BODY
    Body,
    /// TEXT: header or body.
    Text,
}

/// Which bodies to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// This text is a substring of the field.
    Has(Field, String),
    /// All of these; of none of them every body.
    And(Vec<Query>),
    /// Any of these.
    Or(Vec<Query>),
}

/// Fields of the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub body: EngineField,
    pub account: EngineField,
    pub cut: EngineField,
    pub subject: EngineField,
    pub from: EngineField,
    pub to: EngineField,
    pub cc: EngineField,
    pub bcc: EngineField,
    pub headers: EngineField,
    pub text: EngineField,
}

impl Query {
    /// The engine's query, and whether it is the exact one (else it finds more).
    pub(crate) fn build(&self, fields: &Fields) -> (Box<dyn EngineQuery>, bool) {
        let all = |list: &[Self]| {
            let built: Vec<_> = list.iter().map(|query| query.build(fields)).collect();
            let exact = built.iter().all(|(_, exact)| *exact);
            (built.into_iter().map(|(query, _)| query).collect::<Vec<_>>(), exact)
        };
        match self {
            Self::Has(Field::Text, text) => {
                let (headers, exact) = has(fields.headers, text);
                let (body, _) = has(fields.text, text);
                (Box::new(BooleanQuery::union(vec![headers, body])), exact)
            }
            Self::Has(field, text) => has(fields.of(*field), text),
            Self::And(list) if list.is_empty() => (Box::new(AllQuery), true),
            Self::And(list) => {
                let (queries, exact) = all(list);
                (Box::new(BooleanQuery::intersection(queries)), exact)
            }
            Self::Or(list) => {
                let (queries, exact) = all(list);
                (Box::new(BooleanQuery::union(queries)), exact)
            }
        }
    }
}

impl Fields {
    fn of(&self, field: Field) -> EngineField {
        match field {
            Field::Subject => self.subject,
            Field::From => self.from,
            Field::To => self.to,
            Field::Cc => self.cc,
            Field::Bcc => self.bcc,
            Field::Headers => self.headers,
            Field::Body | Field::Text => self.text,
        }
    }
}

fn has(field: EngineField, text: &str) -> (Box<dyn EngineQuery>, bool) {
    let folded = fold(text);
    let cut = folded.char_indices().nth(NEEDLE_MAX_CHARS).map(|(at, _)| at);
    let needle = &folded[..cut.unwrap_or(folded.len())];
    let term = |gram: &str| Term::from_field_text(field, gram);
    let query: Box<dyn EngineQuery> = match cover(needle) {
        Cover::All => Box::new(AllQuery),
        Cover::Prefix(prefix) => {
            // No gram is longer than three characters: all that begin so lie below.
            let last = format!("{prefix}\u{10ffff}\u{10ffff}\u{10ffff}");
            Box::new(RangeQuery::new(Bound::Included(term(prefix)), Bound::Included(term(&last))))
        }
        Cover::Phrase(phrase) => match phrase.as_slice() {
            [(_, gram)] => Box::new(TermQuery::new(term(gram), IndexRecordOption::Basic)),
            grams => Box::new(PhraseQuery::new_with_offset(grams.iter().map(|(at, gram)| (*at, term(gram))).collect())),
        },
    };
    (query, cut.is_none())
}
