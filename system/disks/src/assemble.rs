//! Arrays by bay: which disks belong together, and putting them together.
//!
//! Contract: idempotent; an array that runs is left running, and members of it that are outside are taken back in (md then copies what they
//! missed). Never joins disks of different arrays, and never lets a member that was used on its own overwrite or be overwritten:
//! two disks that each worked without the other differ, and only a person can say which is right.
//!
//! Failure classes: none is an error; what is not as it should be is a [`Fault`]. An array that cannot run is not in the result.

use crate::md_super::Super;
use crate::{Array, ArrayStatus, Arrays, Error, Fault, Machine, MemberState, Text};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// mdadm talks to the kernel and reads some blocks of each member.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A partition that says that it belongs to an array.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    bay: String,
    /// Name in the kernel.
    name: String,
    device: PathBuf,
    found: Super,
    /// The array was made on this machine.
    here: bool,
    /// The system was booted from its disk.
    boot: bool,
}

/// What marks the arrays that were made on this machine: half of their identifiers is made from the machine's own (SMBIOS 7.2.1). Many machines
/// have none, and some makers give the same one to all; then the mark says nothing and the other rules decide.
fn mark(sys: &Path) -> Option<[u8; 8]> {
    let said = crate::sysfs::text(sys.join("class/dmi/id/product_uuid"));
    let machine: Uuid = said.parse().ok().filter(|id: &Uuid| !id.is_nil() && !id.is_max())?;
    let digest = blake3::hash(machine.as_bytes());
    digest.as_bytes()[..8].try_into().ok()
}

fn marked(array: Uuid, mark: Option<[u8; 8]>) -> bool {
    mark.is_some_and(|mark| array.as_bytes()[8..] == mark)
}

/// Who is put together and who not.
#[derive(Debug, PartialEq, Eq, Default)]
struct Choice {
    /// To be given to md, the newest first.
    members: Vec<Candidate>,
    /// Of the same array, but was used alone like the newest was.
    diverged: Vec<Candidate>,
    /// Of other arrays.
    foreign: Vec<Candidate>,
}

/// Which of the candidates are this node's array: the one that runs, else one that was made on this machine, else that of the boot disk, else that
/// with more members, else that of the first bay. `with`: bays whose state volume was chosen; their mail belongs to it.
fn choose(candidates: Vec<Candidate>, running: Option<Uuid>, with: &[String]) -> Choice {
    let rank = |array: Uuid| {
        let of = || candidates.iter().filter(move |candidate| candidate.found.array == array);
        let first = candidates.iter().position(|candidate| candidate.found.array == array).unwrap_or(usize::MAX);
        (
            of().any(|candidate| candidate.here),
            of().any(|candidate| with.contains(&candidate.bay)),
            of().any(|candidate| candidate.boot),
            of().count(),
            std::cmp::Reverse(first),
        )
    };
    let chosen = running.or_else(|| candidates.iter().map(|candidate| candidate.found.array).max_by_key(|array| rank(*array)));
    let Some(chosen) = chosen else { return Choice::default() };
    let (mut members, foreign): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|candidate| candidate.found.array == chosen);
    // The first of equals stays the first: bays are in order.
    members.sort_by_key(|candidate| std::cmp::Reverse(candidate.found.events));
    let newest = members.first().map(|newest| newest.found.clone());
    let mut seen: Vec<Uuid> = Vec::new();
    let (mut kept, mut diverged) = (Vec::new(), Vec::new());
    for candidate in members {
        // A copy made outside of md has the same identity; md would take it for the member itself.
        let twin = seen.contains(&candidate.found.device);
        let alone = newest.as_ref().is_some_and(|newest| newest.device != candidate.found.device && newest.alone())
            && candidate.found.alone();
        seen.push(candidate.found.device);
        if twin || alone { diverged.push(candidate) } else { kept.push(candidate) }
    }
    Choice { members: kept, diverged, foreign }
}

impl Machine {
    /// Puts both arrays together from the disks in the bays, as far as they are there.
    pub async fn assemble(&self) -> Arrays {
        let mut out = Arrays::default();
        let mut with = Vec::new();
        for array in Array::ALL {
            if let Some(status) = self.assemble_array(array, &with, &mut out.faults).await {
                if array == Array::State {
                    with = status.members.iter().filter_map(|member| member.bay.clone()).collect();
                }
                out.running.push(status);
            }
        }
        out
    }

