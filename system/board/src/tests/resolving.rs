//! From boards to devices.

use super::fixture::{Tree, qemu};
use super::repository;
use crate::*;
use std::path::{Path, PathBuf};

fn found(tree: &Tree, changes: Option<&Path>) -> (Detected, Roles) {
    let detected = detect(tree.root(), &repository(), changes);
    let roles = detected.board.resolve(tree.root());
    (detected, roles)
}

fn missing(roles: &Roles) -> Vec<&str> {
    roles.missing.iter().map(|m| m.part.as_str()).collect()
}

#[test]
fn the_rigs_machine_has_all_roles() {
    let tree = qemu();
    let (detected, roles) = found(&tree, None);
    assert_eq!((detected.board.name.as_str(), detected.unknown, detected.faults.len()), ("qemu-pc", false, 0));
    assert_eq!(missing(&roles), Vec::<&str>::new());
    let ports: Vec<_> = roles.interfaces.iter().map(|i| (i.role, i.name.as_deref(), i.mac.as_deref())).collect();
    assert_eq!(
        ports,
        [(NicRole::Lan, Some("eth0"), Some("52:54:00:00:00:01")), (NicRole::Pair, Some("eth1"), Some("52:54:00:00:01:01"))]
    );
    let serial: Vec<_> = roles.serial.iter().map(|s| (s.role, s.device.clone())).collect();
    let device = |name: &str| Some(PathBuf::from(name));
    assert_eq!(
        serial,
        [
            (SerialRole::Console, device("/dev/ttyS0")),
            (SerialRole::Heartbeat, device("/dev/ttyS1")),
            (SerialRole::Modem, device("/dev/ttyS2"))
        ]
    );
    let bays: Vec<_> = roles.bays.iter().map(|b| (b.number, b.device.clone(), b.boot)).collect();
    assert_eq!(bays, [(1, device("/dev/vdc"), true), (2, device("/dev/vdb"), true)]);
    let watchdog = roles.watchdog.expect("named");
    assert_eq!((watchdog.parameters, watchdog.device), (vec!["heartbeat=10".to_owned()], None));
    // As Linux 6.1 shows it.
    tree.virtual_watchdog(2, "softdog", "Software Watchdog");
    tree.virtual_watchdog(1, "i6300esb", "i6300ESB timer");
    assert_eq!(found(&tree, None).1.watchdog.and_then(|w| w.device), device("/dev/watchdog1"));
    tree.watchdog("0000:00:09.0", "i6300esb");
    assert_eq!(found(&tree, None).1.watchdog.and_then(|w| w.device), device("/dev/watchdog0"));
}

#[test]
fn a_watchdog_without_a_parent_is_known_by_its_words() {
    let seen = |identity: &str| {
        let tree = qemu();
        tree.lone_watchdog("i6300esb", identity);
        found(&tree, None).1.watchdog.and_then(|w| w.device)
    };
    assert_eq!(seen("i6300ESB timer\n").as_deref(), Some(std::path::Path::new("/dev/watchdog0")));
    assert_eq!(seen("Software Watchdog\n"), None);
}

#[test]
fn what_is_missing_is_told_so_that_a_person_can_act() {
    let tree = qemu();
    tree.remove("class/block/vdb");
    tree.remove("class/net/eth1");
    tree.remove("class/tty/ttyS2");
    tree.folder("module/i6300esb");
    let (detected, roles) = found(&tree, None);
    assert_eq!(missing(&roles), ["nic.pair", "serial.modem", "bay.2", "watchdog"]);
    assert_eq!(
        roles.missing[2].en,
        "bay 2 (label 'Disk 2'): nothing on PCI 00:06.0: is a disk in the bay, pushed in to the stop?"
    );
    assert!(roles.missing[0].en.contains("no driver of this image took it"), "{}", roles.missing[0].en);
    assert!(roles.missing.iter().all(|m| !m.zh.is_empty() && m.zh != m.en));
    let words = explain(&detected, &roles, &repository(), tree.root());
    assert!(words.contains("qemu-pc: fits: by") || words.contains("qemu-pc: fits: "), "{words}");
    assert!(words.contains("bay 2") && words.contains("missing:"), "{words}");
    assert!(words.contains("eth0         network port, pci = \"00:07.0\", 52:54:00:00:00:01, switched off"), "{words}");
    // A port of the table without a chip is no port.
    tree.tty_s(9, 0x3e8, None);
    assert_eq!(found(&tree, None).1.serial(SerialRole::Modem), None);
}

