//! The program `twinpost-image`.
//!
//! Contract: progress goes to standard error, the result to standard output: a few lines, or JSON with `--json`. Exit codes: 0, 1 for a
//! failed build (the reason is said), 2 for a wrong command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use twinpost_image::size::{self, Report};
use twinpost_image::{Broken, Inputs, Manifest, Progress};
use twinpost_update::{Keys, SigningKey};

/// Builds the appliance image: packages, our program, boards and settings -> a verified slot, a kernel image, a disk image.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand)]
enum Order {
    /// Build the image from its recipe.
    Build(Build),
    /// Show what takes how much of a built image, and what grew.
    Size {
        #[command(flatten)]
        place: Place,
        /// Rows of each table.
        #[arg(long, default_value_t = 25)]
        rows: usize,
    },
    /// Print the software bill of materials of a built image (SPDX 2.3).
    Sbom {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(clap::Args)]
struct Place {
    /// Folder of the image (default: image/<profile> in cargo's target folder).
    #[arg(long)]
    out: Option<PathBuf>,
    /// How to build: a name of image/recipe/profiles.toml.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Root of the repository.
    #[arg(long, default_value = ".")]
    repository: PathBuf,
}

#[derive(clap::Args)]
struct Build {
    #[command(flatten)]
    place: Place,
    /// The twinpost program to put into the image.
    #[arg(long)]
    binary: PathBuf,
    /// The initramfs program, static (default: cargo builds it).
    #[arg(long)]
    init: Option<PathBuf>,
    /// Time of everything in the image and sequence of the release, seconds since 1970 (default: of the commit).
    #[arg(long, env = "SOURCE_DATE_EPOCH")]
    epoch: Option<u64>,
    /// Version of the release.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    release: String,
    /// No older image than this sequence may be installed over this one.
    #[arg(long, default_value_t = 0)]
    floor: u64,
    /// Seconds that a node gives the new version to be well before it goes back (30 to 3600; default: 300).
    #[arg(long, value_parser = clap::value_parser!(u32).range(30..=3600))]
    patience: Option<u32>,
    /// Build an image that does not work, for tests: its start, its pair daemon or its mail process. Only for profiles that allow it.
    #[arg(long)]
    broken: Option<Wreck>,
    /// Private key (PKCS #8 PEM) that signs the update; the image trusts its public half. Made if there is no such file.
    #[arg(long)]
    key: Option<PathBuf>,
    /// Further public key (PEM) that the image takes updates from.
    #[arg(long)]
    trust: Vec<PathBuf>,
    /// Folder of what earlier builds made (default: image/cache in cargo's target folder).
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Fetch the packages again, with the security fixes of today.
    #[arg(long)]
    fresh: bool,
}

/// [`twinpost_image::Broken`] on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Wreck {
    Boot,
    Pair,
    Mail,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody reads: nobody misses it.
            let _ = writeln!(std::io::stderr(), "twinpost-image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    match options.order {
        Order::Build(order) => build(order, options.json, &mut stdout),
        Order::Size { place, rows } => {
            let path = place.out().join("size.json");
            let text = if options.json {
                std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?
            } else {
                Report::open(&path)?.text(rows)
            };
            Ok(stdout.write_all(text.as_bytes())?)
        }
        Order::Sbom { place } => {
            let path = place.out().join(&Manifest::open(&place.out())?.sbom);
            Ok(stdout.write_all(&std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?)?)
        }
    }
}

impl Place {
    fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.repository.join("target"), PathBuf::from)
    }

    fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| self.target().join("image").join(&self.profile))
    }
}

