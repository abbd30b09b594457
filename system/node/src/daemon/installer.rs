//! What the installer can be asked: there is no node yet, only a medium and disks that are to be written.
//!
//! Contract: what belongs to a node (a setup, its arrays, its updates) is refused with the order that is meant here. What only looks, writes the disks or
//! switches the machine is done as on a node.

use crate::api::{Power, Refused, Request, Text};

/// Refuses what an installer cannot do.
///
/// # Errors
/// One reason.
pub fn allow(request: &Request) -> Result<(), Refused> {
    match request {
        Request::Status
        | Request::Board { .. }
        | Request::DisksList
        | Request::DisksLocate { .. }
        | Request::DisksInstall { .. }
        | Request::Support { .. }
        | Request::Power { what: Power::Off | Power::Reboot, .. } => Ok(()),
        _ => Err(Refused::one(Text::new(
            "this is the installer, nothing is kept here: `disks install` writes the system to the disks; then start the machine from them",
            "这是安装程序，此处不保存任何设置：请用 disks install 将系统写入磁盘，然后从磁盘启动",
        ))),
    }
}

/// What comes after an installation.
#[must_use]
pub fn installed(bays: &[&str]) -> Text {
    let list = bays.join(", ");
    Text::new(
        format!(
            "Installed on the disks of bays {list}, and read back. Restart (`power reboot`), and take the stick out when the screen goes \
             dark. On the node, `setup` comes first, then `disks init`."
        ),
        format!(
            "已安装到插槽 {list} 的磁盘，并已回读校验。请重新启动（power reboot），屏幕变暗时拔出 U 盘。节点启动后先 setup，再 disks init。"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installer_writes_disks_and_keeps_no_settings() {
        let install = Request::DisksInstall { source: None, bays: Vec::new(), erase: Vec::new(), go: true };
        for request in [install, Request::Status, Request::Power { what: Power::Reboot, go: true }] {
            assert!(allow(&request).is_ok(), "{request:?}");
        }
        let init = Request::DisksInit { erase: Vec::new(), single: false, go: true };
        for request in
            [init, Request::SetupShow, Request::UpdateBack { go: true }, Request::FactoryReset { mail: true, go: true }]
        {
            let refused = allow(&request).unwrap_err();
            assert!(refused.reasons[0].en.contains("disks install"), "{request:?}");
        }
        assert!(installed(&["1", "2"]).en.contains("bays 1, 2"));
    }
}
