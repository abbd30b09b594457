//! `image.json`: names everything that a build made, for whoever boots, writes or ships it.
//!
//! Contract: paths are relative to the folder of the file; the file is written last. Failure classes: the file, its form.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Root;
use crate::error::{Error, Result, io};

/// Name of the file.
pub const FILE: &str = "image.json";

/// The outputs of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the release.
    pub version: String,
    /// Commit of the release, `-dirty` behind it if the work tree had changes.
    pub commit: String,
    /// Sequence of the release: grows from release to release; seconds since 1970 of the commit.
    pub sequence: u64,
    /// The same as text.
    pub built: String,
    /// Profile it was built with.
    pub profile: String,
    /// Kernel release.
    pub kernel_release: String,
    /// Number of packages in the base archive.
    pub packages: usize,
    /// Number of kernel modules in the root.
    pub modules: usize,
    /// Slot image: squashfs, then the hash tree.
    pub slot: PathBuf,
    /// How the command line names the root.
    pub root: Root,
    /// Kernel as shipped (bzImage).
    pub vmlinuz: PathBuf,
    /// Kernel as an ELF file with a PVH entry: what QEMU starts fastest.
    pub vmlinux: PathBuf,
    /// Initramfs.
    pub initrd: PathBuf,
    /// Kernel images for UEFI by slot (`a`, `b`).
    pub uki: BTreeMap<char, PathBuf>,
    /// Whole kernel command line by slot, as in the kernel images.
    pub cmdline: BTreeMap<char, String>,
    /// systemd-boot.
    pub boot_manager: PathBuf,
    /// Disk image: GPT with ESP, slot A filled, slot B empty.
    pub disk: PathBuf,
    /// The same for a USB medium that installs: its kernel's command line begins with `twinpost.install=1`.
    pub installer: PathBuf,
    /// Update: signed slot image and kernel images in one file; only if the build had a key to sign with.
    #[serde(default)]
    pub update: Option<PathBuf>,
    /// Names of the keys that the image takes updates from.
    #[serde(default)]
    pub update_keys: Vec<String>,
    /// Software bill of materials, SPDX 2.3.
    pub sbom: PathBuf,
    /// Size report.
    pub size: PathBuf,
    /// Sizes in bytes and BLAKE3 of each file named above.
    pub files: BTreeMap<PathBuf, Made>,
}

/// A file that a build made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 in hex.
    pub blake3: String,
}

impl Manifest {
    /// Reads `image.json` of a build's folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let bytes = std::fs::read(&path).map_err(io("cannot read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Format { what: path.display().to_string(), why: error.to_string() })
    }

    /// Names of all files.
    fn names(&self) -> Vec<PathBuf> {
        let one = [
            &self.slot,
            &self.vmlinuz,
            &self.vmlinux,
            &self.initrd,
            &self.boot_manager,
            &self.disk,
            &self.installer,
            &self.sbom,
            &self.size,
        ];
        one.into_iter().chain(self.uki.values()).chain(&self.update).cloned().collect()
    }

    /// Measures all files and writes `image.json`.
    pub fn write(&mut self, folder: &Path) -> Result<()> {
        for name in self.names() {
            let path = folder.join(&name);
            let file = std::fs::File::open(&path).map_err(io("cannot open", &path))?;
            let bytes = file.metadata().map_err(io("cannot read", &path))?.len();
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file).map_err(io("cannot read", &path))?;
            self.files.insert(name, Made { bytes, blake3: hasher.finalize().to_hex().to_string() });
        }
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|error| Error::Format { what: FILE.into(), why: error.to_string() })?;
        text.push(b'\n');
        let path = folder.join(FILE);
        let partial = folder.join("image.json.partial");
        std::fs::write(&partial, text).map_err(io("cannot write", &partial))?;
        std::fs::rename(&partial, &path).map_err(io("cannot rename to", path))
    }
}
