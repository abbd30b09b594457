//! Plans: what an order would do to which disk, and every reason why it cannot be done.
//!
//! Contract: making a plan writes nothing to any disk (arrays that are there but not yet put together are put together). The same disks and
//! the same order give the same plan. A disk that holds anything is refused until its serial number is named; what this node's own arrays stand
//! on is never erased.
//!
//! Failure classes: none; what is wrong is a refusal.

use crate::layout::{self, MIB, Place, size};
use crate::see::Seen;
use crate::{Array, ArrayStatus, Holds, Machine, MemberState, Options, Order, Plan, PlanDisk, Port, Refusal, Step, Text, Whose};

/// Finds out what stands in the way of erasing a disk; `Ok(true)`: what it holds is destroyed. `used`: that it is in use was dealt with.
fn erasable(seen: &Seen, erase: &[String], used: bool) -> Result<bool, Refusal> {
    let bay = &seen.port.bay;
    let serial = &seen.disk.serial;
    let refuse = |code: &str, en: String, zh: String| Err(refusal(code, bay, en, zh));
    let holds = match &seen.disk.holds {
        _ if seen.disk.in_use && !used => {
            return refuse(
                "in_use",
                format!("the disk in bay {bay} is in use by the running system"),
                format!("插槽 {bay} 中的磁盘正被运行中的系统使用"),
            );
        }
        Holds::Unreadable { why } => {
            return refuse(
                "unreadable",
                format!("the disk in bay {bay} cannot be read ({why}); use another one"),
                format!("无法读取插槽 {bay} 中的磁盘（{why}），请更换磁盘"),
            );
        }
        Holds::Blank => return Ok(false),
        Holds::Twinpost(found) if found.state_array.is_none() && found.mail_array.is_none() => return Ok(false),
        Holds::Twinpost(found) if found.whose == Whose::ThisNode => {
            ("older data of this node".to_owned(), "本节点的旧数据".to_owned())
        }
        Holds::Twinpost(_) => ("data of another Twinpost node".to_owned(), "另一 Twinpost 节点的数据".to_owned()),
        Holds::Foreign { what } => (what.join("; "), what.join("；")),
    };
    if !serial.is_empty() && erase.contains(serial) {
        return Ok(true);
    }
    if serial.is_empty() {
        return refuse(
            "no_serial",
            format!("the disk in bay {bay} holds {} and has no serial number by which its erasure could be confirmed", holds.0),
            format!("插槽 {bay} 中的磁盘有数据（{}），且没有可用于确认擦除的序列号", holds.1),
        );
    }
    refuse(
        "holds_data",
        format!("the disk in bay {bay} ({serial}) holds {}; name its serial number to erase it: --erase {serial}", holds.0),
        format!("插槽 {bay} 中的磁盘（{serial}）有数据：{}；要擦除请指定其序列号：--erase {serial}", holds.1),
    )
}

pub fn refusal(code: &str, bay: &str, en: String, zh: String) -> Refusal {
    Refusal { code: code.into(), bay: (!bay.is_empty()).then(|| bay.into()), text: Text::new(en, zh) }
}

fn no_disk(port: &Port) -> Refusal {
    let (bay, label) = (&port.bay, &port.label);
    refusal("no_disk", bay, format!("there is no disk in bay {bay} ({label})"), format!("插槽 {bay}（{label}）中没有磁盘"))
}

fn no_bay(bay: &str, ports: &[(Port, Option<Seen>)]) -> Refusal {
    let known = ports.iter().map(|(port, _)| port.bay.as_str()).collect::<Vec<_>>().join(", ");
    refusal("no_bay", bay, format!("there is no bay {bay}; the board has {known}"), format!("没有插槽 {bay}；本机插槽：{known}"))
}

/// The steps that make a disk a copy of the system disk.
fn prepare(bay: &str, from: Option<&str>, places: Vec<Place>, copies: &[&str], steps: &mut Vec<Step>) {
    steps.push(Step::Wipe { bay: bay.into() });
    steps.push(Step::Table { bay: bay.into(), places });
    for partition in copies {
        steps.push(Step::Copy { from: from.map(str::to_owned), to: bay.into(), partition: (*partition).into() });
    }
}

