//! The program for people who write boards.

use std::path::Path;
use std::process::Command;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_twinpost-board")).args(arguments).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn it_checks_a_folder_and_explains_a_machine() {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../board");
    let boards = boards.to_str().expect("plain");
    let (code, text) = run(&["check", boards]);
    assert!(code == Some(0) && text.contains("qemu-pc"), "{text}");
    let sys = tempfile::tempdir().expect("a folder");
    let dmi = sys.path().join("class/dmi/id");
    std::fs::create_dir_all(&dmi).expect("a folder");
    std::fs::write(dmi.join("board_name"), "X11SSM-F\n").expect("a file");
    let (code, text) = run(&["explain", "--boards", boards, "--sys", sys.path().to_str().expect("plain")]);
    assert_eq!(code, Some(0));
    for expected in [
        "board: supermicro-x11ssm-f",
        "supermicro-x11ssh-f: does not fit: board_name should be",
        "bay 1 (label 'SATA port 0'): nothing on AHCI 00:17.0 port 0",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    let (code, text) = run(&["explain", "--json", "--boards", boards, "--sys", sys.path().to_str().expect("plain")]);
    assert!(code == Some(0) && text.contains("\"missing\""), "{text}");
    let bad = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(bad.path().join("x")).expect("a folder");
    std::fs::write(bad.path().join("x/board.toml"), "colour = 1\n").expect("a file");
    let (code, text) = run(&["check", bad.path().to_str().expect("plain")]);
    assert!(code == Some(1) && text.contains("board.toml:1: colour"), "{text}");
    assert_eq!(run(&["frobnicate"]).0, Some(2));
}
