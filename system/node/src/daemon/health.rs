//! Is this node well? The verdict is shown, and what is wrong with the machine goes to people by the pair's way.
//!
//! Contract: each fault of the boot, each trouble of an array and each volume without room becomes one alarm; what could not be told yet (no
//! pair daemon takes it) waits. A trouble that is over becomes one note. What was told is remembered in /run: a daemon that starts again does not say it twice.

use super::room::{Room, Volume};
use super::{Machine, disks, facts, link, report};
use crate::api::Text;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use twinpost_disks::RootLeg;
use twinpost_update::health::{Baseline, Verdict, judge};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Key and code of the packet filter's trouble.
const FIREWALL: &str = "firewall";
/// Key and code of a root that is read from one disk of two.
const ROOT: &str = "root_one_disk";
/// What people were told since the machine started.
const TOLD: &str = "/run/twinpost/told.json";

/// Looks at the node until `stop`.
pub async fn watch(machine: Arc<Machine>, stop: CancellationToken) {
    let mut told = read(Path::new(TOLD));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let bays = disks::machine();
        let now = facts::gather(&machine.settings, &bays).await;
        let verdict = judge(&now, &Baseline::default());
        if *machine.verdict.borrow() != verdict {
            match &verdict {
                Verdict::Healthy => tracing::info!("this node is well"),
                Verdict::NotYet(reasons) | Verdict::Ill(reasons) => {
                    let reasons: Vec<&str> = reasons.iter().map(|reason| reason.en.as_str()).collect();
                    tracing::info!(?reasons, "this node is not well (yet)");
                }
            }
            machine.verdict.send_replace(verdict);
        }
        let before = told.clone();
        let boot = report::read(&machine.settings.boot_report);
        let rooms = Room::look(&machine.settings.node);
        let mut found = troubles(&boot, &bays.arrays());
        found.extend(machine.settings.firewall.fault().map(|text| unguarded(&text)));
        found.extend(one_legged(&bays.root_legs(), &bays.arrays()));
        found.extend(rooms.iter().filter_map(cramped));
        tell(&machine.settings.pair_socket(), &found, &rooms, &mut told).await;
        if told != before {
            // Not written: at worst something is said twice.
            let _ = std::fs::write(TOLD, serde_json::to_vec(&json!(told)).unwrap_or_default());
        }
    }
}

