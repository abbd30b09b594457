//! Orders about disks, carried out by the crate of disks with the bays as the board finds them now.

use crate::api::{self, Done, Refused, Text};
use crate::render::boot::Sys;
use serde_json::json;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use twinpost_disks::layout::size;
use twinpost_disks::{Array, Disk, Error, Holds, Machine, Order, Plan, Progress, Step};

/// Made zero at both ends of a new mail array: the mirror takes an array that is empty there for a new one.
const END_BYTES: usize = 1 << 20;

/// The bays as they are now.
pub fn machine() -> Machine {
    let sys = Sys::default();
    let (_, roles) = sys.look();
    sys.machine(&roles)
}

/// An error of the disks for people.
pub fn failed(error: &Error) -> Refused {
    match error {
        Error::Refused(plan) => refused(plan),
        Error::Changed(plan) => {
            let mut reasons =
                vec![Text::new("the disks changed since the preview: nothing was done", "预览之后磁盘发生了变化：未做任何操作")];
            reasons.extend(refused(plan).reasons);
            Refused { reasons }
        }
        other => {
            let text = |text: twinpost_disks::Text| Text::new(text.en, text.zh);
            Refused { reasons: other.texts().into_iter().map(text).collect() }
        }
    }
}

fn refused(plan: &Plan) -> Refused {
    Refused { reasons: plan.refusals.iter().map(|refusal| Text::new(&refusal.text.en, &refusal.text.zh)).collect() }
}

/// An order that changes disks: its preview, or all of it.
///
/// # Errors
/// All refusals; a disk or a program that failed.
pub async fn order(order: Order, go: bool, step: api::Progress<'_>) -> Result<Done, Refused> {
    let machine = machine();
    let plan = machine.plan(&order).await;
    if !plan.possible() {
        return Err(refused(&plan));
    }
    let value = json!({ "plan": plan, "done": go });
    if plan.steps.is_empty() {
        return Ok(Done { text: Text::new("Everything is there already.", "已全部就绪。"), value, confirm: None });
    }
    if !go {
        let erased: Vec<&str> = plan.disks.iter().filter(|row| row.erased).map(|row| row.disk.serial.as_str()).collect();
        let word = if erased.is_empty() { "yes".to_owned() } else { erased.join(" ") };
        return Ok(Done { text: preview(&plan), value, confirm: Some(word) });
    }
    machine.carry_out(&plan, &|progress| step(of(progress))).await.map_err(|error| failed(&error))?;
    if plan.steps.iter().any(|step| matches!(step, Step::Create { array: Array::Mail, .. })) {
        let blank = tokio::task::spawn_blocking(|| empty_ends(Path::new(Array::Mail.device()))).await;
        if let Ok(Err(error)) = blank {
            let device = Array::Mail.device();
            return Err(Refused::one(Text::new(
                format!("{device} was made and cannot be written: {error}"),
                format!("{device} 已创建但无法写入：{error}"),
            )));
        }
    }
    let arrays = machine.arrays();
    let written: Vec<&str> = plan.disks.iter().map(|row| row.bay.as_str()).collect();
    let text = match plan.order {
        Order::Install { .. } => super::installer::installed(&written),
        Order::Init(_) | Order::Replace { .. } => {
            Text::new("Done; `disks list` shows the disks as they are now.", "完成；可用 disks list 查看磁盘当前状态。")
        }
    };
    Ok(Done { text, value: json!({ "plan": plan, "done": true, "arrays": arrays }), confirm: None })
}

fn empty_ends(device: &Path) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(device)?;
    let bytes = file.seek(SeekFrom::End(0))?;
    let zeros = vec![0; END_BYTES];
    for at in [0, bytes.saturating_sub(END_BYTES as u64)] {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&zeros)?;
    }
    file.sync_all()
}

fn of(progress: Progress) -> api::Step {
    let Progress { what, step, steps, done, of } = progress;
    // One bar over all steps: each is a hundredth of a hundred.
    let within = (done * 100).checked_div(of).unwrap_or(0).min(100);
    let (step, steps) = (step.max(1) as u64, steps.max(1) as u64);
    api::Step { what: Text::new(what.en, what.zh), done: (step - 1) * 100 + within, of: steps * 100 }
}