/// Slots first: a disk that can be started holds what it starts.
const COPIES: [&str; 3] = [layout::SLOT_A, layout::SLOT_B, layout::ESP];

fn same_sectors(source: &Seen, target: &Seen) -> Result<(), Refusal> {
    let (one, other) = (source.disk.sector_bytes, target.disk.sector_bytes);
    if one == other {
        return Ok(());
    }
    let (a, b) = (&source.port.bay, &target.port.bay);
    Err(refusal(
        "sector_size",
        b,
        format!("the disk in bay {b} has sectors of {other} bytes and the one in bay {a} of {one}: both must have the same"),
        format!("插槽 {b} 磁盘的扇区为 {other} 字节，插槽 {a} 的为 {one} 字节，两者必须相同"),
    ))
}

/// The running system reads a slot of the disk beside that of the source, and nothing else of it: both have the same system. What is in use
/// is equal already, because both slots were verified by the same hash.
fn twin(source: &Seen, target: &Seen) -> bool {
    let (Some(one), Some(other)) = (&source.system, &target.system) else { return false };
    let system = |found: &crate::probe::System| {
        let mut places = layout::places(&found.table.partitions);
        places.retain(|place| layout::SYSTEM.contains(&place.name.as_str()));
        places
    };
    let ours = |name: &str| layout::SYSTEM.contains(&name) || matches!(name, layout::STATE | layout::MAIL);
    let only_slots = |name: &str| matches!(name, layout::SLOT_A | layout::SLOT_B);
    target.disk.in_use
        && !target.block.held
        && target.block.parts.iter().all(|part| !part.held || only_slots(&part.label))
        && other.table.partitions.iter().all(|partition| ours(&partition.name))
        && system(one) == system(other)
}

/// Copies of the system partitions that are not in use.
fn copies(source: &Seen, target: &Seen, steps: &mut Vec<Step>) {
    let held = |name: &str| target.block.part(name).is_some_and(|part| part.held);
    steps.extend(COPIES.into_iter().filter(|name| !held(name)).map(|name| Step::Copy {
        from: Some(source.port.bay.clone()),
        to: target.port.bay.clone(),
        partition: name.into(),
    }));
}

/// The steps by which a disk becomes a system disk; whether something is destroyed by them.
fn join(source: &Seen, target: &Seen, erase: &[String], places: &[Place], plan: &mut Plan, steps: &mut Vec<Step>) -> bool {
    let (from, bay) = (&source.port.bay, &target.port.bay);
    check_fit(target, places, plan);
    plan.refusals.extend(same_sectors(source, target).err());
    let twin = twin(source, target);
    let erased = erasable(target, erase, twin).unwrap_or_else(|refusal| {
        plan.refusals.push(refusal);
        false
    });
    if twin {
        if erased {
            steps.push(Step::Forget { bay: bay.clone() });
        }
        steps.push(Step::Table { bay: bay.clone(), places: places.to_vec() });
        copies(source, target, steps);
    } else {
        prepare(bay, Some(from), places.to_vec(), &COPIES, steps);
    }
    erased
}

/// One row of the preview.
fn row(seen: &Seen, erased: bool, places: &[Place], becomes: Text) -> PlanDisk {
    let partitions = places.iter().map(|place| (place.name.clone(), place.bytes)).collect();
    PlanDisk { bay: seen.port.bay.clone(), disk: seen.disk.clone(), erased, partitions, becomes }
}

