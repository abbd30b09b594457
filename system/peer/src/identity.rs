//! Who this node is: its key, and the pair that it belongs to.
//!
//! Contract: three files in one folder, mode 0600, each written atomically: `node.key` (Ed25519, PKCS #8 PEM), `pair.json` (the pair,
//! with a checksum), and while a pairing is under way `pair.next.json`. The certificate is made from the key at each start: what the
//! partner pins is the key, so names and dates in the certificate say nothing, and a node with a wrong clock is still known.
//! Several tasks share one `Identity`; a change is on the disk before anyone sees it.
//!
//! Failure classes: a file is missing ([`Error::NoIdentity`]), damaged ([`Error::Damaged`]), open to others ([`Error::Exposed`]); the
//! disk refuses ([`Error::File`]).

use crate::error::Error;
use crate::files;
use crate::pair::{About, FrameKeys, KeyStep, Letter, Pair, Partner};
use crate::secret::PublicKey;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ED25519, PublicKeyData};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

const KEY: &str = "node.key";
const PAIR: &str = "pair.json";
const NEXT: &str = "pair.next.json";

/// A node's key and its pair. See the module.
pub struct Identity {
    dir: PathBuf,
    key: PrivateKeyDer<'static>,
    certificate: CertificateDer<'static>,
    public: PublicKey,
    /// Guards the files; what is published is in `pair`.
    files: Mutex<Option<Pair>>,
    pair: watch::Sender<Option<Pair>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("dir", &self.dir).field("public", &self.public).finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity in this folder, which must have a key. Whether it has a pair is told by [`Identity::pair`].
    ///
    /// # Errors
    /// As the module says; nothing is repaired silently.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(KEY);
        let Some(pem) = files::read(&path)? else { return Err(Error::NoIdentity { path }) };
        let damaged = |what: String| Error::Damaged { path: path.clone(), what };
        let pem = String::from_utf8(pem).map_err(|_| damaged("not a private key in PEM form".to_owned()))?;
        let pair = KeyPair::from_pem(&pem).map_err(|e| damaged(format!("not a private key in PEM form ({e})")))?;
        Self::of(dir, &pair)
    }

    /// The identity in this folder; a key is made where there is none yet.
    ///
    /// # Errors
    /// As [`Identity::load`]; also [`Error::Damaged`] where a pair is kept but its key is gone, since a new key would be a stranger to the partner.
    pub fn create(dir: &Path) -> Result<Self, Error> {
        match Self::load(dir) {
            Err(Error::NoIdentity { path }) => {
                if dir.join(PAIR).exists() {
                    return Err(Error::Damaged { path, what: format!("it is missing though {PAIR} is there") });
                }
                files::folder(dir)?;
                let key = KeyPair::generate_for(&PKCS_ED25519).map_err(|e| crypto("making a key", &e))?;
                files::write(&path, key.serialize_pem().as_bytes())?;
                Self::of(dir, &key)
            }
            other => other,
        }
    }

    /// Two identities in two folders of one machine, paired with each other: the first folder is node a. Idempotent: what is there already
    /// is kept, what a crash left half done is finished. `names` are the nodes' names.
    ///
    /// # Errors
    /// As [`Identity::create`]; [`Error::Pairing`] where one of the folders belongs to another pair.
    pub fn couple(dir_a: &Path, dir_b: &Path, names: [&str; 2]) -> Result<[Self; 2], Error> {
        let nodes = [Self::create(dir_a)?, Self::create(dir_b)?];
        let about = names.map(|name| About { name: name.to_owned(), ..About::default() });
        let [a, b] = [0, 1].map(|i| Partner { key: nodes[i].public.clone(), about: about[i].clone() });
        if a.key == b.key {
            return Err(crate::error::PairingError::SameKey.into());
        }
        let (of_a, of_b) = match (nodes[0].pair(), nodes[1].pair()) {
            (None, None) => {
                let of_a = Pair::new(Letter::A, b)?;
                let of_b = of_a.mirrored(a);
                (of_a, of_b)
            }
            (Some(of_a), None) if of_a.partner.key == b.key => (of_a.clone(), of_a.mirrored(a)),
            (None, Some(of_b)) if of_b.partner.key == a.key => (of_b.mirrored(b), of_b),
            (Some(of_a), Some(of_b)) if of_a.partner.key == b.key && of_b.partner.key == a.key => return Ok(nodes),
            (of_a, of_b) => {
                let with = |pair: &Option<Pair>| pair.as_ref().map_or("nobody".to_owned(), |p| p.partner.about.name.clone());
                return Err(crate::error::PairingError::TwoPairs {
                    first: about[0].name.clone(),
                    first_with: with(&of_a),
                    second: about[1].name.clone(),
                    second_with: with(&of_b),
                }
                .into());
            }
        };
        nodes[0].prepare(&of_a)?;
        nodes[1].prepare(&of_b)?;
        nodes[0].commit()?;
        nodes[1].commit()?;
        Ok(nodes)
    }

    fn of(dir: &Path, key: &KeyPair) -> Result<Self, Error> {
        let mut params = CertificateParams::new(Vec::new()).map_err(|e| crypto("making a certificate", &e))?;
        params.distinguished_name.push(DnType::CommonName, "Twinpost node");
        let certificate = params.self_signed(key).map_err(|e| crypto("signing the certificate of this node", &e))?.der().clone();
        let pair = read_pair(&dir.join(PAIR))?;
        let next = match read_pair(&dir.join(NEXT)) {
            // It is only the way to a pair; without it the pairing is repeated.
            Err(Error::Damaged { path, what }) => {
                tracing::warn!(path = %path.display(), what, "a pairing under way left a damaged file, which is not used");
                None
            }
            other => other?,
        };
        Ok(Self {
            dir: dir.to_owned(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            certificate,
            public: PublicKey::new(key.subject_public_key_info()),
            files: Mutex::new(next),
            pair: watch::Sender::new(pair),
        })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// This node's public key, which its partner pins.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The pair; `None` before pairing.
    #[must_use]
    pub fn pair(&self) -> Option<Pair> {
        self.pair.borrow().clone()
    }

    /// As [`Identity::pair`], with every change: pairing, new frame keys, removal.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Pair>> {
        self.pair.subscribe()
    }

    /// A pairing whose last step is not confirmed: the first connection of the two nodes confirms it, or it is repeated.
    #[must_use]
    pub fn unfinished(&self) -> Option<Pair> {
        self.lock().clone()
    }

    /// The frame keys after one step of a change, on disk.
    ///
    /// # Errors
    /// [`Error::NotPaired`]; [`Error::Answer`] for a step that does not fit; [`Error::File`].
    pub fn change_keys(&self, step: &KeyStep) -> Result<FrameKeys, Error> {
        let _files = self.lock();
        let mut pair = self.pair().ok_or(Error::NotPaired)?;
        let keys = pair.keys.after(step).map_err(Error::Answer)?;
        if keys != pair.keys {
            pair.keys = keys.clone();
            self.store(pair)?;
        }
        Ok(keys)
    }

    /// What the partner told about itself since, on disk if it changed.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn learn(&self, about: &About) -> Result<(), Error> {
        let _files = self.lock();
        match self.pair() {
            Some(mut pair) if pair.partner.about != *about && about.is_short() => {
                pair.partner.about = about.clone();
                self.store(pair)
            }
            _ => Ok(()),
        }
    }

    /// Leaves the pair: the partner is not known any more. The key stays. The other node keeps its half until it is told or replaced.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn unpair(&self) -> Result<(), Error> {
        let mut next = self.lock();
        files::remove(&self.dir.join(NEXT))?;
        *next = None;
        files::remove(&self.dir.join(PAIR))?;
        self.pair.send_replace(None);
        Ok(())
    }

    /// The pair with the holder of this key: the present one, or the one that is being made.
    pub(crate) fn pair_with(&self, key: &PublicKey) -> Option<Pair> {
        let next = self.unfinished();
        self.pair().into_iter().chain(next).find(|pair| pair.partner.key == *key)
    }

    /// Keeps `pair` beside the present one until [`Identity::commit`].
    pub(crate) fn prepare(&self, pair: &Pair) -> Result<(), Error> {
        let mut next = self.lock();
        write_pair(&self.dir.join(NEXT), pair)?;
        *next = Some(pair.clone());
        Ok(())
    }

    /// Makes the prepared pair the present one. Nothing to do where none is prepared.
    pub(crate) fn commit(&self) -> Result<(), Error> {
        let mut next = self.lock();
        if let Some(pair) = next.clone() {
            files::rename(&self.dir.join(NEXT), &self.dir.join(PAIR))?;
            *next = None;
            self.pair.send_replace(Some(pair));
        }
        Ok(())
    }

    fn store(&self, pair: Pair) -> Result<(), Error> {
        write_pair(&self.dir.join(PAIR), &pair)?;
        self.pair.send_replace(Some(pair));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pair>> {
        // A panic of another holder cannot leave it half changed: it is assigned whole, after the file.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn certified(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.certificate.clone()], self.key.clone_key())
    }
}