#[test]
fn an_unknown_machine_gets_a_lan_and_its_own_disks_and_nothing_that_could_do_harm() {
    let tree = Tree::new();
    tree.dmi(&[("sys_vendor", "Nobody"), ("product_name", "Nothing")]);
    tree.nic("0000:00:1f.6", "", "eno1", "02:00:00:00:00:01", Some("0\n"));
    tree.nic("0000:00:1c.4/0000:03:00.0", "", "enp3s0", "02:00:00:00:00:02", Some("1\n"));
    tree.sata("0000:00:17.0", 1, 0, "sda");
    let ours = tree.sata("0000:00:17.0", 3, 2, "sdb");
    tree.partition(&ours, "sdb1", "twinpost-esp");
    tree.tty_s(0, 0x3f8, Some(4));
    tree.tty_s(1, 0x2f8, Some(4));
    let (detected, roles) = found(&tree, None);
    assert!(detected.unknown);
    assert_eq!(roles.interface(NicRole::Lan).and_then(|i| i.name.as_deref()), Some("enp3s0"));
    assert_eq!(roles.interface(NicRole::Lan).map(|i| i.pci.to_string()).as_deref(), Some("00:1c.4/00.0"), "the way, not the bus");
    assert_eq!(roles.interface(NicRole::Pair), None);
    assert_eq!(roles.serial.iter().map(|s| s.role).collect::<Vec<_>>(), [SerialRole::Console]);
    let bays: Vec<_> = roles.bays.iter().map(|b| (b.number, b.device.as_deref(), b.connector.as_str())).collect();
    assert_eq!(bays, [(1, Some(Path::new("/dev/sdb")), "AHCI 00:17.0 port 2")]);
    assert_eq!(missing(&roles), ["nic.pair", "serial.heartbeat", "bay"]);

    // An installer shows every disk of the machine but its own stick, and no empty drive.
    let stick = tree.disk("0000:00:14.0", "usb1/1-2/1-2:1.0/host9/target9:0:0/9:0:0:0/block", "sdc");
    tree.partition(&stick, "sdc1", "twinpost-esp");
    tree.write(&format!("{stick}/size"), "3932160\n");
    for (disk, sectors) in [("sda", "3907029168"), ("sdb", "3907029168")] {
        tree.write(&format!("class/block/{disk}/size"), sectors);
    }
    tree.disk("0000:00:1d.0", "nvme/nvme0", "nvme0n1");
    let disks = |roles: Roles| roles.bays.into_iter().filter_map(|bay| bay.device).collect::<Vec<_>>();
    let shown = detected.board.resolve_to_install(tree.root());
    assert_eq!(missing(&shown), ["nic.pair", "serial.heartbeat", "bay"]);
    assert_eq!(disks(shown), [Path::new("/dev/sda"), Path::new("/dev/sdb")]);
    assert_eq!(disks(found(&tree, None).1), [Path::new("/dev/sdb")], "a stick is no bay");

    tree.write("class/net/enp3s0/carrier", "0\n");
    let (_, roles) = found(&tree, None);
    assert_eq!(roles.interface(NicRole::Lan), None, "no link, two ports: nothing is guessed");
    assert!(roles.missing[0].en.contains("enp3s0, eno1"), "{:?}", roles.missing);
}

