//! What systemd, the packet filter and udev get to read: sound, without a shell, confined as the manual says.
//!
//! `systemd-analyze` looks at a tree made of `image/files`, the users of the recipe, the units of the systemd that is installed here (the image's
//! own is of the same release), and empty programs where the recipe has programs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use twinpost_image::recipe::Recipe;

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// Programs that the image has beside those that the recipe keeps from packages' bin folders.
const OWN: [&str; 3] = ["/usr/lib/twinpost/twinpost", "/usr/lib/twinpost/drbd-helper", "/lib/systemd/systemd-timesyncd"];
/// Units whose exposure is 2.0 or better: what speaks with strangers.
const OPEN_TO_STRANGERS: [&str; 3] = ["twinpost-mail.service", "twinpost-sms.service", "systemd-timesyncd.service"];

fn recipe() -> Recipe {
    Recipe::open(&Path::new(HERE).join("recipe")).unwrap()
}

/// Files below `image/files` with their texts.
fn files() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push((path.clone(), fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(HERE).join("files"), &mut found);
    found.sort();
    assert!(found.len() > 15, "{found:?}");
    found
}

/// Lines that are no remarks.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
}

/// Programs that a unit starts.
fn programs(text: &str) -> Vec<String> {
    lines(text)
        .filter_map(|line| line.strip_prefix("Exec"))
        .filter_map(|line| line.split_once('=')?.1.split_whitespace().next())
        .map(|program| program.trim_start_matches(['-', '@', ':', '+', '!']).to_owned())
        .collect()
}

/// A root folder for systemd-analyze.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let to = |path: &str| root.path().join(path.trim_start_matches('/'));
    let units = Path::new("/usr/lib/systemd/system");
    let units = if units.is_dir() { units } else { Path::new("/lib/systemd/system") };
    fs::create_dir_all(to("usr/lib/systemd")).unwrap();
    let copied = Command::new("cp").arg("-a").arg(units).arg(to("usr/lib/systemd/system")).status().unwrap();
    assert!(copied.success(), "the package systemd is installed (hw-tests/need test)");
    for (path, text) in files() {
        let place = root.path().join(path.strip_prefix(Path::new(HERE).join("files")).unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    }
    let users = recipe().users;
    fs::write(to("etc/passwd"), users.passwd()).unwrap();
    fs::write(to("etc/group"), users.group()).unwrap();
    std::os::unix::fs::symlink("usr/lib", to("lib")).unwrap();
    for name in recipe().keep.programs.iter().flat_map(|name| ["usr/bin", "usr/sbin"].map(|folder| format!("/{folder}/{name}"))) {
        program(&to(&name));
    }
    for name in OWN {
        program(&to(&name.replace("/lib/systemd", "/usr/lib/systemd").replace("/usr/usr", "/usr")));
    }
    // As the recipe links them: only then an ordering cycle shows.
    let units = recipe().units;
    let link = |target: &str, at: String| {
        let place = to(&at);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&place);
        std::os::unix::fs::symlink(target, place).unwrap();
    };
    for unit in &units.mask {
        link("/dev/null", format!("etc/systemd/system/{unit}"));
    }
    for (unit, by) in &units.enable {
        let own = files().iter().any(|(path, _)| path.ends_with(Path::new("etc/systemd/system").join(unit)));
        let folder = if own { "/etc/systemd/system" } else { "/usr/lib/systemd/system" };
        let file = unit.replace("@tty1.", "@.").replace("@ttyS0.", "@.");
        link(&format!("{folder}/{file}"), format!("etc/systemd/system/{by}.wants/{unit}"));
    }
    root
}

fn program(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "\x7fELF").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn analyze(root: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg(format!("--root={}", root.display()));
    let output = command.output().expect("the package systemd is installed (hw-tests/need test)");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Our units, instances for templates.
fn units() -> BTreeSet<String> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().replace("@.", "@ttyS0.");
    files().iter().map(|(path, _)| name(path)).filter(|name| name.ends_with(".service")).collect()
}

#[test]
fn the_units_are_sound() {
    let root = root();
    let all: Vec<String> = units().into_iter().chain(["twinpost.target".to_owned(), "local-fs.target".to_owned()]).collect();
    let mut arguments = vec!["verify", "--man=no"];
    arguments.extend(all.iter().map(String::as_str));
    let (good, said) = analyze(root.path(), &arguments);
    assert!(good && said.trim().is_empty(), "{said}");
}

#[test]
fn a_mistake_in_a_unit_is_seen() {
    let root = root();
    let path = root.path().join("usr/lib/systemd/system/twinpost-sms.service");
    let text = fs::read_to_string(&path).unwrap().replace("MemoryMax=", "MemoryMaximum=");
    fs::write(&path, text).unwrap();
    let (_, said) = analyze(root.path(), &["verify", "--man=no", "twinpost-sms.service"]);
    assert!(said.contains("MemoryMaximum"), "{said}");
    // Two units that wait for each other: systemd would leave one of them out.
    let path = root.path().join("usr/lib/systemd/system/twinpost-firewall.service");
    let text = fs::read_to_string(&path).unwrap().replace("NoNewPrivileges=yes", "NoNewPrivileges=yes\nPrivateTmp=yes");
    fs::write(&path, text).unwrap();
    let (_, said) = analyze(root.path(), &["verify", "--man=no", "twinpost.target"]);
    assert!(said.contains("ordering cycle"), "{said}");
}