fn crypto(what: &'static str, why: &dyn std::fmt::Display) -> Error {
    Error::Crypto { what, why: why.to_string() }
}

/// First line the pair, second line its BLAKE3 hash: a disk that returns other bytes is noticed before a frame is signed with them.
fn write_pair(path: &Path, pair: &Pair) -> Result<(), Error> {
    let text = serde_json::to_string(pair).map_err(|e| crypto("writing the pair down", &e))?;
    let hash = blake3::hash(text.as_bytes());
    files::write(path, format!("{text}\n{hash}\n").as_bytes())
}

fn read_pair(path: &Path) -> Result<Option<Pair>, Error> {
    let Some(content) = files::read(path)? else { return Ok(None) };
    let damaged = |what: &str| Error::Damaged { path: path.to_owned(), what: what.to_owned() };
    let content = String::from_utf8(content).map_err(|_| damaged("it is not text"))?;
    let (text, hash) = content.split_once('\n').ok_or_else(|| damaged("it is cut off"))?;
    // As text: a bit that flips within the checksum itself is noticed too.
    if hash.trim_end() != blake3::hash(text.as_bytes()).to_hex().as_str() {
        return Err(damaged("its checksum does not fit, it was cut off or changed"));
    }
    let pair: Pair = serde_json::from_str(text).map_err(|e| damaged(&format!("it is not a pair ({e})")))?;
    if pair.cluster == 0 {
        return Err(damaged("its cluster number is 0"));
    }
    Ok(Some(pair))
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
