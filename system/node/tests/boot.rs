//! A whole boot of a machine made of folders, in namespaces of its own: real network ports, real mounts, no disks.
//!
//! Needs root and iproute2; without root it says so in one line.

#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::print_stdout, reason = "a test program")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use twinpost_board::NicRole;
use twinpost_disks::Mounted;
use twinpost_node::render::boot::{BootReport, Sys, boot};
use twinpost_storage::Program;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn link(root: &Path, from: &str, to: &str) {
    let path = root.join(from);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(&path);
    symlink(format!("{}{to}", "../".repeat(from.matches('/').count())), path).unwrap();
}

/// /sys of the rig's machine, with ports of these names.
fn machine(sys: &Path, ports: [&str; 2]) {
    write(&sys.join("class/dmi/id/sys_vendor"), "QEMU\n");
    write(&sys.join("class/dmi/id/product_name"), "Standard PC (i440FX + PIIX, 1996)\n");
    let _ = fs::remove_dir_all(sys.join("class/net"));
    for (name, pci) in ports.into_iter().zip(["00:07.0", "00:08.0"]) {
        let folder = format!("devices/pci0000:00/0000:{pci}/net/{name}");
        fs::create_dir_all(sys.join(&folder)).unwrap();
        link(sys, &format!("class/net/{name}"), &folder);
    }
    for (number, io) in [(0, "0x3F8"), (1, "0x2F8")] {
        let folder = format!("devices/pnp0/00:0{number}/tty/ttyS{number}");
        write(&sys.join(&folder).join("port"), io);
        write(&sys.join(&folder).join("type"), "4");
        link(sys, &format!("class/tty/ttyS{number}"), &folder);
    }
}

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(sys: &Sys) -> BootReport {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(Box::pin(boot(sys)))
}

#[test]
fn a_machine_boots_to_its_names_and_its_network_and_says_what_it_lacks() {
    if !nix::unistd::geteuid().is_root() {
        println!("left out: a boot in namespaces needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Mounts, host name and network of this thread and of what it starts, and of nobody else.
    let done = thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS).unwrap();
                assert!(Command::new("mount").args(["--make-rprivate", "/"]).status().unwrap().success());
                inside(dir.path());
            })
            .join()
    });
    assert!(done.is_ok(), "see above");
}

/// An `nft` that has the rules of the image loaded.
fn filter(dir: &Path) -> std::path::PathBuf {
    let script = dir.join("nft");
    let chain = r#"{"chain": {"name": "input", "hook": "input", "policy": "drop"}}, {"set": {"name": "lan_tcp"}}"#;
    write(&script, &format!("#!/bin/sh\necho '{{\"nftables\": [{chain}]}}'\n"));
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    script
}

/// A switch of the kernel for IPv6 on a port.
fn switch(port: &str, name: &str) -> String {
    // /proc/sys/net is the one of the reading thread's namespace.
    fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{port}/{name}")).unwrap().trim().to_owned()
}

