//! Strings the stages together.
//!
//! Contract: outputs appear in the folder under their final names only when they are whole; `image.json` goes first and comes last and
//! names them all, so whoever reads it finds one consistent image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use twinpost_update::bundle::Facts;

use crate::cache::{self, Key};
use crate::disk::{self, DiskInputs};
use crate::error::{Error, Result, io};
use crate::manifest::{self, Manifest};
use crate::packages::Package;
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::tree::Tree;
use crate::{Broken, Inputs, Root, Slot};
use crate::{base, check, initramfs, kernel, lay, loader, modules, packages, pvh, size, squash, strip, uki, verity};

/// What the packages and our own files gave.
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
    /// systemd-boot, made deaf.
    pub boot_manager: Vec<u8>,
    /// Number of kernel modules kept.
    pub modules: usize,
    /// Kernel release.
    pub release: String,
}

/// Base archive -> finished tree.
pub fn tree(recipe: &Recipe, inputs: &Inputs, archive: &Path, binary: &Path) -> Result<Parts> {
    let mut tree = Tree::from_tar(archive)?;
    let packages = packages::read(&tree)?;
    packages::attribute(&mut tree, &packages);
    let release = kernel::release(&tree)?;
    let vmlinuz = tree.read(&format!("boot/vmlinuz-{release}"))?;
    let stub = tree.read("usr/lib/systemd/boot/efi/linuxx64.efi.stub")?;
    let boot_manager = loader::deaf(&tree.read("usr/lib/systemd/boot/efi/systemd-bootx64.efi")?)?;
    let notices = packages::notices(&tree, &packages);
    let modules = strip::strip(&mut tree, recipe)?;
    packages::keep_notices(&mut tree, notices);
    lay::lay(&mut tree, recipe, inputs, binary)?;
    check::check(&tree)?;
    Ok(Parts { tree, packages, vmlinuz, stub, boot_manager, modules, release })
}

/// The stripped copy of the program.
fn binary(inputs: &Inputs, progress: &Progress) -> Result<PathBuf> {
    progress.stage("program", |step| {
        let mut hasher = blake3::Hasher::new();
        let file = std::fs::File::open(&inputs.binary).map_err(io("cannot open", &inputs.binary))?;
        hasher.update_reader(file).map_err(io("cannot read", &inputs.binary))?;
        let key = Key::new("program", 1).with(hasher.finalize().as_bytes());
        cache::file(&inputs.cache, "program", &key, step, |out| lay::strip_binary(&inputs.binary, out))
    })
}

/// Finished tree -> squashfs in the cache.
fn squashfs(tree: &Tree, inputs: &Inputs, level: u32, progress: &Progress) -> Result<PathBuf> {
    progress.stage("squashfs", |step| {
        let mut hasher = blake3::Hasher::new();
        tree.write_tar(&mut hasher, inputs.epoch_s).map_err(io("cannot read the tree of", &inputs.cache))?;
        let key = Key::new("squashfs", 1).with(hasher.finalize().as_bytes()).with(&level.to_le_bytes()).with(&squash::version()?);
        cache::file(&inputs.cache, "squashfs", &key, step, |out| squash::write(tree, out, inputs.epoch_s, level, None))
    })
}

/// The initramfs.
fn initrd(parts: &Parts, inputs: &Inputs, list: &modules::List, progress: &Progress) -> Result<Vec<u8>> {
    progress.stage("initramfs", |step| {
        let mut init = std::fs::read(&inputs.init).map_err(io("cannot read", &inputs.init))?;
        if inputs.broken == Some(Broken::Boot) {
            init.clear();
        }
        let modules = modules::initramfs(&parts.tree, &parts.release, list)?;
        let mut key = Key::new("initrd", 1).with(&init).with(&inputs.epoch_s.to_le_bytes());
        for text in [&modules.order, &modules.efi, &modules.drivers] {
            key = key.with(text.as_bytes());
        }
        for (name, content) in &modules.files {
            key = key.with(name.as_bytes()).with(content);
        }
        cache::bytes(&inputs.cache, "initrd", &key, step, || initramfs::build(&init, &modules, inputs.epoch_s))
    })
}

