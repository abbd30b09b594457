//! The lease in the kernel: tables of our own that drop what concerns a service address unless a set element lives.
//!
//! Contract: [`Rules::install`] puts the tables there without any lease, in one transaction; [`Rules::renew`] and [`Rules::end`] change
//! the sets by one message of netlink, with its acknowledgement read. An element's time runs in the kernel: whatever becomes of this process,
//! after it no packet to or from a service address passes, of established connections too, and no ARP request for it is answered
//! (ARP does not pass the tables of the IP families, hence a second table). It is dropped before connection tracking sees it.
//!
//! The renewal is `flush set` + `add element` in one transaction: kernels before 6.12 cannot change the timeout of an element, and
//! there is no moment without it. The time is rounded down to the kernel's tick (1 to 10 ms), so it ends early, never late;
//! [`LEASE_MIN`] keeps it away from zero, which means "for ever" (older kernels round less than a tick to it). Measured with 250 ticks a
//! second: the last ping that was answered had been sent 1 to 6 ms before the end.
//!
//! Failure classes: [`RuleError::Missing`]: somebody removed the tables (install them again); anything else is the kernel's refusal.

use std::{
    fmt::Write as _,
    future::Future,
    io::{self, Read as _},
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

/// A lease with less left is not worth setting.
pub(crate) const LEASE_MIN: Duration = Duration::from_millis(20);
/// For the program that installs the tables.
const NFT_LIMIT: Duration = Duration::from_secs(5);
/// Name of both tables.
const TABLE: &str = "twinpost_pair";

// linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
const AF_NETLINK: i32 = 16;
const NETLINK_NETFILTER: i32 = 12;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYS_NFTABLES: u16 = 10;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;
const NEWGEN: u16 = 15;
const GETGEN: u16 = 16;
const NLA_F_NESTED: u16 = 0x8000;
const FAMILY_INET: u8 = 1;
const FAMILY_ARP: u8 = 3;
const ENOENT: i32 = 2;

/// Why the rules could not be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuleError {
    /// The tables are not there.
    #[error("the table {TABLE} is not there")]
    Missing,
    /// The kernel, or the way to it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The program that installs them.
    #[error("{0}")]
    Program(String),
}

/// The sets that hold leases: family, name, and whether they hold IPv6.
const SETS: [(u8, &str, bool); 3] =
    [(FAMILY_INET, "lease4", false), (FAMILY_INET, "lease6", true), (FAMILY_ARP, "lease4", false)];

/// See the module.
#[derive(Debug)]
pub(crate) struct Rules {
    addresses: Vec<IpAddr>,
    nft: PathBuf,
    socket: Socket,
    sequence: u32,
    /// Generation of the kernel's whole rule set after our last change; each change of anybody adds one.
    generation: Option<u32>,
    /// Somebody else changed the rule set of the machine.
    suspect: bool,
    /// How our tables look when they are whole.
    installed: String,
}

