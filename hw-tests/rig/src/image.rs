//! The built image, as `image.json` names its parts.

use crate::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a machine is started from.
#[derive(Clone, Debug)]
pub struct Image {
    /// The kernel that a virtual machine starts directly (PVH).
    pub kernel: PathBuf,
    /// The initial memory disk.
    pub initrd: PathBuf,
    /// The whole disk: boot loader, both slots.
    pub disk: PathBuf,
    /// The kernel's words for slot a and slot b.
    pub cmdline: [String; 2],
    /// Version of the release.
    pub version: String,
    /// A short name that another image does not have: what is founded with one image is not used with another.
    pub id: String,
    /// The folder of the image.
    pub folder: PathBuf,
}

fn wrong(path: &Path, what: &str) -> Error {
    Error::Setting { what: format!("{}: {what}; `make image` builds it", path.display()) }
}

impl Image {
    /// Reads `image.json`, or that in a folder.
    ///
    /// # Errors
    /// It is not there or does not name what is needed.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { path.join("image.json") } else { path.to_owned() };
        let bytes = std::fs::read(&path).map_err(|e| wrong(&path, &format!("there is no image: {e}")))?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(&path, &e.to_string()))?;
        let folder =
            path.canonicalize().ok().and_then(|p| p.parent().map(Path::to_owned)).ok_or_else(|| wrong(&path, "no folder"))?;
        let file = |name: &str| {
            let found = json[name].as_str().map(|file| folder.join(file));
            found.filter(|file| file.exists()).ok_or_else(|| wrong(&path, &format!("its file {name} is not there")))
        };
        let cmdline = |slot: &str| {
            json["cmdline"][slot]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| wrong(&path, &format!("no command line of slot {slot}")))
        };
        Ok(Self {
            kernel: file("vmlinux")?,
            initrd: file("initrd")?,
            disk: file("disk")?,
            cmdline: [cmdline("a")?, cmdline("b")?],
            version: json["version"].as_str().unwrap_or("unknown").to_owned(),
            id: blake3::hash(&bytes).to_hex()[..16].to_owned(),
            folder: folder.clone(),
        })
    }

    /// Where `make image` and `make test` put it, or where `TWINPOST_IMAGE` says; none when there is none.
    #[must_use]
    pub fn find() -> Option<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        let named = std::env::var_os("TWINPOST_IMAGE").map(PathBuf::from);
        let usual = ["release", "test"].map(|profile| target.join("image").join(profile).join("image.json"));
        named.into_iter().chain(usual).find(|path| path.exists())
    }
}