/// docs/manual/confinement.md has one row for each unit: `| twinpost-mail.service | 1.7 | ...`.
#[test]
fn each_unit_is_confined_as_the_manual_says() {
    let root = root();
    let manual = fs::read_to_string(Path::new(HERE).join("../docs/manual/confinement.md")).unwrap();
    let row = |unit: &str| {
        let row = manual.lines().find(|line| line.starts_with(&format!("| `{unit}` |")))?;
        row.split('|').nth(2).map(|figure| figure.trim().to_owned())
    };
    let mut wrong = Vec::new();
    // The reset runs no process.
    for unit in units().into_iter().filter(|unit| unit != "twinpost-reset.service") {
        let (_, said) = analyze(root.path(), &["security", "--offline=true", "--no-pager", &unit]);
        let figure = said.lines().find_map(|line| line.split_once("Overall exposure level for ")?.1.split_once(": "));
        let figure =
            figure.map_or_else(|| panic!("{unit}: {said}"), |(_, rest)| rest.split_whitespace().next().unwrap_or_default());
        let name = unit.replace("@ttyS0.", "@.");
        if row(&name).as_deref() != Some(figure) {
            wrong.push(format!("{name}: {figure}, and the manual says {:?}", row(&name)));
        }
        if OPEN_TO_STRANGERS.contains(&unit.as_str()) && figure.parse::<f32>().unwrap() > 2.0 {
            wrong.push(format!("{name}: {figure} is above 2.0"));
        }
    }
    assert!(wrong.is_empty(), "docs/manual/confinement.md: {wrong:#?}");
}

#[test]
fn nothing_names_a_shell() {
    const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "zsh", "busybox", "perl", "python3"];
    for (path, text) in files() {
        for line in lines(&text) {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let found: Vec<_> = words.filter(|word| SHELLS.contains(word)).collect();
            assert!(found.is_empty(), "{}: {found:?} in {line:?}", path.display());
        }
        assert!(!text.starts_with("#!"), "{} is a script", path.display());
    }
}

#[test]
fn every_program_that_is_started_is_in_the_recipe() {
    let kept = recipe().keep.programs;
    let mut seen = 0;
    for (path, text) in files() {
        for program in programs(&text) {
            let own = OWN.contains(&program.as_str());
            let of_package = program.strip_prefix("/usr/bin/").or_else(|| program.strip_prefix("/usr/sbin/"));
            assert!(
                program.is_empty() || own || of_package.is_some_and(|name| kept.contains(name)),
                "{} starts {program}, which the recipe does not keep",
                path.display()
            );
            seen += usize::from(!program.is_empty());
        }
    }
    assert!(seen >= 9, "only {seen} programs were found");
}

/// A unit of ours that nobody starts would be a mistake: mail is the pair daemon's, all others are enabled.
#[test]
fn every_unit_is_started_by_somebody() {
    let enabled: BTreeSet<String> = recipe().units.enable.iter().map(|(unit, _)| unit.replace("@tty1.", "@ttyS0.")).collect();
    let missing: Vec<_> = units().difference(&enabled).cloned().collect();
    // The pair daemon starts mail, and its own failure the reset.
    assert_eq!(missing, ["twinpost-mail.service", "twinpost-reset.service"]);
}

/// As the kernel reads rules, or their grammar only where nobody may ask it.
fn sound_rules(file: &Path) {
    let output = Command::new("nft").arg("-c").arg("-f").arg(file).output().expect("the package nftables is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("Operation not permitted"), "{}: {said}", file.display());
}

#[test]
fn the_rules_of_the_packet_filter_are_sound_and_drop_by_default() {
    let files = ["files/etc/nftables.conf", "files/usr/share/twinpost/closed.nft"].map(|file| Path::new(HERE).join(file));
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let rules: Vec<_> = lines(&text).collect();
        for hook in ["input", "forward"] {
            let chain = format!("type filter hook {hook} priority filter; policy drop;");
            assert!(rules.contains(&chain.as_str()), "{}: {chain}", file.display());
        }
        // The pair daemon's lease is a table of its own: it must survive a reload of this file, and no rule here may come before it.
        assert!(!text.contains("flush ruleset") && !text.contains("priority raw;"), "{text}");
        sound_rules(file);
    }
    // The one that stands when the rules do not load: no port, no set, nothing that needs a module.
    let closed = fs::read_to_string(&files[1]).unwrap();
    for word in ["dport", "set ", "limit", "ct state", "counter", "reject"] {
        assert!(!lines(&closed).any(|line| line.contains(word)), "{word}");
    }
}

#[test]
fn the_kernel_speaks_where_the_boards_have_their_console() {
    let recipe = fs::read_to_string(Path::new(HERE).join("recipe/kernel.toml")).unwrap();
    assert!(recipe.contains("console=ttyS0,115200n8"), "{recipe}");
    let boards = twinpost_board::Boards::load_all(&Path::new(HERE).join("../board")).boards;
    assert!(boards.len() > 3);
    for board in boards {
        let name = board.full_name();
        let Some(console) = board.serials.get(&twinpost_board::SerialRole::Console) else { continue };
        // The port of ttyS0. A board with another console loses the words of kernel and first program on its serial line (they stay on the
        // screen): say so in its description, and here.
        assert_eq!((console.at.to_string().as_str(), console.baud), ("I/O 0x3f8", 115_200), "{name}");
    }
}
