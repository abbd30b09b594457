//! What the other node is, compared with this one: another version of the program, another board.
//!
//! Contract: a difference that stays becomes one alarm, and one note when it is gone. An update goes through both nodes one after the other, so
//! for a while they differ: only what lasts is told, and versions only when no update of both is under way.

use crate::node;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use twinpost_pair::api::{Severity, Text};
use twinpost_pair::{Handle, PeerChannel};
use twinpost_peer::{About, Channel};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A difference that lasts so long is told.
const LASTING: Duration = Duration::from_secs(60);
/// An update of both takes so long at most; what it left lying longer ago means nothing.
const UPDATE_MOST: Duration = Duration::from_secs(4 * 3600);

/// An update of both nodes is under way: its bundle lies on both until it is over.
fn updating() -> bool {
    let begun = std::fs::metadata(super::forward::BUNDLE_FILE).and_then(|facts| facts.modified());
    begun.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < UPDATE_MOST))
}

/// One thing in which the nodes may differ.
struct Difference {
    code: &'static str,
    since: Option<Instant>,
    told: bool,
    of: fn(&About, &About) -> bool,
    words: fn(&About, &About) -> Text,
    over: fn() -> Text,
}

impl Difference {
    /// What is to be told now, if anything.
    fn look(&mut self, mine: &About, theirs: &About, expected: bool, now: Instant) -> Option<(Severity, Text)> {
        if !(self.of)(mine, theirs) {
            self.since = None;
            return std::mem::replace(&mut self.told, false).then(|| (Severity::Info, (self.over)()));
        }
        if expected {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if self.told || now.duration_since(since) < LASTING {
            return None;
        }
        self.told = true;
        Some((Severity::Warning, (self.words)(mine, theirs)))
    }
}

fn differences() -> [Difference; 2] {
    [
        Difference {
            code: "peer_other_version",
            since: None,
            told: false,
            of: |mine, theirs| !theirs.program.is_empty() && mine.program != theirs.program,
            words: |mine, theirs| {
                let (ours, others, name) = (&mine.program, &theirs.program, &theirs.name);
                Text::new(
                    format!("Node {name} runs version {others}, this node {ours}: bring both to the same version."),
                    format!("节点 {name} 的版本为 {others}，本节点为 {ours}：请将两个节点升级到同一版本。"),
                )
            },
            over: || Text::new("Both nodes run the same version.", "两个节点的版本一致。"),
        },
        Difference {
            code: "peer_other_board",
            since: None,
            told: false,
            of: |mine, theirs| !mine.board.is_empty() && !theirs.board.is_empty() && mine.board != theirs.board,
            words: |mine, theirs| {
                let (ours, others, name) = (&mine.board, &theirs.board, &theirs.name);
                Text::new(
                    format!("Node {name} is a {others}, this node a {ours}: the nodes of a pair should be of one model."),
                    format!("节点 {name} 的机型为 {others}，本节点为 {ours}：双机应为同一机型。"),
                )
            },
            over: || Text::new("Both nodes are of one model.", "两个节点机型一致。"),
        },
    ]
}

/// Compares until `stop`.
pub async fn compare(channel: Arc<Channel>, handle: Handle, stop: CancellationToken) {
    let mine = About { name: String::new(), board: node::board(), program: node::version() };
    let mut differences = differences();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // A peer that is not heard says nothing: what was known of it stays.
        let Some(theirs) = PeerChannel::about(&*channel) else { continue };
        let updating = updating();
        for difference in &mut differences {
            let expected = updating && difference.code == "peer_other_version";
            if let Some((severity, text)) = difference.look(&mine, &theirs, expected, Instant::now()) {
                handle.alarm(severity, difference.code, text).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_once_when_it_lasts_and_once_when_it_is_gone() {
        let about =
            |program: &str, board: &str| About { name: "b".to_owned(), board: board.to_owned(), program: program.to_owned() };
        let [mut version, mut board] = differences();
        let begun = Instant::now();
        let mine = about("2", "qemu-pc");
        let other = about("3", "qemu-pc");
        assert!(version.look(&mine, &other, false, begun).is_none());
        assert!(version.look(&mine, &other, false, begun + LASTING / 2).is_none(), "an update goes through both");
        let told = version.look(&mine, &other, false, begun + LASTING).unwrap();
        assert_eq!(told.0, Severity::Warning);
        assert!(told.1.en.contains("version 3") && told.1.zh.contains('3'), "{told:?}");
        assert!(version.look(&mine, &other, false, begun + LASTING * 2).is_none(), "once");
        assert_eq!(version.look(&mine, &mine, false, begun + LASTING * 3).unwrap().0, Severity::Info);
        assert!(version.look(&mine, &mine, false, begun + LASTING * 4).is_none());
        assert!(version.look(&mine, &other, false, begun + LASTING * 5).is_none());
        assert!(version.look(&mine, &other, true, begun + LASTING * 7).is_none(), "an update of both is under way");
        assert!(version.look(&mine, &other, false, begun + LASTING * 8).is_none(), "its time begins when that is over");
        assert!(version.look(&mine, &other, false, begun + LASTING * 9).is_some());
        assert!(board.look(&mine, &about("2", ""), false, begun + LASTING).is_none(), "not of the image: no board to compare");
        assert!(board.look(&mine, &about("2", "x"), false, begun).is_none());
        assert!(board.look(&mine, &about("2", "x"), false, begun + LASTING).is_some());
    }
}