/// Builds everything into `out` and returns what `image.json` says.
pub fn build(inputs: &Inputs, out: &Path, progress: &Progress) -> Result<Manifest> {
    let recipe = Recipe::open(&inputs.repository.join("image/recipe"))?;
    let profile = recipe.profile(&inputs.profile)?;
    if inputs.broken.is_some() && !profile.may_be_broken {
        let why = format!("the profile {} makes no broken images (may_be_broken)", profile.name);
        return Err(Error::Recipe { file: "profiles.toml".into(), line: 0, why });
    }
    std::fs::create_dir_all(out).map_err(io("cannot make", out))?;
    let archive = progress.stage("packages", |step| base::archive(&recipe, &inputs.cache, inputs.fresh, step))?;
    let program = binary(inputs, progress)?;
    let parts = progress.stage("tree", |_| tree(&recipe, inputs, &archive, &program))?;
    let squashfs = squashfs(&parts.tree, inputs, profile.squashfs_level, progress)?;
    let report = size::Report::new(&parts.tree, &squashfs, size::Report::open(&out.join("size.json")).ok().as_ref())?;
    report.within(recipe.keep.squashfs_limit_bytes)?;

    // From here on the folder changes: without the old list nobody takes half of the new image for the old one.
    let old = out.join(manifest::FILE);
    if old.exists() {
        std::fs::remove_file(&old).map_err(io("cannot remove", &old))?;
    }
    let slot = out.join("slot.img");
    let root = progress.stage("verity", |_| verity::append(&squashfs, &slot, &verity::salt(&inputs.version, inputs.epoch_s)))?;
    let initrd = initrd(&parts, inputs, &recipe.initrd, progress)?;
    let vmlinux = progress.stage("kernel", |step| {
        cache::bytes(&inputs.cache, "vmlinux", &Key::new("vmlinux", 1).with(&parts.vmlinuz), step, || {
            pvh::vmlinux(&parts.vmlinuz)
        })
    })?;
    let cmdline = |slot: Slot| format!("{} {}", recipe.cmdline.join(" "), root.cmdline(slot));
    let image = |slot: Slot| kernel_image(&parts, inputs, &initrd, &cmdline(slot));
    // The word stands first: the section begins on a sector, so the installer finds it whole in one and can blank it while it copies.
    let install = format!("twinpost.install=1 {}", cmdline(Slot::A));
    let (ukis, installer) = progress.stage("UKI", |_| {
        let ukis = [(Slot::A, image(Slot::A)?), (Slot::B, image(Slot::B)?)];
        Ok((ukis, kernel_image(&parts, inputs, &initrd, &install)?))
    })?;
    let medium = |kernel: &[u8], path: &Path| {
        let kernels = [(disk::kernel_name(inputs.epoch_s, Slot::A), kernel.to_vec())];
        let inputs = DiskInputs {
            version: &inputs.version,
            epoch_s: inputs.epoch_s,
            boot_manager: &parts.boot_manager,
            kernels: &kernels,
            slot_a: &slot,
            slot_b: None,
        };
        disk::build(&inputs, path)
    };
    progress.stage("disk", |_| medium(&ukis[0].1, &out.join("disk.img")))?;
    progress.stage("installer", |_| medium(&installer, &out.join("installer.img")))?;
    let name = |slot: Slot| PathBuf::from(format!("uki-{}.efi", slot.letter()));
    let whole = [
        ("vmlinuz", &parts.vmlinuz),
        ("vmlinux", &vmlinux),
        ("initrd.cpio.zst", &initrd),
        ("systemd-bootx64.efi", &parts.boot_manager),
    ];
    for (name, bytes) in whole {
        put(&out.join(name), bytes)?;
    }
    for (slot, bytes) in &ukis {
        put(&out.join(name(*slot)), bytes)?;
    }
    let mut made = Manifest {
        version: inputs.version.clone(),
        commit: inputs.commit.clone(),
        sequence: inputs.epoch_s,
        built: crate::iso8601(inputs.epoch_s),
        profile: inputs.profile.clone(),
        kernel_release: parts.release.clone(),
        packages: parts.packages.len(),
        modules: parts.modules,
        slot: "slot.img".into(),
        root: root.clone(),
        vmlinuz: "vmlinuz".into(),
        vmlinux: "vmlinux".into(),
        initrd: "initrd.cpio.zst".into(),
        uki: ukis.iter().map(|(slot, _)| (slot.letter(), name(*slot))).collect(),
        cmdline: [Slot::A, Slot::B].map(|slot| (slot.letter(), cmdline(slot))).into(),
        boot_manager: "systemd-bootx64.efi".into(),
        disk: "disk.img".into(),
        installer: "installer.img".into(),
        update: update(inputs, out, &slot, [Slot::A, Slot::B].map(name), progress)?,
        update_keys: inputs.trusted.iter().map(|(name, _)| name.clone()).collect(),
        sbom: "sbom.spdx.json".into(),
        size: "size.json".into(),
        files: BTreeMap::new(),
    };
    report.write(&out.join(&made.size))?;
    progress.stage("SBOM", |_| put(&out.join(&made.sbom), &crate::sbom::document(&parts, inputs)?))?;
    progress.stage("list", |_| made.write(out))?;
    Ok(made)
}

