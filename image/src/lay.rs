//! What we put into the tree over the packages: our program, boards, settings and units from `image/files`, users, release, unit links.
//!
//! Contract: only what git knows decides: content, the executable bit and links; owners are root's. Failure class: files of the repository.

use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result, io};
use crate::program;
use crate::recipe::{Recipe, Units};
use crate::tree::{Content, Tree};
use crate::{Broken, Inputs};

/// Folders that must exist in the read-only root: mount points of the initramfs, of systemd and of `twinpost boot`.
const MOUNT_POINTS: [(&str, u32); 14] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("state", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("boot", 0o755),
    ("media", 0o755),
    ("opt", 0o755),
];

/// Where our program is.
pub const BINARY: &str = "usr/lib/twinpost/twinpost";

/// Lays everything of ours over the packages' tree.
pub fn lay(tree: &mut Tree, recipe: &Recipe, inputs: &Inputs, binary: &Path) -> Result<()> {
    for (path, mode) in MOUNT_POINTS {
        if tree.get(path).is_none() {
            tree.folder(path, mode);
        }
    }
    tree.file("etc/passwd", 0o644, recipe.users.passwd().into_bytes());
    tree.file("etc/group", 0o644, recipe.users.group().into_bytes());
    tree.file("etc/shadow", 0o600, recipe.users.shadow().into_bytes());
    // An empty file: systemd binds the one that `twinpost boot` keeps over it (machine-id(5)).
    tree.file("etc/machine-id", 0o444, Vec::new());
    tree.file("usr/lib/os-release", 0o644, os_release(inputs).into_bytes());
    tree.link("etc/os-release", "../usr/lib/os-release");
    let len = std::fs::metadata(binary).map_err(io("cannot read", binary))?.len();
    tree.file(BINARY, 0o755, Content::File { path: binary.to_owned(), len });
    tree.link("usr/bin/twinpost", "../lib/twinpost/twinpost");
    tree.link("usr/lib/twinpost/drbd-helper", "twinpost");
    tree.file("usr/lib/twinpost/release.json", 0o644, release_json(inputs)?);
    for (name, text) in &inputs.trusted {
        tree.file(&format!("usr/lib/twinpost/update-keys/{name}"), 0o644, text.clone().into_bytes());
    }
    folder(tree, &inputs.repository.join("image/files"), "")?;
    folder(tree, &inputs.repository.join("board"), "usr/share/twinpost/board")?;
    units(tree, &recipe.units)?;
    if let Some(broken) = inputs.broken {
        damage(tree, broken);
    }
    Ok(())
}

/// Lets a program of ours end at once (see [`Broken`]).
fn damage(tree: &mut Tree, broken: Broken) {
    let unit = match broken {
        // In the initramfs.
        Broken::Boot => return,
        Broken::Pair => "twinpost-pair.service",
        Broken::Mail => "twinpost-mail.service",
    };
    let text = format!("[Service]\nExecStart=\nExecStart=/{BINARY} broken on purpose\nRestartSec=10\n");
    tree.file(&format!("etc/systemd/system/{unit}.d/90-broken.conf"), 0o644, text.into_bytes());
}

/// The release file inside a kernel image. It carries no version: the boot manager would sort by it before it looks at the name of the file, which says what was installed last, and
/// an older system that was installed on purpose would never boot.
#[must_use]
pub fn boot_release(inputs: &Inputs) -> String {
    format!("ID=twinpost\nNAME=Twinpost\nPRETTY_NAME=\"Twinpost {}\"\n", inputs.version)
}

/// `usr/lib/os-release` (os-release(5)).
#[must_use]
pub fn os_release(inputs: &Inputs) -> String {
    let (version, sequence) = (&inputs.version, inputs.epoch_s);
    format!(
        "ID=twinpost\nID_LIKE=debian\nNAME=Twinpost\nPRETTY_NAME=\"Twinpost {version}\"\nVERSION_ID={version}\nIMAGE_ID=twinpost\nIMAGE_VERSION={sequence}\n"
    )
}

