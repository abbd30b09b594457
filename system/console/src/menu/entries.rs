//! The entries of the main menu.

use super::Step;
use super::flow::{Flow, Sort, Sure, TestKind, ask, choose, run};
use crate::Tongue;
use crate::session::Ask;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Status,
    Addresses,
    Administrator,
    Tests,
    Disks,
    Pair,
    Slot,
    Support,
    Reboot,
    PowerOff,
    FactoryReset,
    /// Of the installer.
    Install,
    /// Of the installer.
    DisksThere,
}

impl Entry {
    const NODE: [Self; 11] = [
        Self::Status,
        Self::Addresses,
        Self::Administrator,
        Self::Tests,
        Self::Disks,
        Self::Pair,
        Self::Slot,
        Self::Support,
        Self::Reboot,
        Self::PowerOff,
        Self::FactoryReset,
    ];

    const INSTALLER: [Self; 5] = [Self::Install, Self::DisksThere, Self::Support, Self::Reboot, Self::PowerOff];

    /// The entries of a menu with their numbers.
    pub(super) fn all(installer: bool) -> impl Iterator<Item = (usize, Self)> {
        let entries: &'static [Self] = if installer { &Self::INSTALLER } else { &Self::NODE };
        (1..).zip(entries.iter().copied())
    }

    pub(super) fn title(self, tongue: Tongue) -> &'static str {
        match self {
            Self::Status => tongue.say("Status", "状态"),
            Self::Addresses => tongue.say("Addresses; first setup", "网络地址；首次设置"),
            Self::Administrator => tongue.say("New password for an administrator", "重置管理员密码"),
            Self::Tests => tongue.say("Test the network (ping, names)", "网络测试（ping、域名）"),
            Self::Disks => tongue.say("Disks", "磁盘"),
            Self::Pair => tongue.say("The other node: switch, pairing", "对端节点：切换、配对"),
            Self::Slot => tongue.say("Which system to start", "选择启动的系统"),
            Self::Support => tongue.say("Support file to a USB stick", "将诊断文件写入 U 盘"),
            Self::Reboot => tongue.say("Restart this node", "重启本节点"),
            Self::PowerOff => tongue.say("Switch this node off", "关闭本节点"),
            Self::FactoryReset => tongue.say("Back to the state of delivery", "恢复出厂设置"),
            Self::Install => tongue.say("Install Twinpost on the disks of this machine", "将 Twinpost 安装到本机磁盘"),
            Self::DisksThere => tongue.say("Show the disks", "查看磁盘"),
        }
    }

    /// What choosing it begins.
    pub(super) fn open(self, tongue: Tongue) -> Sort {
        match self {
            Self::Status => (
                Some(Flow::Status),
                vec![Step::Gather(vec![
                    Ask::Order(&["pair", "status", "--json"]),
                    Ask::Order(&["disks", "list", "--json"]),
                    Ask::Order(&["update", "status", "--json"]),
                    Ask::BootReport,
                    Ask::Addresses,
                ])],
            ),
            Self::Addresses => {
                (Some(Flow::AddressesSeen), vec![Step::Gather(vec![Ask::Order(&["setup", "show", "--json"]), Ask::Addresses])])
            }
            Self::Administrator => {
                (Some(Flow::AdministratorsSeen), vec![Step::Gather(vec![Ask::Order(&["account", "list", "--json"])])])
            }
            Self::Tests => choose(Flow::Tests, &[TestKind::Ping.title(tongue), TestKind::Name.title(tongue)], tongue),
            Self::Disks => choose(
                Flow::Disks,
                &[
                    tongue.say("Show the disks", "查看磁盘"),
                    tongue.say("Prepare the disks for the first time", "首次初始化磁盘"),
                    tongue.say("Take a new disk into service", "启用新更换的磁盘"),
                ],
                tongue,
            ),
            Self::Pair => choose(
                Flow::Pair,
                &[
                    tongue.say("Show both nodes", "查看两个节点"),
                    tongue.say("Hand the service over to the other node", "将服务交给对端"),
                    tongue.say("Take the service over to this node", "由本节点接管服务"),
                    tongue.say("Pair: offer a code on this node", "配对：在本节点生成配对码"),
                    tongue.say("Pair: enter the code of the other node", "配对：输入对端的配对码"),
                ],
                tongue,
            ),
            Self::Slot => (Some(Flow::SlotsSeen), vec![Step::Gather(vec![Ask::Order(&["update", "status", "--json"])])]),
            Self::Support => (None, vec![Step::Run(["support", "save", "--usb"].map(str::to_owned).to_vec())]),
            Self::Reboot => ask(
                Flow::Sure(Sure::Reboot),
                tongue.say(
                    "Restart this node. If it serves and the other node is current, the service moves there first. Go on? [y/N] ",
                    "将重启本节点。若本节点正在服务且对端数据最新，服务会先切换过去。继续？[y/N] ",
                ),
            ),
            Self::PowerOff => ask(
                Flow::Sure(Sure::PowerOff),
                tongue.say(
                    "Switch this node off; somebody has to press its button to start it again. If it serves and the other node is \
                     current, the service moves there first. Go on? [y/N] ",
                    "将关闭本节点，之后需有人按电源键才能启动。若本节点正在服务且对端数据最新，服务会先切换过去。继续？[y/N] ",
                ),
            ),
            // The order itself says what is destroyed and asks for its word.
            Self::FactoryReset => (None, vec![Step::Run(["reset", "factory"].map(str::to_owned).to_vec())]),
            // First what is there; then which of it.
            Self::Install => run(Some(Flow::DisksShown), &["disks", "list"]),
            Self::DisksThere => run(None, &["disks", "list"]),
        }
    }
}