impl Machine {
    /// What an order would do.
    pub async fn plan(&self, order: &Order) -> Plan {
        let mut plan =
            Plan { order: order.clone(), disks: Vec::new(), steps: Vec::new(), refusals: Vec::new(), notes: Vec::new() };
        if !matches!(order, Order::Install { .. }) {
            // What belongs together is put together first, so that it is not taken for something else.
            self.assemble().await;
        }
        let arrays: Vec<_> = self.arrays().into_iter().filter(ArrayStatus::works).collect();
        let seen = self.see(&arrays).await;
        match order {
            Order::Init(options) => {
                plan_init(self.layout, options, &arrays, &seen, &mut plan);
                let target = plan.disks.get(1).map(|disk| disk.bay.clone());
                self.plan_root(target, &mut plan);
            }
            Order::Replace { bay, erase, wait } => {
                let diverged = self.diverged(bay).await;
                plan_replace(bay, erase, *wait, &arrays, &seen, &diverged, &mut plan);
                self.plan_root(Some(bay.clone()), &mut plan);
            }
            Order::Install { source, options } => self.plan_install(source, options, &seen, &mut plan),
        }
        if !plan.possible() {
            plan.steps.clear();
        }
        plan
    }

    /// The disk that a plan fills is read from at once, too: before rebuilds are waited for.
    fn plan_root(&self, bay: Option<String>, plan: &mut Plan) {
        let Some(bay) = bay.filter(|bay| plan.possible() && self.root_lacks(bay)) else { return };
        let at = plan.steps.iter().position(|step| matches!(step, Step::Rebuild { .. })).unwrap_or(plan.steps.len());
        plan.steps.insert(at, Step::Root { bay });
    }

    /// Makes the two disks system disks and the mail array: [`Order::Init`].
    pub async fn plan_init(&self, options: Options) -> Plan {
        self.plan(&Order::Init(options)).await
    }

    /// Takes the disk of a bay into the arrays: [`Order::Replace`].
    pub async fn plan_replace(&self, bay: &str, erase: Vec<String>, wait: bool) -> Plan {
        self.plan(&Order::Replace { bay: bay.into(), erase, wait }).await
    }
}

/// The disks of an init: which one has the system, and the other.
fn pick<'a>(options: &Options, seen: &'a [(Port, Option<Seen>)], plan: &mut Plan) -> Option<(&'a Seen, Option<&'a Seen>)> {
    for bay in &options.bays {
        if !seen.iter().any(|(port, _)| port.bay == *bay) {
            plan.refusals.push(no_bay(bay, seen));
        }
    }
    let wanted = |port: &Port| options.bays.is_empty() || options.bays.contains(&port.bay);
    let chosen: Vec<_> = seen.iter().filter(|(port, _)| wanted(port)).collect();
    let mut disks: Vec<&Seen> = chosen.iter().filter_map(|(_, seen)| seen.as_ref()).collect();
    // The system disk: with this node's state volume, else the one that is in use.
    let own = |seen: &Seen| seen.whose() == Some(Whose::ThisNode) && seen.member(Array::State) == Some(MemberState::InSync);
    let source = disks.iter().position(|seen| own(seen));
    let Some(source) = source.map(|at| disks.remove(at)) else {
        plan.refusals.push(refusal(
            "no_system_disk",
            "",
            "no chosen bay has the disk with this node's state volume; the node runs without one (see `disks list`)".into(),
            "所选插槽中没有带本节点状态卷的磁盘；节点当前没有状态卷（见 `disks list`）".into(),
        ));
        return None;
    };
    // A chosen or only second bay without a disk is said; further bays of a board with many may be empty.
    let two = chosen.len() <= 2;
    if disks.is_empty() && !options.single {
        for (port, _) in chosen.iter().filter(|(port, seen)| seen.is_none() && (two || options.bays.contains(&port.bay))) {
            plan.refusals.push(no_disk(port));
        }
        if plan.refusals.is_empty() {
            plan.refusals.push(refusal(
                "one_disk",
                "",
                "there is only one disk: put a second one in, or say --single to go without a second copy on this node".into(),
                "只有一块磁盘：请插入第二块，或使用 --single 在本节点仅保留一份数据".into(),
            ));
        }
        return None;
    }
    if disks.len() > 1 {
        let bays = disks.iter().map(|seen| seen.port.bay.as_str()).collect::<Vec<_>>().join(", ");
        plan.refusals.push(refusal(
            "choose_bays",
            "",
            format!("bays {bays} all have a disk: say which one joins that of bay {}", source.port.bay),
            format!("插槽 {bays} 都有磁盘：请指定与插槽 {} 组成阵列的插槽", source.port.bay),
        ));
        return None;
    }
    Some((source, disks.first().copied()))
}

