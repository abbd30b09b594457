use super::*;
use crate::keys::{Keys, SigningKey};
use crate::release::Release;
use proptest::prelude::*;
use std::io::Read;
use std::path::PathBuf;
use std::sync::OnceLock;

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn facts() -> Facts {
    let release = Release {
        version: "1.2.3".into(),
        commit: "abc".into(),
        sequence: 1000,
        built: "now".into(),
        floor: 10,
        patience_s: Some(60),
    };
    Facts { release, from_sequence: 5, boards: vec!["qemu-pc".into()] }
}

/// Parts of odd lengths: a slot of two chunks and a bit, a boot entry of exactly one, one of a few bytes.
fn contents() -> [Vec<u8>; 3] {
    let fill = |n: usize, salt: usize| (0..n).map(|i| u8::try_from((i * 31 + i / 251 + salt) % 256).unwrap()).collect();
    [fill(2 * CHUNK_BYTES + 777, 1), fill(CHUNK_BYTES, 2), fill(13, 3)]
}

fn made(keys: &[&SigningKey]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let paths: [PathBuf; 3] = std::array::from_fn(|i| dir.path().join(PARTS[i]));
    for (path, content) in paths.iter().zip(contents()) {
        std::fs::write(path, content).unwrap();
    }
    let mut out = Vec::new();
    write(&mut out, facts(), paths.each_ref().map(PathBuf::as_path), keys, &|_| {}).unwrap();
    out
}

fn sample() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| made(&[&key(1), &key(2)]))
}

type Pieces = Vec<(String, u64, Vec<u8>)>;

/// What came out before the end or the error, and the end.
fn taken(source: impl Read, keys: &Keys) -> (Pieces, Result<(), Error>) {
    let mut pieces = Vec::new();
    let result = Reader::open(source, keys).and_then(|mut reader| {
        reader.chunks(|part, offset, bytes| {
            pieces.push((part.name.clone(), offset, bytes.to_vec()));
            Ok(())
        })
    });
    (pieces, result)
}

/// Every piece that was handed out is a true piece.
fn all_true(pieces: &[(String, u64, Vec<u8>)]) -> bool {
    let contents = contents();
    pieces.iter().all(|(name, offset, bytes)| {
        let part = PARTS.iter().position(|known| known == name).unwrap();
        let from = usize::try_from(*offset).unwrap();
        contents[part].get(from..from + bytes.len()) == Some(bytes)
    })
}

#[test]
fn what_was_written_is_read_and_the_same_twice() {
    let keys = Keys::of(&[&key(2)]);
    let (pieces, result) = taken(sample(), &keys);
    result.unwrap();
    assert_eq!(pieces.len(), 5);
    let whole = |name: &str| pieces.iter().filter(|(n, ..)| n == name).flat_map(|(.., b)| b.clone()).collect::<Vec<u8>>();
    assert_eq!([whole("slot"), whole("uki-a"), whole("uki-b")], contents());
    let reader = Reader::open(sample(), &keys).unwrap();
    assert_eq!(reader.signers(), [key(2).id()]);
    assert_eq!(reader.file_bytes(), sample().len() as u64);
    assert_eq!((reader.manifest().release.version.as_str(), reader.manifest().from_sequence), ("1.2.3", 5));
    assert_eq!(made(&[&key(1), &key(2)]), sample(), "reproducible");
}

#[test]
fn only_trusted_keys_count_and_one_is_enough() {
    for (trusted, good) in [(vec![1], true), (vec![2], true), (vec![3], false), (vec![], false), (vec![3, 1], true)] {
        let keys: Vec<SigningKey> = trusted.iter().map(|n| key(*n)).collect();
        let keys = Keys::of(&keys.iter().collect::<Vec<_>>());
        let result = Reader::open(sample(), &keys);
        assert_eq!(result.is_ok(), good, "{trusted:?}");
        if let Err(e) = result {
            assert!(matches!(e, Error::NotTrusted { .. }), "{e}");
        }
    }
}

#[test]
fn the_name_of_a_trusted_key_over_a_stranger_s_signature_is_not_enough() {
    let mut file = made(&[&key(9)]);
    file[20..28].copy_from_slice(&key(1).id().0);
    assert!(matches!(Reader::open(&file[..], &Keys::of(&[&key(1)])), Err(Error::NotTrusted { .. })));
}

