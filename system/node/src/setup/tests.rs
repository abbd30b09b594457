//! Setups of machines made of folders.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;

/// A machine with these DMI words, cards (PCI, name, link) and serial ports.
struct Box_ {
    dir: tempfile::TempDir,
    sys: Sys,
}

impl Box_ {
    fn new(vendor: &str, product: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let root = dir.path().to_owned();
        let sys = Sys {
            root: root.clone(),
            sys: at("sys"),
            proc: at("proc"),
            dev: at("dev"),
            boards: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../board"),
            state: at("state"),
            node: at("state/node"),
            changes: at("state/system/board.toml"),
            report: at("run/boot.json"),
            kernel: false,
            ..Sys::default()
        };
        let this = Self { dir, sys };
        this.write("class/dmi/id/sys_vendor", vendor);
        this.write("class/dmi/id/product_name", product);
        this
    }

    fn qemu() -> Self {
        let this = Self::new("QEMU", "Standard PC (i440FX + PIIX, 1996)");
        this.card("00:07.0", "eth0", None);
        this.card("00:08.0", "eth1", None);
        for (number, io) in [(0, "0x3F8"), (1, "0x2F8"), (2, "0x3E8")] {
            let folder = format!("devices/pnp0/00:0{number}/tty/ttyS{number}");
            this.write(&format!("{folder}/port"), io);
            this.write(&format!("{folder}/type"), "4");
            this.link(&format!("class/tty/ttyS{number}"), &folder);
        }
        this
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.sys.sys.join(path);
        fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn link(&self, from: &str, to: &str) {
        let path = self.sys.sys.join(from);
        fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        symlink(format!("{}{to}", "../".repeat(from.matches('/').count())), path).expect("a link");
    }

    fn card(&self, pci: &str, name: &str, carrier: Option<&str>) {
        let folder = format!("devices/pci0000:00/0000:{pci}/net/{name}");
        self.write(&format!("{folder}/address"), "02:00:00:00:00:01");
        if let Some(carrier) = carrier {
            self.write(&format!("{folder}/carrier"), carrier);
        }
        self.link(&format!("class/net/{name}"), &folder);
    }

    async fn go(&self, wish: &Wish) -> Result<Done, Refused> {
        answer(&self.sys, serde_json::to_value(wish).expect("plain"), true, &|_| {}).await
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join(path)).unwrap_or_default()
    }
}

fn first() -> Wish {
    Wish {
        node: Some("b".to_owned()),
        lan: Some("10.9.0.12/24".to_owned()),
        gateway: Some("10.9.0.1".to_owned()),
        dns: vec!["10.9.0.1".to_owned()],
        ntp: vec!["10.9.0.1".to_owned()],
        service: vec!["10.9.0.100/24".to_owned()],
        domain: Some("school.example".to_owned()),
        witness: Some("10.9.0.1:6945".to_owned()),
        power: Some("redfish:https://10.9.0.1:8443".to_owned()),
        power_user: Some("admin".to_owned()),
        power_password: Some("secret".to_owned()),
        sms_domain: Some("mail2sms.example".to_owned()),
        sms_number: vec!["+8613800138000".to_owned()],
        ..Wish::default()
    }
}

#[tokio::test]
async fn one_order_sets_up_a_node_of_the_rigs_machine() {
    let machine = Box_::qemu();
    let preview = answer(&machine.sys, serde_json::to_value(first()).expect("plain"), false, &|_| {}).await.expect("possible");
    assert_eq!((preview.confirm.as_deref(), machine.read("state/node/node.toml").as_str()), (Some("yes"), ""));
    assert!(preview.text.en.contains("+addresses = [\"10.9.0.12/24\"]"), "{}", preview.text.en);
    let done = machine.go(&first()).await.expect("possible");
    assert_eq!(done.value["faults"], json!([]), "{done:?}");
    assert_eq!(
        machine.read("state/node/node.toml"),
        r#"# What belongs to this node alone, written by `twinpost ctl setup`. What both nodes share is in appliance.toml.
# All keys: docs/configuration.md, "node.toml".
version = 1

[node]
name = "b"

[lan]
addresses = ["10.9.0.12/24"]
gateways = ["10.9.0.1"]
dns = ["10.9.0.1"]
ntp = ["10.9.0.1"]
search = "school.example"

[pair]
enabled = true
gateway = "10.9.0.1"

[pair.eth1]
bind = "169.254.77.2:6940"
peer = "169.254.77.1:6940"
interface = "pair"

[pair.lan]
bind = "10.9.0.12:6941"
peer = "10.9.0.11:6941"
interface = "lan"

[pair.serial]
port = "/dev/twinpost/heartbeat"
baud = 115200

[pair.channel]
bind = "169.254.77.2:6943"
peer = "169.254.77.1:6943"

[pair.storage]
driver = "drbd"
bind = "169.254.77.2:7789"
peer = "169.254.77.1:7789"

[pair.address]
interface = "lan"
addresses = ["10.9.0.100/24"]

[pair.watchdog]
device = "/dev/twinpost/watchdog"
timeout = "10 s"

[pair.power]
driver = "redfish"
at = "https://10.9.0.1:8443"
user = "admin"
password_file = "power-password"

[pair.witness]
engine = "twinpost"
address = "10.9.0.1:6945"
"#
    );
    let appliance = machine.read("state/node/appliance.toml");
    let document = twinpost_config::parse(&appliance, "appliance.toml").expect("sound");
    assert_eq!(document.node.host_name, "mail.school.example");
    assert_eq!((document.sms.enabled, document.sms.port), (true, Some("/dev/twinpost/modem".into())));
    assert_eq!(document.sms.orders.numbers, ["+8613800138000"]);
    assert_eq!(
        (machine.read("etc/hostname").as_str(), machine.read("state/node/power-password").as_str()),
        ("twinpost-b\n", "secret\n")
    );
    assert!(machine.read("run/twinpost/nftables.conf").contains("peer_udp { 6940, 6941 }"));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &str| machine.dir.path().join(path).metadata().expect("written").permissions().mode() & 0o777;
    assert_eq!((mode("state/node/power-password"), mode("state/node/node.toml")), (0o600, 0o640));
}

