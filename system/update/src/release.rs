//! What an image says of itself: `/usr/lib/twinpost/release.json`.

use crate::error::{Error, io_error};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Where the image keeps it.
pub const PATH: &str = "/usr/lib/twinpost/release.json";
/// Where the image keeps the keys that it takes updates from.
pub const KEYS: &str = "/usr/lib/twinpost/update-keys";
const MAX_BYTES: u64 = 64 << 10;

/// A version of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// For people: `1.4.2`.
    pub version: String,
    /// Commit of the source.
    #[serde(default)]
    pub commit: String,
    /// Grows with every commit (its time, seconds since 1970): what is compared when an older image is refused.
    pub sequence: u64,
    /// When it was built, for people; the commit's time, as images are reproducible.
    #[serde(default)]
    pub built: String,
    /// No image with a smaller sequence may be installed over this one, whoever asks: it could not read what this one has written. 0: any may.
    #[serde(default)]
    pub floor: u64,
    /// Seconds that it gets to be well before the node goes back; none: [`crate::health::PATIENCE_MS`]. For a version whose first start takes long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience_s: Option<u32>,
}

/// What a release may ask for as its patience.
const PATIENCE_S: std::ops::RangeInclusive<u32> = 30..=3600;

impl Release {
    /// Milliseconds that it gets to be well.
    #[must_use]
    pub fn patience_ms(&self) -> u64 {
        let asked = self.patience_s.map(|seconds| u64::from(seconds.clamp(*PATIENCE_S.start(), *PATIENCE_S.end())) * 1000);
        asked.unwrap_or(crate::health::PATIENCE_MS)
    }

    /// Reads `release.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Form`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let length = std::fs::metadata(path).map_err(io_error("read", path))?.len();
        if length > MAX_BYTES {
            return Err(Error::Form { what: path.display().to_string(), why: format!("{length} bytes are too many") });
        }
        let text = std::fs::read(path).map_err(io_error("read", path))?;
        serde_json::from_slice(&text).map_err(|e| Error::Form { what: path.display().to_string(), why: e.to_string() })
    }
}
