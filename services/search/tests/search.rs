//! What is found is what a scan of the folded text finds; what is lost is only what was not committed.

use proptest::prelude::*;
use std::path::Path;
use twinpost_message::{AccountId, BodyId, ModSeq, Needle, SearchText};
use twinpost_search::{Error, Field, Index, Query};

const ANNA: AccountId = AccountId(1);
const BOB: AccountId = AccountId(2);

fn text(subject: &str, body: &str) -> SearchText {
    SearchText {
        subject: subject.into(),
        headers: format!("Subject: {subject}\n"),
        body: body.into(),
        complete: true,
        ..SearchText::default()
    }
}

fn has(field: Field, needle: &str) -> Query {
    Query::Has(field, needle.to_owned())
}

fn sure(index: &Index, account: AccountId, query: &Query) -> Vec<i64> {
    index.search(account, query).unwrap().sure.iter().map(|body| body.0).collect()
}

#[test]
fn words_of_all_scripts_and_their_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.add(BodyId(1), &[ANNA], &text("关于学校的通知", "The School opens.\r\nROOM 12b")).unwrap();
    index.add(BodyId(2), &[ANNA, BOB], &text("Résumé", "明天开会，请准时参\r\n加。한국어 텍스트")).unwrap();
    index.add(BodyId(3), &[BOB], &text("other", "学校")).unwrap();
    assert!(sure(&index, ANNA, &has(Field::Text, "school")).is_empty(), "not committed");
    index.commit(ModSeq(7)).unwrap();
    assert_eq!(index.position(), ModSeq(7));
    for (field, needle, want) in [
        (Field::Body, "chool", vec![1]),
        (Field::Body, "s. room", vec![1]),
        (Field::Body, "opens.\nroom 12B", vec![1]),
        (Field::Subject, "学校", vec![1]),
        (Field::Subject, "校", vec![1]),
        (Field::Subject, "校的通", vec![1]),
        (Field::Body, "学校", vec![]),
        (Field::Text, "学校", vec![1]),
        (Field::Text, "开会", vec![2]),
        (Field::Body, "参加", vec![2]),
        (Field::Body, "한국", vec![2]),
        (Field::Subject, "RESUME", vec![2]),
        (Field::Headers, "subject: r", vec![2]),
        (Field::Text, "o", vec![1]),
        (Field::Text, "", vec![1, 2]),
        (Field::Body, "2b", vec![1]),
        (Field::Body, "b", vec![1]),
        (Field::From, "x", vec![]),
    ] {
        assert_eq!(sure(&index, ANNA, &has(field, needle)), want, "{field:?} {needle:?}");
    }
    assert_eq!(sure(&index, BOB, &has(Field::Text, "学校")), [3]);
    let both = Query::And(vec![has(Field::Body, "school"), has(Field::Subject, "通知")]);
    assert_eq!(sure(&index, ANNA, &both), [1]);
    let either = Query::Or(vec![has(Field::Body, "school"), has(Field::Subject, "sum")]);
    assert_eq!(sure(&index, ANNA, &either), [1, 2]);
    assert_eq!(sure(&index, ANNA, &Query::And(vec![])), [1, 2]);
    assert_eq!(sure(&index, ANNA, &Query::Or(vec![])), [0; 0]);
    let hits = index.search(BOB, &has(Field::Text, "nothing")).unwrap();
    assert_eq!((hits.sure.len(), hits.unsure.len(), hits.position), (0, 0, ModSeq(7)));
    assert_eq!(index.known(BOB).unwrap(), [BodyId(2), BodyId(3)]);
}