#[tokio::test]
async fn a_second_wish_changes_what_it_names_and_comments_stay() {
    let machine = Box_::qemu();
    machine.go(&first()).await.expect("possible");
    let path = machine.sys.node.join("node.toml");
    let text = machine.read("state/node/node.toml").replace("dns = [\"10.9.0.1\"]", "dns = [\"10.9.0.1\"] # the library's");
    fs::write(&path, format!("{text}\n[console]\norders = false\n")).expect("a file");
    let wish = Wish { dns: vec!["10.9.0.2".to_owned()], ..Wish::default() };
    let done = machine.go(&wish).await.expect("possible");
    let changes = done.value["changes"].as_str().expect("a text").to_owned();
    let changed: Vec<&str> = changes.lines().filter(|l| l.starts_with(['+', '-']) && !l.starts_with("---")).collect();
    assert_eq!(changed, ["-dns = [\"10.9.0.1\"] # the library's", "+dns = [\"10.9.0.2\"] # the library's"]);
    assert!(machine.read("state/node/node.toml").contains("orders = false"));
    let again = machine.go(&wish).await.expect("possible");
    assert!(again.text.en.contains("set so already") && again.value["done"] == json!(false), "{again:?}");
}

#[tokio::test]
async fn every_reason_is_told_at_once_and_nothing_is_written() {
    let machine = Box_::qemu();
    fs::remove_file(machine.sys.sys.join("class/net/eth1")).expect("it was there");
    let wish = Wish {
        node: Some("c".to_owned()),
        lan: Some("10.9.0.255/24".to_owned()),
        gateway: Some("10.8.0.1".to_owned()),
        dns: vec!["dns".to_owned()],
        service: vec!["10.9.0.100".to_owned()],
        domain: Some("school".to_owned()),
        witness: Some("10.9.0.1".to_owned()),
        power: Some("redfish:10.9.0.1".to_owned()),
        ..Wish::default()
    };
    let reasons = machine.go(&wish).await.expect_err("refused").reasons;
    let en: Vec<&str> = reasons.iter().map(|r| r.en.as_str()).collect();
    let about =
        ["\"c\"", "10.9.0.255/24", "\"10.9.0.100\"", "\"dns\"", "\"school\"", "--witness", "--power", "network port pair"];
    for part in about {
        assert!(en.iter().any(|reason| reason.contains(part)), "{part} is not in {en:#?}");
    }
    assert_eq!(reasons.len(), about.len(), "{en:#?}");
    assert!(reasons.iter().all(|r| !r.zh.is_empty()));
    assert!(!machine.sys.node.exists());
    let wish = Wish {
        gateway: Some("10.8.0.1".to_owned()),
        service: vec!["10.9.0.11/24".to_owned(), "10.7.0.1/24".to_owned()],
        ..first()
    };
    let reasons = Box_::qemu().go(&wish).await.expect_err("refused").reasons;
    let en: Vec<&str> = reasons.iter().map(|r| r.en.as_str()).collect();
    assert_eq!(en.len(), 3, "{en:#?}");
    assert!(
        en[0].contains("gateway 10.8.0.1") && en[1].contains("is the peer's") && en[2].contains("10.7.0.1 is in none"),
        "{en:#?}"
    );
    let typo = answer(&machine.sys, json!({"lann": "x"}), false, &|_| {}).await.expect_err("refused").reasons;
    assert!(typo[0].en.contains("lann"), "{typo:?}");
    fs::create_dir_all(&machine.sys.node).expect("a folder");
    fs::write(machine.sys.node.join("node.toml"), "[lan]\nmtu = 1\n").expect("a file");
    let faulty = machine.go(&first()).await.expect_err("refused").reasons;
    assert!(faulty[0].en.contains("node.toml:2: lan.mtu"), "{faulty:?}");
}

