//! What this program says: to people on every console, and to the kernel's log, from where the journal takes it later.
//!
//! Contract: speaking never fails the start; a console that cannot be opened is passed over. The same text does not appear twice on a console:
//! the kernel's log gets it at a level that is not shown there (`quiet`).

use std::fs::File;
use std::io::Write as _;

/// Where messages go.
#[derive(Debug, Default)]
pub struct Console {
    consoles: Vec<File>,
    kmsg: Option<File>,
}

impl Console {
    /// Opens the kernel's consoles and its log; `/dev` and `/sys` are mounted.
    #[must_use]
    pub fn open() -> Self {
        let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let write = |path: String| File::options().write(true).open(path).ok();
        let mut consoles = active.split_whitespace().filter_map(|name| write(format!("/dev/{name}"))).collect::<Vec<_>>();
        if consoles.is_empty() {
            consoles.extend(write("/dev/console".to_owned()));
        }
        Self { consoles, kmsg: write("/dev/kmsg".to_owned()) }
    }

    /// For the log only: what was found and done.
    pub fn note(&mut self, text: &str) {
        self.log(6, text);
    }

    /// For a person in front of the machine, and for the log.
    pub fn tell(&mut self, text: &str) {
        for console in &mut self.consoles {
            let _ = console.write_all(format!("{text}\n").as_bytes());
        }
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.log(4, line);
        }
    }

    fn log(&mut self, level: u8, line: &str) {
        // Documentation/ABI/testing/dev-kmsg: one record a write, level in angle brackets.
        if let Some(kmsg) = &mut self.kmsg {
            let _ = kmsg.write_all(format!("<{level}>twinpost-init: {line}").as_bytes());
        }
    }
}
