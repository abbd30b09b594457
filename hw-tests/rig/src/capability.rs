//! What a rig can do to its machines. A test says what it needs; it is left out only when the rig does not declare that.

use std::collections::BTreeSet;
use std::fmt;

macro_rules! capabilities {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)*) => {
        /// Something that a rig can do, or that its machines have.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Capability { $($(#[doc = $doc])+ $variant,)* }

        impl Capability {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its word in a bench's file.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

capabilities! {
    /// Takes a node's power away at once, and reads it.
    CutPower = "cut_power",
    /// Pulls a disk out of a running node.
    PullDisk = "pull_disk",
    /// Puts a disk that was pulled, or another one, into a running node.
    InsertDisk = "insert_disk",
    /// Writes to a disk behind the node's back while it is off.
    CorruptDisk = "corrupt_disk",
    /// Pulls the crossover cable.
    CutEth1 = "pull_cable_eth1",
    /// Pulls a node's LAN cable.
    CutLan = "pull_cable_lan",
    /// Pulls the null-modem cable.
    CutSerial = "pull_cable_serial",
    /// Changes bytes on the null-modem cable.
    GarbleSerial = "garble_serial",
    /// Plugs the null-modem cable and the modem's cable into each other's port.
    SwapSerial = "swap_serial",
    /// Unplugs the modem.
    CutModem = "pull_modem",
    /// Shows what telephones received.
    Phones = "phones",
    /// Stops a node for a moment: all its processors and its clock.
    Stall = "stall",
    /// Resets a node as its button does.
    Reset = "reset",
    /// Makes the kernel of a node panic.
    KernelPanic = "kernel_panic",
    /// Starts a node with another wall clock.
    SetClock = "set_clock",
    /// Starts by UEFI firmware and the disk's boot loader.
    Uefi = "uefi",
    /// The null-modem cable carries the modem control lines.
    ModemLines = "modem_lines",
    /// The power switch that the nodes use on each other can be made unreachable.
    CutSwitch = "cut_switch",
    /// The witness can be stopped and started.
    Witness = "witness",
    /// Another site's mail server, and the name server that leads to it, on the LAN.
    Outside = "outside",
    /// The modem hangs: it takes what is said to it and answers nothing.
    HangModem = "hang_modem",
    /// Fills and empties the file systems of a node that is off.
    FillDisk = "fill_disk",
    /// Drops or reorders writes that were not flushed when the power goes.
    LoseWrites = "lose_writes",
}

impl Capability {
    /// The capability of a word.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|capability| capability.name() == name)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a rig declares.
pub type Capabilities = BTreeSet<Capability>;

#[cfg(test)]
mod tests {
    use super::Capability;

    #[test]
    fn words_lead_back_to_their_capability() {
        for capability in Capability::ALL {
            assert_eq!(Capability::named(capability.name()), Some(*capability));
        }
        assert_eq!(Capability::named("fly"), None);
    }
}