fn read(path: &Path) -> BTreeSet<String> {
    std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Something that people hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trouble {
    /// Names it as long as it lasts.
    key: String,
    code: String,
    severity: &'static str,
    text: Text,
}

/// The system itself is read from one disk although both are there. When one is missing, the arrays say so.
fn one_legged(legs: &[RootLeg], arrays: &[twinpost_disks::ArrayStatus]) -> Option<Trouble> {
    let state = arrays.iter().find(|status| status.array == twinpost_disks::Array::State)?;
    let members: Vec<&str> = state.members.iter().filter_map(|member| member.bay.as_deref()).collect();
    let good = |bay: &str| legs.iter().any(|leg| leg.good && leg.bay.as_deref() == Some(bay));
    let bay = members.into_iter().find(|bay| state.degraded == 0 && !legs.is_empty() && !good(bay))?;
    Some(Trouble {
        key: ROOT.to_owned(),
        code: ROOT.to_owned(),
        severity: "warning",
        text: Text::new(
            format!(
                "The running system of this node is not read from the disk in bay {bay}: `disks replace {bay}` lets it, and so does a restart."
            ),
            format!("本节点运行中的系统未使用槽位 {bay} 的磁盘：执行 disks replace {bay}，或重新启动。"),
        ),
    })
}

fn unguarded(text: &Text) -> Trouble {
    Trouble {
        key: FIREWALL.to_owned(),
        code: FIREWALL.to_owned(),
        severity: "serious",
        text: Text::new(format!("On this node {}.", text.en), format!("本节点：{}。", text.zh)),
    }
}

fn troubles(boot: &serde_json::Value, arrays: &[twinpost_disks::ArrayStatus]) -> Vec<Trouble> {
    let mut found: Vec<Trouble> = report::faults(boot)
        .into_iter()
        // The arrays are looked at as they are now.
        .filter(|(code, _)| code != "array_degraded")
        .map(|(code, Text { en, zh })| Trouble {
            key: format!("boot:{code}:{en}"),
            severity: if matches!(code.as_str(), "state_volatile" | "array_failed" | FIREWALL) { "serious" } else { "warning" },
            code,
            text: Text::new(format!("At its start this node found: {en}"), format!("本节点启动时发现：{zh}")),
        })
        .collect();
    for status in arrays {
        let name = status.array.name();
        if !status.works() {
            found.push(Trouble {
                key: format!("array_failed:{name}"),
                code: "array_failed".to_owned(),
                severity: "serious",
                text: Text::new(
                    format!("The array {name} of this node does not work ({}): look at its disks (`disks list`).", status.state),
                    format!("本节点的阵列 {name} 无法工作（{}）：请检查磁盘（disks list）。", status.state),
                ),
            });
        } else if status.degraded > 0 {
            let rebuilding = status.action.as_ref().is_some_and(|action| action.what == "recover");
            found.push(Trouble {
                key: format!("array_degraded:{name}"),
                code: "array_degraded".to_owned(),
                severity: "warning",
                text: if rebuilding {
                    Text::new(
                        format!("The array {name} of this node is being rebuilt; until then its data is on one disk."),
                        format!("本节点的阵列 {name} 正在重建；完成之前数据只在一块磁盘上。"),
                    )
                } else {
                    Text::new(
                        format!(
                            "The array {name} of this node has lost a disk: put a new one in and give the order `disks replace`."
                        ),
                        format!("本节点的阵列 {name} 缺少一块磁盘：请更换磁盘并执行 disks replace。"),
                    )
                },
            });
        }
    }
    found
}

/// A volume without room.
fn cramped(room: &Room) -> Option<Trouble> {
    let (code, text) = room.fault()?;
    Some(Trouble { key: format!("room:{code}"), severity: if room.full() { "serious" } else { "warning" }, code, text })
}

/// Says what is new, and what is over.
async fn tell(socket: &Path, troubles: &[Trouble], rooms: &[Room], told: &mut BTreeSet<String>) {
    for trouble in troubles {
        if !told.contains(&trouble.key) {
            if !link::alarm(socket, trouble.severity, &trouble.code, &trouble.text).await {
                return;
            }
            told.insert(trouble.key.clone());
        }
    }
    let over = [
        (FIREWALL, "firewall_loaded", "The packet filter of this node is as it should be again.", "本节点的包过滤已恢复正常。"),
        (
            ROOT,
            "root_both_disks",
            "The running system of this node is read from both disks again.",
            "本节点运行中的系统已重新使用两块磁盘。",
        ),
    ];
    for (key, code, en, zh) in over {
        if told.contains(key)
            && !troubles.iter().any(|trouble| trouble.key == key)
            && link::alarm(socket, "info", code, &Text::new(en, zh)).await
        {
            told.remove(key);
        }
    }
    // A mail volume that went to the other node tells of itself there.
    for room in rooms.iter().filter(|room| room.again()) {
        let keys = ["full", "filling"].map(|how| format!("room:{}_{how}", room.volume.name()));
        if keys.iter().any(|key| told.contains(key)) {
            let text = match room.volume {
                Volume::Mail => Text::new("The mail volume has room again.", "邮件卷已有空间。"),
                Volume::State => Text::new("The state volume of this node has room again.", "本节点的状态卷已有空间。"),
            };
            if link::alarm(socket, "info", "room_again", &text).await {
                told.retain(|key| !keys.contains(key));
            }
        }
    }
    for array in twinpost_disks::Array::ALL {
        let name = array.name();
        let keys = [format!("array_degraded:{name}"), format!("array_failed:{name}")];
        let still = troubles.iter().any(|trouble| keys.contains(&trouble.key));
        if !still && keys.iter().any(|key| told.contains(key)) {
            let text =
                Text::new(format!("The array {name} of this node is whole again."), format!("本节点的阵列 {name} 已恢复完整。"));
            if link::alarm(socket, "info", "array_whole", &text).await {
                told.retain(|key| !keys.contains(key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_disks::{Action, Array, ArrayStatus};

    fn status(degraded: u32, what: Option<&str>) -> ArrayStatus {
        let action = what.map(|what| Action { what: what.to_owned(), done_bytes: 1, of_bytes: 2, bytes_s: 1 });
        ArrayStatus {
            array: Array::Mail,
            device: "/dev/md127".into(),
            bytes: 1 << 30,
            disks: 2,
            degraded,
            state: "clean".to_owned(),
            members: Vec::new(),
            action,
            mismatch_sectors: 0,
        }
    }

    #[test]
    fn a_lost_disk_is_one_trouble_from_its_loss_to_the_end_of_the_rebuild() {
        let none = serde_json::Value::Null;
        assert_eq!(troubles(&none, &[status(0, None)]), []);
        let lost = troubles(&none, &[status(1, None)]);
        let rebuilt = troubles(&none, &[status(1, Some("recover"))]);
        assert_eq!((lost.len(), &lost[0].key), (1, &rebuilt[0].key));
        assert!(lost[0].text.en.contains("disks replace") && rebuilt[0].text.en.contains("rebuilt"));
        let dead = ArrayStatus { state: "broken".to_owned(), ..status(2, None) };
        assert_eq!(troubles(&none, &[dead])[0].severity, "serious");
    }

    #[test]
    fn a_root_on_one_disk_of_two_is_told() {
        let leg = |bay: &str, good| RootLeg { device: String::new(), bay: Some(bay.to_owned()), good };
        let member = |bay: &str| twinpost_disks::Member {
            array: Array::State,
            device: String::new(),
            bay: Some(bay.to_owned()),
            state: twinpost_disks::MemberState::InSync,
        };
        let whole = ArrayStatus { array: Array::State, members: vec![member("1"), member("2")], ..status(0, None) };
        let told =
            |legs: &[RootLeg], array: &ArrayStatus| one_legged(legs, std::slice::from_ref(array)).map(|trouble| trouble.text.en);
        assert_eq!(told(&[leg("1", true), leg("2", true)], &whole), None);
        assert!(told(&[leg("1", true)], &whole).unwrap().contains("disks replace 2"));
        assert!(told(&[leg("1", false), leg("2", true)], &whole).unwrap().contains("disks replace 1"));
        assert_eq!(told(&[], &whole), None, "no root of ours");
        let degraded = ArrayStatus { degraded: 1, ..whole.clone() };
        assert_eq!(told(&[leg("1", true)], &degraded), None, "the arrays tell it");
    }

    #[tokio::test]
    async fn what_nobody_took_is_said_later() {
        let mut told = BTreeSet::new();
        let found = troubles(&serde_json::json!({"faults": [{"code": "state_volatile", "text": {"en": "x", "zh": "y"}}]}), &[]);
        assert_eq!(found[0].severity, "serious");
        tell(Path::new("/nowhere/pair.sock"), &found, &[], &mut told).await;
        assert!(told.is_empty(), "no pair daemon took it");
    }

    /// A pair daemon that takes every alarm and remembers its code.
    fn heard_at(socket: &Path) -> Arc<parking_lot::Mutex<Vec<String>>> {
        use std::io::{BufRead as _, Write as _};
        let heard: Arc<parking_lot::Mutex<Vec<String>>> = Arc::default();
        let (codes, listener) = (heard.clone(), std::os::unix::net::UnixListener::bind(socket).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut line = String::new();
                std::io::BufReader::new(&stream).read_line(&mut line).unwrap();
                let said: serde_json::Value = serde_json::from_str(&line).unwrap();
                codes.lock().push(said["code"].as_str().unwrap().to_owned());
                writeln!(&stream, "{}", json!({ "answer": "done" })).unwrap();
            }
        });
        heard
    }

    #[tokio::test]
    async fn a_volume_that_fills_up_is_told_twice_and_its_room_once() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("pair.sock");
        let heard = heard_at(&socket);
        let mut told = BTreeSet::new();
        for free_mib in [200, 20, 19, 2, 3, 20, 100, 200] {
            let room = Room { volume: Volume::State, free_bytes: free_mib << 20, total_bytes: 256 << 20 };
            let found: Vec<Trouble> = cramped(&room).into_iter().collect();
            tell(&socket, &found, &[room], &mut told).await;
        }
        assert!(told.is_empty(), "{told:?}");
        let codes: Vec<String> = std::mem::take(&mut *heard.lock());
        assert_eq!(codes, ["state_filling", "state_full", "room_again"]);
    }
}