fn build(order: Build, json: bool, stdout: &mut impl Write) -> Outcome {
    let out = order.place.out();
    let (commit, time_s) = commit(&order.place.repository)?;
    let init = match order.init {
        Some(init) => init,
        None => init_program(&order.place.repository)?,
    };
    let trusted = trusted(order.key.as_deref(), &order.trust)?;
    let inputs = Inputs {
        floor: order.floor,
        patience_s: order.patience,
        broken: order.broken.map(|broken| match broken {
            Wreck::Boot => Broken::Boot,
            Wreck::Pair => Broken::Pair,
            Wreck::Mail => Broken::Mail,
        }),
        trusted,
        signing_key: order.key,
        binary: order.binary,
        init,
        epoch_s: order.epoch.unwrap_or(time_s),
        version: order.release,
        commit,
        cache: order.cache.unwrap_or_else(|| order.place.target().join("image/cache")),
        fresh: order.fresh,
        profile: order.place.profile,
        repository: order.place.repository,
    };
    let progress = Progress::default();
    let made = twinpost_image::build(&inputs, &out, &progress)?;
    if json {
        let answer = serde_json::json!({ "folder": out, "image": made, "stages": progress.timings() });
        return Ok(writeln!(stdout, "{answer:#}")?);
    }
    let report = Report::open(&out.join(&made.size))?;
    let bytes = |path: &PathBuf| size::mega(made.files.get(path).map_or(0, |file| file.bytes));
    writeln!(
        stdout,
        "Root {} (of {} before compression), {} packages, {} kernel modules.",
        bytes(&made.slot),
        size::mega(report.content_bytes),
        made.packages,
        made.modules
    )?;
    match &made.update {
        Some(update) => writeln!(stdout, "Update {}, {}.", out.join(update).display(), bytes(update))?,
        None => writeln!(stdout, "No update was made: no --key was given.")?,
    }
    Ok(writeln!(
        stdout,
        "Image {} of commit {}: {}, {}.",
        made.version,
        made.commit,
        out.join(&made.disk).display(),
        bytes(&made.disk)
    )?)
}

/// The public keys that the image trusts, as files of it; makes the signing key if there is none.
fn trusted(key: Option<&Path>, others: &[PathBuf]) -> Result<Vec<(String, String)>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    if let Some(path) = key {
        if !path.exists() {
            make_key(path)?;
        }
        let key = SigningKey::read(path)?;
        all.push((format!("{}.pub", key.id()), key.public_pem()?));
    }
    for path in others {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let id = Keys::default().add_pem(&path.display().to_string(), &text)?;
        all.push((format!("{id}.pub"), text));
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn make_key(path: &Path) -> Outcome {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error: std::io::Error| format!("cannot make the key {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let text = SigningKey::generate()?.to_pem()?;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    let _ =
        writeln!(std::io::stderr(), "New key for updates: {}. Keep it: nodes take only updates that it signed.", path.display());
    Ok(())
}

/// Commit and its time in seconds since 1970; `-dirty` behind it if files differ from it.
fn commit(repository: &Path) -> Result<(String, u64), Box<dyn std::error::Error>> {
    let git = |args: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
        let output = Command::new("git")
            .arg("-C")
            .arg(repository)
            .args(args)
            .output()
            .map_err(|error| format!("cannot run git: {error}"))?;
        if !output.status.success() {
            return Err(format!("git {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    };
    let line = git(&["log", "-1", "--format=%h %ct"])?;
    let (commit, time) = line.trim().split_once(' ').ok_or("git log gave no commit")?;
    let dirty = if git(&["status", "--porcelain"])?.trim().is_empty() { "" } else { "-dirty" };
    Ok((format!("{commit}{dirty}"), time.parse()?))
}

/// Has cargo build the initramfs program and returns its path.
fn init_program(repository: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "rustc",
        "--release",
        "--quiet",
        "--message-format",
        "json",
        "-p",
        "twinpost-init",
        "--",
        "-C",
        "target-feature=+crt-static",
    ]);
    let output = command
        .current_dir(repository)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err("cargo cannot build twinpost-init".into());
    }
    let lines = String::from_utf8(output.stdout)?;
    let messages = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let path = messages.rev().find_map(|message| message.get("executable").and_then(|path| path.as_str().map(PathBuf::from)));
    let path = path.ok_or("cargo names no program of twinpost-init")?;
    // Relative to the folder that cargo ran in.
    Ok(if path.is_absolute() { path } else { repository.join(path) })
}
