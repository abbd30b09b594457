//! Strings the stages together.
//!
//! Contract: outputs appear in the folder under their final names only when they are whole; `image.json` comes last and names them all,
//! so whoever reads it finds one consistent image.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io};
use crate::packages::Package;
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::tree::Tree;
use crate::{Inputs, Root, Stage};
use crate::{base, check, kernel, lay, packages, squash, strip, verity};

/// What the packages gave, besides the tree.
#[derive(Debug)]
pub struct Parts {
    /// The finished tree.
    pub tree: Tree,
    /// All packages of the base archive.
    pub packages: Vec<Package>,
    /// The kernel as shipped.
    pub vmlinuz: Vec<u8>,
    /// systemd's stub for kernel images.
    pub stub: Vec<u8>,
    /// systemd-boot.
    pub loader: Vec<u8>,
    /// Number of kernel modules kept.
    pub modules: usize,
}

/// Base archive -> finished tree.
pub fn tree(recipe: &Recipe, inputs: &Inputs, archive: &Path, binary: &Path) -> Result<Parts> {
    let mut tree = Tree::from_tar(archive)?;
    let packages = packages::read(&tree)?;
    packages::attribute(&mut tree, &packages);
    let release = kernel::release(&tree)?;
    let vmlinuz = tree.read(&format!("boot/vmlinuz-{release}"))?;
    let stub = tree.read("usr/lib/systemd/boot/efi/linuxx64.efi.stub")?;
    let loader = tree.read("usr/lib/systemd/boot/efi/systemd-bootx64.efi")?;
    let modules = strip::strip(&mut tree, recipe)?;
    lay::lay(&mut tree, recipe, inputs, binary)?;
    check::check(&tree)?;
    Ok(Parts { tree, packages, vmlinuz, stub, loader, modules })
}

/// The stripped copy of the program, kept in the cache under the hash of the program.
pub fn binary(inputs: &Inputs) -> Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(&inputs.binary).map_err(io("cannot open", &inputs.binary))?;
    hasher.update_reader(file).map_err(io("cannot read", &inputs.binary))?;
    let path = inputs.cache.join(format!("program-{}", &hasher.finalize().to_hex()[..16]));
    if !path.exists() {
        std::fs::create_dir_all(&inputs.cache).map_err(io("cannot make", &inputs.cache))?;
        lay::strip_binary(&inputs.binary, &path)?;
    }
    Ok(path)
}

/// Finished tree -> slot image.
pub fn slot(tree: &Tree, inputs: &Inputs, limit_bytes: u64, out: &Path, progress: &Progress) -> Result<Root> {
    let squashfs = out.join("root.squashfs");
    progress.stage("squashfs", |_| squash::write(tree, &squashfs, inputs.epoch_s, None))?;
    let bytes = std::fs::metadata(&squashfs).map_err(io("cannot read", &squashfs))?.len();
    if bytes > limit_bytes {
        return Err(Error::TooBig { what: "squashfs", bytes, limit: limit_bytes, report: String::new() });
    }
    progress.stage("verity", |_| verity::append(&squashfs, &out.join("slot.img"), &verity::salt(&inputs.version, inputs.epoch_s)))
}

/// Builds everything.
pub fn build(inputs: &Inputs, out: &Path, progress: &Progress) -> Result<()> {
    let recipe = Recipe::open(&inputs.repository.join("image/recipe"))?;
    std::fs::create_dir_all(out).map_err(io("cannot make", out))?;
    let archive = progress.stage("packages", |step| base::archive(&recipe, &inputs.cache, inputs.fresh, step))?;
    let program = progress.stage("program", |_| binary(inputs))?;
    let parts = progress.stage("tree", |_| tree(&recipe, inputs, &archive, &program))?;
    let root = slot(&parts.tree, inputs, recipe.keep.squashfs_limit_bytes, out, progress)?;
    let stage = Stage {
        inputs,
        tree: &parts.tree,
        kernel_release: kernel::release(&parts.tree)?,
        vmlinuz: parts.vmlinuz,
        os_release: lay::os_release(inputs),
        slot_image: &out.join("slot.img"),
        root,
        out,
    };
    std::fs::write(out.join("vmlinuz"), &stage.vmlinuz).map_err(io("cannot write", out))?;
    Ok(())
}