#[tokio::test]
async fn an_unknown_machine_alone_keeps_the_lan_that_was_found() {
    let machine = Box_::new("Nobody", "Nothing");
    machine.card("00:1f.6", "eno1", Some("1"));
    machine.card("00:19.0", "eno2", Some("0"));
    let alone = Wish { node: None, power: None, witness: None, power_user: None, power_password: None, ..first() };
    let done = machine.go(&alone).await.expect("possible");
    assert!(done.text.en.contains("kept as it was found"), "{done:?}");
    assert!(
        machine.read("state/system/board.toml").ends_with("\n[nic.lan]\npci = \"00:1f.6\"\n"),
        "{}",
        machine.read("state/system/board.toml")
    );
    let node = twinpost_config::load_node(&machine.sys.node).expect("sound");
    assert!(!node.pair.enabled && node.lan.addresses.len() == 1);
    // Now both have a link, and the LAN is where it was.
    machine.write("class/net/eno2/carrier", "1");
    assert_eq!(
        machine.sys.look().1.interface(twinpost_board::NicRole::Lan).and_then(|i| i.name.clone()).as_deref(),
        Some("eno1")
    );
    let shown = show(&machine.sys).expect("sound");
    assert_eq!(shown.value["lan"], json!(["10.9.0.12/24"]));
    assert!(shown.text.zh.contains("10.9.0.12/24"));
    // As a node of a pair it lacks the port for the cable.
    let reasons = machine.go(&first()).await.expect_err("refused").reasons;
    assert!(reasons[0].en.contains("crossover cable"), "{reasons:?}");
    // It is named by its name of the moment, and kept by its place.
    let wish = Wish { part: vec!["nic.pair=eno2,LAN 2".to_owned()], ..first() };
    machine.go(&wish).await.expect("possible");
    let changes = machine.read("state/system/board.toml");
    assert!(changes.ends_with("[nic.pair]\npci = \"00:19.0\"\nlabel = \"LAN 2\"\n"), "{changes}");
    assert!(twinpost_config::load_node(&machine.sys.node).expect("sound").pair.enabled);
}

#[tokio::test]
async fn parts_are_named_by_their_devices_and_kept_by_their_connectors() {
    let machine = Box_::new("Nobody", "Nothing");
    machine.card("00:1f.6", "eno1", Some("1"));
    machine.card("00:19.0", "eno2", Some("0"));
    let usb = "devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.2/ttyUSB3/tty/ttyUSB3";
    machine.write(&format!("{usb}/dev"), "188:3");
    machine.link("class/tty/ttyUSB3", usb);
    let disk = "devices/pci0000:00/0000:00:1d.0/nvme/nvme0/nvme0n1";
    machine.write(&format!("{disk}/size"), "1");
    machine.link("class/block/nvme0n1", disk);
    let part = |all: &[&str]| Wish { part: all.iter().map(|p| (*p).to_owned()).collect(), ..first() };
    let bad = part(&[
        "nic.pair=eth9",
        "nic.wan=eno1",
        "serial.modem",
        "bay.0=/dev/nvme0n1",
        "serial.heartbeat=/dev/ttyS1",
        "nic.lan=eno2",
        "nic.pair=eno2",
    ]);
    let reasons = machine.go(&bad).await.expect_err("refused").reasons;
    let en: Vec<&str> = reasons.iter().map(|r| r.en.as_str()).collect();
    for expected in [
        "has eno1, eno2",
        "\"nic.wan=eno1\"",
        "\"serial.modem\"",
        "\"bay.0=/dev/nvme0n1\"",
        "has /dev/ttyUSB3",
        "has the role nic.lan already",
    ] {
        assert!(en.iter().any(|reason| reason.contains(expected)), "{expected} is not in {en:#?}");
    }
    assert!(!machine.sys.changes.exists());
    let good =
        part(&["nic.lan=eno2", "nic.pair=eno1", "serial.modem=/dev/ttyUSB3", "bay.1=/dev/nvme0n1,left", "serial.console=none"]);
    let done = machine.go(&good).await.expect("possible");
    assert!(done.value["changes"].as_str().is_some_and(|c| c.contains("+usb = \"2\"")), "{done:?}");
    let roles = machine.sys.look().1;
    let name = |role| roles.interface(role).and_then(|i| i.name.as_deref());
    assert_eq!((name(twinpost_board::NicRole::Lan), name(twinpost_board::NicRole::Pair)), (Some("eno2"), Some("eno1")));
    assert_eq!(roles.serial(twinpost_board::SerialRole::Modem).and_then(|s| s.device.clone()), Some("/dev/ttyUSB3".into()));
    assert_eq!((roles.bays[0].label.as_str(), roles.bays[0].device.clone()), ("left", Some("/dev/nvme0n1".into())));
    assert_eq!(roles.serial.len(), 1, "the console's port is taken away: {:?}", roles.serial);
    // The same order again changes nothing; another disk takes the bay's place.
    let again = machine.go(&good).await.expect("possible");
    assert!(again.text.en.contains("set so already"), "{again:?}");
    machine.go(&part(&["bay.1=none"])).await.expect("possible");
    assert!(machine.sys.look().1.bays.iter().all(|bay| bay.label != "left"));
}