fn plan_init(layout: layout::Layout, options: &Options, arrays: &[ArrayStatus], seen: &[(Port, Option<Seen>)], plan: &mut Plan) {
    let Some((source, target)) = pick(options, seen, plan) else { return };
    let Some(system) = &source.system else { return };
    let state_bytes = system.partition(layout::STATE).map_or(0, |partition| partition.bytes);
    let has_mail = system.partition(layout::MAIL).is_some();
    let mut places = layout::places(&system.table.partitions);
    if !has_mail {
        // As large as the smaller disk allows.
        let bytes = target.map_or(u64::MAX, |target| target.disk.bytes).min(source.disk.bytes);
        match layout.with(bytes, state_bytes, None) {
            Ok(whole) => {
                let used = places.iter().map(|place| place.start_bytes + place.bytes).max().unwrap_or(0);
                let mail = whole.into_iter().next_back().filter(|mail| mail.start_bytes >= used);
                places.extend(mail);
            }
            Err(error) => {
                let smaller = target.filter(|target| target.disk.bytes <= source.disk.bytes).unwrap_or(source);
                plan.refusals.push(too_small(smaller, error));
            }
        }
    }
    let bay = source.port.bay.clone();
    let members_now = |array: Array| arrays.iter().any(|status| status.array == array);
    plan.disks.push(row(source, false, &places, Text::new("keeps the system and the state volume", "保留系统与状态卷")));
    let mut steps = Vec::new();
    if !has_mail {
        steps.push(Step::Table { bay: bay.clone(), places: places.clone() });
    }
    if system.mail.is_some() && !members_now(Array::Mail) {
        plan.refusals.push(not_running(&bay));
    }
    let Some(target) = target else {
        if !members_now(Array::Mail) {
            steps.push(Step::Create { array: Array::Mail, bays: vec![bay] });
            plan.notes.push(Text::new(
                "there is one disk only: when it fails, this node's copy of the mail is gone and the other node's is the only one",
                "只有一块磁盘：一旦损坏，本节点的邮件副本即丢失，只剩另一节点的副本",
            ));
        }
        plan.steps = steps;
        return;
    };
    let other = target.port.bay.clone();
    let joined = target.whose() == Some(Whose::ThisNode) && target.member(Array::State).is_some_and(active);
    let mut erased = false;
    if joined {
        let missing = places.iter().any(|place| target.system.as_ref().and_then(|found| found.partition(&place.name)).is_none());
        if missing {
            check_fit(target, &places, plan);
            steps.push(Step::Table { bay: other.clone(), places: places.clone() });
        }
    } else {
        erased = join(source, target, &options.erase, &places, plan, &mut steps);
        steps.push(Step::Add { array: Array::State, bay: other.clone(), whole: true });
    }
    let target_has_mail = target.system.as_ref().is_some_and(|found| found.mail.is_some());
    if members_now(Array::Mail) {
        if !target.member(Array::Mail).is_some_and(active) {
            if joined && target_has_mail {
                // It was not taken back when the arrays were put together: it was used on its own.
                erased = erasable(target, &options.erase, true).unwrap_or_else(|refusal| {
                    plan.refusals.push(refusal);
                    false
                });
            }
            steps.push(Step::Add { array: Array::Mail, bay: other.clone(), whole: true });
        }
    } else if joined && target_has_mail {
        plan.refusals.push(not_running(&other));
    } else {
        steps.push(Step::Create { array: Array::Mail, bays: vec![bay, other] });
        let quick = source.block.writes_zeros && target.block.writes_zeros;
        plan.notes.push(if quick {
            Text::new(
                "both disks can write zeros by themselves: the mail array is made of zeros and needs no first synchronisation",
                "两块磁盘都支持快速写零：邮件阵列以全零创建，无需首次同步",
            )
        } else {
            Text::new(
                "the mail array is synchronised in the background; it can be used at once",
                "邮件阵列将在后台同步，可立即使用",
            )
        });
    }
    let becomes = if joined && steps.is_empty() {
        Text::new("stays what it is: the second system disk", "保持不变：第二块系统磁盘")
    } else {
        Text::new("becomes the second system disk", "成为第二块系统磁盘")
    };
    plan.disks.push(row(target, erased, &places, becomes));
    plan.steps = steps;
}

