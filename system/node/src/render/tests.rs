//! What is written, compared word for word.

use super::network::{Plan, Port, plan};
use super::*;
use std::path::Path;
use twinpost_board::{Interface, NicRole, Roles, SerialNow, SerialPlace, SerialRole};

const NODE: &str = r#"
[node]
name = "a"
[lan]
addresses = ["10.9.0.11/24", "2001:db8::11/64"]
gateways = ["10.9.0.1"]
dns = ["10.9.0.1", "2001:db8::1"]
search = "school.example"
ntp = ["10.9.0.1", "time.school.example"]
mtu = 1400
[pair]
enabled = true
[pair.eth1]
bind = "169.254.77.1:6940"
peer = "169.254.77.2:6940"
[pair.lan]
bind = "10.9.0.11:6941"
peer = "10.9.0.12:6941"
[pair.channel]
bind = "169.254.77.1:6943"
peer = "169.254.77.2:6943"
[pair.storage]
bind = "169.254.77.1:7789"
peer = "169.254.77.2:7789"
[pair.address]
interface = "lan"
addresses = ["10.9.0.100/24"]
"#;

fn roles(lan: &str, pair: Option<&str>) -> Roles {
    let port = |role, name: Option<&str>| Interface {
        role,
        label: String::new(),
        pci: "00:07.0".to_owned().try_into().expect("a path"),
        port: 0,
        name: name.map(str::to_owned),
        mac: None,
    };
    Roles { interfaces: vec![port(NicRole::Lan, Some(lan)), port(NicRole::Pair, pair)], ..Roles::default() }
}

#[test]
fn the_files_of_a_node_of_a_pair() {
    let node = twinpost_config::parse_node(NODE, "node.toml").expect("it is sound");
    let document =
        twinpost_config::parse("[node]\nhost_name = \"mail.school.example\"\n", "appliance.toml").expect("it is sound");
    let id = "0123456789abcdef0123456789abcdef";
    let files = files(Facts { node: &node, document: Some(&document), machine_id: Some(id) });
    let text = |path: &str| files.get(Path::new(path)).map_or("-", String::as_str);
    assert_eq!(text("/etc/hostname"), "twinpost-a\n");
    assert_eq!(
        text("/etc/hosts"),
        "127.0.0.1 localhost\n::1 localhost\n10.9.0.11 twinpost-a\n2001:db8::11 twinpost-a\n169.254.77.2 twinpost-b\n\
         10.9.0.100 mail.school.example\n"
    );
    assert_eq!(
        text("/etc/resolv.conf"),
        "nameserver 10.9.0.1\nnameserver 2001:db8::1\nsearch school.example\noptions timeout:2 attempts:2\n"
    );
    assert_eq!(text("/etc/systemd/timesyncd.conf"), "[Time]\nNTP=10.9.0.1 time.school.example\nFallbackNTP=\n");
    assert!(text("/etc/mdadm/mdadm.conf").contains("\nAUTO -all\n"));
    assert_eq!(text("/etc/machine-id"), format!("{id}\n"));
    assert_eq!(
        text(FIREWALL_FILE),
        "# Elements of the sets of table inet twinpost, from the documents. Made at each boot and each setup.\n\
         flush set inet twinpost lan_tcp\nadd element inet twinpost lan_tcp { 25, 110, 143, 465, 587, 993, 995 }\n\
         flush set inet twinpost peer4\nadd element inet twinpost peer4 { 10.9.0.12, 169.254.77.2 }\n\
         flush set inet twinpost peer6\n\
         flush set inet twinpost peer_tcp\nadd element inet twinpost peer_tcp { 6943, 7789 }\n\
         flush set inet twinpost peer_udp\nadd element inet twinpost peer_udp { 6940, 6941 }\n"
    );
    let ports = plan(&node, &roles("eth0", Some("eth1"))).ports;
    let address = |text: &str, prefix| (text.parse().expect("an address"), prefix);
    assert_eq!(
        ports,
        [
            Port {
                now: "eth0".to_owned(),
                name: "lan".to_owned(),
                mtu: Some(1400),
                vlan: None,
                slaac: true,
                addresses: vec![address("10.9.0.11", 24), address("2001:db8::11", 64)],
                gateways: vec!["10.9.0.1".parse().expect("an address")],
            },
            Port {
                now: "eth1".to_owned(),
                name: "pair".to_owned(),
                addresses: vec![address("169.254.77.1", 30)],
                ..Port::default()
            },
        ]
    );
}