#[test]
fn added_again_removed_and_cut_texts() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.add(BodyId(1), &[ANNA], &text("a", "one")).unwrap();
    index.add(BodyId(2), &[ANNA], &text("a", "one")).unwrap();
    index.add(BodyId(3), &[ANNA], &SearchText { complete: false, ..text("a", "begins") }).unwrap();
    index.commit(ModSeq(1)).unwrap();
    index.add(BodyId(1), &[ANNA, BOB], &text("a", "one")).unwrap();
    index.remove(BodyId(2)).unwrap();
    index.commit(ModSeq(2)).unwrap();
    assert_eq!(sure(&index, ANNA, &has(Field::Body, "one")), [1]);
    assert_eq!(sure(&index, BOB, &has(Field::Body, "one")), [1]);
    let hits = index.search(ANNA, &has(Field::Body, "one")).unwrap();
    assert_eq!((hits.unsure, hits.position), (vec![BodyId(3)], ModSeq(2)));
    assert_eq!(index.known(ANNA).unwrap(), [BodyId(1), BodyId(3)]);
    let hits = index.search(ANNA, &has(Field::Body, "begin")).unwrap();
    assert_eq!((hits.sure, hits.unsure), (vec![BodyId(3)], vec![]));
    // A needle beyond the limit is narrowed by its beginning only.
    index.add(BodyId(4), &[ANNA], &text("a", &"long ".repeat(200))).unwrap();
    index.commit(ModSeq(3)).unwrap();
    let hits = index.search(ANNA, &has(Field::Body, &"long ".repeat(150))).unwrap();
    assert_eq!((hits.sure, hits.unsure), (vec![], vec![BodyId(3), BodyId(4)]));
}

#[test]
fn the_plan_names_what_is_new_to_somebody() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let log = [(BodyId(2), BOB), (BodyId(1), ANNA), (BodyId(2), ANNA), (BodyId(2), BOB)];
    let plan = index.plan(&log).unwrap();
    assert_eq!(plan, [(BodyId(1), vec![ANNA]), (BodyId(2), vec![ANNA, BOB])]);
    for (body, accounts) in &plan {
        index.add(*body, accounts, &text("a", "one")).unwrap();
    }
    index.commit(ModSeq(4)).unwrap();
    assert_eq!(index.plan(&log).unwrap(), []);
    assert_eq!(index.plan(&[(BodyId(1), BOB), (BodyId(2), BOB)]).unwrap(), [(BodyId(1), vec![ANNA, BOB])]);
    assert_eq!(index.bodies().unwrap(), [BodyId(1), BodyId(2)]);
}

#[test]
fn a_crash_loses_what_was_not_committed_and_the_position_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.add(BodyId(1), &[ANNA], &text("a", "first")).unwrap();
    index.commit(ModSeq(10)).unwrap();
    for n in 2..400 {
        index.add(BodyId(n), &[ANNA], &text("a", &format!("second {}", "word ".repeat(50)))).unwrap();
    }
    // The files as a kill would leave them: the writer has taken all, nothing was committed.
    copy(dir.path(), crashed.path());
    drop(index);
    for path in [crashed.path(), dir.path()] {
        let index = Index::open(path).unwrap();
        assert_eq!(index.position(), ModSeq(10));
        assert_eq!(sure(&index, ANNA, &has(Field::Body, "s")), [1]);
        index.add(BodyId(2), &[ANNA], &text("a", "second")).unwrap();
        index.commit(ModSeq(11)).unwrap();
        index.rest().unwrap();
        assert_eq!(sure(&index, ANNA, &has(Field::Body, "s")), [1, 2]);
    }
    assert_eq!(Index::open(dir.path()).unwrap().position(), ModSeq(11));
}

#[test]
fn a_damaged_index_is_wiped_and_can_be_fed_again() {
    for damage in ["flip", "cut", "meta"] {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path()).unwrap();
        for n in 1..50 {
            index.add(BodyId(n), &[ANNA], &text("a", &format!("number {n} of many"))).unwrap();
        }
        index.commit(ModSeq(5)).unwrap();
        index.rest().unwrap();
        drop(index);
        let file = if damage == "meta" { dir.path().join("meta.json") } else { largest(dir.path(), "pos") };
        let mut bytes = std::fs::read(&file).unwrap();
        match damage {
            "flip" => bytes[3] ^= 0x40,
            "cut" => bytes.truncate(bytes.len() / 2),
            _ => bytes.truncate(20),
        }
        std::fs::write(&file, bytes).unwrap();
        std::fs::write(dir.path().join("open"), b"").unwrap(); // the end was unclean
        let index = Index::open(dir.path()).unwrap();
        assert_eq!(index.position(), ModSeq(0), "{damage}");
        index.add(BodyId(1), &[ANNA], &text("a", "again")).unwrap();
        index.commit(ModSeq(6)).unwrap();
        assert_eq!(sure(&index, ANNA, &has(Field::Body, "gai")), [1], "{damage}");
    }
}