/// A mail array is there and does not run: making one would destroy it.
fn not_running(bay: &str) -> Refusal {
    refusal(
        "array_failed",
        bay,
        format!(
            "the disk in bay {bay} has a member of a mail array that does not run; nothing is made over it (see `disks list`)"
        ),
        format!("插槽 {bay} 的磁盘上有未运行的邮件阵列成员；不会覆盖它（见 `disks list`）"),
    )
}

/// The array uses it, or fills it.
fn active(state: MemberState) -> bool {
    matches!(state, MemberState::InSync | MemberState::Rebuilding | MemberState::Spare)
}

fn too_small(seen: &Seen, error: layout::TooSmall) -> Refusal {
    let (bay, text) = (&seen.port.bay, error.text());
    refusal("too_small", bay, format!("bay {bay}: {}", text.en), format!("插槽 {bay}：{}", text.zh))
}

fn check_fit(seen: &Seen, places: &[Place], plan: &mut Plan) {
    if let Err(error) = layout::fits(seen.disk.bytes, places) {
        plan.refusals.push(too_small(seen, error));
    }
}

fn plan_replace(
    bay: &str,
    erase: &[String],
    wait: bool,
    arrays: &[ArrayStatus],
    seen: &[(Port, Option<Seen>)],
    diverged: &[Array],
    plan: &mut Plan,
) {
    let Some((port, target)) = seen.iter().find(|(port, _)| port.bay == bay) else {
        plan.refusals.push(no_bay(bay, seen));
        return;
    };
    let Some(target) = target else {
        plan.refusals.push(no_disk(port));
        return;
    };
    let others = seen.iter().filter_map(|(_, other)| other.as_ref()).filter(|other| other.port.bay != bay);
    let source = others.into_iter().find(|other| !arrays.is_empty() && other.whole(arrays) && other.system.is_some());
    let Some((source, system)) = source.and_then(|source| Some((source, source.system.as_ref()?))) else {
        plan.refusals.push(refusal(
            "no_source",
            "",
            "no other bay has a whole disk of this node from which this one could be filled".into(),
            "其他插槽中没有本节点的完好磁盘，无法据此重建".into(),
        ));
        return;
    };
    let places = layout::places(&system.table.partitions);
    let joined: Vec<_> = arrays.iter().filter(|status| target.member(status.array).is_some_and(active)).collect();
    let mut steps: Vec<Step> = arrays.iter().map(|status| Step::Clean { array: status.array }).collect();
    let mut erased = false;
    let own = target.whose() == Some(Whose::ThisNode)
        && target.system.as_ref().is_some_and(|found| {
            layout::places(&found.table.partitions) == places && arrays.iter().all(|status| found.of(status.array).is_some())
        });
    let mut whole = false;
    let becomes;
    if joined.len() == arrays.len() {
        // A copy that is under way goes on; one that is done has nothing to wait for.
        becomes = Text::new("is a member of all arrays already", "已是所有阵列的成员");
        steps.clear();
    } else if !joined.is_empty() || (own && diverged.is_empty()) {
        becomes = Text::new("is taken back and filled from the other disk", "重新加入并从另一磁盘重建");
        if !diverged.is_empty() {
            // Its other members are in use; what it wrote on its own is lost.
            erased = erasable(target, erase, true).unwrap_or_else(|refusal| {
                plan.refusals.push(refusal);
                false
            });
        }
        copies(source, target, &mut steps);
    } else {
        becomes = Text::new("becomes a system disk and is filled from the other one", "成为系统磁盘并从另一磁盘重建");
        erased = join(source, target, erase, &places, plan, &mut steps);
        whole = true;
    }
    for status in arrays {
        if !joined.iter().any(|there| there.array == status.array) {
            let whole = whole || diverged.contains(&status.array);
            steps.push(Step::Add { array: status.array, bay: bay.into(), whole });
        }
    }
    if wait {
        let unfinished = |status: &&ArrayStatus| joined.len() != arrays.len() || status.degraded > 0 || status.action.is_some();
        steps.extend(arrays.iter().filter(unfinished).map(|status| Step::Rebuild { array: status.array }));
    }
    plan.disks.push(row(source, false, &places, Text::new("is copied from", "作为复制来源")));
    plan.disks.push(row(target, erased, &places, becomes));
    let bytes: u64 = arrays.iter().map(|status| status.bytes).sum();
    plan.notes.push(Text::new(
        format!("{} are copied; the service goes on meanwhile, somewhat slower", size(bytes)),
        format!("将复制 {}；期间服务照常，速度略降", size(bytes)),
    ));
    plan.steps = steps;
}

