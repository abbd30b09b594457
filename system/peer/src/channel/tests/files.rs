//! Files over the channel: whole, resumed, changed, wrong.

use super::*;

fn content(bytes: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut out);
    out
}

fn parts(pair: &Pair) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(pair.path("in")).expect("there");
    entries.map(|e| e.expect("an entry").path()).filter(|p| p.extension().is_some_and(|e| e == "part")).collect()
}

#[tokio::test]
async fn a_file_arrives_whole_and_its_progress_is_told() {
    let pair = Pair::new();
    let [a, _b] = pair.both().await;
    for bytes in [0, 1, 256 << 10, (256 << 10) + 1, 3_000_000] {
        let sent = content(bytes, 1);
        write(&pair.nodes[1].folder.join("pack"), &sent);
        let (to, mut told) = (pair.path("in/pack"), Vec::new());
        let fetched = a.fetch("pack", &to, |p| told.push(p.done_bytes)).await.expect("fetched");
        assert_eq!((fetched.bytes, fetched.resumed_bytes), (bytes as u64, 0));
        assert!(std::fs::read(&to).expect("read") == sent, "{bytes} bytes");
        assert!(told.is_sorted() && told.last() == Some(&(bytes as u64)), "{told:?}");
        assert!(parts(&pair).is_empty());
    }
    let end = a.fetch("nothing", &pair.path("in/nothing"), |_| ()).await;
    assert!(matches!(&end, Err(Error::Refused(r)) if r.kind == RefusalKind::NotFound), "{end:?}");
    let end = a.fetch("../a/node.key", &pair.path("in/nothing"), |_| ()).await;
    assert!(matches!(&end, Err(Error::Refused(r)) if r.kind == RefusalKind::NotFound), "{end:?}");
}

#[tokio::test]
async fn a_fetch_goes_on_after_the_connection_and_after_a_restart() {
    let pair = Pair::new();
    let mut a = pair.start(0).await;
    let mut b = Some(pair.start(1).await);
    let sent = content(5_000_000, 2);
    write(&pair.nodes[1].folder.join("pack"), &sent);
    let to = pair.path("in/pack");
    // Node b is killed and starts again in the middle of it.
    let kill = Notify::new();
    let fetch = async {
        let mut once = true;
        a.fetch("pack", &to, |p| {
            if std::mem::take(&mut once) || p.done_bytes == 1 << 20 {
                kill.notify_one();
            }
        })
        .await
    };
    let restart = async {
        kill.notified().await;
        if let Some(b) = b.take() {
            b.close().await;
        }
        b = Some(pair.start(1).await);
    };
    let (fetched, ()) = tokio::join!(fetch, restart);
    assert_eq!(fetched.expect("fetched").bytes, 5_000_000);
    assert!(std::fs::read(&to).expect("read") == sent);

    // Node a stops in the middle: the future is dropped. Another a goes on.
    let again = content(5_000_000, 3);
    write(&pair.nodes[1].folder.join("pack"), &again);
    let far = Notify::new();
    tokio::select! {
        _ = a.fetch("pack", &to, |p| if p.done_bytes >= 1 << 20 { far.notify_one() }) => panic!("it was to be interrupted"),
        () = far.notified() => {}
    }
    a.close().await;
    assert_eq!(parts(&pair).len(), 1);
    a = pair.start(0).await;
    let fetched = a.fetch("pack", &to, |_| ()).await.expect("fetched");
    assert!(fetched.resumed_bytes >= 1 << 20, "{fetched:?}");
    assert!(std::fs::read(&to).expect("read") == again);
    assert!(parts(&pair).is_empty());
    drop(b);
}

#[tokio::test]
async fn another_content_than_announced_is_never_taken() {
    let pair = Pair::new();
    let [a, _b] = pair.both().await;
    let to = pair.path("in/pack");
    write(&pair.nodes[1].folder.join("pack"), &content(2_000_000, 4));
    // The source changes in the middle: told, and the next fetch takes the new one.
    let end = a
        .fetch("pack", &to, |p| {
            if p.done_bytes == 0 {
                write(&pair.nodes[1].folder.join("pack"), &content(2_000_000, 5));
            }
        })
        .await;
    assert!(matches!(&end, Err(Error::Refused(r)) if r.kind == RefusalKind::Changed), "{end:?}");
    assert!(!to.exists());
    // What was left on the disk is damaged (a power cut): noticed by the hash, thrown away, and the next fetch is right.
    let hash = blake3::hash(&content(2_000_000, 5)).to_hex().to_string();
    let part = pair.path(&format!("in/pack.{}.part", &hash[..16]));
    write(&part, &[0; 1000]);
    let end = a.fetch("pack", &to, |_| ()).await;
    assert!(matches!(end, Err(Error::Content { .. })), "{end:?}");
    assert!(!to.exists() && !part.exists());
    // Longer than announced: starts anew.
    write(&part, &[0; 2_000_001]);
    let fetched = a.fetch("pack", &to, |_| ()).await.expect("fetched");
    assert_eq!(fetched.resumed_bytes, 0);
    assert!(std::fs::read(&to).expect("read") == content(2_000_000, 5));
}
