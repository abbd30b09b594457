//! A folder that looks like /sys.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

pub struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        for class in ["bus/pci/devices", "class/net", "class/block", "class/tty", "class/watchdog"] {
            fs::create_dir_all(dir.path().join(class)).expect("a folder");
        }
        Self { dir }
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("inside the root")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub fn folder(&self, path: &str) -> PathBuf {
        let path = self.root().join(path);
        fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// As the kernel makes them: relative links.
    pub fn link(&self, from: &str, to: &str) {
        let up = "../".repeat(from.matches('/').count());
        let path = self.root().join(from);
        fs::create_dir_all(path.parent().expect("inside the root")).expect("a folder");
        symlink(format!("{up}{to}"), path).expect("a link");
    }

    pub fn remove(&self, path: &str) {
        let path = self.root().join(path);
        let gone = if path.is_symlink() || path.is_file() { fs::remove_file(&path) } else { fs::remove_dir_all(&path) };
        gone.expect("it was there");
    }

    pub fn dmi(&self, fields: &[(&str, &str)]) {
        for (name, text) in fields {
            self.write(&format!("class/dmi/id/{name}"), &format!("{text}\n"));
        }
    }

    /// A PCI function by the way to it, `0000:00:1c.4/0000:03:00.0`; its folder below devices.
    pub fn pci(&self, way: &str) -> String {
        let folder = format!("devices/pci0000:00/{way}");
        self.folder(&folder);
        let last = way.rsplit('/').next().expect("a way");
        if !self.root().join(format!("bus/pci/devices/{last}")).is_symlink() {
            self.link(&format!("bus/pci/devices/{last}"), &folder);
        }
        folder
    }

    pub fn nic(&self, way: &str, inner: &str, name: &str, mac: &str, carrier: Option<&str>) {
        let folder = format!("{}{inner}/net/{name}", self.pci(way));
        self.write(&format!("{folder}/address"), &format!("{mac}\n"));
        if let Some(carrier) = carrier {
            self.write(&format!("{folder}/carrier"), carrier);
        }
        self.link(&format!("class/net/{name}"), &folder);
    }

    pub fn disk(&self, way: &str, inner: &str, name: &str) -> String {
        let folder = format!("{}/{inner}/{name}", self.pci(way));
        self.folder(&folder);
        self.link(&format!("class/block/{name}"), &folder);
        folder
    }

    pub fn partition(&self, disk: &str, name: &str, partname: &str) {
        self.write(&format!("{disk}/{name}/partition"), "1\n");
        self.write(&format!("{disk}/{name}/uevent"), &format!("DEVTYPE=partition\nPARTNAME={partname}\n"));
        self.link(&format!("class/block/{name}"), &format!("{disk}/{name}"));
    }

    /// A disk on port `port` (from 0) of an AHCI controller, as libata's `ata` number.
    pub fn sata(&self, way: &str, ata: u32, port: u32, name: &str) -> String {
        let host = ata - 1;
        let disk = self.disk(way, &format!("ata{ata}/host{host}/target{host}:0:0/{host}:0:0:0/block"), name);
        self.write(&format!("devices/pci0000:00/{way}/ata{ata}/ata_port/ata{ata}/port_no"), &format!("{}\n", port + 1));
        disk
    }

    /// A port of the PC's own; `chip` none: an entry of the table without a chip.
    pub fn tty_s(&self, number: u32, io: u16, chip: Option<u32>) {
        let folder = format!("devices/pnp0/00:0{number}/tty/ttyS{number}");
        self.write(&format!("{folder}/port"), &format!("{io:#X}\n"));
        self.write(&format!("{folder}/type"), &format!("{}\n", chip.unwrap_or(0)));
        self.link(&format!("class/tty/ttyS{number}"), &folder);
    }

    pub fn tty(&self, folder: &str, name: &str) {
        self.folder(&format!("{folder}/{name}"));
        self.link(&format!("class/tty/{name}"), &format!("{folder}/{name}"));
    }

    /// A watchdog that is registered without its hardware as parent.
    pub fn lone_watchdog(&self, module: &str, identity: &str) {
        self.folder(&format!("module/{module}"));
        let folder = "devices/virtual/watchdog/watchdog0";
        self.folder(folder);
        self.write(&format!("{folder}/identity"), identity);
        self.link("class/watchdog/watchdog0", folder);
    }

    /// A watchdog whose driver says on which device it is.
    pub fn watchdog(&self, way: &str, module: &str) {
        let function = self.pci(way);
        self.folder(&format!("module/{module}"));
        self.link(&format!("bus/pci/drivers/{module}/module"), &format!("module/{module}"));
        self.link(&format!("{function}/driver"), &format!("bus/pci/drivers/{module}"));
        let folder = format!("{function}/watchdog/watchdog0");
        self.folder(&folder);
        self.link(&format!("{folder}/device"), &function);
        self.link("class/watchdog/watchdog0", &folder);
    }

    /// One whose driver does not.
    pub fn virtual_watchdog(&self, number: u32, module: &str, identity: &str) {
        self.folder(&format!("module/{module}"));
        let folder = format!("devices/virtual/watchdog/watchdog{number}");
        self.write(&format!("{folder}/identity"), &format!("{identity}\n"));
        self.link(&format!("class/watchdog/watchdog{number}"), &folder);
    }
}

/// The rig's machine.
pub fn qemu() -> Tree {
    let tree = Tree::new();
    tree.dmi(&[("sys_vendor", "QEMU"), ("product_name", "Standard PC (i440FX + PIIX, 1996)"), ("bios_vendor", "SeaBIOS")]);
    // Names in another order than the bays, as after a disk was pulled and put back.
    tree.disk("0000:00:04.0", "virtio0/block", "vda");
    let disk = tree.disk("0000:00:05.0", "virtio1/block", "vdc");
    tree.partition(&disk, "vdc1", "twinpost-esp");
    tree.disk("0000:00:06.0", "virtio2/block", "vdb");
    tree.nic("0000:00:07.0", "/virtio3", "eth0", "52:54:00:00:00:01", None);
    tree.nic("0000:00:08.0", "/virtio4", "eth1", "52:54:00:00:01:01", None);
    tree.pci("0000:00:09.0");
    for (number, io) in [(0, 0x3f8), (1, 0x2f8), (2, 0x3e8)] {
        tree.tty_s(number, io, Some(4));
    }
    tree.tty_s(3, 0x2e8, None);
    tree
}