    async fn candidates(&self, array: Array, faults: &mut Vec<Fault>) -> Vec<Candidate> {
        let mut out = Vec::new();
        let mark = mark(&self.paths.sys);
        for (port, block) in self.blocks().await {
            let Some(block) = block else { continue };
            let boot = block.in_use();
            match self.system(&block).await {
                Ok(Some(system)) => {
                    let (Some(found), Some(part)) = (system.of(array), block.part(array.partition())) else { continue };
                    let (bay, name, device) = (port.bay.clone(), part.name.clone(), part.device.clone());
                    let here = marked(found.array, mark);
                    out.push(Candidate { bay, name, device, found: found.clone(), here, boot });
                }
                Ok(None) => {}
                Err(error) => faults.push(unreadable(&port.bay, &error)),
            }
        }
        out
    }

    pub(crate) async fn assemble_array(&self, array: Array, with: &[String], faults: &mut Vec<Fault>) -> Option<ArrayStatus> {
        let candidates = self.candidates(array, faults).await;
        let before = self.array_status(array).filter(ArrayStatus::works);
        let mut running = None;
        if let Some(status) = &before {
            running = self.own_arrays(std::slice::from_ref(status)).await.first().copied();
            if running.is_none() {
                // It runs, but none of its members can be read: nothing may be joined to it.
                faults.push(failed(array, "none of its members can be read"));
                return before;
            }
            // md notices a pulled disk only when it writes to it.
            if let Err(error) = self.clean(status).await {
                tracing::warn!(array = array.name(), %error, "members that are gone");
            }
        }
        let choice = choose(candidates, running, with);
        faults.extend(choice.foreign.iter().map(|candidate| foreign(array, &candidate.bay)));
        faults.extend(choice.diverged.iter().map(|candidate| diverged(array, &candidate.bay)));
        if before.is_none() {
            if choice.members.is_empty() {
                return None;
            }
            if let Err(error) = self.start(array, &choice.members).await {
                faults.push(failed(array, &error.to_string()));
                return None;
            }
        }
        let status = self.array_status(array)?;
        if !status.works() {
            faults.push(failed(array, &status.state));
            return None;
        }
        for candidate in &choice.members {
            let member = status.members.iter().find(|member| member.device == candidate.name);
            if member.is_none_or(|member| member.state == MemberState::Faulty)
                && let Err(error) = self.take_back(&status, &candidate.device).await
            {
                faults.push(not_taken(array, &candidate.bay, &error));
            }
        }
        let status = self.array_status(array)?;
        if status.degraded > 0 {
            faults.push(self.degraded(&status));
        }
        Some(status)
    }

    /// The running arrays that were used without the disk of this bay while that was used without them.
    pub(crate) async fn diverged(&self, bay: &str) -> Vec<Array> {
        let mut out = Vec::new();
        for array in Array::ALL {
            let Some(status) = self.array_status(array) else { continue };
            let candidates = self.candidates(array, &mut Vec::new()).await;
            let running = self.own_arrays(&[status]).await.first().copied();
            if choose(candidates, running, &[]).diverged.iter().any(|candidate| candidate.bay == bay) {
                out.push(array);
            }
        }
        out
    }

    async fn start(&self, array: Array, members: &[Candidate]) -> Result<(), Error> {
        if let Some(left) = self.array_status(array) {
            // What an earlier try left, inactive.
            self.programs.mdadm.ok(&["--stop", &shown(&left.device)], LIMIT).await?;
        }
        let devices: Vec<String> = members.iter().map(|candidate| shown(&candidate.device)).collect();
        let mut args = vec!["--assemble", array.device(), "--run", "--config=none", "--homehost=twinpost"];
        args.extend(devices.iter().map(String::as_str));
        let answer = self.programs.mdadm.run(&args, LIMIT).await?;
        if self.array_status(array).is_some_and(|status| status.works()) {
            return Ok(());
        }
        Err(answer.error().into())
    }

    /// Takes a member that was away back into its running array: only what changed is copied where the bitmap knows it, else all.
    pub(crate) async fn take_back(&self, status: &ArrayStatus, member: &Path) -> Result<(), Error> {
        let (array, member) = (shown(&status.device), shown(member));
        self.clean(status).await?;
        if self.programs.mdadm.run(&["--manage", &array, "--re-add", &member], LIMIT).await?.code == Some(0) {
            tracing::info!(%array, %member, "a member came back");
            return Ok(());
        }
        self.add(&array, &member).await
    }

    /// Takes a partition into an array as a new member: all of it is copied.
    pub(crate) async fn add(&self, array: &str, member: &str) -> Result<(), Error> {
        // Without a superblock of an earlier life, or md would want to re-add it.
        self.programs.mdadm.run(&["--zero-superblock", member], LIMIT).await?;
        self.programs.mdadm.ok(&["--manage", array, "--add", member], LIMIT).await?;
        tracing::info!(%array, %member, "a member was added");
        Ok(())
    }

