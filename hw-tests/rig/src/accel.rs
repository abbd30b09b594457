//! Whether KVM really runs a kernel here.
//!
//! Contract: a device `/dev/kvm` that opens is no proof: some hosts have one that does not run a stock kernel. One machine without disks is
//! started with it; only when its kernel speaks and comes to its end in time is KVM used. Asked once a process.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a kernel without anything to start may take under KVM.
const PROBE: Duration = Duration::from_secs(3);

/// How processors are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accel {
    /// By the processor itself.
    Kvm,
    /// By translation.
    Tcg,
}

impl Accel {
    /// QEMU's words.
    #[must_use]
    pub fn words(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// What works here with this kernel.
    #[must_use]
    pub fn best(kernel: &Path) -> Self {
        static KNOWN: OnceLock<Accel> = OnceLock::new();
        *KNOWN.get_or_init(|| {
            let openable = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
            if openable && boots(kernel) { Self::Kvm } else { Self::Tcg }
        })
    }
}

/// A kernel with nothing to start panics for want of a root, and with `-no-reboot` that ends QEMU.
fn boots(kernel: &Path) -> bool {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-machine", "pc"]).args(Accel::Kvm.words());
    command.args([
        "-m",
        "256",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-serial",
        "stdio",
        "-kernel",
    ]);
    command.arg(kernel).args(["-append", "console=ttyS0 panic=-1"]);
    let Ok(mut child) = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else { return false };
    let Some(mut out) = child.stdout.take() else { return false };
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = out.by_ref().take(1 << 20).read_to_end(&mut text);
        text
    });
    let end = Instant::now() + PROBE;
    let mut ended = false;
    while Instant::now() < end && !ended {
        ended = !matches!(child.try_wait(), Ok(None));
        // The pace of looking.
        std::thread::sleep(Duration::from_millis(20));
    }
    crate::space::end(&mut child);
    let text = reader.join().unwrap_or_default();
    let has = |word: &str| contains(&text, word.as_bytes());
    ended && has("Linux version") && has("Kernel panic")
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
