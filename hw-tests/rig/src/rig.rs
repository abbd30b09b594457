//! What a test sees of a pair of machines, whichever rig they stand on.

use crate::capability::{Capabilities, Capability};
use crate::console::Console;
use crate::frame::Answer;
use crate::pair::SETTLE;
use crate::timeline::Timeline;
use crate::{Error, Result};
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// The nodes of a pair.
pub const NODES: [&str; 2] = ["a", "b"];

/// The other node.
#[must_use]
pub fn other(node: &str) -> &'static str {
    if node == "a" { "b" } else { "a" }
}

/// A cable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cable {
    /// The crossover cable: both ends see it.
    Eth1,
    /// A node's cable to the LAN.
    Lan,
    /// The null-modem cable.
    Serial,
    /// A node's cable to its modem.
    Modem,
    /// The cable of the power switch that turns this node off.
    Switch,
}

/// How a cable is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    /// As it should be.
    None,
    /// Pulled.
    Pulled,
    /// Each byte from this node's end is changed with this probability (serial lines).
    Garbled(f64),
    /// So many bytes a second (serial lines).
    Slow(u32),
}

/// A disk that is put into a bay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NewDisk {
    /// The one that was in it.
    Same,
    /// A blank one of so many bytes.
    Blank(u64),
    /// One that holds somebody's file system, of so many bytes.
    Foreign(u64),
}

/// Brings the thread that calls it to the LAN.
pub type Door = Box<dyn FnOnce() -> Result<()> + Send>;

/// Two machines and what is around them. Everything that a rig cannot do is an [`Error::Cannot`], and is missing in
/// [`Rig::capabilities`]: a test asks there first.
pub trait Rig: Send + Sync {
    /// What it declares.
    fn capabilities(&self) -> &Capabilities;
    /// Where it writes what happens.
    fn timeline(&self) -> &Timeline;
    /// The console of a node.
    fn console(&self, node: &str) -> &Console;
    /// LAN address of a node.
    fn address(&self, node: &str) -> IpAddr;
    /// The address that moves.
    fn service(&self) -> IpAddr;
    /// How long its machines may take from power to a settled pair: real ones test their memory first.
    fn settle_limit(&self) -> Duration {
        SETTLE
    }
    /// Brings the calling thread to where clients are: the LAN.
    ///
    /// # Errors
    /// The kernel refuses.
    fn enter(&self) -> Result<()> {
        self.door()()
    }
    /// The same for another thread to do.
    fn door(&self) -> Door;

    /// Switches a node on or off at once; off, nothing is flushed or said goodbye to.
    ///
    /// # Errors
    /// The switch fails, or the rig has none.
    fn power(&self, node: &str, on: bool) -> Result<()>;
    /// Whether a node has power.
    ///
    /// # Errors
    /// The switch fails, or the rig has none.
    fn has_power(&self, node: &str) -> Result<bool>;
    /// Presses a node's reset button.
    ///
    /// # Errors
    /// The rig cannot.
    fn reset(&self, node: &str) -> Result<()> {
        cannot(&format!("reset node {node}"))
    }
    /// Pulls, mends or spoils a cable at a node.
    ///
    /// # Errors
    /// The rig cannot.
    fn cable(&self, node: &str, cable: Cable, fault: Fault) -> Result<()>;
    /// Swaps a node's null-modem cable and modem cable, or puts them right.
    ///
    /// # Errors
    /// The rig cannot.
    fn swap_serial(&self, node: &str, swapped: bool) -> Result<()> {
        let _ = swapped;
        cannot(&format!("swap the serial cables of node {node}"))
    }
    /// Pulls the disk of a bay (1 or 2).
    ///
    /// # Errors
    /// The rig cannot.
    fn pull_disk(&self, node: &str, bay: usize) -> Result<()> {
        cannot(&format!("pull disk {bay} of node {node}"))
    }
    /// Puts a disk into an empty bay.
    ///
    /// # Errors
    /// The rig cannot.
    fn insert_disk(&self, node: &str, bay: usize, disk: NewDisk) -> Result<()> {
        let _ = disk;
        cannot(&format!("insert disk {bay} of node {node}"))
    }
    /// Stops a node, processor and clock.
    ///
    /// # Errors
    /// The rig cannot.
    fn stall(&self, node: &str) -> Result<()> {
        cannot(&format!("stall node {node}"))
    }
    /// Lets it go on.
    ///
    /// # Errors
    /// The rig cannot.
    fn go_on(&self, node: &str) -> Result<()> {
        cannot(&format!("let node {node} go on"))
    }
    /// Makes the kernel of a node panic.
    ///
    /// # Errors
    /// The rig cannot.
    fn panic(&self, node: &str) -> Result<()> {
        cannot(&format!("make node {node}'s kernel panic"))
    }
    /// The wall clock with which a node starts next, as seconds added to the right time.
    ///
    /// # Errors
    /// The rig cannot.
    fn clock_offset(&self, node: &str, offset_s: i64) -> Result<()> {
        let _ = offset_s;
        cannot(&format!("set the clock of node {node}"))
    }
    /// Further words for the kernel of a node from its next start on.
    ///
    /// # Errors
    /// The rig cannot.
    fn kernel_words(&self, node: &str, words: &str) -> Result<()> {
        let _ = words;
        cannot(&format!("give the kernel of node {node} words"))
    }
    /// Stops or starts the witness.
    ///
    /// # Errors
    /// The rig cannot.
    fn witness(&self, on: bool) -> Result<()> {
        let _ = on;
        cannot("switch the witness")
    }
    /// Hangs a node's modem up until it is restarted by a command.
    ///
    /// # Errors
    /// The rig cannot.
    fn hang_modem(&self, node: &str) -> Result<()> {
        cannot(&format!("hang the modem of node {node}"))
    }
    /// Texts that telephones received, as (number, text).
    ///
    /// # Errors
    /// The rig cannot see them.
    fn phones(&self) -> Result<Vec<(String, String)>> {
        cannot("see telephones")
    }

    /// Whether it can.
    fn can(&self, capability: Capability) -> bool {
        self.capabilities().contains(&capability)
    }
    /// A node, to give orders to.
    fn node(&self, name: &'static str) -> Node<'_>
    where
        Self: Sized,
    {
        Node { name, console: self.console(name) }
    }
}

pub(crate) fn cannot<T>(what: &str) -> Result<T> {
    Err(Error::Cannot { what: what.to_owned() })
}

/// A node at its console.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// `a` or `b`.
    pub name: &'static str,
    console: &'a Console,
}

impl Node<'_> {
    /// The words of `twinpost ctl`; gives the answer whatever its exit code is.
    ///
    /// # Errors
    /// No answer in time, or a broken one.
    pub fn order(&self, words: &str) -> Result<Answer> {
        self.console.order(words)
    }

    /// An order that must succeed; gives what it printed.
    ///
    /// # Errors
    /// No answer, or it failed.
    pub fn well(&self, words: &str) -> Result<String> {
        self.console.well(words)
    }

    /// An order with `--json` that must succeed.
    ///
    /// # Errors
    /// No answer, it failed, or it is no JSON.
    pub fn json(&self, words: &str) -> Result<Value> {
        self.console.json(words)
    }

    /// The console itself.
    #[must_use]
    pub fn console(&self) -> &Console {
        self.console
    }
}
