//! Plans on disks that are files.

use super::*;
use crate::device;
use crate::layout::{GIB, Layout, entries};
use crate::md_super::tests::{encode, example};
use crate::md_super::{OFFSET, Super};
use crate::sysfs::tests::Fake;
use crate::table::{self, Table};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use uuid::Uuid;

const OWN: u128 = 7;

fn system(fake: &Fake, name: &str, places: &[Place]) -> Table {
    let table = Table { guid: Uuid::new_v4(), partitions: entries(places) };
    table::write(&fake.machine.paths.dev.join(name), 512, &table).unwrap();
    fake.show(name, &table.partitions);
    table
}

fn member(fake: &Fake, name: &str, array: Array, found: &Super) {
    let device = fake.machine.paths.dev.join(name);
    let start = fake.machine.block(&device).unwrap().part(array.partition()).unwrap().start_bytes;
    let roles: Vec<u16> =
        (0..u16::try_from(found.filled).unwrap()).map(|n| if found.filled == 1 { found.role.unwrap() } else { n }).collect();
    let number = if found.filled == 1 { 0 } else { u32::from(found.role.unwrap()) };
    let name = format!("twinpost:{}", array.name());
    let bytes = encode(&Super { name, ..found.clone() }, number, &roles);
    device::open_rw(&device).unwrap().write_all_at(&bytes, start + OFFSET).unwrap();
    // The partition's own node, which md's members are read from.
    let part = fake.machine.block(&device).unwrap().part(array.partition()).unwrap().device.clone();
    let node = fs::File::create(part).unwrap();
    node.set_len(1 << 20).unwrap();
    node.write_all_at(&bytes, OFFSET).unwrap();
}

/// An array as the kernel shows it.
fn running(fake: &Fake, md: &str, members: &[(&str, &str)]) {
    let folder = fake.machine.class_block(md).join("md");
    for (device, state) in members {
        fs::create_dir_all(folder.join(format!("dev-{device}"))).unwrap();
        fs::write(folder.join(format!("dev-{device}/state")), state).unwrap();
        fs::create_dir_all(fake.machine.class_block(device).join("holders").join(md)).unwrap();
    }
    let degraded = 2 - members.iter().filter(|(_, state)| *state == "in_sync").count();
    for (file, text) in
        [("array_state", "clean"), ("raid_disks", "2"), ("sync_action", "idle"), ("degraded", &degraded.to_string())]
    {
        fs::write(folder.join(file), text).unwrap();
    }
}

/// A node after its first boot: the system disk with the state volume in bay 1.
fn booted(bytes: u64) -> Fake {
    let mut fake = Fake::new();
    fake.machine.programs.mdadm = twinpost_storage::Program::new("/bin/false");
    fake.disk("vda", bytes);
    let whole = Layout::default().whole(bytes).unwrap();
    system(&fake, "vda", &whole[..4]);
    member(&fake, "vda", Array::State, &example(OWN, 1, 5, 0, 1));
    running(&fake, "md127", &[("vda4", "in_sync")]);
    fake
}

/// A node with both arrays on both disks.
fn complete(bytes: u64) -> Fake {
    let mut fake = Fake::new();
    fake.machine.programs.mdadm = twinpost_storage::Program::new("/bin/false");
    let whole = Layout::default().whole(bytes).unwrap();
    for (n, name) in [(0u16, "vda"), (1, "vdb")] {
        fake.disk(name, bytes);
        system(&fake, name, &whole);
        member(&fake, name, Array::State, &example(OWN, 1 + u128::from(n), 5, n, 2));
        member(&fake, name, Array::Mail, &example(OWN + 1, 3 + u128::from(n), 5, n, 2));
    }
    running(&fake, "md127", &[("vda4", "in_sync"), ("vdb4", "in_sync")]);
    running(&fake, "md126", &[("vda5", "in_sync"), ("vdb5", "in_sync")]);
    fake
}

/// The disk of a bay is pulled.
fn pull(fake: &mut Fake, n: usize) {
    let device = fake.machine.ports[n].device.take().unwrap();
    let name = device.file_name().unwrap().to_str().unwrap().to_owned();
    for md in ["md126", "md127"] {
        let folder = fake.machine.class_block(md).join("md");
        for number in 1..6 {
            let _ = fs::remove_dir_all(folder.join(format!("dev-{name}{number}")));
            let _ = fs::remove_file(fake.machine.class_block(&format!("{name}{number}")));
        }
        if folder.exists() {
            fs::write(folder.join("degraded"), "1").unwrap();
        }
    }
}