#[test]
fn a_new_machine_has_names_and_nothing_is_open() {
    let node = twinpost_config::NodeDocument::default();
    let files = files(Facts { node: &node, document: None, machine_id: None });
    let text = |path: &str| files.get(Path::new(path)).map_or("-", String::as_str);
    assert_eq!(text("/etc/hostname"), "twinpost\n");
    assert_eq!(text("/etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 twinpost\n");
    assert_eq!(text("/etc/machine-id"), "-");
    assert!(!text(FIREWALL_FILE).contains("add element"), "{}", text(FIREWALL_FILE));
    let Plan { ports } = plan(&node, &roles("eth0", None));
    assert_eq!(ports.iter().map(|p| (p.name.as_str(), p.addresses.len())).collect::<Vec<_>>(), [("lan", 0)]);
}

#[test]
fn files_are_replaced_whole_and_left_alone_when_right() {
    let root = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(root.path().join("etc")).expect("a folder");
    std::os::unix::fs::symlink("/nowhere", root.path().join("etc/resolv.conf")).expect("a link");
    let files = Files::from([("/etc/resolv.conf".into(), "a\n".to_owned()), ("/run/x/y".into(), "b\n".to_owned())]);
    assert_eq!(write(root.path(), &files), []);
    let read = |path: &str| std::fs::read_to_string(root.path().join(path)).expect("written");
    assert_eq!((read("etc/resolv.conf"), read("run/x/y")), ("a\n".to_owned(), "b\n".to_owned()));
    let inode = |path: &str| {
        use std::os::unix::fs::MetadataExt as _;
        root.path().join(path).metadata().expect("it is there").ino()
    };
    let before = inode("run/x/y");
    assert_eq!(write(root.path(), &files), []);
    assert_eq!(inode("run/x/y"), before);
    // A file where a folder should be is told, and the others are written.
    let files = Files::from([("/etc/resolv.conf/x".into(), String::new()), ("/run/z".into(), String::new())]);
    let faults = write(root.path(), &files);
    assert_eq!(faults.len(), 1);
    assert!(faults[0].text.en.starts_with("cannot write /etc/resolv.conf/x"), "{faults:?}");
    assert!(root.path().join("run/z").exists());
}

#[test]
fn devices_have_the_names_of_their_roles() {
    let dev = tempfile::tempdir().expect("a folder");
    let port = |device: Option<&str>| SerialNow {
        role: SerialRole::Modem,
        label: String::new(),
        place: SerialPlace::Usb(
            "00:1c.4/00.0".to_owned().try_into().expect("a path"),
            "2.1".to_owned().try_into().expect("a port"),
            2,
        ),
        at: String::new(),
        device: device.map(Into::into),
        baud: 9600,
        flow: twinpost_board::Flow::None,
    };
    let mut roles = Roles { serial: vec![port(Some("/dev/ttyUSB2"))], ..Roles::default() };
    assert_eq!(
        rules(&roles).expect("a role is on USB").lines().last(),
        Some(
            "SUBSYSTEM==\"tty\", DEVPATH==\"/devices/pci*/0000:00:1c.4/0000:*:00.0/usb[0-9]*/[0-9]*-2.1:*.2/*\", \
             SYMLINK+=\"twinpost/modem\""
        )
    );
    assert_eq!(rules(&Roles::default()), None);
    let to = || std::fs::read_link(dev.path().join("twinpost/modem")).ok();
    assert_eq!(link_devices(dev.path(), &roles), []);
    assert_eq!(to(), Some("/dev/ttyUSB2".into()));
    roles.serial = vec![port(Some("/dev/ttyUSB3"))];
    assert_eq!(link_devices(dev.path(), &roles), []);
    assert_eq!(to(), Some("/dev/ttyUSB3".into()));
    roles.serial = vec![port(None)];
    assert_eq!(link_devices(dev.path(), &roles), []);
    assert_eq!(to(), None);
}
