//! The words of the kernel command line that are this program's.
//!
//! Contract: `twinpost.slot=a|b`, `twinpost.root=sha256:<roothash>:<salt>:<data blocks>` and, on an installer medium, `twinpost.install=1`.
//! Of a word that stands twice the last counts, as for the kernel. What is wrong is said in a sentence for the console; nothing is guessed:
//! without a right root hash nothing may be started.

/// The largest root that is believed: 16 GiB in blocks of 4096 bytes. A slot is 160 MiB.
const MAX_BLOCKS: u64 = 1 << 22;
/// dm-verity takes a salt of up to 256 bytes.
const MAX_SALT_HEX: usize = 512;

/// What is to be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmdline {
    /// `a` or `b`.
    pub slot: char,
    /// Hash at the top of the tree, 64 hex digits.
    pub root_hash: String,
    /// Salt in hex; `-` when there is none.
    pub salt: String,
    /// Blocks of 4096 bytes; the hash tree begins behind them.
    pub data_blocks: u64,
    /// This is the installer: the root comes from one medium only.
    pub install: bool,
}

impl Cmdline {
    /// Parses `/proc/cmdline`.
    ///
    /// # Errors
    /// A sentence that names the word.
    pub fn parse(text: &str) -> Result<Self, String> {
        let last = |key: &str| text.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let slot = match last("twinpost.slot") {
            Some("a") => 'a',
            Some("b") => 'b',
            Some(other) => return Err(format!("the command line names slot \"{other}\" and there are only a and b")),
            None => return Err("the command line does not say which slot to start (twinpost.slot=)".to_owned()),
        };
        let root = last("twinpost.root").ok_or("the command line does not say what the slot holds (twinpost.root=)")?;
        let mut parts = root.split(':');
        let (Some("sha256"), Some(hash), Some(salt), Some(blocks), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("twinpost.root={root} is not sha256:<hash>:<salt>:<blocks>"));
        };
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hash.len() != 64 || !hex(hash) {
            return Err(format!("the root hash in twinpost.root={root} is not 64 hex digits"));
        }
        if salt != "-" && (salt.is_empty() || salt.len() % 2 != 0 || salt.len() > MAX_SALT_HEX || !hex(salt)) {
            return Err(format!("the salt in twinpost.root={root} is not hex"));
        }
        let data_blocks = blocks.parse().ok().filter(|n| (1..=MAX_BLOCKS).contains(n));
        let data_blocks = data_blocks
            .ok_or_else(|| format!("the size in twinpost.root={root} is not a number of blocks from 1 to {MAX_BLOCKS}"))?;
        let install = last("twinpost.install") == Some("1");
        Ok(Self { slot, root_hash: hash.to_owned(), salt: salt.to_owned(), data_blocks, install })
    }

    /// Name of the partitions that hold the slot.
    #[must_use]
    pub fn partition(&self) -> String {
        format!("twinpost-{}", self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(root: &str) -> String {
        format!("console=ttyS0 quiet twinpost.slot=b {root} panic=10\n")
    }

    #[test]
    fn what_the_image_builder_writes_is_understood() {
        let hash = "0123456789abcdef".repeat(4);
        let cmdline = Cmdline::parse(&line(&format!("twinpost.root=sha256:{hash}:00ff:18765"))).unwrap();
        assert_eq!(
            cmdline,
            Cmdline { slot: 'b', root_hash: hash.clone(), salt: "00ff".into(), data_blocks: 18765, install: false }
        );
        assert_eq!(cmdline.partition(), "twinpost-b");
        let text = format!("twinpost.slot=b twinpost.install=1 twinpost.root=sha256:{hash}:-:1 twinpost.slot=a");
        let cmdline = Cmdline::parse(&text).unwrap();
        assert!(cmdline.install && cmdline.slot == 'a', "the last word counts");
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        let hash = "0".repeat(64);
        for (root, what) in [
            (String::new(), "does not say"),
            (format!("twinpost.root=md5:{hash}:00:1"), "is not sha256:"),
            (format!("twinpost.root=sha256:{hash}:00:1:2"), "is not sha256:"),
            ("twinpost.root=sha256:00:00:1".to_owned(), "64 hex"),
            (format!("twinpost.root=sha256:{}:00:1", hash.replace("00", "zz")), "64 hex"),
            (format!("twinpost.root=sha256:{hash}:0:1"), "salt"),
            (format!("twinpost.root=sha256:{hash}::1"), "salt"),
            (format!("twinpost.root=sha256:{hash}:00:0"), "size"),
            (format!("twinpost.root=sha256:{hash}:00:99999999999"), "size"),
        ] {
            let why = Cmdline::parse(&line(&root)).unwrap_err();
            assert!(why.contains(what), "{root}: {why}");
        }
        assert!(Cmdline::parse("twinpost.slot=c").unwrap_err().contains("\"c\""));
        assert!(Cmdline::parse("xtwinpost.slot=a").unwrap_err().contains("which slot"));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(text in "\\PC{0,200}", root in "[a-f0-9:]{0,90}") {
            let _ = Cmdline::parse(&text);
            let _ = Cmdline::parse(&line(&format!("twinpost.root=sha256:{root}")));
        }
    }
}