/// A new disk in the bay of another one.
fn put(fake: &mut Fake, n: usize, name: &str, bytes: u64) -> std::path::PathBuf {
    let device = fake.disk(name, bytes);
    let port = fake.machine.ports.pop().unwrap();
    fake.machine.ports[n].device = port.device;
    device
}

fn codes(plan: &Plan) -> Vec<&str> {
    plan.refusals.iter().map(|refusal| refusal.code.as_str()).collect()
}

fn steps(plan: &Plan) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::Wipe { bay } => format!("wipe {bay}"),
        Step::Table { bay, places } => format!("table {bay} of {}", places.len()),
        Step::Copy { from, to, partition } => format!("copy {} {to} {partition}", from.as_deref().unwrap_or("medium")),
        Step::Create { array, bays } => format!("create {} {}", array.name(), bays.join("+")),
        Step::Clean { array } => format!("clean {}", array.name()),
        Step::Forget { bay } => format!("forget {bay}"),
        Step::Add { array, bay, whole } => format!("add {} {bay}{}", array.name(), if *whole { " whole" } else { "" }),
        Step::Root { bay } => format!("root {bay}"),
        Step::Rebuild { array } => format!("rebuild {}", array.name()),
    };
    plan.steps.iter().map(word).collect()
}

fn write(device: &Path, at: u64) {
    device::open_rw(device).unwrap().write_all_at(b"data", at).unwrap();
}

fn ext4(device: &Path, label: &str) {
    let made = std::process::Command::new("mkfs.ext4").args(["-q", "-F", "-L", label]).arg(device).output().unwrap();
    assert!(made.status.success());
}

#[tokio::test]
async fn init_with_a_blank_disk() {
    let mut fake = booted(2 * GIB);
    fake.disk("vdb", 2 * GIB - 100 * MIB);
    let plan = fake.machine.plan_init(Options::default()).await;
    assert_eq!(codes(&plan), Vec::<&str>::new(), "{plan:?}");
    assert_eq!(
        steps(&plan),
        [
            "table 1 of 5",
            "wipe 2",
            "table 2 of 5",
            "copy 1 2 twinpost-a",
            "copy 1 2 twinpost-b",
            "copy 1 2 twinpost-esp",
            "add state 2 whole",
            "create mail 1+2"
        ]
    );
    let mail: Vec<u64> = plan.disks.iter().map(|disk| disk.partitions[4].1).collect();
    assert_eq!(mail, [1946 * MIB - 673 * MIB; 2], "as large as the smaller disk allows");
    assert!(plan.disks.iter().all(|disk| !disk.erased) && !plan.notes.is_empty());
    let again = fake.machine.plan_init(Options::default()).await;
    assert!(plan.same(&again));
    write(&fake.machine.paths.dev.join("vdb"), 0);
    assert!(!plan.same(&fake.machine.plan_init(Options::default()).await), "the disk changed since");
}

#[tokio::test]
async fn init_goes_on_where_it_was_cut() {
    let mut fake = booted(2 * GIB);
    let second = fake.disk("vdb", 2 * GIB);
    let whole = Layout::default().whole(2 * GIB).unwrap();
    // The tables are there.
    system(&fake, "vda", &whole);
    let table = system(&fake, "vdb", &whole);
    let plan = fake.machine.plan_init(Options::default()).await;
    assert_eq!((codes(&plan).len(), steps(&plan)[0].as_str(), steps(&plan).len()), (0, "wipe 2", 7), "no data: copied again");
    // The state volume has its second member.
    member(&fake, "vdb", Array::State, &example(OWN, 2, 5, 1, 2));
    running(&fake, "md127", &[("vda4", "in_sync"), ("vdb4", "spare")]);
    let plan = fake.machine.plan_init(Options::default()).await;
    assert_eq!(steps(&plan), ["create mail 1+2"]);
    // The mail array was begun: only one disk got its superblock.
    member(&fake, "vda", Array::Mail, &example(OWN + 1, 3, 5, 0, 1));
    running(&fake, "md126", &[("vda5", "in_sync")]);
    assert_eq!(steps(&fake.machine.plan_init(Options::default()).await), ["add mail 2 whole"]);
    member(&fake, "vdb", Array::Mail, &example(OWN + 1, 4, 5, 1, 2));
    running(&fake, "md126", &[("vda5", "in_sync"), ("vdb5", "in_sync")]);
    let plan = fake.machine.plan_init(Options::default()).await;
    assert!(plan.possible() && plan.steps.is_empty(), "{plan:?}");
    assert!(table.partitions.len() == 5 && second.exists());
}

