//! The running kernel: mounts, modules, devices, the boot manager's variables, restart.
//!
//! Contract: each function does one thing and says in its error what was tried on what. None waits.

use crate::disks::Partition;
use crate::drivers::{self, Drivers};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use rustix::fs::IFlags;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use twinpost_mapper::Number;

/// Where the root is mounted until it becomes `/`.
pub const ROOT: &str = "/sysroot";
const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// A module that takes longer is noted: it is what a slow start is made of.
const SLOW_MODULE_MS: u64 = 50;
/// Entries of the root's `/var` that are taken over.
const MAX_SKELETON: usize = 2048;

/// What was tried on what, with the system's answer.
pub type Result<T> = std::result::Result<T, String>;

fn tried<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

/// Milliseconds since the kernel started.
#[must_use]
pub fn uptime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

fn mount_new(kind: &str, target: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(kind), target, Some(kind), flags, Some(options)).map_err(tried(format_args!("cannot mount {kind} on {target}")))
}

/// Mounts `/proc`, `/sys`, `/dev` and `/run` of the initramfs; they move into the root later.
///
/// # Errors
/// Of the first that fails.
pub fn mount_base() -> Result<()> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_new("proc", "/proc", plain, "")?;
    mount_new("sysfs", "/sys", plain, "")?;
    mount_new("devtmpfs", "/dev", MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, "mode=0755")?;
    mount_new(
        "tmpfs",
        "/run",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_STRICTATIME,
        "mode=0755,size=20%,nr_inodes=100k",
    )?;
    for folder in ["/run/twinpost", "/run/twinpost/etc", "/run/twinpost/etc/upper", "/run/twinpost/etc/work"] {
        fs::create_dir(folder).map_err(tried(format_args!("cannot make {folder}")))?;
    }
    Ok(())
}

/// Modules: which are loaded, and the table of drivers.
#[derive(Debug, Default)]
pub struct Modules {
    loaded: BTreeSet<String>,
    seen: BTreeSet<PathBuf>,
    drivers: Drivers,
    /// Drivers that devices asked for and that are not loaded yet.
    wanted: BTreeSet<usize>,
    /// There is a driver whose disks appear some time after it is loaded.
    slow: bool,
}

impl Modules {
    /// Reads the table of drivers.
    ///
    /// # Errors
    /// Of reading it.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string("/modules/drivers").map_err(tried("cannot read /modules/drivers"))?;
        Ok(Self { drivers: Drivers::parse(&text), ..Self::default() })
    }

    /// Loads the modules that a list of the initramfs names. A module that does not load is told, and the rest is loaded: what is really
    /// missing shows in what needs it.
    pub fn load_list(&mut self, list: &str, mut note: impl FnMut(String)) {
        match fs::read_to_string(format!("/modules/{list}")) {
            Ok(text) => drivers::order(&text).into_iter().for_each(|file| load(&mut self.loaded, file, &mut note)),
            Err(error) => note(format!("cannot read /modules/{list}: {error}")),
        }
    }

    /// Loads one driver of those that devices ask for: the first in the table's order, so that a machine that finds its disks behind it need
    /// not load the rest. Devices may bring others (a controller its disks), so it is called until it answers that there is none.
    pub fn load_next(&mut self, mut note: impl FnMut(String)) -> bool {
        for bus in self.drivers.buses() {
            for entry in fs::read_dir(format!("/sys/bus/{bus}/devices")).into_iter().flatten().flatten() {
                let path = entry.path();
                if self.seen.contains(&path) {
                    continue;
                }
                if let Ok(modalias) = fs::read_to_string(path.join("modalias")) {
                    self.wanted.extend(self.drivers.of(modalias.trim_end()));
                }
                self.seen.insert(path);
            }
        }
        let Some(number) = self.wanted.pop_first() else { return false };
        let (files, late) = self.drivers.driver(number);
        self.slow |= late;
        for file in files {
            load(&mut self.loaded, file, &mut note);
        }
        true
    }

    /// More disks may still come: behind a driver of that kind, or behind one that is not loaded yet.
    #[must_use]
    pub fn more_disks(&self) -> bool {
        self.slow || !self.wanted.is_empty()
    }
}

fn load(loaded: &mut BTreeSet<String>, file: &str, note: &mut impl FnMut(String)) {
    if !loaded.insert(file.to_owned()) {
        return;
    }
    let load = || {
        let module = File::open(format!("/modules/{file}"))?;
        match finit_module(&module, c"", ModuleInitFlags::empty()) {
            // sha256-ssse3 answers ENODEV on a processor without the instructions.
            Ok(()) | Err(nix::errno::Errno::EEXIST | nix::errno::Errno::ENODEV) => Ok(()),
            Err(errno) => Err(io::Error::from(errno)),
        }
    };
    let begun = uptime_ms();
    if let Err(error) = load() {
        note(format!("kernel module {file} does not load: {error}"));
    }
    let took_ms = uptime_ms() - begun;
    if took_ms >= SLOW_MODULE_MS {
        note(format!("kernel module {file} took {took_ms} ms"));
    }
}

/// The partitions of that name that the kernel knows now.
#[must_use]
pub fn partitions(name: &str) -> Vec<Partition> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/class/block").into_iter().flatten().flatten() {
        let path = entry.path();
        let read = |file: &str| fs::read_to_string(path.join(file));
        let (Ok(uevent), Ok(size), Ok(real)) = (read("uevent"), read("size"), fs::canonicalize(&path)) else { continue };
        found.extend(Partition::parse(name, &real, &uevent, &size));
    }
    found
}

