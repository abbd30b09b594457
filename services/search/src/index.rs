//! The index on disk: open, feed, commit, search.
//!
//! Contract: see the crate. One writer, made when something is to be written and given back by [`Index::rest`]; its memory is
//! bounded by [`WRITER_MAX_BYTES`] and [`PENDING_MAX_BYTES`]. A commit is atomic and durable and holds the change-log position;
//! what was added behind the last commit is gone after a crash, and the position says where to go on.

use crate::grams::Grams;
use crate::query::{Fields, Query};
use parking_lot::{Mutex, RwLock};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tantivy::collector::{Collector, DocSetCollector, SegmentCollector};
use tantivy::columnar::Column;
use tantivy::directory::MmapDirectory;
use tantivy::indexer::IndexWriterOptions;
use tantivy::query::{AllQuery, BooleanQuery, Query as EngineQuery, TermQuery};
use tantivy::schema::{FAST, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{
    IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Searcher, SegmentReader, TantivyDocument, TantivyError, Term,
};
use twinpost_message::{AccountId, BodyId, ModSeq, SearchText, fold_into};

/// Memory of the writer before it writes a segment, in bytes.
const WRITER_MAX_BYTES: usize = 32 << 20;
/// Text that was added and may wait in the writer's queue; then `add` commits (at the old position) and so waits.
const PENDING_MAX_BYTES: usize = 16 << 20;
/// Form of the index: counts up when grams, folding or fields change, and an index of another form is made again.
const FORM: &str = "grams-1";
/// Exists while an index is open: found at open it means that the last end was unclean.
const OPEN_MARK: &str = "open";

/// Up to this size all checksums are compared at open after an unclean end; reading more would keep mail waiting.
const CHECK_AT_OPEN_MAX_BYTES: u64 = 256 << 20;

/// What went wrong with the index.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be made, read or cleared.
    #[error("search index in {dir}: {source}")]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process writes to it.
    #[error("search index in {0} is being written by another process")]
    Busy(PathBuf),
    /// Its files are damaged: wipe it and feed it again.
    #[error("search index in {dir} is damaged: {what}")]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// A write failed (full disk and the like); the last commit stands.
    #[error("writing the search index in {dir}: {source}")]
    Write {
        /// The folder.
        dir: PathBuf,
        /// What the engine said.
        source: TantivyError,
    },
}

/// The answer to a search of one account, each list in rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// These match.
    pub sure: Vec<BodyId>,
    /// The index cannot tell for these: look into the messages.
    pub unsure: Vec<BodyId>,
    /// The answer is about all that the change log held up to here: look into messages that came later.
    pub position: ModSeq,
}

/// The full-text index of a node.
pub struct Index {
    dir: PathBuf,
    unclean: bool,
    open: RwLock<Arc<Open>>,
    writer: Mutex<Option<Writer>>,
}

/// What a search needs. Replaced as a whole by a wipe.
struct Open {
    index: tantivy::Index,
    reader: IndexReader,
    fields: Fields,
    position: AtomicU64,
}

struct Writer {
    engine: IndexWriter,
    pending_bytes: usize,
}

