//! The reader: what is right, and every fault at its place.

use super::repository;
use crate::*;
use std::path::Path;

fn load(files: &[(&str, &str)]) -> Boards {
    let dir = tempfile::tempdir().expect("a folder for the test");
    for (name, text) in files {
        std::fs::create_dir(dir.path().join(name)).expect("a folder");
        std::fs::write(dir.path().join(name).join("board.toml"), text).expect("a file");
    }
    let mut boards = Boards::load_all(dir.path());
    let folder = format!("{}/", dir.path().display());
    boards.faults.iter_mut().for_each(|f| *f = f.replace(&folder, ""));
    boards
}

fn dmi(fields: &[(&str, &str)]) -> Dmi {
    Dmi(fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

const ACME: &str = "[[match]]\nsys_vendor = \"ACME\"\nproduct_name = \"One\"\n[nic.lan]\npci = \"00:1f.6\"\n[nic.pair]\npci = \"00:1c.4/00.0\"\n";

#[test]
fn all_boards_of_this_repository_are_sound() {
    let boards = Boards::load_all(&repository());
    assert!(boards.faults.is_empty(), "{}", boards.faults.join("\n"));
    assert!(boards.named("qemu-pc").is_ok() && boards.named(GENERIC).is_ok());
    assert!(boards.boards.len() >= 6, "{:?}", boards.boards.iter().map(Board::full_name).collect::<Vec<_>>());
    for board in boards.boards.iter().filter(|b| !b.matches.is_empty()) {
        for pattern in &board.matches {
            // A machine that says exactly this is this board.
            let words = Dmi(pattern.0.iter().map(|(k, v)| (k.clone(), v.trim_end_matches('*').to_owned())).collect());
            let choice = boards.matching(&words).expect("one board");
            assert_eq!(choice.board.map(|b| b.full_name()), Some(board.full_name()));
        }
    }
}

#[test]
fn every_fault_is_told_at_once_with_file_line_and_key() {
    let text = "title = 7\ncolour = \"red\"\n[[match]]\nvendor = \"x\"\n[nic.lan]\npci = \"00:20.0\"\n[nic.wan]\npci = \"00:01.0\"\n\
                [serial.modem]\nbaud = 115200\n[[bay]]\nnumber = 1\nlabel = \"A\"\ncontroller = \"ahci\"\npci = \"00:1f.2\"\nport = 32\n\
                [[bay]]\nnumber = 1\nlabel = \"B\"\ncontroller = \"floppy\"\npci = \"00:1f.2\"\n[watchdog]\ndriver = \"iTCO_wdt\"\ntimeout = \"90 s\"\n\
                [serial.console]\nio = \"0x3f8\"\nflow = \"xon\"\n";
    let boards = load(&[("bad", text)]);
    assert!(boards.boards.is_empty());
    let faults = boards.faults.join("\n");
    for expected in [
        "bad/board.toml:1: title: expected a text in quotes",
        "bad/board.toml:2: colour: there is no such key",
        "bad/board.toml:4: match[1].vendor: there is no such key; did you mean",
        "bad/board.toml:6: nic.lan.pci: \"00:20.0\" is no PCI address",
        "device 00 to 1f",
        "bad/board.toml:7: nic.wan: \"wan\" is not one of \"lan\", \"pair\"",
        "bad/board.toml:10: serial.modem: it is not said where the port is",
        "bad/board.toml:16: bay[1].port: port 32 is outside 0 to 31",
        "bad/board.toml:20: bay[2].controller: \"floppy\" is not one of \"virtio-blk\"",
        "bad/board.toml:24: watchdog.timeout: 90 s: iTCO_wdt takes whole seconds from 4 to 38",
        "bad/board.toml:26: serial.console.io: expected an I/O address",
        "bad/board.toml:27: serial.console.flow: \"xon\" is not one of \"none\", \"rts-cts\"",
    ] {
        assert!(faults.contains(expected), "{expected:?} is not among:\n{faults}");
    }
}

#[test]
fn a_place_has_one_role_and_a_bay_one_number() {
    let text = "[nic.lan]\npci = \"00:07.0\"\n[nic.pair]\npci = \"0000:00:07.0\"\n[serial.heartbeat]\nio = 0x2f8\n[serial.modem]\nio = 0x2f8\n\
                [[bay]]\nnumber = 1\nlabel = \"A\"\ncontroller = \"virtio-blk\"\npci = \"00:05.0\"\n\
                [[bay]]\nnumber = 2\nlabel = \"A\"\ncontroller = \"virtio-blk\"\npci = \"00:05.0\"\n";
    let faults = load(&[("bad", &format!("boot = [3]\n{text}"))]).faults.join("\n");
    for expected in [
        ":4: nic.pair: the network port 00:07.0 port 0 has the role nic.lan already",
        ":8: serial.modem: the serial port at I/O 0x2f8 has the role serial.heartbeat already",
        ":15: bay.2: the connector PCI 00:05.0 has the role bay.1 already",
        ":15: bay.2: the label \"A\" has the role bay.1 already",
        ":1: boot: there is no bay 3; bays are 1, 2",
    ] {
        assert!(faults.contains(expected), "{expected:?} is not among:\n{faults}");
    }
    let twice = load(&[("bad", "[[bay]]\nnumber = 1\nfitted = false\n[[bay]]\nnumber = 1\nfitted = false\n")]).faults.join("\n");
    assert!(twice.contains("bad/board.toml:4: bay[2].number: there is a bay 1 above already"), "{twice}");
    let twice = load(&[("bad", "[nic.lan]\npci = \"00:07.0\"\n[nic.lan]\npci = \"00:08.0\"\n")]).faults.join("\n");
    assert!(twice.contains("bad/board.toml:3: lan: this stands above already"), "{twice}");
}

#[test]
fn a_thin_board_rests_on_its_base_and_a_revision_on_its_board() {
    let thin = "base = \"acme\"\ntitle = \"Two\"\n[[match]]\nsys_vendor = \"ACME\"\nproduct_name = \"Two*\"\n[nic.pair]\nfitted = false\n\
                [[revision]]\nname = \"rev-c\"\nmatch = { board_version = \"C\" }\n[revision.nic.pair]\npci = \"00:1c.5/00.0\"\nlabel = \"LAN 2\"\n";
    let boards = load(&[("acme", ACME), ("two", thin)]);
    assert_eq!(boards.faults, Vec::<String>::new());
    let two = boards.named("two").expect("loaded");
    assert_eq!(two.nics.keys().copied().collect::<Vec<_>>(), [NicRole::Lan]);
    assert_eq!(two.files.len(), 2);
    let machine = dmi(&[("sys_vendor", "ACME"), ("product_name", "Two plus"), ("board_version", "C")]);
    let board = boards.matching(&machine).expect("one fits").board.expect("one fits");
    assert_eq!(board.full_name(), "two rev-c");
    assert_eq!(board.nics[&NicRole::Pair].label, "LAN 2");
    let machine = dmi(&[("sys_vendor", "ACME"), ("product_name", "Two plus"), ("board_version", "B")]);
    assert_eq!(boards.matching(&machine).expect("one fits").board.map(|b| b.full_name()).as_deref(), Some("two"));
    for (text, expected) in
        [("base = \"none\"\n", "base: there is no sound board \"none\""), ("base = \"a\"\n", "base: the bases go round: a -> a")]
    {
        let faults = load(&[("a", text)]).faults.join("\n");
        assert!(faults.contains(expected), "{faults}");
    }
}

#[test]
fn the_narrower_match_wins_and_equals_are_a_fault_of_the_data() {
    let wide = "[[match]]\nsys_vendor = \"ACME\"\nproduct_name = \"O*\"\n";
    let boards = load(&[("acme", ACME), ("wide", wide)]);
    let machine = dmi(&[("sys_vendor", "ACME"), ("product_name", "One")]);
    let choice = boards.matching(&machine).expect("one is narrower");
    assert_eq!(choice.board.map(|b| b.name).as_deref(), Some("acme"));
    let other = boards.matching(&dmi(&[("sys_vendor", "ACME"), ("product_name", "Two")])).expect("none");
    assert!(other.board.is_none());
    let why = other.verdicts.iter().find(|v| v.name == "acme").expect("looked at");
    assert_eq!(why.why, "product_name should be \"One\", is \"Two\"");
    let boards = load(&[("acme", ACME), ("again", ACME)]);
    assert!(matches!(boards.matching(&machine), Err(Error::Ambiguous { .. })));
}

#[test]
fn a_bad_board_spoils_no_other() {
    let boards = load(&[("acme", ACME), ("bad", "[nic\n"), ("Bad Name", "")]);
    assert_eq!(boards.boards.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["acme"]);
    assert_eq!(boards.faults.len(), 2, "{:?}", boards.faults);
    assert!(Boards::load_all(Path::new("/nowhere/at/all")).faults[0].contains("/nowhere/at/all"));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_board_or_faults(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        fuzz(&data);
    }
    #[test]
    fn any_value_of_any_key_is_read_or_refused(
        part in proptest::sample::select(vec!["nic.lan", "serial.modem", "watchdog", "tpm", "buzzer", "careful", "[bay]", "[match]", "[revision]", "[sensor]", "[supply]"]),
        key in proptest::sample::select(vec!["pci", "port", "io", "usb", "acpi", "number", "label", "controller", "led", "driver", "timeout", "parameters", "name", "match", "unit", "low", "fitted", "lan"]),
        value in proptest::sample::select(vec!["1", "-1", "0xffff_ffff_f", "true", "\"00:1f.2\"", "\"a\"", "[1]", "{ a = 1 }", "1e999", "\"ahci\"", "\"10 s\"", "\"iTCO_wdt\""]),
    ) {
        let text = format!("[{part}]\n{key} = {value}\nnumber = 1\nname = \"n\"\nlabel = \"l\"\npci = \"00:01.0\"\n");
        fuzz(text.as_bytes());
        fuzz(text.replacen(key, "x", 1).as_bytes());
    }
}
