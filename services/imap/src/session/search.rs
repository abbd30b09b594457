//! SEARCH, SORT and THREAD.
//!
//! Contract: an answer is never short: what the full-text index has not seen, or cannot say for certain, is looked up in the
//! message itself. The list alone is asked first, then what was parsed at arrival, then the bodies, each only for the messages
//! that are still open; bodies are read in batches of bounded size and looked at on a thread of their own, so that other
//! sessions go on.

use super::answer::{Answer, Stop};
use super::fetch::part_of;
use super::out::{Out, Sink};
use super::{Done, Session};
use crate::algorithm::ranges::Ranges;
use crate::algorithm::search::{Facts, Need, Program};
use crate::algorithm::sort::{needs_parsed, sort};
use crate::algorithm::thread::{Message, ordered_subject, references};
use crate::backend::{Backend, Refusal};
use crate::codec::ast::{ReturnOptions, Search, SearchKey, SortKey, ThreadAlgorithm};
use crate::codec::respond::{self, Esearch};
use std::sync::Arc;
use twinpost_message::view::{Entry, Snapshot};
use twinpost_message::{AccountId, BodyId, Parsed};

type Listed = (u32, Entry);

impl<B: Backend> Session<B> {
    /// RFC 9051 6.4.4, RFC 4731, RFC 5182.
    pub(super) async fn search<S: Sink>(&mut self, tag: &str, search: Search, out: &mut Out<'_, S>) -> Done {
        let found = match self.matching(&search).await {
            Ok(found) => found,
            Err(stop) => {
                // RFC 5182 2.1: a failed SEARCH that was to save leaves nothing saved.
                if search.returns.is_some_and(|r| r.save) {
                    self.here()?.saved = Ranges::default();
                }
                return Err(stop);
            }
        };
        let number = |(seq, entry): &Listed| if search.uid { entry.uid.0 } else { *seq };
        let numbers: Vec<u32> = found.iter().map(number).collect();
        let modseq = asks_modseq(&search.program).then(|| found.iter().map(|(_, e)| e.modseq).max()).flatten();
        // RFC 9051 6.4.4: without RETURN, IMAP4rev2 answers as with RETURN (ALL).
        let all = ReturnOptions { all: true, ..ReturnOptions::default() };
        let Some(options) = search.returns.or(self.modes.rev2.then_some(all)) else {
            respond::search(&Ranges::from_numbers(numbers), modseq, &mut out.buf);
            return Ok(Answer::ok("Searched"));
        };
        self.save(options, &found)?;
        let ranges = Ranges::from_numbers(numbers.iter().copied());
        let esearch = Esearch { all: wants_all(options).then_some(&ranges), ..Esearch::default() };
        write_esearch(tag, &search, options, &numbers, &found, esearch, out);
        Ok(Answer::ok("Searched"))
    }

    /// RFC 5256 3 SORT, RFC 5267.
    pub(super) async fn sort<S: Sink>(&mut self, tag: &str, keys: Vec<SortKey>, search: Search, out: &mut Out<'_, S>) -> Done {
        let account = self.who()?;
        let found = self.matching(&search).await?;
        let parsed = match needs_parsed(&keys) {
            true => self.parsed_of(account, &found).await?,
            false => vec![None; found.len()],
        };
        // Comparing 20,000 subjects is no work for a thread that others wait for.
        let (found, order) = tokio::task::spawn_blocking(move || {
            let messages: Vec<(&Entry, Option<&Parsed>)> =
                found.iter().zip(&parsed).map(|((_, e), p)| (e, p.as_deref())).collect();
            let order = sort(&keys, &messages);
            (found, order)
        })
        .await
        .map_err(|_| failed())?;
        let sorted: Vec<Listed> = order.into_iter().filter_map(|i| found.get(i).copied()).collect();
        let numbers: Vec<u32> = sorted.iter().map(|(seq, e)| if search.uid { e.uid.0 } else { *seq }).collect();
        let modseq = asks_modseq(&search.program).then(|| sorted.iter().map(|(_, e)| e.modseq).max()).flatten();
        let Some(options) = search.returns else {
            respond::sort(&numbers, modseq, &mut out.buf);
            return Ok(Answer::ok("Sorted"));
        };
        self.save(options, &found)?;
        let esearch = Esearch { sorted: wants_all(options).then_some(&numbers[..]), ..Esearch::default() };
        write_esearch(tag, &search, options, &numbers, &sorted, esearch, out);
        Ok(Answer::ok("Sorted"))
    }

