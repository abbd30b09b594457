//! Room on the file systems of this node, told before and when it is used up.
//!
//! Contract: the state volume always, the mail volume while it is mounted here (on the node that serves). What ordinary programs may still
//! use counts, not what is kept for root. Nothing is done about it: who may delete what is a person's matter.
//!
//! Failure classes: a file system that cannot be asked is left out.

use crate::api::Text;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A share of this is the begin of a warning: one part of so many is left.
const FILLING: u64 = 10;
/// One part of so many is left: as good as nothing.
const FULL: u64 = 50;
/// So little is nothing, however small the volume.
const FULL_BYTES: u64 = 4 << 20;
/// New mail leaves this much of the mail volume free, or this part of it where that is less (docs/manual/store.md); a large message is put off
/// before that.
const MAIL_KEEPS: (u64, u64) = (64 << 20, 20);

/// A volume of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// Mail.
    Mail,
    /// Settings, identity and logs.
    State,
}

impl Volume {
    /// Its word in codes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::State => "state",
        }
    }
}

/// How much room is left on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Which one.
    pub volume: Volume,
    /// What ordinary programs may still use.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

fn ask(volume: Volume, path: &Path) -> Option<Room> {
    let facts = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
    Some(Room { volume, free_bytes: bytes(facts.f_bavail), total_bytes: bytes(facts.f_blocks) })
}

/// Whether a file system of its own is mounted there.
fn mounted(path: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).ok().map(|facts| facts.dev());
    path.parent().is_some_and(|parent| device(path).is_some() && device(path) != device(parent))
}

impl Room {
    /// The volumes of a node whose folder lies on its state volume.
    pub fn look(node: &Path) -> Vec<Self> {
        let data = node.join("data");
        let mail = mounted(&data).then(|| ask(Volume::Mail, &data)).flatten();
        mail.into_iter().chain(ask(Volume::State, node)).collect()
    }

    fn full_bytes(&self) -> u64 {
        match self.volume {
            Volume::Mail => MAIL_KEEPS.0.min(self.total_bytes / MAIL_KEEPS.1) / 4 * 5,
            Volume::State => (self.total_bytes / FULL).max(FULL_BYTES),
        }
    }

    /// Nothing more than a rest is left.
    pub fn full(&self) -> bool {
        self.free_bytes < self.full_bytes()
    }

    /// Below this people are told that it fills.
    fn filling_bytes(&self) -> u64 {
        (self.total_bytes / FILLING).max(self.full_bytes())
    }

    /// There is clearly more than the limit below which people were told.
    pub fn again(&self) -> bool {
        self.free_bytes >= self.filling_bytes() / 2 * 3
    }

    /// What people should hear, with its code.
    pub fn fault(&self) -> Option<(String, Text)> {
        if self.free_bytes >= self.filling_bytes() {
            return None;
        }
        let (free, total) = (self.free_bytes >> 20, self.total_bytes >> 20);
        let text = match (self.volume, self.full()) {
            (Volume::Mail, true) => Text::new(
                format!(
                    "The mail volume is full ({free} of {total} MiB are left): new mail is asked to come later, reading goes on. Let \
                     people delete, shorten store.undelete, then `store compact`."
                ),
                format!(
                    "邮件卷已满（{total} MiB 中剩余 {free} MiB）：新邮件被要求稍后再来，读取不受影响。请清理邮件、缩短 \
                     store.undelete，然后执行 store compact。"
                ),
            ),
            (Volume::Mail, false) => Text::new(
                format!("The mail volume is nearly full: {free} of {total} MiB are left."),
                format!("邮件卷即将用满：{total} MiB 中剩余 {free} MiB。"),
            ),
            (Volume::State, true) => Text::new(
                format!(
                    "The state volume of this node is full ({free} of {total} MiB are left): mail goes on, but settings may not be \
                     stored and logs end early. Make a support file and ask for help."
                ),
                format!(
                    "本节点的状态卷已满（{total} MiB 中剩余 {free} MiB）：邮件服务继续，但设置可能无法保存，日志会提前截断。\
                     请生成支持文件并寻求帮助。"
                ),
            ),
            (Volume::State, false) => Text::new(
                format!("The state volume of this node is nearly full: {free} of {total} MiB are left."),
                format!("本节点的状态卷即将用满：{total} MiB 中剩余 {free} MiB。"),
            ),
        };
        Some((format!("{}_{}", self.volume.name(), if self.full() { "full" } else { "filling" }), text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(free_mib: u64, total_mib: u64) -> Room {
        Room { volume: Volume::State, free_bytes: free_mib << 20, total_bytes: total_mib << 20 }
    }

    fn code(room: Room) -> Option<String> {
        room.fault().map(|(code, _)| code)
    }

    #[test]
    fn it_is_said_early_and_ends_late() {
        assert_eq!(code(room(100, 256)), None);
        assert_eq!(code(room(20, 256)).as_deref(), Some("state_filling"));
        assert_eq!(code(room(3, 256)).as_deref(), Some("state_full"));
        assert_eq!(code(Room { volume: Volume::Mail, ..room(16, 1300) }).as_deref(), Some("mail_full"));
        let mail = |free, total| Room { volume: Volume::Mail, ..room(free, total) };
        assert_eq!(code(mail(79, 1300)).as_deref(), Some("mail_full"), "new mail is put off below 64 MiB, a large one before");
        assert_eq!(code(mail(81, 1300)).as_deref(), Some("mail_filling"));
        assert_eq!([mail(79, 100_000), mail(9_000, 100_000)].map(|room| room.full()), [true, false]);
        assert!(room(3, 10).full() && !room(5, 10).full(), "a small volume");
        assert!(!room(30, 256).again() && room(40, 256).again(), "it does not come and go at the limit");
        let (_, text) = room(3, 256).fault().unwrap();
        assert!(text.en.contains("3 of 256 MiB") && text.zh.contains("256 MiB 中剩余 3 MiB"), "{text:?}");
    }

    #[test]
    fn the_mail_volume_is_asked_only_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let found = Room::look(folder.path());
        assert_eq!(found.iter().map(|room| room.volume).collect::<Vec<_>>(), [Volume::State]);
        assert!(found[0].total_bytes > 0);
        assert!(Room::look(Path::new("/nowhere")).is_empty());
        assert!(mounted(Path::new("/proc")) && !mounted(Path::new("/proc/self")));
    }
}