#[test]
fn the_administrator_names_the_parts_of_an_unknown_machine() {
    let tree = Tree::new();
    tree.dmi(&[("sys_vendor", "Nobody")]);
    tree.nic("0000:00:1f.6", "", "eno1", "02:00:00:00:00:01", Some("1\n"));
    tree.nic("0000:00:1c.4/0000:03:00.0", "", "enp3s0", "02:00:00:00:00:02", Some("1\n"));
    tree.sata("0000:00:17.0", 1, 0, "sda");
    tree.tty("devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2.1/1-2.1:1.3/ttyUSB7/tty", "ttyUSB7");
    tree.tty("devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2.1/1-2.1:1.2/ttyUSB6/tty", "ttyUSB6");
    let file = tree.root().join("changes.toml");
    let text = "[nic.lan]\npci = \"00:1c.4/00.0\"\n[nic.pair]\npci = \"00:1f.6\"\nlabel = \"1\"\n[serial.modem]\npci = \"00:14.0\"\nusb = \"2.1\"\ninterface = 2\n\
                [[bay]]\nnumber = 1\nlabel = \"left\"\ncontroller = \"ahci\"\npci = \"00:17.0\"\nport = 0\n[[bay]]\nnumber = 2\nlabel = \"right\"\ncontroller = \"ahci\"\npci = \"00:17.0\"\nport = 1\n";
    std::fs::write(&file, text).expect("a file");
    let (detected, roles) = found(&tree, Some(&file));
    assert!(detected.changed && detected.faults.is_empty(), "{:?}", detected.faults);
    assert_eq!(roles.interface(NicRole::Lan).and_then(|i| i.name.as_deref()), Some("enp3s0"));
    assert_eq!(roles.interface(NicRole::Pair).and_then(|i| i.name.as_deref()), Some("eno1"));
    assert_eq!(roles.serial(SerialRole::Modem).and_then(|s| s.device.clone()), Some(PathBuf::from("/dev/ttyUSB6")));
    assert_eq!(roles.bays[0].device, Some(PathBuf::from("/dev/sda")));
    assert!(
        roles.missing.iter().any(|m| m.en.starts_with("bay 2 (label 'right'): nothing on AHCI 00:17.0 port 1: ")),
        "{:?}",
        roles.missing
    );

    std::fs::write(&file, "[nic.lan]\npci = \"zz\"\n").expect("a file");
    let (detected, _) = found(&tree, Some(&file));
    assert!(!detected.changed && detected.faults[0].contains("changes.toml:2: nic.lan.pci"), "{:?}", detected.faults);
    std::fs::write(&file, "base = \"qemu-pc\"\n[[match]]\nsys_vendor = \"x\"\n").expect("a file");
    assert!(found(&tree, Some(&file)).0.faults[0].contains("match: there is no such key"));
    std::fs::write(&file, "base = \"qemu-pc\"\n").expect("a file");
    assert_eq!(found(&tree, Some(&file)).0.board.name, "qemu-pc");
}