#[tokio::test]
async fn init_of_two_disks_that_were_installed_together() {
    let mut fake = booted(2 * GIB);
    fake.disk("vdb", 2 * GIB);
    system(&fake, "vdb", &Layout::default().system());
    // The root stands on slot A of both.
    for part in ["vda2", "vdb2"] {
        fs::create_dir_all(fake.machine.class_block(part).join("holders/dm-0")).unwrap();
    }
    let plan = fake.machine.plan_init(Options::default()).await;
    assert_eq!(codes(&plan), Vec::<&str>::new());
    assert_eq!(
        steps(&plan),
        ["table 1 of 5", "table 2 of 5", "copy 1 2 twinpost-b", "copy 1 2 twinpost-esp", "add state 2 whole", "create mail 1+2"],
        "what is in use is not written"
    );
    // Something else on it is in use too.
    fs::create_dir_all(fake.machine.class_block("vdb1").join("holders/dm-1")).unwrap();
    assert_eq!(codes(&fake.machine.plan_init(Options::default()).await), ["in_use"]);
}

#[tokio::test]
async fn init_makes_nothing_over_a_mail_array() {
    let fake = complete(2 * GIB);
    // The second disk's mail was used on its own.
    let running_alone = |bay: &str, device: u128, role| member(&fake, bay, Array::Mail, &example(OWN + 1, device, 9, role, 1));
    running_alone("vda", 3, 0);
    running_alone("vdb", 4, 1);
    let folder = fake.machine.class_block("md126").join("md");
    fs::remove_dir_all(folder.join("dev-vdb5")).unwrap();
    fs::remove_dir_all(fake.machine.class_block("vdb5").join("holders/md126")).unwrap();
    assert_eq!(codes(&fake.machine.plan_init(Options::default()).await), ["holds_data"]);
    let named = Options { erase: vec!["S-vdb".into()], ..Options::default() };
    let plan = fake.machine.plan_init(named.clone()).await;
    assert!(plan.disks[1].erased && steps(&plan) == ["add mail 2 whole"], "{plan:?}");
    // It does not run at all.
    fs::remove_dir_all(fake.machine.class_block("md126")).unwrap();
    assert_eq!(codes(&fake.machine.plan_init(named).await), ["array_failed", "array_failed"]);
}

#[tokio::test]
async fn init_refuses_what_holds_data() {
    let mut fake = booted(2 * GIB);
    let second = fake.disk("vdb", 2 * GIB);
    ext4(&second, "Photos");
    let plan = fake.machine.plan_init(Options::default()).await;
    assert_eq!(codes(&plan), ["holds_data"]);
    assert!(
        plan.steps.is_empty()
            && plan.refusals[0].text.en.contains("Photos")
            && plan.refusals[0].text.en.contains("--erase S-vdb")
    );
    let wrong = Options { erase: vec!["S-vda".into()], ..Options::default() };
    assert_eq!(codes(&fake.machine.plan_init(wrong).await), ["holds_data"], "another serial number");
    let right = Options { erase: vec!["S-vdb".into()], ..Options::default() };
    let plan = fake.machine.plan_init(right.clone()).await;
    assert!(plan.possible() && plan.disks[1].erased);
    // In use: not even when it is named.
    fs::write(fake.machine.paths.proc.join("self/mountinfo"), "36 35 254:vdb / /x rw - ext4 /dev/vdb rw\n").unwrap();
    assert_eq!(codes(&fake.machine.plan_init(right.clone()).await), ["in_use"]);
    fs::write(fake.machine.paths.proc.join("self/mountinfo"), "").unwrap();
    // Data of another node.
    let whole = Layout::default().whole(2 * GIB).unwrap();
    device::open_rw(&second).unwrap().write_all_at(&[0; 8192], 0).unwrap();
    system(&fake, "vdb", &whole);
    member(&fake, "vdb", Array::State, &example(99, 2, 500, 0, 2));
    let plan = fake.machine.plan_init(Options::default()).await;
    assert!(codes(&plan) == ["holds_data"] && plan.refusals[0].text.en.contains("another Twinpost node"), "{plan:?}");
    assert!(fake.machine.plan_init(right).await.possible());
}