impl Index {
    /// Opens the index in its own folder, or makes an empty one. A damaged one, or one of another form, is wiped: then
    /// [`Index::position`] is 0 and the log says why.
    ///
    /// # Errors
    /// [`Error::Folder`] when the folder cannot be used.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let folder = |source| Error::Folder { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(folder)?;
        let mark = dir.join(OPEN_MARK);
        let mut unclean = mark.exists();
        let open = if dir.join("meta.json").exists() {
            let check = unclean && size_bytes(dir).map_err(folder)? <= CHECK_AT_OPEN_MAX_BYTES;
            unclean &= !check;
            match guarded(dir, || Open::existing(dir, check)) {
                Ok(open) => open,
                Err(Error::Damaged { what, .. }) => {
                    tracing::warn!(dir = %dir.display(), %what, "search index wiped, it will be made again from the change log");
                    Open::fresh(dir)?
                }
                Err(error) => return Err(error),
            }
        } else {
            Open::fresh(dir)?
        };
        std::fs::write(&mark, b"").map_err(folder)?;
        Ok(Self { dir: dir.to_owned(), unclean, open: RwLock::new(Arc::new(open)), writer: Mutex::new(None) })
    }

    /// It ended without a close (crash, power cut) and is too large to be checked while mail waits: call [`Index::verify`] in the
    /// background, and [`Index::wipe`] if that finds damage.
    #[must_use]
    pub fn is_unchecked(&self) -> bool {
        self.unclean
    }

    /// The change-log position of the last commit; 0 when there was none.
    #[must_use]
    pub fn position(&self) -> ModSeq {
        ModSeq(self.open.read().position.load(Ordering::Acquire))
    }

    /// Adds a body that these accounts hold, in place of what was known of it. Found after the next [`Index::commit`].
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Busy`].
    pub fn add(&self, body: BodyId, accounts: &[AccountId], text: &SearchText) -> Result<(), Error> {
        let fields = &self.current().fields;
        let mut document = TantivyDocument::new();
        document.add_u64(fields.body, number(body.0));
        for account in accounts {
            document.add_u64(fields.account, number(account.0));
        }
        if !text.complete {
            document.add_u64(fields.cut, 1);
        }
        let mut bytes = 256;
        for (field, text) in [
            (fields.subject, &text.subject),
            (fields.from, &text.from),
            (fields.to, &text.to),
            (fields.cc, &text.cc),
            (fields.bcc, &text.bcc),
            (fields.headers, &text.headers),
            (fields.text, &text.body),
        ] {
            if !text.is_empty() {
                let mut folded = String::with_capacity(text.len());
                fold_into(&mut folded, text);
                bytes += folded.len();
                document.add_text(field, folded);
            }
        }
        let mut slot = self.writer.lock();
        let open = self.current(); // under the lock: a wipe replaces it
        let writer = self.writer(&mut slot, &open)?;
        writer.engine.delete_term(Term::from_field_u64(fields.body, number(body.0)));
        let added = writer.engine.add_document(document);
        writer.pending_bytes += bytes;
        let full = writer.pending_bytes >= PENDING_MAX_BYTES;
        self.written(&mut slot, added)?;
        if full {
            let position = ModSeq(open.position.load(Ordering::Acquire));
            self.commit_in(&mut slot, &open, position)?;
        }
        Ok(())
    }

    /// Removes a body that nobody holds any more.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Busy`].
    pub fn remove(&self, body: BodyId) -> Result<(), Error> {
        let mut slot = self.writer.lock();
        let open = self.current();
        let writer = self.writer(&mut slot, &open)?;
        writer.engine.delete_term(Term::from_field_u64(open.fields.body, number(body.0)));
        Ok(())
    }

    /// Makes all additions and removals durable and visible, together with the position in the change log that they reach.
    ///
    /// # Errors
    /// [`Error::Write`]: nothing of it happened; go on from [`Index::position`].
    pub fn commit(&self, position: ModSeq) -> Result<(), Error> {
        let mut slot = self.writer.lock();
        let open = self.current();
        self.commit_in(&mut slot, &open, position)
    }

    /// Gives the writer's memory back, after the merges under way. Call it when there is nothing to index. What was not
    /// committed is lost.
    ///
    /// # Errors
    /// [`Error::Write`] when a merge failed; the last commit stands.
    pub fn rest(&self) -> Result<(), Error> {
        let Some(writer) = self.writer.lock().take() else { return Ok(()) };
        writer.engine.wait_merging_threads().map_err(|source| self.write_error(source))
    }

    /// Forgets everything: position 0, to be fed again.
    ///
    /// # Errors
    /// [`Error::Folder`] when the files cannot be removed.
    pub fn wipe(&self) -> Result<(), Error> {
        let mut slot = self.writer.lock();
        drop(slot.take());
        let fresh = Open::fresh(&self.dir)?;
        std::fs::write(self.dir.join(OPEN_MARK), b"").map_err(|source| Error::Folder { dir: self.dir.clone(), source })?;
        *self.open.write() = Arc::new(fresh);
        Ok(())
    }

    /// Finds the bodies of an account that match.
    ///
    /// # Errors
    /// [`Error::Damaged`]: scan instead, and wipe the index.
    pub fn search(&self, account: AccountId, query: &Query) -> Result<Hits, Error> {
        let open = self.current();
        let fields = &open.fields;
        guarded(&self.dir, || {
            // The position before the files: a commit in between then only makes the answer better than it says.
            let position = ModSeq(open.position.load(Ordering::Acquire));
            let searcher = open.reader.searcher();
            let of_account = of_account(fields, account);
            let (wanted, exact) = query.build(fields);
            let found = searcher.search(&BooleanQuery::intersection(vec![of_account.box_clone(), wanted]), &Bodies)?;
            let is_cut = Box::new(TermQuery::new(Term::from_field_u64(fields.cut, 1), IndexRecordOption::Basic));
            let cut = searcher.search(&BooleanQuery::intersection(vec![of_account, is_cut]), &Bodies)?;
            if exact {
                let unsure = cut.into_iter().filter(|body| found.binary_search(body).is_err()).collect();
                Ok(Hits { sure: found, unsure, position })
            } else {
                let mut unsure = [found, cut].concat();
                unsure.sort_unstable();
                unsure.dedup();
                Ok(Hits { sure: Vec::new(), unsure, position })
            }
        })
    }

    /// What of these additions of the change log must be indexed: each body that is new, or new to one of its accounts, once,
    /// with all its accounts, those that the index knew already too. A copy between mailboxes of one account asks for nothing.
    ///
    /// The feeder reads the log behind [`Index::position`], plans its additions, [`Index::add`]s what the plan names, and
    /// [`Index::commit`]s the position of the last row that it read. Rows that are read twice do no harm.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn plan(&self, added: &[(BodyId, AccountId)]) -> Result<Vec<(BodyId, Vec<AccountId>)>, Error> {
        let open = self.current();
        let mut wanted: Vec<(BodyId, AccountId)> = added.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        guarded(&self.dir, || {
            let searcher = open.reader.searcher();
            let mut plan = Vec::new();
            for group in wanted.chunk_by(|a, b| a.0 == b.0) {
                let body = group[0].0;
                let mut accounts = open.holders(&searcher, body)?;
                let had = accounts.len();
                accounts.extend(group.iter().map(|(_, account)| *account));
                accounts.sort_unstable();
                accounts.dedup();
                if accounts.len() > had {
                    plan.push((body, accounts));
                }
            }
            Ok(plan)
        })
    }

    /// All bodies that the index has, in rising order: a sweep compares them with the store and removes those that are gone.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn bodies(&self) -> Result<Vec<BodyId>, Error> {
        let open = self.current();
        guarded(&self.dir, || open.reader.searcher().search(&AllQuery, &Bodies))
    }

    /// All bodies of an account that the index has, in rising order.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn known(&self, account: AccountId) -> Result<Vec<BodyId>, Error> {
        let open = self.current();
        guarded(&self.dir, || open.reader.searcher().search(&of_account(&open.fields, account), &Bodies))
    }

    /// Reads all files and compares their checksums.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the files.
    pub fn verify(&self) -> Result<(), Error> {
        let open = self.current();
        guarded(&self.dir, || open.verify())
    }

    fn current(&self) -> Arc<Open> {
        self.open.read().clone()
    }

    fn writer<'s>(&self, slot: &'s mut Option<Writer>, open: &Open) -> Result<&'s mut Writer, Error> {
        if slot.is_none() {
            let options = IndexWriterOptions::builder()
                .num_worker_threads(1)
                .num_merge_threads(1)
                .memory_budget_per_thread(WRITER_MAX_BYTES)
                .build();
            let engine = open.index.writer_with_options(options).map_err(|error| match error {
                TantivyError::LockFailure(..) => Error::Busy(self.dir.clone()),
                source => self.write_error(source),
            })?;
            *slot = Some(Writer { engine, pending_bytes: 0 });
        }
        Ok(slot.as_mut().expect("it was filled above"))
    }

    fn commit_in(&self, slot: &mut Option<Writer>, open: &Open, position: ModSeq) -> Result<(), Error> {
        let writer = self.writer(slot, open)?;
        let committed = writer.engine.prepare_commit().and_then(|mut commit| {
            commit.set_payload(&format!("{FORM} {position}"));
            commit.commit()
        });
        writer.pending_bytes = 0;
        self.written(slot, committed)?;
        open.reader.reload().map_err(|source| self.write_error(source))?;
        open.position.store(position.0, Ordering::Release); // behind the reload: what it promises can be found by now
        Ok(())
    }

    /// After a failed write the engine's writer is of no use: the next write makes a new one, from the last commit.
    fn written<T>(&self, slot: &mut Option<Writer>, outcome: Result<T, TantivyError>) -> Result<T, Error> {
        outcome.map_err(|source| {
            drop(slot.take());
            self.write_error(source)
        })
    }

    fn write_error(&self, source: TantivyError) -> Error {
        Error::Write { dir: self.dir.clone(), source }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        drop(self.writer.get_mut().take());
        // If the mark stays, the next open only checks more than it must.
        let _ = std::fs::remove_file(self.dir.join(OPEN_MARK));
    }
}