#[test]
fn disks_of_every_kind_of_controller_are_found_by_their_port() {
    let tree = Tree::new();
    let sas = "0000:00:1c.0/0000:02:00.0";
    tree.disk(sas, "host0/port-0:1/end_device-0:1/target0:0:1/0:0:1:0/block", "sdd");
    tree.folder(&format!("devices/pci0000:00/{sas}/host0/port-0:1/phy-0:5"));
    let slot = "host1/port-1:0/expander-1:0/port-1:0:4/end_device-1:0:4";
    let behind = "0000:00:1c.1/0000:03:00.0";
    tree.disk(behind, &format!("{slot}/target1:0:4/1:0:4:0/block"), "sde");
    tree.write(&format!("devices/pci0000:00/{behind}/{slot}/sas_device/end_device-1:0:4/bay_identifier"), "7\n");
    let enclosure = format!("devices/pci0000:00/{behind}/host1/target1:0:9/1:0:9:0/enclosure/1:0:9:0");
    tree.write(&format!("{enclosure}/Slot 07/slot"), "7\n");
    tree.write(&format!("{enclosure}/Slot 07/locate"), "0\n");
    tree.link("class/enclosure/1:0:9:0", &enclosure);
    tree.disk("0000:00:1d.0/0000:04:00.0", "nvme/nvme0", "nvme0c0n1");
    tree.sata("0000:00:17.0", 9, 5, "sda");
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("all")).expect("a folder");
    let bay = |n: u32, rest: &str| format!("[[bay]]\nnumber = {n}\nlabel = \"{n}\"\n{rest}\n");
    let text = bay(1, "controller = \"sas-phy\"\npci = \"00:1c.0/00.0\"\nport = 5")
        + &bay(2, "controller = \"sas-slot\"\npci = \"00:1c.1/00.0\"\nport = 7\nled = \"enclosure\"")
        + &bay(3, "controller = \"nvme\"\npci = \"00:1d.0/00.0\"")
        + &bay(4, "controller = \"ahci\"\npci = \"00:17.0\"\nport = 5")
        + &bay(5, "controller = \"ahci\"\npci = \"00:18.0\"\nport = 5");
    std::fs::write(dir.path().join("all/board.toml"), text).expect("a file");
    let boards = Boards::load_all(dir.path());
    assert_eq!(boards.faults, Vec::<String>::new());
    let roles = boards.named("all").expect("loaded").resolve(tree.root());
    let disks: Vec<_> = roles.bays.iter().map(|b| b.device.as_ref().and_then(|d| d.to_str()).unwrap_or("-")).collect();
    assert_eq!(disks, ["/dev/sdd", "/dev/sde", "/dev/nvme0n1", "/dev/sda", "-"]);
    assert!(roles.bays[1].led.as_ref().is_some_and(|led| led.ends_with("Slot 07/locate")), "{:?}", roles.bays[1]);
    assert!(roles.missing[0].en.contains("the controller itself is not there"), "{:?}", roles.missing);
}

/// A server board with these two network ports, disks on ports 0 and 1 of its SATA controller, two UARTs and a BMC.
fn server(name: &str, nics: [&str; 2], sata: &str) -> Tree {
    let tree = Tree::new();
    tree.dmi(&[
        ("board_vendor", "Supermicro"),
        ("board_name", name),
        ("sys_vendor", "Supermicro"),
        ("product_name", "Super Server"),
    ]);
    for (number, way) in nics.into_iter().enumerate() {
        tree.nic(way, "", &format!("eth{number}"), &format!("02:00:00:00:00:0{number}"), Some("1\n"));
    }
    // libata counts controllers' ports through: this one is not the first.
    tree.sata(sata, 7, 0, "sdb");
    tree.sata(sata, 8, 1, "sdc");
    tree.sata(sata, 9, 2, "sda");
    tree.tty_s(0, 0x3f8, Some(4));
    tree.tty_s(1, 0x2f8, Some(4));
    tree.write("class/hwmon/hwmon3/name", "coretemp\n");
    tree.write("class/hwmon/hwmon3/temp1_input", "41000\n");
    tree.folder("module/ipmi_watchdog");
    tree.folder("class/misc/watchdog");
    tree
}