    /// RFC 5256 3 THREAD.
    pub(super) async fn thread<S: Sink>(&mut self, algorithm: ThreadAlgorithm, search: Search, out: &mut Out<'_, S>) -> Done {
        let account = self.who()?;
        let found = self.matching(&search).await?;
        let parsed = self.parsed_of(account, &found).await?;
        let uid = search.uid;
        let forest = tokio::task::spawn_blocking(move || {
            let messages: Vec<Message<'_>> = found
                .iter()
                .zip(&parsed)
                .map(|((seq, entry), parsed)| Message {
                    number: if uid { entry.uid.0 } else { *seq },
                    entry,
                    parsed: parsed.as_deref(),
                })
                .collect();
            match algorithm {
                ThreadAlgorithm::OrderedSubject => ordered_subject(&messages),
                ThreadAlgorithm::References => references(&messages),
            }
        })
        .await
        .map_err(|_| failed())?;
        respond::thread(&forest, &mut out.buf);
        Ok(Answer::ok("Threaded"))
    }

    /// The messages that match, in the order of the mailbox.
    async fn matching(&mut self, search: &Search) -> Result<Vec<Listed>, Stop> {
        let account = self.who()?;
        if asks_modseq(&search.program) {
            // RFC 7162 3.1: SEARCH MODSEQ switches CONDSTORE on.
            self.modes.condstore = true;
        }
        let now_s = self.backend.now_s();
        let here = self.here()?;
        let told = here.view.told().clone();
        let mut program = Program::new(&search.program, &told, &here.saved, now_s);
        if program.need() > Need::Entry {
            self.ask_index(account, &mut program).await;
        }
        let program = Arc::new(program);
        let (mut found, mut open) = scan(&program, &told).await?;
        for need in [Need::Parsed, Need::Body] {
            if open.is_empty() {
                break;
            }
            let (more, rest) = self.look_into(account, &program, open, need).await?;
            found.extend(more);
            open = rest;
        }
        found.sort_unstable_by_key(|(seq, _)| *seq);
        Ok(found)
    }

    /// Tells the program what the full-text index knows. A fault of the index costs time, not the answer.
    async fn ask_index(&self, account: AccountId, program: &mut Program) {
        let keys: Vec<_> = program.text_keys().map(|(index, field, text)| (index, field, text.to_owned())).collect();
        for (index, field, text) in keys {
            match self.backend.search_text(account, field, &text).await {
                Ok(Some(hits)) => program.set_hits(index, hits),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the search index cannot be asked; the messages are read instead"),
            }
        }
    }

    /// One more step of knowledge for the messages that are open: those that match, and those that need still more.
    async fn look_into(
        &self,
        account: AccountId,
        program: &Arc<Program>,
        open: Vec<Listed>,
        need: Need,
    ) -> Result<(Vec<Listed>, Vec<Listed>), Stop> {
        let (mut found, mut rest) = (Vec::new(), Vec::new());
        let bodies = need == Need::Body;
        for batch in super::fetch::batches(&open, bodies, &self.settings) {
            let (batch, facts) = super::fetch::load(&*self.backend, account, batch, bodies).await?;
            let (batch, program) = (batch.to_vec(), Arc::clone(program));
            let look = move || {
                let (mut yes, mut unknown) = (Vec::new(), Vec::new());
                for ((seq, entry), facts) in batch.iter().zip(&facts) {
                    let nothing = Parsed::default();
                    let parsed = facts.parsed.as_deref().unwrap_or(&nothing);
                    let known = match &facts.body {
                        Some(body) if bodies => Facts::whole(*seq, entry, parsed, body),
                        _ if bodies => Facts::whole(*seq, entry, parsed, b""),
                        _ => Facts::parsed(*seq, entry, parsed),
                    };
                    match program.decide(&known) {
                        Some(true) => yes.push((*seq, *entry)),
                        Some(false) => {}
                        None => unknown.push((*seq, *entry)),
                    }
                }
                (yes, unknown)
            };
            let (yes, unknown) = tokio::task::spawn_blocking(look).await.map_err(|_| failed())?;
            found.extend(yes);
            rest.extend(unknown);
        }
        Ok((found, rest))
    }