#[tokio::test]
async fn init_tells_every_reason() {
    let mut fake = booted(2 * GIB);
    let plan = fake.machine.plan_init(Options::default()).await;
    assert_eq!(codes(&plan), ["one_disk"]);
    let single = Options { single: true, ..Options::default() };
    let plan = fake.machine.plan_init(single).await;
    assert_eq!(steps(&plan), ["table 1 of 5", "create mail 1"]);
    let second = fake.disk("vdb", 700 << 20);
    ext4(&second, "x");
    fs::write(fake.machine.class_block("vdb").join("queue/logical_block_size"), "4096").unwrap();
    assert_eq!(codes(&fake.machine.plan_init(Options::default()).await), ["too_small", "sector_size", "holds_data"]);
    assert_eq!(
        codes(&fake.machine.plan_init(Options { bays: vec!["1".into(), "9".into()], ..Options::default() }).await),
        ["no_bay"]
    );
    fake.disk("vdc", GIB);
    assert_eq!(codes(&fake.machine.plan_init(Options::default()).await), ["choose_bays"]);
    let plan = fake.machine.plan_init(Options { bays: vec!["1".into(), "3".into()], ..Options::default() }).await;
    assert!(plan.possible(), "{plan:?}");
    fake.machine.ports.remove(0);
    assert_eq!(codes(&fake.machine.plan_init(Options::default()).await), ["no_system_disk"]);
}

#[tokio::test]
async fn replace_a_pulled_disk() {
    let mut fake = complete(2 * GIB);
    let plan = fake.machine.plan_replace("2", Vec::new(), true).await;
    assert!(plan.possible() && plan.steps.is_empty(), "nothing to do: {plan:?}");
    pull(&mut fake, 1);
    assert_eq!(codes(&fake.machine.plan_replace("2", Vec::new(), true).await), ["no_disk"]);
    assert_eq!(codes(&fake.machine.plan_replace("3", Vec::new(), true).await), ["no_bay"]);
    put(&mut fake, 1, "vdc", 2 * GIB);
    let plan = fake.machine.plan_replace("2", Vec::new(), true).await;
    assert_eq!(codes(&plan), Vec::<&str>::new());
    assert_eq!(
        steps(&plan),
        [
            "clean state",
            "clean mail",
            "wipe 2",
            "table 2 of 5",
            "copy 1 2 twinpost-a",
            "copy 1 2 twinpost-b",
            "copy 1 2 twinpost-esp",
            "add state 2 whole",
            "add mail 2 whole",
            "rebuild state",
            "rebuild mail"
        ]
    );
    let plan = fake.machine.plan_replace("2", Vec::new(), false).await;
    assert_eq!(plan.steps.len(), 9, "without waiting");
    assert_eq!(codes(&fake.machine.plan_replace("1", Vec::new(), true).await), ["no_source"], "the only whole disk is no target");
}

#[tokio::test]
async fn replace_refuses_the_wrong_disk() {
    let mut fake = complete(2 * GIB);
    pull(&mut fake, 1);
    let device = put(&mut fake, 1, "vdc", GIB);
    ext4(&device, "Old");
    let plan = fake.machine.plan_replace("2", Vec::new(), true).await;
    assert_eq!(codes(&plan), ["too_small", "holds_data"]);
    let said = &plan.refusals[0].text;
    assert!(said.en.contains("1.0 GB") && said.en.contains("2.1 GB") && said.zh.contains("1.0 GB"), "{said}");
    assert_eq!(codes(&fake.machine.plan_replace("2", vec!["S-vdc".into()], true).await), ["too_small"]);
}