    /// Forgets members that are faulty or whose disk was pulled.
    pub(crate) async fn clean(&self, status: &ArrayStatus) -> Result<(), Error> {
        let gone = |device: &str| !self.class_block(device).exists();
        if !status.members.iter().any(|member| member.state == MemberState::Faulty || gone(&member.device)) {
            return Ok(());
        }
        let array = shown(&status.device);
        // A pulled disk that was not written to since is not yet known to be gone.
        for (how, which) in [("--fail", "detached"), ("--remove", "detached"), ("--remove", "failed")] {
            let answer = self.programs.mdadm.run(&["--manage", &array, how, which], LIMIT).await?;
            if answer.code != Some(0) {
                tracing::info!(%array, how, which, said = %answer.stderr, "members that are gone");
            }
        }
        Ok(())
    }

    /// The fault of an array without all its members.
    pub(crate) fn degraded(&self, status: &ArrayStatus) -> Fault {
        let there =
            |bay: &str| status.members.iter().any(|m| m.bay.as_deref() == Some(bay) && matches!(m.state, MemberState::InSync));
        let missing: Vec<_> = self.ports.iter().filter(|port| !there(&port.bay)).collect();
        let labels = missing.iter().map(|port| port.label.as_str()).collect::<Vec<_>>().join(", ");
        let bay = missing.first().map(|port| port.bay.clone());
        let name = status.array.name();
        let rebuilding = status.members.iter().any(|member| member.state == MemberState::Rebuilding);
        let text = if rebuilding {
            Text::new(
                format!("array {name}: the disk in {labels} is being filled; until that is done there is one copy only"),
                format!("阵列 {name}：{labels} 中的磁盘正在重建，完成之前只有一份数据"),
            )
        } else {
            Text::new(
                format!("array {name} has one copy only: the disk in {labels} is missing or is no member; see `disks list`"),
                format!("阵列 {name} 只有一份数据：{labels} 中缺少磁盘或磁盘不是成员；请查看 `disks list`"),
            )
        };
        Fault { code: if rebuilding { "array_rebuilding" } else { "array_degraded" }.into(), bay, text }
    }
}