#[test]
fn the_servers_have_their_roles() {
    let x11 = "0000:00:17.0";
    for (name, board, nics, sata) in [
        ("X11SSM-F", "supermicro-x11ssm-f", ["0000:00:1d.0/0000:05:00.0", "0000:00:1d.1/0000:06:00.0"], x11),
        ("X11SSH-F", "supermicro-x11ssh-f", ["0000:00:1c.0/0000:02:00.0", "0000:00:1c.1/0000:03:00.0"], x11),
        ("X11SSH-LN4F", "supermicro-x11ssh-f", ["0000:00:1c.0/0000:02:00.0", "0000:00:1c.1/0000:03:00.0"], x11),
        ("X10SLM+-F", "supermicro-x10slm-f", ["0000:00:1c.2/0000:03:00.0", "0000:00:1c.3/0000:04:00.0"], "0000:00:1f.2"),
    ] {
        let tree = server(name, nics, sata);
        let (detected, roles) = found(&tree, None);
        assert_eq!((detected.board.name.as_str(), detected.faults.len()), (board, 0));
        assert_eq!(missing(&roles), Vec::<&str>::new(), "{:?}", roles.missing);
        let ports = [NicRole::Lan, NicRole::Pair].map(|role| roles.interface(role).and_then(|i| i.name.as_deref()));
        assert_eq!(ports, [Some("eth0"), Some("eth1")]);
        let disks: Vec<_> = roles.bays.iter().map(|b| b.device.as_deref().and_then(Path::to_str)).collect();
        assert_eq!(disks, [Some("/dev/sdb"), Some("/dev/sdc")]);
        let heartbeat = roles.serial(SerialRole::Heartbeat).and_then(|s| s.device.clone());
        assert_eq!(heartbeat, Some(PathBuf::from("/dev/ttyS1")));
        let watchdog = roles.watchdog.expect("the BMC's");
        assert_eq!((watchdog.parameters, watchdog.device), (vec!["timeout=10".to_owned()], Some(PathBuf::from("/dev/watchdog"))));
        assert!(roles.sensors[0].file.as_ref().is_some_and(|f| f.ends_with("hwmon3/temp1_input")));
        assert!(!detected.board.unknown.is_empty(), "what is not publicly known is said");
    }
}

#[test]
fn what_the_inventory_names_is_found_by_that_name_again() {
    let tree = Tree::new();
    tree.nic("0000:00:1c.4/0000:03:00.0", "", "enp3s0", "02:00:00:00:00:02", Some("1\n"));
    tree.sata("0000:00:17.0", 9, 5, "sda");
    tree.disk("0000:00:1d.0/0000:04:00.0", "nvme/nvme0", "nvme0n1");
    tree.tty_s(0, 0x3f8, Some(4));
    tree.tty_s(1, 0x2f8, None);
    tree.tty("devices/virtual/tty/tty0", "tty0");
    tree.tty("devices/pci0000:00/0000:00:16.3/tty/ttyS4", "ttyS4");
    tree.tty("devices/pci0000:00/0000:00:16.3/tty/ttyS5", "ttyS5");
    tree.tty("devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2.1/1-2.1:1.2/ttyUSB6/tty", "ttyUSB6");
    let all = inventory(tree.root());
    let mut board = Board::default();
    let nic = &all.nics[0];
    board.nics.insert(NicRole::Lan, Nic { pci: nic.pci.clone(), port: nic.port, label: String::new() });
    assert_eq!(board.resolve(tree.root()).interface(NicRole::Lan).and_then(|i| i.name.as_deref()), Some("enp3s0"));
    let devices: Vec<_> = all.serials.iter().filter_map(|s| s.device.to_str()).collect();
    assert_eq!(devices, ["/dev/ttyS0", "/dev/ttyS4", "/dev/ttyS5", "/dev/ttyUSB6"]);
    for serial in &all.serials {
        let port = Serial { at: serial.at.clone(), baud: 9600, flow: Flow::None, label: String::new() };
        board.serials.insert(SerialRole::Modem, port);
        assert_eq!(board.resolve(tree.root()).serial(SerialRole::Modem).and_then(|s| s.device.as_ref()), Some(&serial.device));
    }
    let bay = |(number, disk): (u32, &FoundDisk)| Bay {
        number,
        label: number.to_string(),
        controller: disk.controller,
        pci: disk.pci.clone(),
        port: disk.port,
        led: None,
    };
    board.bays = (1..).zip(&all.disks).map(bay).collect();
    let found: Vec<_> = board.resolve(tree.root()).bays.into_iter().filter_map(|b| b.device).collect();
    assert_eq!(found, all.disks.iter().map(|d| d.device.clone()).collect::<Vec<_>>());
    assert_eq!(found.len(), 2);
}