    /// What was parsed of each message; none where the index is damaged.
    async fn parsed_of(&self, account: AccountId, list: &[Listed]) -> Result<Vec<Option<Arc<Parsed>>>, Stop> {
        let mut out = Vec::with_capacity(list.len());
        for batch in list.chunks(self.settings.parsed_batch.max(1)) {
            let ids: Vec<BodyId> = batch.iter().map(|(_, e)| e.body).collect();
            out.extend(self.backend.parsed(account, &ids).await?.into_iter().map(Result::ok));
        }
        Ok(out)
    }

    /// SAVE (RFC 5182 2.1, RFC 9051 6.4.4): with MIN or MAX alone only these are kept.
    fn save(&mut self, options: ReturnOptions, found: &[Listed]) -> Result<(), Stop> {
        if !options.save {
            return Ok(());
        }
        let uids = || found.iter().map(|(_, e)| e.uid.0);
        let saved = if (options.min || options.max) && !options.all && !options.count && options.partial.is_none() {
            let ends = [options.min.then(|| uids().min()).flatten(), options.max.then(|| uids().max()).flatten()];
            Ranges::from_numbers(ends.into_iter().flatten())
        } else {
            Ranges::from_numbers(uids())
        };
        self.here()?.saved = saved;
        Ok(())
    }
}

/// The first pass. A long list is no work for a thread that others wait for.
async fn scan(program: &Arc<Program>, told: &Snapshot) -> Result<(Vec<Listed>, Vec<Listed>), Stop> {
    if told.len() < 5000 {
        return Ok(program.scan(told));
    }
    let (program, told) = (Arc::clone(program), told.clone());
    tokio::task::spawn_blocking(move || program.scan(&told)).await.map_err(|_| failed())
}

fn failed() -> Stop {
    Refusal::Internal("a search did not come to its end".to_owned()).into()
}

/// RFC 7162 3.1.5: the answer tells the highest MODSEQ when the program has MODSEQ in it.
fn asks_modseq(key: &SearchKey) -> bool {
    match key {
        SearchKey::ModSeq(_) => true,
        SearchKey::And(keys) => keys.iter().any(asks_modseq),
        SearchKey::Or(a, b) => asks_modseq(a) || asks_modseq(b),
        SearchKey::Not(key) => asks_modseq(key),
        _ => false,
    }
}

/// RFC 4731 3.1: an empty RETURN is RETURN (ALL); SAVE alone answers nothing but its tag.
fn wants_all(options: ReturnOptions) -> bool {
    let ReturnOptions { min, max, all, count, save, partial } = options;
    all || !(min || max || count || save || partial.is_some())
}

fn write_esearch<S: Sink>(
    tag: &str,
    search: &Search,
    options: ReturnOptions,
    numbers: &[u32],
    found: &[Listed],
    esearch: Esearch<'_>,
    out: &mut Out<'_, S>,
) {
    let ReturnOptions { min, max, count, partial, save, all } = options;
    if save && !(min || max || all || count || partial.is_some()) {
        // RFC 5182 2.4: a client that only saves gets no ESEARCH.
        return;
    }
    let slice = partial.map(|range| (range, part_of(numbers.to_vec(), range)));
    let modseq = asks_modseq(&search.program).then(|| highest_modseq(options, found)).flatten();
    let esearch = Esearch {
        tag,
        uid: search.uid,
        min: if min { numbers.iter().copied().min() } else { None },
        max: if max { numbers.iter().copied().max() } else { None },
        count: count.then_some(numbers.len() as u64),
        partial: slice.as_ref().map(|(range, part)| (*range, &part[..])),
        modseq,
        ..esearch
    };
    respond::esearch(&esearch, &mut out.buf);
}

/// RFC 7162 3.1.10: of the message that is named when only MIN or MAX is asked for, else of all.
fn highest_modseq(options: ReturnOptions, found: &[Listed]) -> Option<twinpost_message::ModSeq> {
    let ends_only = (options.min || options.max) && !options.all && !options.count;
    if !ends_only {
        return found.iter().map(|(_, e)| e.modseq).max();
    }
    let low = options.min.then(|| found.iter().min_by_key(|(seq, _)| *seq)).flatten();
    let high = options.max.then(|| found.iter().max_by_key(|(seq, _)| *seq)).flatten();
    low.into_iter().chain(high).map(|(_, e)| e.modseq).max()
}