fn kernel_image(parts: &Parts, inputs: &Inputs, initrd: &[u8], cmdline: &str) -> Result<Vec<u8>> {
    let os_release = lay::boot_release(inputs);
    let content = uki::Parts { os_release: &os_release, cmdline, uname: &parts.release, initrd, linux: &parts.vmlinuz };
    uki::build(&parts.stub, &content)
}

/// The signed update of the parts in `out`; none without a key.
fn update(inputs: &Inputs, out: &Path, slot: &Path, ukis: [PathBuf; 2], progress: &Progress) -> Result<Option<PathBuf>> {
    let Some(key) = &inputs.signing_key else { return Ok(None) };
    let name = PathBuf::from("update.twinpost");
    progress.stage("update", |step| {
        let failed = |error: twinpost_update::Error| Error::Format { what: "update".into(), why: error.to_string() };
        let key = twinpost_update::SigningKey::read(key).map_err(failed)?;
        let facts = Facts { release: inputs.release(), ..Facts::default() };
        let [a, b] = ukis.map(|uki| out.join(uki));
        let partial = out.join("update.partial");
        let mut file = std::fs::File::create(&partial).map_err(io("cannot write", &partial))?;
        step.says("signing");
        twinpost_update::bundle::write(&mut file, facts, [slot, &a, &b], &[&key], &|_| {}).map_err(failed)?;
        file.sync_all().map_err(io("cannot write", &partial))?;
        std::fs::rename(&partial, out.join(&name)).map_err(io("cannot rename to", out.join(&name)))
    })?;
    Ok(Some(name))
}

/// Writes a whole file or none.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).map_err(io("cannot write", &partial))?;
    std::fs::rename(&partial, path).map_err(io("cannot rename to", path))
}

/// Builds only the slot image (for tests): base archive -> `out`. `processors` as in [`squash::write`].
pub fn slot(inputs: &Inputs, out: &Path, processors: Option<usize>) -> Result<Root> {
    let recipe = Recipe::open(&inputs.repository.join("image/recipe"))?;
    let progress = Progress::quiet();
    let archive = progress.stage("packages", |step| base::archive(&recipe, &inputs.cache, inputs.fresh, step))?;
    let program = binary(inputs, &progress)?;
    let parts = tree(&recipe, inputs, &archive, &program)?;
    let squashfs = out.with_extension("squashfs");
    squash::write(&parts.tree, &squashfs, inputs.epoch_s, recipe.profile(&inputs.profile)?.squashfs_level, processors)?;
    let bytes = std::fs::metadata(&squashfs).map_err(io("cannot read", &squashfs))?.len();
    if bytes > recipe.keep.squashfs_limit_bytes {
        return Err(Error::TooBig { what: "squashfs", bytes, limit: recipe.keep.squashfs_limit_bytes, report: String::new() });
    }
    verity::append(&squashfs, out, &verity::salt(&inputs.version, inputs.epoch_s))
}
