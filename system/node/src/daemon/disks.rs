//! Orders about disks, carried out by the crate of disks with the bays as the board finds them now.

use crate::api::{Done, Refused, Text};
use crate::render::boot::Sys;
use serde_json::json;
use twinpost_disks::{Disk, Error, Holds, Machine};

/// The bays as they are now.
pub fn machine() -> Machine {
    let sys = Sys::default();
    let (_, roles) = sys.look();
    sys.machine(&roles)
}

/// An error of the disks for people.
pub fn failed(error: &Error) -> Refused {
    Refused::one(Text::same(error.to_string()))
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
    if lines.is_empty() {
        lines.push(("the board says of no bay".to_owned(), "主板没有定义任何槽位".to_owned()));
    }
    let join = |which: fn(&(String, String)) -> &str| lines.iter().map(which).collect::<Vec<_>>().join("\n");
    let text = Text::new(join(|line| &line.0), join(|line| &line.1));
    Ok(Done { text, value: json!({ "bays": bays, "arrays": arrays }), confirm: None })
}

fn disk_words(disk: &Disk) -> (String, String) {
    let size = twinpost_disks::layout::size(disk.bytes);
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
pub async fn locate(bay: &str, on: bool) -> Result<Done, Refused> {
    machine().locate(bay, on).map_err(|error| failed(&error))?;
    let text = if on {
        Text::new(format!("The lamp of bay {bay} is on."), format!("槽位 {bay} 的指示灯已点亮。"))
    } else {
        Text::new(format!("The lamp of bay {bay} is off."), format!("槽位 {bay} 的指示灯已熄灭。"))
    };
    Ok(Done { text, ..Done::default() })
}
