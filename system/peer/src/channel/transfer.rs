//! Files from the partner, for the merge of diverged mail.
//!
//! Contract: [`Channel::fetch`] brings one file, whole and with the announced BLAKE3 hash, or says why not; what has arrived stays beside the
//! target and the next fetch goes on from there, if the file on the other node is still the same. The offering node reads only files that its
//! handler names, and refuses to go on with one that changed meanwhile.
//!
//! Failure classes: those of a call; [`Error::Content`]; [`Error::File`]; [`Refusal`] of kind `Changed` or `NotFound`.

use super::{Channel, blocking};
use crate::error::Error;
use crate::files;
use crate::message::{Answer, Refusal, RefusalKind, Request};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of one piece.
const PIECE: u32 = 256 << 10;
/// Largest piece that is given out.
const MAX_PIECE: u32 = 512 << 10;
/// Pieces asked for ahead: hides the way there and back.
const AHEAD: usize = 4;
/// Without a single new piece for so long a fetch gives up (and can be taken up again).
const STALLED: Duration = Duration::from_secs(30);
const REMEMBERED: usize = 64;

/// How far a fetch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes here.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// A file that has arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// Its size.
    pub bytes: u64,
    /// Its BLAKE3 hash, 64 hexadecimal digits.
    pub hash: String,
    /// How much an earlier fetch had left.
    pub resumed_bytes: u64,
}

impl Channel {
    /// Brings the file that the partner's handler knows as `name` to the path `to`, and tells how far it is after each piece. A connection that ends is
    /// waited for; after 30 s without any progress the fetch ends with the reason, and another one goes on where it was.
    ///
    /// # Errors
    /// As the module says.
    pub async fn fetch(&self, name: &str, to: &Path, mut progress: impl FnMut(Progress) + Send) -> Result<Fetched, Error> {
        let request = Request::File { name: name.to_owned() };
        let (total, hash) = match self.call(request).await? {
            Answer::File { bytes, hash } if blake3::Hash::from_hex(&hash).is_ok() => (bytes, hash),
            other => return Err(Error::Answer(format!("{other:?} as the facts of a file"))),
        };
        let mut part = Part::open(to, &hash, total).await?;
        let resumed_bytes = part.done;
        let mut moved = Instant::now();
        progress(Progress { done_bytes: part.done, total_bytes: total });
        while part.done < total {
            let before = part.done;
            match self.pieces(name, &hash, total, &mut part, &mut progress).await {
                Ok(()) => {}
                Err(why @ (Error::Down { .. } | Error::Lost { .. } | Error::Late { .. } | Error::Busy { .. })) => {
                    if part.done > before {
                        moved = Instant::now();
                    } else if moved.elapsed() > STALLED {
                        return Err(why);
                    }
                    // Not a busy loop: a call waits for the connection by itself, a full queue does not.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(why) => return Err(why),
            }
        }
        part.finish(name, &hash, to).await?;
        Ok(Fetched { bytes: total, hash, resumed_bytes })
    }

    async fn pieces(
        &self,
        name: &str,
        hash: &str,
        total: u64,
        part: &mut Part,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        let mut asked = part.done;
        let mut under_way = FuturesOrdered::new();
        while part.done < total {
            while asked < total && under_way.len() < AHEAD {
                let bytes = u32::try_from(total - asked).unwrap_or(PIECE).min(PIECE);
                let request = Request::Read { name: name.to_owned(), offset: asked, bytes, hash: hash.to_owned() };
                let offset = asked;
                asked += u64::from(bytes);
                under_way.push_back(async move {
                    let limit = request.limit();
                    (offset, bytes, self.shared.ask(&request, limit).await)
                });
            }
            let Some((offset, bytes, answer)) = under_way.next().await else { break };
            match answer? {
                (Answer::Piece { offset: at }, data) if at == offset && data.len() == bytes as usize => part.append(data).await?,
                (other, data) => {
                    return Err(Error::Answer(format!("{other:?} with {} bytes, asked for {bytes} at {offset}", data.len())));
                }
            }
            progress(Progress { done_bytes: part.done, total_bytes: total });
        }
        Ok(())
    }
}

/// A file on its way.
struct Part {
    path: PathBuf,
    file: Arc<File>,
    hasher: blake3::Hasher,
    done: u64,
}

fn fault(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { what, path: path.to_owned(), source }
}

impl Part {
    /// Opens what an earlier fetch of the same content left, or starts.
    async fn open(to: &Path, hash: &str, total: u64) -> Result<Self, Error> {
        let mut name: OsString = to.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", &hash[..16]));
        let path = to.with_file_name(name);
        blocking(move || {
            if let Some(folder) = path.parent() {
                files::folder(folder)?;
            }
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&path)
                .map_err(|e| fault("opening", &path, e))?;
            let (mut hasher, mut done, mut buffer) = (blake3::Hasher::new(), 0, vec![0; PIECE as usize]);
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => {
                        hasher.update(&buffer[..n]);
                        done += n as u64;
                    }
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(fault("reading", &path, e)),
                }
            }
            if done > total {
                file.set_len(0).map_err(|e| fault("starting anew", &path, e))?;
                (hasher, done) = (blake3::Hasher::new(), 0);
            }
            Ok(Self { path, file: Arc::new(file), hasher, done })
        })
        .await
    }

    async fn append(&mut self, data: Bytes) -> Result<(), Error> {
        self.hasher.update(&data);
        self.done += data.len() as u64;
        let (file, path) = (self.file.clone(), self.path.clone());
        blocking(move || (&*file).write_all(&data).map_err(|e| fault("writing", &path, e))).await
    }

    async fn finish(self, name: &str, expected: &str, to: &Path) -> Result<(), Error> {
        let found = self.hasher.finalize().to_hex().to_string();
        let (name, expected, to) = (name.to_owned(), expected.to_owned(), to.to_owned());
        let (path, file) = (self.path, self.file);
        blocking(move || {
            if found != expected {
                files::remove(&path)?;
                return Err(Error::Content { name, expected, found });
            }
            file.sync_all().map_err(|e| fault("syncing", &path, e))?;
            files::rename(&path, &to)
        })
        .await
    }
}