impl Machine {
    fn plan_install(&self, source: &std::path::Path, options: &Options, seen: &[(Port, Option<Seen>)], plan: &mut Plan) {
        if let Err(error) = crate::install::Medium::open(source) {
            let Text { en, zh } = error.texts().remove(0);
            plan.refusals.push(refusal("no_medium", "", en, zh));
        }
        for bay in &options.bays {
            match seen.iter().find(|(port, _)| port.bay == *bay) {
                None => plan.refusals.push(no_bay(bay, seen)),
                Some((port, None)) => plan.refusals.push(no_disk(port)),
                Some(_) => {}
            }
        }
        let wanted = |seen: &&Seen| {
            let medium = std::fs::canonicalize(source).is_ok_and(|source| source == seen.block.device);
            !medium && (options.bays.is_empty() || options.bays.contains(&seen.port.bay))
        };
        let targets: Vec<&Seen> = seen.iter().filter_map(|(_, seen)| seen.as_ref()).filter(wanted).collect();
        if targets.is_empty() && plan.refusals.is_empty() {
            plan.refusals.push(refusal("no_disk", "", "there is no disk to install to".into(), "没有可安装的磁盘".into()));
        }
        if targets.len() > 2 && options.bays.is_empty() {
            let bays = targets.iter().map(|target| target.port.bay.as_str()).collect::<Vec<_>>().join(", ");
            plan.refusals.push(refusal(
                "choose_bays",
                "",
                format!("bays {bays} all have a disk: name the two that the system is installed to"),
                format!("插槽 {bays} 都有磁盘：请指定要安装系统的两个插槽"),
            ));
        }
        let places = self.layout.system();
        for target in targets {
            let mut erased = false;
            match erasable(target, &options.erase, false) {
                Ok(destroyed) => erased = destroyed,
                Err(refusal) => plan.refusals.push(refusal),
            }
            if target.disk.bytes < self.layout.min_disk_bytes() {
                let error = layout::TooSmall { has_bytes: target.disk.bytes, needs_bytes: self.layout.min_disk_bytes() };
                plan.refusals.push(too_small(target, error));
            }
            if target.disk.sector_bytes != 512 {
                let bay = &target.port.bay;
                plan.refusals.push(refusal(
                    "sector_size",
                    bay,
                    format!(
                        "the disk in bay {bay} has sectors of {} bytes; the system on the medium is made for 512",
                        target.disk.sector_bytes
                    ),
                    format!("插槽 {bay} 磁盘的扇区为 {} 字节；介质上的系统适用于 512 字节", target.disk.sector_bytes),
                ));
            }
            prepare(&target.port.bay, None, places.clone(), &[layout::SLOT_A, layout::ESP], &mut plan.steps);
            let becomes = Text::new(
                "gets the system; its data partitions are made at the first start",
                "写入系统；数据分区在首次启动时创建",
            );
            plan.disks.push(row(target, erased, &places, becomes));
        }
    }
}

/// How much of a partition is made zero at each end when it is made.
pub const ENDS_BYTES: u64 = MIB;

#[cfg(test)]
mod tests;