impl Machine {
    /// Identifier of a new array.
    pub(crate) fn new_array_id(&self) -> Uuid {
        let mut bytes = Uuid::new_v4().into_bytes();
        if let Some(mark) = mark(&self.paths.sys) {
            bytes[8..].copy_from_slice(&mark);
        }
        Uuid::from_bytes(bytes)
    }
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn fault(code: &str, bay: &str, en: String, zh: String) -> Fault {
    Fault { code: code.into(), bay: Some(bay.into()), text: Text::new(en, zh) }
}

fn unreadable(bay: &str, error: &Error) -> Fault {
    fault(
        "disk_unreadable",
        bay,
        format!("the disk in bay {bay} cannot be read: {error}"),
        format!("无法读取插槽 {bay} 中的磁盘：{error}"),
    )
}

fn foreign(array: Array, bay: &str) -> Fault {
    let name = array.name();
    fault(
        "member_foreign",
        bay,
        format!("the disk in bay {bay} belongs to array {name} of another node; it is not used and not changed"),
        format!("插槽 {bay} 中的磁盘属于另一节点的阵列 {name}；未使用也未更改"),
    )
}

fn diverged(array: Array, bay: &str) -> Fault {
    let name = array.name();
    fault(
        "member_diverged",
        bay,
        format!(
            "the disk in bay {bay} was used without the other disk of array {name}, and the other without it: they differ. It is not used \
             and not changed; `disks replace {bay}` overwrites it"
        ),
        format!(
            "插槽 {bay} 中的磁盘与阵列 {name} 的另一磁盘曾各自单独使用，数据不同。未使用也未更改；`disks replace {bay}` 将覆盖它"
        ),
    )
}

fn failed(array: Array, why: &str) -> Fault {
    let name = array.name();
    let text = Text::new(format!("array {name} cannot be used: {why}"), format!("阵列 {name} 无法使用：{why}"));
    Fault { code: "array_failed".into(), bay: None, text }
}

fn not_taken(array: Array, bay: &str, error: &Error) -> Fault {
    let name = array.name();
    fault(
        "member_refused",
        bay,
        format!("the disk in bay {bay} could not be taken back into array {name}: {error}"),
        format!("插槽 {bay} 中的磁盘无法重新加入阵列 {name}：{error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::md_super::tests::example;
    use proptest::prelude::*;

    fn candidate(bay: u32, found: Super) -> Candidate {
        let name = format!("vd{bay}4");
        Candidate { bay: bay.to_string(), device: format!("/dev/{name}").into(), name, found, here: false, boot: false }
    }

    fn bays(list: &[Candidate]) -> Vec<&str> {
        list.iter().map(|candidate| candidate.bay.as_str()).collect()
    }

    #[test]
    fn the_newest_leads_and_a_stale_one_follows() {
        let choice = choose(vec![candidate(1, example(9, 1, 10, 0, 2)), candidate(2, example(9, 2, 30, 1, 1))], None, &[]);
        assert_eq!((bays(&choice.members), choice.diverged.len(), choice.foreign.len()), (vec!["2", "1"], 0, 0));
    }

    #[test]
    fn two_that_ran_alone_are_never_joined() {
        let choice = choose(vec![candidate(1, example(9, 1, 31, 0, 1)), candidate(2, example(9, 2, 30, 1, 1))], None, &[]);
        assert_eq!((bays(&choice.members), bays(&choice.diverged)), (vec!["1"], vec!["2"]));
    }

    #[test]
    fn a_copied_disk_is_no_second_member() {
        let twin = example(9, 1, 31, 0, 2);
        let choice = choose(vec![candidate(1, twin.clone()), candidate(2, twin)], None, &[]);
        assert_eq!((bays(&choice.members), bays(&choice.diverged)), (vec!["1"], vec!["2"]));
    }

    #[test]
    fn a_disk_of_another_node_stays_outside() {
        let (own, other) = (candidate(2, example(9, 1, 5, 0, 2)), candidate(1, example(8, 2, 500, 0, 2)));
        let all = || vec![other.clone(), own.clone()];
        let choice = choose(all(), Some(own.found.array), &[]);
        assert_eq!((bays(&choice.members), bays(&choice.foreign)), (vec!["2"], vec!["1"]));
        let choice = choose(all(), None, &["2".into()]);
        assert_eq!(bays(&choice.members), ["2"], "the mail that stands beside the chosen state");
        let choice = choose(vec![other.clone(), Candidate { boot: true, ..own.clone() }], None, &[]);
        assert_eq!(bays(&choice.members), ["2"], "the boot disk's");
        let (here, boot) = (Candidate { here: true, ..own.clone() }, Candidate { boot: true, ..other.clone() });
        assert_eq!(
            bays(&choose(vec![boot, here], None, &["1".into()]).members),
            ["2"],
            "made on this machine, before all others"
        );
        assert_eq!(bays(&choose(all(), None, &[]).members), ["1"], "else the first bay's");
        assert_eq!(choose(Vec::new(), None, &[]), Choice::default());
        assert!(choose(all(), Some(Uuid::from_u128(1)), &[]).members.is_empty(), "the array that runs is of neither");
    }

    #[test]
    fn arrays_know_their_machine() {
        let folder = tempfile::tempdir().unwrap();
        let id = folder.path().join("class/dmi/id");
        std::fs::create_dir_all(&id).unwrap();
        let mut machine = Machine::new(Vec::new());
        machine.paths.sys = folder.path().into();
        for (said, known) in
            [("", false), ("00000000-0000-0000-0000-000000000000", false), ("4c4c4544-0038-4a10-8053-b7c04f4c5931", true)]
        {
            std::fs::write(id.join("product_uuid"), said).unwrap();
            let (one, two) = (machine.new_array_id(), machine.new_array_id());
            assert_ne!(one, two);
            assert_eq!(marked(one, mark(folder.path())), known, "{said}");
            assert_eq!(marked(two, mark(folder.path())), known, "{said}");
        }
        let other = machine.new_array_id();
        std::fs::write(id.join("product_uuid"), "4c4c4544-0038-4a10-8053-b7c04f4c5932").unwrap();
        assert!(!marked(other, mark(folder.path())));
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_arrays_are_not_mixed(
            list in proptest::collection::vec((0u128..3, 0u128..4, 0u64..5, 0u16..2, 0u32..3, any::<bool>()), 0..6)
        ) {
            let all: Vec<_> = (1..).zip(list).map(|(bay, (array, device, events, role, filled, boot))| {
                Candidate { boot, ..candidate(bay, example(array, device, events, role, filled)) }
            }).collect();
            let choice = choose(all.clone(), None, &[]);
            prop_assert_eq!(choice.members.len() + choice.diverged.len() + choice.foreign.len(), all.len());
            prop_assert_eq!(choice.members.is_empty(), all.is_empty());
            for pair in choice.members.windows(2) {
                prop_assert_eq!(pair[0].found.array, pair[1].found.array);
                prop_assert!(pair[0].found.events >= pair[1].found.events);
            }
            if let Some(first) = choice.members.first() {
                prop_assert!(choice.members[1..].iter().all(|other| !(first.found.alone() && other.found.alone())));
                prop_assert!(choice.foreign.iter().all(|other| other.found.array != first.found.array));
            }
        }
    }
}