/// What `twinpost update` compares, and the console shows.
fn release_json(inputs: &Inputs) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(&inputs.release())
        .map_err(|error| Error::Format { what: "release.json".into(), why: error.to_string() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Lays a folder of the repository into the tree at `to`; nothing if there is no such folder.
fn folder(tree: &mut Tree, from: &Path, to: &str) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    let mut entries: Vec<_> = std::fs::read_dir(from)
        .map_err(io("cannot list", from))?
        .collect::<std::io::Result<_>>()
        .map_err(io("cannot list", from))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| Error::Tree { path: name.to_string_lossy().into_owned(), why: "is no UTF-8".into() })?;
        let at = if to.is_empty() { name } else { format!("{to}/{name}") };
        let kind = entry.file_type().map_err(io("cannot read", &path))?;
        if kind.is_symlink() {
            let target = std::fs::read_link(&path).map_err(io("cannot read", &path))?;
            tree.link(&at, &target.to_string_lossy());
        } else if kind.is_dir() {
            // A folder of git keeps owner and mode that the packages gave it.
            if tree.resolve(&at).is_none() {
                tree.folder(&at, 0o755);
            }
            folder(tree, &path, &at)?;
        } else {
            use std::os::unix::fs::PermissionsExt;
            let meta = entry.metadata().map_err(io("cannot read", &path))?;
            let mode = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            tree.file(&at, mode, std::fs::read(&path).map_err(io("cannot read", &path))?);
        }
    }
    Ok(())
}

/// Masks and wants-links, in /etc, where systemd looks first.
fn units(tree: &mut Tree, units: &Units) -> Result<()> {
    for unit in &units.mask {
        tree.link(&format!("etc/systemd/system/{unit}"), "/dev/null");
    }
    for (unit, by) in &units.enable {
        let file = template(unit);
        let places = [format!("usr/lib/systemd/system/{file}"), format!("etc/systemd/system/{file}")];
        let Some(place) = places.iter().find(|path| tree.resolve(path).is_some()) else {
            return Err(Error::Recipe {
                file: "units.toml".into(),
                line: 0,
                why: format!("{unit} is enabled, but no unit file {file} is in the image"),
            });
        };
        let target = format!("/{place}");
        tree.link(&format!("etc/systemd/system/{by}.wants/{unit}"), &target);
    }
    if let Some(target) = &units.default_target {
        tree.link("etc/systemd/system/default.target", &format!("/usr/lib/systemd/system/{target}"));
    }
    Ok(())
}

/// `a@b.service` is an instance of `a@.service` (systemd.unit(5)).
#[must_use]
pub fn template(unit: &str) -> String {
    match (unit.find('@'), unit.rfind('.')) {
        (Some(at), Some(dot)) if at < dot => format!("{}{}", &unit[..=at], &unit[dot..]),
        _ => unit.to_owned(),
    }
}

/// Writes a copy of the program without symbols and debug information to `out`. The build id goes too: it is a hash over the debug
/// information, and with it over the name of the folder that the program was built in.
pub fn strip_binary(binary: &Path, out: &Path) -> Result<()> {
    let partial = out.with_extension("partial");
    program::run(
        Command::new("strip").args(["--strip-all", "--remove-section=.note.gnu.build-id", "-o"]).arg(&partial).arg(binary),
    )?;
    std::fs::rename(&partial, out).map_err(io("cannot rename to", out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_have_a_template() {
        assert_eq!(template("twinpost-console@ttyS0.service"), "twinpost-console@.service");
        assert_eq!(template("twinpost-mail.service"), "twinpost-mail.service");
    }

    #[test]
    fn masks_and_wants() {
        let mut tree = Tree::new();
        tree.file("usr/lib/systemd/system/a@.service", 0o644, Vec::new());
        let wanted = |unit: &str| Units {
            mask: vec!["b.service".into()],
            enable: vec![(unit.into(), "multi-user.target".into())],
            default_target: None,
        };
        units(&mut tree, &wanted("a@x.service")).unwrap();
        assert_eq!(
            tree.resolve("etc/systemd/system/multi-user.target.wants/a@x.service").as_deref(),
            Some("usr/lib/systemd/system/a@.service")
        );
        assert!(units(&mut tree, &wanted("c.service")).unwrap_err().to_string().contains("c.service"));
    }
}