#[test]
fn wiping_and_verifying() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.add(BodyId(1), &[ANNA], &text("a", "text")).unwrap();
    index.commit(ModSeq(5)).unwrap();
    index.verify().unwrap();
    let file = largest(dir.path(), "pos");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[0] ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
    let found = Index::open(dir.path()).unwrap();
    assert_eq!(found.position(), ModSeq(0), "opened beside a first one that has not ended: checked, found, wiped");
    drop(found);
    index.wipe().unwrap();
    assert_eq!(index.position(), ModSeq(0));
    assert_eq!(index.known(ANNA).unwrap(), []);
    index.add(BodyId(1), &[ANNA], &text("a", "text")).unwrap();
    index.commit(ModSeq(5)).unwrap();
    assert_eq!(sure(&index, ANNA, &has(Field::Text, "tex")), [1]);
}

#[test]
fn an_answer_beside_a_writer_holds_all_that_its_position_promises() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let (done, seen) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=120 {
                let word = if n % 3 == 0 { "third 学校" } else { "other" };
                index.add(BodyId(n), &[ANNA], &text("a", word)).unwrap();
                if n % 6 == 0 {
                    index.commit(ModSeq(n.unsigned_abs())).unwrap();
                }
            }
            done.send(()).unwrap();
        });
        let mut last = ModSeq(0);
        let mut ended = false;
        while !ended {
            ended = seen.try_recv().is_ok();
            let hits = index.search(ANNA, &Query::And(vec![has(Field::Body, "hird"), has(Field::Body, "学校")])).unwrap();
            assert!(hits.position >= last);
            last = hits.position;
            let promised = (1..).map(|n| BodyId(3 * n)).take_while(|body| body.0.unsigned_abs() <= last.0);
            assert!(promised.into_iter().all(|body| hits.sure.contains(&body)), "{hits:?}");
            assert!(hits.sure.iter().all(|body| body.0 % 3 == 0), "{hits:?}");
        }
        assert_eq!(last, ModSeq(120));
    });
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Index::open(dir.path()).unwrap(), Index::open(dir.path()).unwrap());
    first.add(BodyId(1), &[ANNA], &text("a", "b")).unwrap();
    assert!(matches!(second.add(BodyId(1), &[ANNA], &text("a", "b")), Err(Error::Busy(_))));
    first.rest().unwrap();
    second.add(BodyId(1), &[ANNA], &text("a", "b")).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn largest(dir: &Path, extension: &str) -> std::path::PathBuf {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_index_finds_what_a_scan_finds(
        texts in prop::collection::vec("([ab]|[学校的]|[가나]|カ|é|ﬁ| |\\n|,|[A-C]|[\\u{1f600}-\\u{1f602}]|\\PC){0,30}", 1..12),
        needles in prop::collection::vec("([ab]|[学校的]|[가나]|カ|e|f| |,|[a-c]|[\\u{1f600}-\\u{1f602}]){0,6}", 12),
        pieces in prop::collection::vec((any::<prop::sample::Index>(), 0usize..30, 1usize..8), 24),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path()).unwrap();
        for (n, body) in (1..).zip(&texts) {
            index.add(BodyId(n), &[ANNA], &text("", body)).unwrap();
            if n % 5 == 0 {
                index.commit(ModSeq(n.unsigned_abs())).unwrap();
            }
        }
        index.commit(ModSeq(99)).unwrap();
        let pieces = pieces.iter().map(|(at, from, len)| at.get(&texts).chars().skip(*from).take(*len).collect::<String>());
        for needle in needles.into_iter().chain(pieces) {
            let scan = Needle::new(&needle);
            let want: Vec<i64> = (1..).zip(&texts).filter(|(_, body)| scan.matches(body)).map(|(n, _)| n).collect();
            prop_assert_eq!(sure(&index, ANNA, &has(Field::Body, &needle)), want, "{:?} in {:?}", needle, texts);
        }
    }
}
