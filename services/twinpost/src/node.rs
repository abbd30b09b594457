//! The folder of a node: where everything of it lies.
//!
//! `DIR/endpoints.json` and `DIR/<name>/{appliance.toml, tls/, data/, run/}`. A node of a pair also has `node.toml` and `pair/`, and
//! its `data` is there only while the node is active.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use twinpost_node::api::{BOOT_REPORT, NODE_FOLDER};

/// What the image says of itself.
const RELEASE: &str = "/usr/lib/twinpost/release.json";

/// Whether this is a node of the image: its units say so (`TWINPOST_IMAGE=1`), or its boot has left a report.
pub fn on_image() -> bool {
    std::env::var_os("TWINPOST_IMAGE").is_some_and(|said| said == "1") || Path::new(BOOT_REPORT).exists()
}

/// Version of this program: on the image that of the release that it is part of.
pub fn version() -> String {
    let release = std::fs::read(RELEASE).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let version = release.and_then(|release| release.get("version")?.as_str().map(str::to_owned));
    version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}

/// Name of this machine's board, as the boot of the image found it; empty elsewhere.
pub fn board() -> String {
    let report = std::fs::read(BOOT_REPORT).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let name = |report: serde_json::Value| {
        let board = report.get("board")?;
        board.as_str().or_else(|| board.get("name")?.as_str()).map(str::to_owned)
    };
    report.and_then(name).unwrap_or_default()
}

/// The folder of one node.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
    /// The node folder that `dir` means: itself when it holds an appliance document, else the node of it that serves mail, else
    /// `dir/a`.
    pub fn find(dir: &Path) -> Self {
        if Self::is_one(dir) {
            return Self::new(dir);
        }
        let nodes = ["a", "b"].map(|name| Self::new(dir.join(name)));
        // A socket that a dead process left refuses.
        let serves = |node: &&Self| std::os::unix::net::UnixStream::connect(node.socket()).is_ok();
        nodes.iter().find(serves).unwrap_or(&nodes[0]).clone()
    }
    /// The nodes that `dir` means: itself when it holds an appliance document, else both that it may hold.
    pub fn pair_of(dir: &Path) -> Vec<Self> {
        if Self::is_one(dir) { vec![Self::new(dir)] } else { ["a", "b"].map(|name| Self::new(dir.join(name))).to_vec() }
    }
    /// Where a node is when nobody says so: on the image its own place, elsewhere below the present folder.
    pub fn usual() -> PathBuf {
        PathBuf::from(if on_image() { NODE_FOLDER } else { "twinpost-data" })
    }
    /// Whether `dir` is the folder of one node: the image's may not be set up yet.
    fn is_one(dir: &Path) -> bool {
        dir.join("appliance.toml").exists() || dir == Path::new(NODE_FOLDER)
    }
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// The appliance document.
    pub fn document(&self) -> PathBuf {
        self.0.join("appliance.toml")
    }
    /// Certificates and keys of a node alone.
    pub fn tls(&self) -> PathBuf {
        self.0.join("tls")
    }
    /// Certificates and keys of the mail services of a pair: they move with the mail, so that clients see one certificate.
    pub fn shared_tls(&self) -> PathBuf {
        self.data().join("tls")
    }
    /// Identity, keys and state of the pair.
    pub fn pair(&self) -> PathBuf {
        self.0.join("pair")
    }
    /// Data that gave way to the peer's, kept for the merge.
    pub fn aside(&self) -> PathBuf {
        self.pair().join("aside")
    }
    /// Generations of the appliance document.
    pub fn history(&self) -> PathBuf {
        self.0.join("config")
    }
    /// The socket of the pair daemon.
    pub fn pair_socket(&self) -> PathBuf {
        self.0.join("run").join("pair.sock")
    }
    /// Mail, directory, search index.
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }
    /// Packs and index.
    pub fn store(&self) -> PathBuf {
        self.data().join("store")
    }
    /// The directory's database.
    pub fn directory(&self) -> PathBuf {
        self.data().join("directory.sqlite")
    }
    /// The full-text index.
    pub fn search(&self) -> PathBuf {
        self.data().join("search")
    }
    /// Sockets of the mail process: on the image nobody else can make one here.
    pub fn mail_run(&self) -> PathBuf {
        self.0.join("run").join("mail")
    }
    /// The socket that `twinpost ctl` speaks to.
    pub fn socket(&self) -> PathBuf {
        self.mail_run().join("sock")
    }
    /// Sockets of the SMS process.
    pub fn sms_run(&self) -> PathBuf {
        self.0.join("run").join("sms")
    }
    /// Where a mail process that was started ahead is told to serve.
    pub fn mail_door(&self) -> PathBuf {
        self.mail_run().join("wait")
    }
    /// The socket of the SMS process.
    pub fn sms_socket(&self) -> PathBuf {
        self.sms_run().join("sock")
    }
    /// The spool and journal of the SMS process: of this node alone.
    pub fn sms(&self) -> PathBuf {
        self.0.join("sms")
    }
    /// What a simulated modem keeps.
    pub fn modem(&self) -> PathBuf {
        self.0.join("modem")
    }
    /// The gateway's ledger, which belongs to the mail and not to the node.
    pub fn sms_ledger(&self) -> PathBuf {
        self.data().join("sms.sqlite")
    }
    /// A path of the document: what is not absolute lies in this folder.
    pub fn within(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }
    /// Makes the folders that belong to the node whatever it does, readable by the owner only.
    pub fn make(&self) -> std::io::Result<()> {
        let run = self.0.join("run");
        make_all(&[self.0.clone(), self.tls(), run, self.mail_run(), self.sms_run(), self.sms(), self.modem()])
    }
    /// Makes the folders of the mail. In a pair only the active may: elsewhere `data` is not there, and must not be.
    pub fn make_data(&self) -> std::io::Result<()> {
        make_all(&[self.data(), self.store(), self.search()])
    }
}

fn make_all(folders: &[PathBuf]) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    folders.iter().try_for_each(|dir| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir))
}

/// Writes a file so that it is either the old one or the new one, whole.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
