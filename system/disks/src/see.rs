//! The disks as a plan looks at them: port, device, what it holds and which arrays it belongs to, read once.

use crate::probe::System;
use crate::sysfs::Block;
use crate::{Array, ArrayStatus, Disk, Holds, Machine, MemberState, Port, Whose};

/// A disk in a bay.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub port: Port,
    pub block: Block,
    pub disk: Disk,
    /// Its table and members, if it is a Twinpost disk.
    pub system: Option<System>,
}

impl Seen {
    pub fn whose(&self) -> Option<Whose> {
        match &self.disk.holds {
            Holds::Twinpost(found) => Some(found.whose),
            _ => None,
        }
    }

    /// What it is in an array that runs.
    pub fn member(&self, array: Array) -> Option<MemberState> {
        self.disk.members.iter().find(|member| member.array == array).map(|member| member.state)
    }

    /// It can be read for all of these arrays.
    pub fn whole(&self, arrays: &[ArrayStatus]) -> bool {
        arrays.iter().all(|status| self.member(status.array) == Some(MemberState::InSync))
    }
}

impl Machine {
    /// All bays: the port, and the disk in it if there is one.
    pub(crate) async fn see(&self, arrays: &[ArrayStatus]) -> Vec<(Port, Option<Seen>)> {
        let own = self.own_arrays(arrays).await;
        let mut out = Vec::new();
        for (port, block) in self.blocks().await {
            let seen = match block {
                Some(block) => {
                    let disk = self.disk(port, &block, arrays, &own, false).await;
                    let system = self.system(&block).await.ok().flatten();
                    Some(Seen { port: port.clone(), block, disk, system })
                }
                None => None,
            };
            out.push((port.clone(), seen));
        }
        out
    }
}
