//! The board for people: which port is which, why this board was chosen, what is missing.

use crate::api::{Done, Text};
use crate::render::boot::Sys;
use serde_json::json;

/// Board and roles as they are now.
pub fn show(explain: bool) -> Done {
    let sys = Sys::default();
    let (detected, roles) = sys.look();
    let mut lines = vec![(
        format!("{} ({})", detected.board.title, detected.board.full_name()),
        format!("{}（{}）", detected.board.title, detected.board.full_name()),
    )];
    if detected.unknown {
        lines.push((
            "this machine is not known: only what can do no harm is used".to_owned(),
            "未知机型：只使用不会造成损害的部件".to_owned(),
        ));
    }
    for missing in &roles.missing {
        lines.push((format!("missing: {}", missing.en), format!("缺少：{}", missing.zh)));
    }
    let value = json!({
        "board": detected.board.full_name(),
        "title": detected.board.title,
        "unknown": detected.unknown,
        "changed": detected.changed,
        "dmi": detected.dmi,
        "roles": roles,
        "faults": detected.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    if explain {
        let all = twinpost_board::explain(&detected, &roles, &sys.boards, &sys.sys);
        return Done { text: Text::same(all), value, confirm: None };
    }
    let join = |which: fn(&(String, String)) -> &str| lines.iter().map(which).collect::<Vec<_>>().join("\n");
    Done { text: Text::new(join(|line| &line.0), join(|line| &line.1)), value, confirm: None }
}