impl Open {
    fn fresh(dir: &Path) -> Result<Self, Error> {
        let folder = |source| Error::Folder { dir: dir.to_owned(), source };
        std::fs::remove_dir_all(dir).map_err(folder)?;
        std::fs::create_dir_all(dir).map_err(folder)?;
        let (schema, fields) = schema();
        let index = tantivy::Index::builder()
            .schema(schema)
            .settings(IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() })
            .create_in_dir(dir);
        index
            .and_then(|index| Self::new(index, fields, 0))
            .map_err(|error| Error::Folder { dir: dir.to_owned(), source: std::io::Error::other(error) })
    }

    fn existing(dir: &Path, check: bool) -> Result<Self, TantivyError> {
        let index = tantivy::Index::open(MmapDirectory::open(dir)?)?;
        let (schema, fields) = schema();
        let wrong = |what: &str| TantivyError::SchemaError(what.to_owned());
        if index.schema() != schema {
            return Err(wrong("its fields are those of another version"));
        }
        let payload = index.load_metas()?.payload;
        let position = match payload.as_deref().map(|text| text.split_once(' ')) {
            None => 0,
            Some(Some((FORM, position))) => position.parse().map_err(|_| wrong("its position is not a number"))?,
            Some(_) => return Err(wrong("its form is that of another version")),
        };
        let open = Self::new(index, fields, position)?;
        if check {
            open.verify()?;
        }
        Ok(open)
    }

    fn new(index: tantivy::Index, fields: Fields, position: u64) -> Result<Self, TantivyError> {
        index.tokenizers().register("grams", Grams::default());
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { index, reader, fields, position: AtomicU64::new(position) })
    }

    /// Accounts of a body, without doubles.
    fn holders(&self, searcher: &Searcher, body: BodyId) -> Result<Vec<AccountId>, TantivyError> {
        let term = Term::from_field_u64(self.fields.body, number(body.0));
        let mut accounts = Vec::new();
        for document in searcher.search(&TermQuery::new(term, IndexRecordOption::Basic), &DocSetCollector)? {
            let column = searcher.segment_reader(document.segment_ord).fast_fields().u64("account")?;
            accounts.extend(column.values_for_doc(document.doc_id).map(|id| AccountId(i64::from_ne_bytes(id.to_ne_bytes()))));
        }
        accounts.sort_unstable();
        accounts.dedup();
        Ok(accounts)
    }

    fn verify(&self) -> Result<(), TantivyError> {
        let damaged = self.index.validate_checksum()?;
        if damaged.is_empty() {
            return Ok(());
        }
        let mut names: Vec<_> = damaged.iter().map(|path| path.display().to_string()).collect();
        names.sort();
        Err(TantivyError::InternalError(format!("wrong checksum of {}", names.join(", "))))
    }
}