fn inside(dir: &Path) {
    let at = |name: &str| dir.join(name);
    let sys = Sys {
        root: at("root"),
        sys: at("sys"),
        dev: at("dev"),
        boards: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../board"),
        state: at("state"),
        node: at("node"),
        changes: at("board.toml"),
        report: at("root/run/twinpost/boot.json"),
        init_report: at("root/run/twinpost/init.json"),
        modprobe: Program::new("true"),
        nft: Program::new(filter(dir)),
        parts_wait: Duration::ZERO,
        ..Sys::default()
    };
    machine(&sys.sys, ["eth0", "eth1"]);
    ip("link add eth0 type veth peer name far0");
    ip("link add eth1 type veth peer name far1");

    let report = run(&sys);
    assert_eq!((report.board.as_str(), report.set_up, report.host_name.as_str()), ("qemu-pc", false, "twinpost"));
    assert_eq!(report.state.mounted, Mounted::Volatile, "there are no disks");
    let codes: Vec<(&str, Option<&str>)> = report.faults.iter().map(|f| (f.code.as_str(), f.part.as_deref())).collect();
    assert!(codes.iter().any(|(code, _)| *code == "state_volatile"), "{codes:?}");
    for part in ["serial.modem", "bay.1", "bay.2"] {
        assert!(codes.contains(&("part_missing", Some(part))), "{part} is not in {codes:?}");
    }
    assert_eq!((switch("lan", "accept_ra"), switch("pair", "accept_ra")), ("0".into(), "0".into()), "nothing from strangers");
    let names = ip("-br link show");
    assert!(names.contains("lan@") && names.contains("pair@"), "{names}");
    let saved: BootReport = serde_json::from_str(&fs::read_to_string(&sys.report).unwrap()).unwrap();
    assert_eq!(saved.faults, report.faults);
    assert_eq!(fs::read_to_string(sys.root.join("etc/hostname")).unwrap(), "twinpost\n");
    assert_eq!(fs::read_link(sys.dev.join("twinpost/heartbeat")).unwrap(), Path::new("/dev/ttyS1"));
    assert!(!sys.dev.join("twinpost/modem").exists());

    // Set up, and booted again with the ports named as this life of the kernel named them.
    machine(&sys.sys, ["lan", "pair"]);
    write(
        &sys.node.join("node.toml"),
        "[node]\nname = \"b\"\n[lan]\naddresses = [\"192.0.2.12/24\"]\ngateways = [\"192.0.2.1\"]\ndns = [\"192.0.2.53\"]\n",
    );
    write(&sys.node.join("appliance.toml"), "[smtp]\nmax_hops = 7\n");
    let report = run(&sys);
    assert_eq!((report.node.as_deref(), report.host_name.as_str(), report.set_up), (Some("b"), "twinpost-b", false));
    let document = report.faults.iter().find(|f| f.code == "document").expect("7 hops are outside the limits");
    assert!(document.text.en.contains("appliance.toml:2: smtp.max_hops"), "{document:?}");
    assert_eq!((switch("lan", "accept_ra"), switch("pair", "accept_ra")), ("1".into(), "0".into()));
    let address = |of: &str| ip(&format!("-o -4 addr show dev {of}"));
    assert!(
        address("lan").contains("192.0.2.12/24") && address("pair").contains("169.254.77.2/30"),
        "{}{}",
        address("lan"),
        address("pair")
    );
    assert!(ip("route show default").contains("via 192.0.2.1 dev lan"));
    assert_eq!(nix::unistd::gethostname().unwrap().to_str(), Some("twinpost-b"));
    assert!(fs::read_to_string(sys.root.join("etc/resolv.conf")).unwrap().starts_with("nameserver 192.0.2.53\n"));
    assert_eq!(report.roles.interface(NicRole::Lan).and_then(|i| i.name.clone()).as_deref(), Some("lan"));
    assert!(report.took_ms < 60_000);

    // Where the heartbeat is on the port of the image's menu, that menu is switched off and another is started.
    let orders = dir.join("orders");
    write(&orders, "#!/bin/sh\necho \"$@\" >> \"${0%/*}/ordered\"\n");
    fs::set_permissions(&orders, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    write(&sys.changes, "[serial.heartbeat]\nio = 0x3f8\n[serial.console]\nio = 0x2f8\n");
    write(&sys.sys.join("class/tty/ttyS0/console"), "Y");
    run(&Sys { systemctl: Program::new(&orders), ..sys.clone() });
    assert_eq!(fs::read_to_string(sys.sys.join("class/tty/ttyS0/console")).unwrap(), "N", "the kernel lets go of the heartbeat");
    let ordered = fs::read_to_string(dir.join("ordered")).unwrap();
    assert_eq!(ordered, "mask --runtime twinpost-console@ttyS0.service\n--no-block start twinpost-console@ttyS1.service\n");
    fs::remove_file(&sys.changes).unwrap();

    // A driver that cannot be loaded is told, and nothing else suffers.
    let report = run(&Sys { modprobe: Program::new("false"), ..sys.clone() });
    assert!(report.faults.iter().any(|f| f.code == "watchdog" && f.text.en.contains("i6300esb")), "{:?}", report.faults);
    assert_eq!(report.node.as_deref(), Some("b"));

    // Without a packet filter the LAN is not switched on; the cable is.
    ip("link set lan down");
    ip("link set pair down");
    let report = run(&Sys { nft: Program::new("false"), ..sys.clone() });
    assert!(
        report.faults.iter().any(|f| f.code == "firewall" && f.text.en.contains("stays switched off")),
        "{:?}",
        report.faults
    );
    let up = |port: &str| ip(&format!("-o link show {port}")).split(['<', '>', ',']).any(|flag| flag == "UP");
    assert!(!up("lan") && up("pair"));

    // An installer touches no disk, keeps nothing and complains of neither.
    write(&sys.init_report, r#"{"install": true, "legs": [{"device": "sdb2", "disk": "sdb", "ok": true}]}"#);
    let report = run(&sys);
    assert_eq!((report.installer.as_deref(), report.disks.running.len()), (Some(sys.dev.join("sdb").as_path()), 0));
    assert!(!report.faults.iter().any(|f| f.code == "state_volatile"), "{:?}", report.faults);
}