/// Mounts the root and all that lies over it: `/etc` as an overlay that forgets, `/var` and `/tmp` in memory.
///
/// # Errors
/// Of the first that fails.
pub fn mount_root(root: Number) -> Result<()> {
    let device = format!("/dev/dm-{}", root.minor);
    mount(Some(device.as_str()), ROOT, Some("squashfs"), MsFlags::MS_RDONLY, None::<&str>)
        .map_err(tried(format_args!("cannot mount the root file system from {device}")))?;
    let layers = format!("lowerdir={ROOT}/etc,upperdir=/run/twinpost/etc/upper,workdir=/run/twinpost/etc/work");
    let etc = format!("{ROOT}/etc");
    mount_new("overlay", &etc, MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, &layers)?;
    // The skeleton of /var: its folders and links, as the image has them. Files of /var are made by who needs them.
    let mut skeleton = Vec::new();
    collect(&Path::new(ROOT).join("var"), &mut skeleton);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_new("tmpfs", &format!("{ROOT}/var"), flags, "mode=0755,size=64m,nr_inodes=16k")?;
    mount_new("tmpfs", &format!("{ROOT}/tmp"), flags, "mode=1777,size=64m,nr_inodes=16k")?;
    for item in skeleton {
        item.make()?;
    }
    Ok(())
}

struct Skeleton {
    path: PathBuf,
    mode: u32,
    owner: (u32, u32),
    link: Option<PathBuf>,
}

impl Skeleton {
    fn make(&self) -> Result<()> {
        let path = &self.path;
        let made = match &self.link {
            Some(target) => std::os::unix::fs::symlink(target, path),
            None => fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(self.mode))),
        };
        made.and_then(|()| std::os::unix::fs::lchown(path, Some(self.owner.0), Some(self.owner.1)))
            .map_err(tried(format_args!("cannot make {}", path.display())))
    }
}

/// Folders before what is in them.
fn collect(folder: &Path, found: &mut Vec<Skeleton>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if found.len() >= MAX_SKELETON || !(meta.is_dir() || meta.is_symlink()) {
            continue;
        }
        let link = if meta.is_symlink() { fs::read_link(&path).ok() } else { None };
        found.push(Skeleton { path: path.clone(), mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()), link });
        if meta.is_dir() {
            collect(&path, found);
        }
    }
}

/// Makes the mounted root the root of the system and gives the memory of the initramfs back.
///
/// # Errors
/// Of the first step that fails; the machine can only be restarted then.
pub fn switch_root() -> Result<()> {
    for folder in ["dev", "proc", "sys", "run"] {
        let (from, to) = (format!("/{folder}"), format!("{ROOT}/{folder}"));
        mount(Some(from.as_str()), to.as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .map_err(tried(format_args!("cannot move {from} to {to}")))?;
    }
    // What stays in the initramfs stays in memory for ever.
    let _ = fs::remove_dir_all("/modules");
    let _ = fs::remove_file("/init");
    std::env::set_current_dir(ROOT).map_err(tried(format_args!("cannot enter {ROOT}")))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(tried("cannot move the root file system to /"))?;
    std::os::unix::fs::chroot(".").map_err(tried("cannot change the root"))?;
    std::env::set_current_dir("/").map_err(tried("cannot enter /"))
}

/// Becomes systemd; comes back only with the reason why not.
#[must_use]
pub fn exec_systemd() -> String {
    use std::os::unix::process::CommandExt as _;
    let error = std::process::Command::new("/usr/lib/systemd/systemd").exec();
    format!("cannot start /usr/lib/systemd/systemd: {error}")
}

/// The boot manager's variables, on a machine that started by UEFI.
#[derive(Debug)]
pub struct Variables(());

impl Variables {
    /// Mounts them (systemd finds them mounted later); `None` on a machine without UEFI or where firmware does not let us.
    pub fn mount(modules: &mut Modules, mut note: impl FnMut(String)) -> Option<Self> {
        if !Path::new("/sys/firmware/efi").exists() {
            return None;
        }
        modules.load_list("efi", &mut note);
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount_new("efivarfs", EFIVARS, flags, "").map_err(note).ok().map(Self)
    }

    /// File content of a variable, its attributes first.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(format!("{EFIVARS}/{name}")).ok()
    }

    /// Writes a variable in one write, as efivarfs wants it.
    ///
    /// # Errors
    /// Of the firmware.
    pub fn write(&self, name: &str, file: &[u8]) -> Result<()> {
        let path = format!("{EFIVARS}/{name}");
        self.unlock(&path);
        fs::write(&path, file).map_err(tried(format_args!("cannot write the firmware's variable {name}")))
    }

    /// Removes a variable.
    ///
    /// # Errors
    /// Of the firmware.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = format!("{EFIVARS}/{name}");
        self.unlock(&path);
        fs::remove_file(&path).map_err(tried(format_args!("cannot remove the firmware's variable {name}")))
    }

    /// Variables are immutable files at first: protection against careless removal (Documentation/filesystems/efivarfs.rst).
    fn unlock(&self, path: &str) {
        let Ok(file) = File::open(path) else { return };
        if let Ok(flags) = rustix::fs::ioctl_getflags(&file) {
            let _ = rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE);
        }
    }
}

/// Restarts the machine; comes back only when the kernel refuses.
pub fn restart() {
    let _ = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT);
}