fn preview(plan: &Plan) -> Text {
    let (mut en, mut zh) = (Vec::new(), Vec::new());
    for row in &plan.disks {
        let (disk, erased) = (&row.disk, row.erased);
        let what = format!("{} {}, {}", disk.model.trim(), size(disk.bytes), disk.serial);
        en.push(format!("bay {} ({what}): {}{}", row.bay, row.becomes.en, if erased { "; WHAT IT HOLDS IS ERASED" } else { "" }));
        zh.push(format!("槽位 {}（{what}）：{}{}", row.bay, row.becomes.zh, if erased { "；其中的数据将被擦除" } else { "" }));
        for (name, bytes) in &row.partitions {
            en.push(format!("  {name} {}", size(*bytes)));
            zh.push(format!("  {name} {}", size(*bytes)));
        }
    }
    for note in &plan.notes {
        en.push(format!("Mind: {}", note.en));
        zh.push(format!("注意：{}", note.zh));
    }
    Text::new(en.join("\n"), zh.join("\n"))
}

/// All bays, and the arrays.
///
/// # Errors
/// None now; a disk that cannot be read says so in the list.
pub async fn list() -> Result<Done, Refused> {
    let machine = machine();
    let bays = machine.list(true).await;
    let arrays = machine.arrays();
    let mut lines = Vec::new();
    for bay in &bays {
        let (en, zh) = match &bay.disk {
            None => ("empty".to_owned(), "空".to_owned()),
            Some(disk) => disk_words(disk),
        };
        lines.push((format!("bay {} ({}): {en}", bay.name, bay.label), format!("槽位 {}（{}）：{zh}", bay.name, bay.label)));
    }
    for status in &arrays {
        let name = status.array.name();
        let here = status.disks.saturating_sub(status.degraded);
        let (mut en, mut zh) = (
            format!("array {name}: {}, {here} of {} disks", status.state, status.disks),
            format!("阵列 {name}：{}，{here}/{} 块磁盘", status.state, status.disks),
        );
        if let Some(action) = &status.action {
            let percent = (action.done_bytes * 100).checked_div(action.of_bytes).unwrap_or(0);
            en.push_str(&format!(", {} {percent} %", action.what));
            zh.push_str(&format!("，{} {percent} %", action.what));
        }
        lines.push((en, zh));
    }
    let root = machine.root_legs();
    if !root.is_empty() {
        let bays: Vec<&str> = root.iter().filter(|leg| leg.good).filter_map(|leg| leg.bay.as_deref()).collect();
        let bays = bays.join(", ");
        lines.push((format!("the running system is read from: bay {bays}"), format!("运行中的系统读自：槽位 {bays}")));
    }
    if lines.is_empty() {
        lines.push(("the board says of no bay".to_owned(), "主板没有定义任何槽位".to_owned()));
    }
    let join = |which: fn(&(String, String)) -> &str| lines.iter().map(which).collect::<Vec<_>>().join("\n");
    let text = Text::new(join(|line| &line.0), join(|line| &line.1));
    Ok(Done { text, value: json!({ "bays": bays, "arrays": arrays, "root": root }), confirm: None })
}

fn disk_words(disk: &Disk) -> (String, String) {
    let size = size(disk.bytes);
    let what = format!("{} {size}, {}, {}", disk.model.trim(), disk.serial, disk.device.display());
    let (en, zh) = match &disk.holds {
        Holds::Blank => ("blank".to_owned(), "空白".to_owned()),
        Holds::Twinpost(_) if disk.in_use => ("of this node, in use".to_owned(), "属于本节点，使用中".to_owned()),
        Holds::Twinpost(_) => ("a Twinpost disk that is not in use".to_owned(), "未使用的 Twinpost 磁盘".to_owned()),
        Holds::Foreign { what } => (format!("holds {}", what.join("; ")), format!("含有 {}", what.join("；"))),
        Holds::Unreadable { why } => (format!("cannot be read: {why}"), format!("无法读取：{why}")),
    };
    (format!("{what}: {en}"), format!("{what}：{zh}"))
}

/// The lamp of a bay.
///
/// # Errors
/// No such bay, or no lamp.
pub fn locate(bay: &str, on: bool) -> Result<Done, Refused> {
    machine().locate(bay, on).map_err(|error| failed(&error))?;
    let text = if on {
        Text::new(format!("The lamp of bay {bay} is on."), format!("槽位 {bay} 的指示灯已点亮。"))
    } else {
        Text::new(format!("The lamp of bay {bay} is off."), format!("槽位 {bay} 的指示灯已熄灭。"))
    };
    Ok(Done { text, ..Done::default() })
}