fn size_bytes(dir: &Path) -> std::io::Result<u64> {
    std::fs::read_dir(dir)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
}

/// Runs what reads the index files. Anything that goes wrong in there, panics of the engine over bytes that it trusts too, is
/// damage.
fn guarded<T>(dir: &Path, read: impl FnOnce() -> Result<T, TantivyError>) -> Result<T, Error> {
    let damaged = |what| Error::Damaged { dir: dir.to_owned(), what };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_) => Err(damaged("the engine stumbled over its files".to_owned())),
    }
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let grams = TextOptions::default().set_indexing_options(
        TextFieldIndexing::default()
            .set_tokenizer("grams")
            .set_index_option(IndexRecordOption::WithFreqsAndPositions)
            .set_fieldnorms(false),
    );
    let fields = Fields {
        body: schema.add_u64_field("body", INDEXED | FAST),
        account: schema.add_u64_field("account", INDEXED | FAST),
        cut: schema.add_u64_field("cut", INDEXED),
        subject: schema.add_text_field("subject", grams.clone()),
        from: schema.add_text_field("from", grams.clone()),
        to: schema.add_text_field("to", grams.clone()),
        cc: schema.add_text_field("cc", grams.clone()),
        bcc: schema.add_text_field("bcc", grams.clone()),
        headers: schema.add_text_field("headers", grams.clone()),
        text: schema.add_text_field("text", grams),
    };
    (schema.build(), fields)
}

fn of_account(fields: &Fields, account: AccountId) -> Box<dyn EngineQuery> {
    Box::new(TermQuery::new(Term::from_field_u64(fields.account, number(account.0)), IndexRecordOption::Basic))
}

/// Ids are never negative; as bits they are safe whatever they are.
fn number(id: i64) -> u64 {
    u64::from_ne_bytes(id.to_ne_bytes())
}

/// Collects the bodies of the matching documents, in rising order.
struct Bodies;

struct SegmentBodies {
    column: Column<u64>,
    bodies: Vec<BodyId>,
}

impl Collector for Bodies {
    type Fruit = Vec<BodyId>;
    type Child = SegmentBodies;

    fn for_segment(&self, _: u32, segment: &SegmentReader) -> tantivy::Result<SegmentBodies> {
        Ok(SegmentBodies { column: segment.fast_fields().u64("body")?, bodies: Vec::new() })
    }
    fn requires_scoring(&self) -> bool {
        false
    }
    fn merge_fruits(&self, segments: Vec<Vec<BodyId>>) -> tantivy::Result<Vec<BodyId>> {
        let mut all = segments.concat();
        all.sort_unstable();
        Ok(all)
    }
}

impl SegmentCollector for SegmentBodies {
    type Fruit = Vec<BodyId>;

    fn collect(&mut self, document: u32, _: f32) {
        if let Some(body) = self.column.first(document) {
            self.bodies.push(BodyId(i64::from_ne_bytes(body.to_ne_bytes())));
        }
    }
    fn harvest(self) -> Vec<BodyId> {
        self.bodies
    }
}