#[tokio::test]
async fn replace_takes_an_own_disk_back_but_not_one_that_ran_alone() {
    let mut fake = complete(2 * GIB);
    pull(&mut fake, 1);
    for array in ["vda4", "vda5"] {
        assert!(fake.machine.class_block(array).exists());
    }
    put(&mut fake, 1, "vdc", 2 * GIB);
    let whole = Layout::default().whole(2 * GIB).unwrap();
    system(&fake, "vdc", &whole);
    member(&fake, "vdc", Array::State, &example(OWN, 2, 3, 1, 2));
    member(&fake, "vdc", Array::Mail, &example(OWN + 1, 4, 3, 1, 2));
    let plan = fake.machine.plan_replace("2", Vec::new(), false).await;
    assert_eq!(codes(&plan), Vec::<&str>::new(), "stale, of this node");
    assert!(!steps(&plan).iter().any(|step| step.starts_with("wipe")) && steps(&plan).contains(&"add mail 2".to_owned()));
    // Now the one that stayed knows that it is alone, and the other one was alone too.
    member(&fake, "vda", Array::Mail, &example(OWN + 1, 3, 9, 0, 1));
    member(&fake, "vdc", Array::Mail, &example(OWN + 1, 4, 8, 1, 1));
    let plan = fake.machine.plan_replace("2", Vec::new(), false).await;
    assert_eq!(codes(&plan), ["holds_data"]);
    let plan = fake.machine.plan_replace("2", vec!["S-vdc".into()], false).await;
    assert!(plan.possible() && steps(&plan).contains(&"wipe 2".to_owned()) && plan.disks[1].erased);
    // Started from both: the slot is in use, and the state volume, which was not written meanwhile, has both members.
    fs::create_dir_all(fake.machine.class_block("vdc2").join("holders/dm-0")).unwrap();
    let named = vec!["S-vdc".to_owned()];
    let plan = fake.machine.plan_replace("2", named.clone(), false).await;
    assert_eq!(
        steps(&plan)[2..],
        ["forget 2", "table 2 of 5", "copy 1 2 twinpost-b", "copy 1 2 twinpost-esp", "add state 2 whole", "add mail 2 whole"]
    );
    running(&fake, "md127", &[("vda4", "in_sync"), ("vdc4", "in_sync")]);
    assert_eq!(codes(&fake.machine.plan_replace("2", Vec::new(), false).await), ["holds_data"], "its mail differs");
    let plan = fake.machine.plan_replace("2", named, false).await;
    assert!(plan.disks[1].erased);
    assert_eq!(
        steps(&plan),
        ["clean state", "clean mail", "copy 1 2 twinpost-b", "copy 1 2 twinpost-esp", "add mail 2 whole"],
        "never by what the array remembers"
    );
}

#[tokio::test]
async fn a_disk_of_another_node_whose_slot_is_in_use() {
    let mut fake = complete(2 * GIB);
    pull(&mut fake, 1);
    put(&mut fake, 1, "vdc", 2 * GIB);
    system(&fake, "vdc", &Layout::default().whole(2 * GIB).unwrap());
    member(&fake, "vdc", Array::State, &example(99, 2, 500, 1, 2));
    fs::create_dir_all(fake.machine.class_block("vdc2").join("holders/dm-0")).unwrap();
    assert_eq!(codes(&fake.machine.plan_replace("2", Vec::new(), false).await), ["holds_data"]);
    let plan = fake.machine.plan_replace("2", vec!["S-vdc".into()], false).await;
    assert!(plan.possible() && steps(&plan)[2] == "forget 2", "{plan:?}");
}

#[tokio::test]
async fn install_to_both_and_refuse_what_holds_data() {
    let mut fake = Fake::new();
    let medium = fake.disk("sdz", 500 << 20);
    system(&fake, "sdz", &Layout::default().system());
    let port = fake.machine.ports.pop();
    assert!(port.is_some(), "the medium is in no bay");
    fake.disk("vda", 2 * GIB);
    let second = fake.disk("vdb", 2 * GIB);
    let install = |options: Options| Order::Install { source: medium.clone(), options };
    let plan = fake.machine.plan(&install(Options::default())).await;
    assert_eq!(codes(&plan), Vec::<&str>::new());
    let one = |bay: &str| {
        let copy = |name: &str| format!("copy medium {bay} {name}");
        [format!("wipe {bay}"), format!("table {bay} of 3"), copy("twinpost-a"), copy("twinpost-esp")]
    };
    assert_eq!(steps(&plan), [one("1"), one("2")].concat());
    write(&second, (1 << 30) + 8192);
    let found = fake.machine.plan(&install(Options::default())).await;
    // A single written byte somewhere in the middle may hide between the samples; a file system does not.
    assert!(found.possible());
    ext4(&second, "x");
    assert_eq!(codes(&fake.machine.plan(&install(Options::default())).await), ["holds_data"]);
    let plan = fake.machine.plan(&install(Options { bays: vec!["1".into()], ..Options::default() })).await;
    assert_eq!(plan.steps.len(), 4, "only the named bay");
    let order = Order::Install { source: second, options: Options { bays: vec!["1".into()], ..Options::default() } };
    assert_eq!(codes(&fake.machine.plan(&order).await), ["no_medium"]);
}