impl Rules {
    /// # Errors
    /// No netlink socket.
    pub(crate) fn new(addresses: Vec<IpAddr>, nft: PathBuf) -> io::Result<Self> {
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_NETFILTER)))?;
        // The kernel answers before `send` returns; the limit is for a kernel that does not.
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self { addresses, nft, socket, sequence: 0, generation: None, suspect: false, installed: String::new() })
    }

    fn script(&self) -> String {
        let mut text = String::new();
        // "add" first, so that "delete" never fails; all of it is one transaction.
        for family in ["inet", "arp"] {
            let _ = writeln!(text, "add table {family} {TABLE}\ndelete table {family} {TABLE}");
        }
        let _ = writeln!(text, "table inet {TABLE} {{");
        let _ =
            writeln!(text, "set lease4 {{ type ipv4_addr; flags timeout; }}\nset lease6 {{ type ipv6_addr; flags timeout; }}");
        for (hook, side) in [("input", "daddr"), ("output", "saddr")] {
            let _ = writeln!(text, "chain {hook} {{ type filter hook {hook} priority raw; policy accept;");
            for address in &self.addresses {
                let (family, set) = if address.is_ipv6() { ("ip6", "lease6") } else { ("ip", "lease4") };
                let _ = writeln!(text, "{family} {side} {address} {family} {side} != @{set} drop");
            }
            let _ = writeln!(text, "}}");
        }
        let _ = writeln!(text, "}}\ntable arp {TABLE} {{\nset lease4 {{ type ipv4_addr; flags timeout; }}");
        for (hook, side) in [("input", "daddr"), ("output", "saddr")] {
            let _ = writeln!(text, "chain {hook} {{ type filter hook {hook} priority filter; policy accept;");
            for address in self.addresses.iter().filter(|address| address.is_ipv4()) {
                let _ = writeln!(text, "arp {side} ip {address} arp {side} ip != @lease4 drop");
            }
            let _ = writeln!(text, "}}");
        }
        text.push_str("}\n");
        text
    }

    /// Puts the tables there, without a lease.
    pub(crate) async fn install(&mut self) -> Result<(), RuleError> {
        run(&self.nft, &["-f", "-"], self.script()).await?;
        self.installed = listing(&self.nft).await?;
        self.generation = Some(self.ask_generation()?);
        Ok(())
    }

    /// Takes the tables away.
    pub(crate) async fn remove(&mut self) -> Result<(), RuleError> {
        let text = ["inet", "arp"].map(|family| format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n"));
        run(&self.nft, &["-f", "-"], text.concat()).await?;
        Ok(())
    }

    /// Whether our tables must be looked at, since somebody changed the rule set of the machine: the look itself, which compares
    /// them with what was installed. It runs programs, so a renewal never waits for it.
    pub(crate) fn look(&mut self) -> Option<impl Future<Output = bool> + Send + 'static> {
        let (nft, installed) = (self.nft.clone(), self.installed.clone());
        std::mem::take(&mut self.suspect).then_some(async move { listing(&nft).await.is_ok_and(|now| now == installed) })
    }

    /// The lease of all addresses ends `left` from now (`None`: never), whatever it was before.
    pub(crate) fn renew(&mut self, left: Option<Duration>) -> Result<(), RuleError> {
        self.change(Some(left))
    }

    /// No address has a lease any more.
    pub(crate) fn end(&mut self) -> Result<(), RuleError> {
        self.change(None)
    }

    fn change(&mut self, lease: Option<Option<Duration>>) -> Result<(), RuleError> {
        let first = self.sequence.wrapping_add(1);
        let mut batch = Batch { bytes: Vec::with_capacity(1024), sequence: first };
        let begin = batch.open(BATCH_BEGIN, NLM_F_REQUEST, 0, SUBSYS_NFTABLES);
        batch.close(begin);
        let mut asked = 0;
        for (family, set, six) in SETS {
            // Without elements it is "flush set", which never fails for want of an element.
            batch.elements(DELSETELEM, family, set, None);
            asked += 1;
            let mut addresses = self.addresses.iter().filter(|address| address.is_ipv6() == six).peekable();
            if let Some(left) = lease
                && addresses.peek().is_some()
            {
                batch.elements(NEWSETELEM, family, set, Some((&mut addresses, left)));
                asked += 1;
            }
        }
        let end = batch.open(BATCH_END, NLM_F_REQUEST, 0, SUBSYS_NFTABLES);
        batch.close(end);
        self.sequence = batch.sequence;
        let last = batch.sequence;
        self.send(&batch.bytes)?;
        // One acknowledgement for each message that asked for one; a failed commit is told for the whole batch.
        let mut failed: Option<i32> = None;
        let mut heard = 0;
        while heard < asked {
            for (kind, sequence, body) in messages(&self.receive()?) {
                if kind != NLMSG_ERROR || sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                let code = body.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
                if code != 0 {
                    failed.get_or_insert(-code);
                }
                heard = if sequence == first { asked } else { heard + 1 };
            }
        }
        match failed {
            None => {
                let now = self.ask_generation()?;
                // Ours added one. Zero is left out by the kernel, which costs one look in four billion changes.
                self.suspect |= self.generation.replace(now).is_some_and(|before| before.wrapping_add(1) != now);
                Ok(())
            }
            Some(ENOENT) => Err(RuleError::Missing),
            Some(code) => Err(RuleError::Io(io::Error::from_raw_os_error(code))),
        }
    }

    fn ask_generation(&mut self) -> Result<u32, RuleError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Batch { bytes: Vec::with_capacity(20), sequence: self.sequence };
        let start = message.open(SUBSYS_NFTABLES << 8 | GETGEN, NLM_F_REQUEST, 0, 0);
        message.close(start);
        self.send(&message.bytes)?;
        // NFTA_GEN_ID is the first attribute; after nfgenmsg and its header come four bytes in network order.
        loop {
            for (kind, sequence, body) in messages(&self.receive()?) {
                if sequence != self.sequence {
                    continue;
                }
                if kind == SUBSYS_NFTABLES << 8 | NEWGEN
                    && let Some(id) = body.get(8..12).and_then(|b| b.try_into().ok())
                {
                    return Ok(u32::from_be_bytes(id));
                }
                return Err(RuleError::Io(io::Error::other("the kernel does not tell the generation of its rules")));
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.socket.send(bytes)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::Error::other("netlink took half a message")) }
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        // An error comes with its message; batches are below 1 KiB plus the addresses.
        let mut bytes = vec![0; 16 * 1024];
        let count = (&self.socket).read(&mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

/// Messages being written.
struct Batch {
    bytes: Vec<u8>,
    /// Of the next message; after the last, one beyond.
    sequence: u32,
}

impl Batch {
    /// Header and nfgenmsg; gives where it begins.
    fn open(&mut self, kind: u16, flags: u16, family: u8, resource: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        start
    }

    fn close(&mut self, start: usize) {
        let length = u32::try_from(self.bytes.len() - start).expect("a message of some hundred bytes");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let start = self.nest(kind);
        self.bytes.extend(value);
        self.unnest(start);
    }

    fn nest(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        start
    }

    fn unnest(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).expect("an attribute of some hundred bytes");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        // Attributes begin at multiples of four.
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn elements(
        &mut self,
        kind: u16,
        family: u8,
        set: &str,
        elements: Option<(&mut dyn Iterator<Item = &IpAddr>, Option<Duration>)>,
    ) {
        let create = if kind == NEWSETELEM { NLM_F_CREATE } else { 0 };
        let start = self.open(SUBSYS_NFTABLES << 8 | kind, NLM_F_REQUEST | NLM_F_ACK | create, family, 0);
        self.attribute(1, format!("{TABLE}\0").as_bytes());
        self.attribute(2, format!("{set}\0").as_bytes());
        if let Some((addresses, left)) = elements {
            let list = self.nest(3 | NLA_F_NESTED);
            for address in addresses {
                let element = self.nest(1 | NLA_F_NESTED);
                let key = self.nest(1 | NLA_F_NESTED);
                match address {
                    IpAddr::V4(address) => self.attribute(1, &address.octets()),
                    IpAddr::V6(address) => self.attribute(1, &address.octets()),
                }
                self.unnest(key);
                if let Some(left) = left {
                    let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                    self.attribute(4, &left_ms.to_be_bytes());
                }
                self.unnest(element);
            }
            self.unnest(list);
        }
        self.close(start);
    }
}

/// Kind, sequence and body of each message in a datagram of netlink. Cut ones are left out.
fn messages(mut bytes: &[u8]) -> Vec<(u16, u32, &[u8])> {
    let mut all = Vec::new();
    while let Some((header, _)) = bytes.split_at_checked(16) {
        let number = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let Some(length) = usize::try_from(number(0)).ok().filter(|&l| l >= 16 && l <= bytes.len()) else { break };
        all.push((u16::from_ne_bytes([header[4], header[5]]), number(8), &bytes[16..length]));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// For tests: no answer of the kernel makes the parser panic.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let _ = messages(data);
}

/// Our tables without the content of their sets.
async fn listing(nft: &Path) -> Result<String, RuleError> {
    let inet = run(nft, &["-t", "list", "table", "inet", TABLE], String::new()).await?;
    let arp = run(nft, &["-t", "list", "table", "arp", TABLE], String::new()).await?;
    Ok(inet + &arp)
}

/// Runs nft(8); its standard error is the error.
async fn run(nft: &Path, args: &[&str], input: String) -> Result<String, RuleError> {
    let what = || format!("{} {}", nft.display(), args.join(" "));
    let mut command = Command::new(nft);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let work = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = match timeout(NFT_LIMIT, work).await {
        Err(_) => return Err(RuleError::Program(format!("{}: no end within {} s", what(), NFT_LIMIT.as_secs()))),
        Ok(Err(error)) => return Err(RuleError::Program(format!("{}: {error}", what()))),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(400).collect();
    Err(RuleError::Program(format!("{}: {}: {said}", what(), output.status)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_is_well_formed() {
        let mut batch = Batch { bytes: Vec::new(), sequence: 7 };
        let addresses: Vec<IpAddr> = vec!["192.0.2.10".parse().unwrap(), "192.0.2.11".parse().unwrap()];
        batch.elements(NEWSETELEM, FAMILY_INET, "lease4", Some((&mut addresses.iter(), Some(Duration::from_millis(800)))));
        batch.elements(DELSETELEM, FAMILY_ARP, "lease4", None);
        let all = messages(&batch.bytes);
        assert_eq!(all.iter().map(|m| (m.0, m.1)).collect::<Vec<_>>(), [(0x0a0c, 7), (0x0a0e, 8)]);
        assert_eq!(all[0].2[..4], [FAMILY_INET, 0, 0, 0]);
        // Table name with its NUL: 4 + 14 bytes, padded to 20.
        assert_eq!(all[0].2[4..22], *b"\x12\0\x01\0twinpost_pair\0");
        assert!(all[0].2.ends_with(&800_u64.to_be_bytes()));
    }

    proptest! {
        #[test]
        fn no_answer_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz(&data);
        }

        #[test]
        fn no_bent_answer_panics(at in 0_usize..40, byte in any::<u8>()) {
            let mut batch = Batch { bytes: Vec::new(), sequence: 7 };
            batch.elements(DELSETELEM, FAMILY_ARP, "lease4", None);
            if let Some(bent) = batch.bytes.get_mut(at) {
                *bent = byte;
            }
            fuzz(&batch.bytes);
        }
    }
}
