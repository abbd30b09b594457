//! Why an update is refused or failed.

use crate::text::Text;
use std::path::{Path, PathBuf};

/// What was tried on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no bundle, or one of a form that this version does not know.
    #[error("this is no update bundle: {0}")]
    NoBundle(String),
    /// No trusted key has signed the manifest. Nothing was written.
    #[error(
        "the bundle is not signed by a key that this system trusts (it names {named}; trusted are {trusted}): nothing was written"
    )]
    NotTrusted {
        /// Key ids that the bundle names.
        named: String,
        /// Key ids of this system.
        trusted: String,
    },
    /// The manifest is signed and yet makes no sense: a fault of the program that made it.
    #[error("the manifest of the bundle is not usable: {0}")]
    Manifest(String),
    /// A chunk is not what the manifest says: the file was damaged on its way.
    #[error("the bundle is damaged in {part} at byte {offset}: copy it again")]
    Damaged {
        /// Which part.
        part: String,
        /// Begin of the chunk in the part.
        offset: u64,
    },
    /// The file ends too early.
    #[error("the bundle ends too early ({what}): copy it again")]
    Truncated {
        /// Where.
        what: String,
    },
    /// A key file cannot be used.
    #[error("the key {what} cannot be used: {why}")]
    Key {
        /// Which.
        what: String,
        /// Why not.
        why: String,
    },
    /// A file of this system does not have its form.
    #[error("{what} is not readable: {why}")]
    Form {
        /// Which.
        what: String,
        /// Why not.
        why: String,
    },
    /// Everything that stands against what was asked. Nothing was changed.
    #[error("{}", reasons.iter().map(|reason| reason.en.as_str()).collect::<Vec<_>>().join("; "))]
    Refused {
        /// All reasons.
        reasons: Vec<Text>,
    },
    /// A disk holds something else than what was written to it.
    #[error("{device} gave back something else than was written at byte {offset}: the disk is failing")]
    ReadBack {
        /// Which.
        device: String,
        /// Begin of the chunk.
        offset: u64,
    },
    /// The system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// For `map_err`.
pub fn io_error(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { what, path, source }
}

impl Error {
    /// With one reason.
    #[must_use]
    pub fn refused(text: Text) -> Self {
        Self::Refused { reasons: vec![text] }
    }

    /// For people: every reason, in both languages.
    #[must_use]
    pub fn reasons(&self) -> Vec<Text> {
        let en = self.to_string();
        let zh = match self {
            Self::Refused { reasons } => return reasons.clone(),
            Self::NoBundle(why) => format!("这不是升级包：{why}"),
            Self::NotTrusted { named, trusted } => {
                format!("升级包未由本系统信任的密钥签名（升级包：{named}；本系统信任：{trusted}）：未写入任何数据")
            }
            Self::Manifest(why) => format!("升级包的清单不可用：{why}"),
            Self::Damaged { part, offset } => format!("升级包已损坏（{part}，第 {offset} 字节）：请重新复制"),
            Self::Truncated { what } => format!("升级包不完整（{what}）：请重新复制"),
            Self::Key { what, why } => format!("密钥 {what} 无法使用：{why}"),
            Self::Form { what, why } => format!("无法读取 {what}：{why}"),
            Self::ReadBack { device, offset } => format!("{device} 在第 {offset} 字节回读的内容与写入的不一致：磁盘即将失效"),
            Self::Io { what, path, source } => format!("对 {} 的操作失败（{what}）：{source}", path.display()),
        };
        vec![Text::new(en, zh)]
    }
}