/// Files given out, with their hashes: a file is read whole once, not for each piece.
#[derive(Default)]
pub(super) struct Files(Arc<Mutex<VecDeque<Known>>>);

#[derive(Clone, PartialEq, Eq)]
struct Known {
    name: String,
    path: PathBuf,
    stamp: Stamp,
    hash: String,
}

/// Changes with any change of a file that is made by the usual means.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(facts: &Metadata) -> Self {
        Self {
            device: facts.dev(),
            inode: facts.ino(),
            bytes: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        }
    }
}

fn refused(kind: RefusalKind, name: &str, why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(kind, format!("`{name}`: {why}"))
}

fn open(name: &str, path: &Path) -> Result<(File, Stamp), Refusal> {
    let file = File::open(path).map_err(|e| refused(RefusalKind::NotFound, name, &e))?;
    let facts = file.metadata().map_err(|e| refused(RefusalKind::NotFound, name, &e))?;
    if !facts.is_file() {
        return Err(refused(RefusalKind::NotFound, name, &"not a file"));
    }
    Ok((file, Stamp::of(&facts)))
}

impl Files {
    pub(super) async fn facts(&self, name: String, path: PathBuf) -> Result<Answer, Refusal> {
        let known = self.0.clone();
        run(move || {
            let hash = known_hash(&known, &name, &path)?;
            Ok(Answer::File { bytes: hash.stamp.bytes, hash: hash.hash })
        })
        .await
    }

    pub(super) async fn piece(
        &self,
        name: String,
        path: PathBuf,
        offset: u64,
        bytes: u32,
        hash: String,
    ) -> Result<Bytes, Refusal> {
        let known = self.0.clone();
        run(move || {
            if bytes > MAX_PIECE {
                return Err(refused(RefusalKind::Malformed, &name, &format!("a piece has at most {MAX_PIECE} bytes")));
            }
            let now = known_hash(&known, &name, &path)?;
            if now.hash != hash {
                return Err(refused(RefusalKind::Changed, &name, &"its content changed, fetch it anew"));
            }
            let (file, _) = open(&name, &path)?;
            let rest = now.stamp.bytes.saturating_sub(offset);
            let mut data = vec![0; usize::try_from(rest).unwrap_or(usize::MAX).min(bytes as usize)];
            file.read_exact_at(&mut data, offset).map_err(|e| refused(RefusalKind::Changed, &name, &e))?;
            Ok(data.into())
        })
        .await
    }
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(why) => Err(Refusal::new(RefusalKind::Failed, format!("reading was given up: {why}"))),
    }
}

/// The hash of the file as it is now; read whole only when it is not the one that was read before.
fn known_hash(known: &Mutex<VecDeque<Known>>, name: &str, path: &Path) -> Result<Known, Refusal> {
    let (mut file, stamp) = open(name, path)?;
    {
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.iter().find(|k| k.name == name && k.path == path && k.stamp == stamp) {
            return Ok(found.clone());
        }
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; PIECE as usize];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => drop(hasher.update(&buffer[..n])),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(refused(RefusalKind::Failed, name, &e)),
        }
    }
    let after = file.metadata().map_err(|e| refused(RefusalKind::Failed, name, &e))?;
    if Stamp::of(&after) != stamp {
        return Err(refused(RefusalKind::Changed, name, &"it is being written, offer a file that is finished"));
    }
    let found = Known { name: name.to_owned(), path: path.to_owned(), stamp, hash: hasher.finalize().to_hex().to_string() };
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|k| k.name != name);
    known.push_back(found.clone());
    if known.len() > REMEMBERED {
        known.pop_front();
    }
    Ok(found)
}