#[test]
fn a_signature_for_another_purpose_is_none() {
    let (one, json) = (key(1), br#"{"product":"twinpost"}"#);
    let mut file = write::frame(json, &[&one]);
    file[28..92].copy_from_slice(&one.sign(json));
    assert!(matches!(Reader::open(&file[..], &Keys::of(&[&one])), Err(Error::NotTrusted { .. })));
}

/// Every byte of the head, the signatures and the manifest, one bit of each.
#[test]
fn no_byte_of_the_head_can_be_changed() {
    // A file with one signature: with two, either may be broken.
    let file = made(&[&key(1)]);
    let keys = Keys::of(&[&key(1)]);
    let head = usize::try_from(Reader::open(&file[..], &keys).unwrap().header_bytes()).unwrap();
    for at in 0..head {
        let mut bad = file[..head].to_vec();
        bad[at] ^= 1 << (at % 8);
        assert!(Reader::open(&bad[..], &keys).is_err(), "byte {at} of {head}");
    }
}

#[test]
fn signed_manifests_that_make_no_sense_are_refused() {
    let one = key(1);
    let good = Reader::open(sample(), &Keys::of(&[&one])).unwrap().manifest().clone();
    let bad = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        let file = write::frame(&serde_json::to_vec(&manifest).unwrap(), &[&one]);
        assert!(matches!(Reader::open(&file[..], &Keys::of(&[&one])), Err(Error::Manifest(_))), "{manifest:?}");
    };
    bad(&|m| m.product = "other".into());
    bad(&|m| m.release.sequence = 0);
    bad(&|m| m.release.version = String::new());
    bad(&|m| m.release.version = "1\u{1b}[2J".into());
    bad(&|m| m.parts.swap(0, 1));
    bad(&|m| drop(m.parts.pop()));
    bad(&|m| m.parts[0].bytes = 0);
    bad(&|m| m.parts[0].bytes = u64::MAX);
    bad(&|m| m.parts[0].bytes += CHUNK_BYTES as u64);
    bad(&|m| m.parts[1].bytes = UKI_MAX_BYTES + 1);
    bad(&|m| m.parts[2].chunks[0] = "00".into());
    bad(&|m| m.parts[2].chunks.push("0".repeat(64)));
    bad(&|m| m.boards = vec!["x".into(); 65]);
}

#[test]
fn huge_lengths_are_refused_before_anything_is_allocated() {
    let keys = Keys::of(&[&key(1)]);
    for (at, value) in [(12, u32::MAX), (12, 256 * 1024 + 1), (16, u32::MAX), (16, 9), (16, 0), (8, 2)] {
        let mut file = sample().to_vec();
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert!(matches!(Reader::open(&file[..], &keys), Err(Error::NoBundle(_))), "{value} at {at}");
    }
}

#[test]
fn something_behind_the_end_is_refused() {
    let keys = Keys::of(&[&key(1)]);
    let (_, result) = taken(sample().chain(&b"x"[..]), &keys);
    assert!(matches!(result, Err(Error::Damaged { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A flipped bit anywhere: refused, and what was handed out before is true. (The file has two signatures; we trust the first one only, so a bit of the second is the
    /// one place where nothing changes.)
    #[test]
    fn any_flipped_bit_is_refused(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let at = at.index(sample().len());
        let mut file = sample().to_vec();
        file[at] ^= 1 << bit;
        let (pieces, result) = taken(&file[..], &Keys::of(&[&key(1)]));
        let spare = 20 + 72..20 + 144;
        prop_assert!(result.is_err() || spare.contains(&at), "byte {}", at);
        prop_assert!(all_true(&pieces));
    }

    #[test]
    fn any_truncation_is_refused(at in any::<prop::sample::Index>()) {
        let at = at.index(sample().len());
        let (pieces, result) = taken(&sample()[..at], &Keys::of(&[&key(1)]));
        let truncated = matches!(result, Err(Error::Truncated { .. }));
        prop_assert!(truncated);
        prop_assert!(all_true(&pieces));
    }

    #[test]
    fn any_bytes_are_read(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz(&data);
        let mut begun = MAGIC.to_vec();
        begun.extend(&data);
        fuzz(&begun);
    }

    /// JSON that is nearly a manifest.
    #[test]
    fn nearly_a_manifest(at in any::<prop::sample::Index>(), with in "[\\x20-\\x7e]{0,3}", cut in 0..4usize) {
        let manifest = Reader::open(sample(), &Keys::of(&[&key(1)])).unwrap().manifest().clone();
        let mut text = serde_json::to_string(&manifest).unwrap();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        text.replace_range(at..end, &with);
        fuzz(text.as_bytes());
    }
}
