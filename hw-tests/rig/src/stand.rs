//! Either kind of rig, for scenarios that run on both.
//!
//! Contract: everything goes to the rig that it is. What only machines in QEMU have ([`Stand::machine`]) a scenario may touch when it named a
//! capability that no bench declares.

use crate::capability::Capabilities;
use crate::machine::Machine;
use crate::outside::Outside;
use crate::rig::{Cable, Door, Fault, NewDisk, Rig};
use crate::{Bench, Console, Qemu, Result, Timeline};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub enum Stand {
    /// Machines in QEMU.
    Qemu(Box<Qemu>),
    /// Real ones.
    Bench(Box<Bench>),
}

impl From<Qemu> for Stand {
    fn from(rig: Qemu) -> Self {
        Self::Qemu(Box::new(rig))
    }
}

impl From<Bench> for Stand {
    fn from(rig: Bench) -> Self {
        Self::Bench(Box::new(rig))
    }
}

impl Stand {
    fn rig(&self) -> &dyn Rig {
        match self {
            Self::Qemu(rig) => &**rig,
            Self::Bench(rig) => &**rig,
        }
    }

    /// The machines in QEMU.
    ///
    /// # Panics
    /// They are real ones: the scenario did not name what it needs.
    #[must_use]
    #[track_caller]
    pub fn qemu(&self) -> &Qemu {
        match self {
            Self::Qemu(rig) => rig,
            Self::Bench(_) => panic!("this scenario looks into machines, and names no capability that a bench lacks"),
        }
    }

    /// A machine in QEMU.
    ///
    /// # Panics
    /// As [`Stand::qemu`].
    #[must_use]
    #[track_caller]
    pub fn machine(&self, node: &str) -> &Arc<Machine> {
        self.qemu().machine(node)
    }

    /// The mail server outside.
    ///
    /// # Panics
    /// As [`Stand::qemu`].
    #[must_use]
    #[track_caller]
    pub fn outside(&self) -> &Outside {
        self.qemu().outside()
    }
}

impl Rig for Stand {
    fn capabilities(&self) -> &Capabilities {
        self.rig().capabilities()
    }
    fn timeline(&self) -> &Timeline {
        self.rig().timeline()
    }
    fn console(&self, node: &str) -> &Console {
        self.rig().console(node)
    }
    fn address(&self, node: &str) -> IpAddr {
        self.rig().address(node)
    }
    fn service(&self) -> IpAddr {
        self.rig().service()
    }
    fn settle_limit(&self) -> Duration {
        self.rig().settle_limit()
    }
    fn door(&self) -> Door {
        self.rig().door()
    }
    fn power(&self, node: &str, on: bool) -> Result<()> {
        self.rig().power(node, on)
    }
    fn has_power(&self, node: &str) -> Result<bool> {
        self.rig().has_power(node)
    }
    fn reset(&self, node: &str) -> Result<()> {
        self.rig().reset(node)
    }
    fn cable(&self, node: &str, cable: Cable, fault: Fault) -> Result<()> {
        self.rig().cable(node, cable, fault)
    }
    fn swap_serial(&self, node: &str, swapped: bool) -> Result<()> {
        self.rig().swap_serial(node, swapped)
    }
    fn pull_disk(&self, node: &str, bay: usize) -> Result<()> {
        self.rig().pull_disk(node, bay)
    }
    fn insert_disk(&self, node: &str, bay: usize, disk: NewDisk) -> Result<()> {
        self.rig().insert_disk(node, bay, disk)
    }
    fn stall(&self, node: &str) -> Result<()> {
        self.rig().stall(node)
    }
    fn go_on(&self, node: &str) -> Result<()> {
        self.rig().go_on(node)
    }
    fn panic(&self, node: &str) -> Result<()> {
        self.rig().panic(node)
    }
    fn clock_offset(&self, node: &str, offset_s: i64) -> Result<()> {
        self.rig().clock_offset(node, offset_s)
    }
    fn kernel_words(&self, node: &str, words: &str) -> Result<()> {
        self.rig().kernel_words(node, words)
    }
    fn witness(&self, on: bool) -> Result<()> {
        self.rig().witness(on)
    }
    fn hang_modem(&self, node: &str) -> Result<()> {
        self.rig().hang_modem(node)
    }
    fn phones(&self) -> Result<Vec<(String, String)>> {
        self.rig().phones()
    }
}
