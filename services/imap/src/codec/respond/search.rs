//! SEARCH, ESEARCH, SORT, THREAD, VANISHED responses and the UIDPLUS response codes.

use super::{number, string};
use crate::algorithm::ranges::Ranges;
use crate::algorithm::thread::Forest;
use crate::codec::ast::PartialRange;
use twinpost_message::{ModSeq, Uid, UidValidity};

/// `* SEARCH 2 84 882 (MODSEQ 917162500)` (RFC 3501 7.2.5, RFC 7162 3.1.5).
pub fn search(numbers: &Ranges, modseq: Option<ModSeq>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* SEARCH");
    for n in numbers.iter() {
        out.push(b' ');
        number(out, u64::from(n));
    }
    if let Some(modseq) = modseq.filter(|_| !numbers.is_empty()) {
        out.extend_from_slice(b" (MODSEQ ");
        number(out, modseq.0);
        out.push(b')');
    }
    out.extend_from_slice(b"\r\n");
}

/// `* SORT 2 84 882` (RFC 5256 4), in the order given.
pub fn sort(numbers: &[u32], modseq: Option<ModSeq>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* SORT");
    for n in numbers {
        out.push(b' ');
        number(out, u64::from(*n));
    }
    if let Some(modseq) = modseq.filter(|_| !numbers.is_empty()) {
        out.extend_from_slice(b" (MODSEQ ");
        number(out, modseq.0);
        out.push(b')');
    }
    out.extend_from_slice(b"\r\n");
}

/// What an ESEARCH response says (RFC 9051 7.3.4, RFC 4731); none is not said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Esearch<'a> {
    /// Tag of the command.
    pub tag: &'a str,
    /// The numbers are UIDs.
    pub uid: bool,
    /// `MIN`
    pub min: Option<u32>,
    /// `MAX`
    pub max: Option<u32>,
    /// `ALL` in rising order; an empty set is not said (RFC 9051 6.4.4).
    pub all: Option<&'a Ranges>,
    /// `ALL` in the order of a SORT (RFC 5267 2).
    pub sorted: Option<&'a [u32]>,
    /// `COUNT`
    pub count: Option<u64>,
    /// `PARTIAL` (RFC 9394 3.1): the range asked for and its result, in order.
    pub partial: Option<(PartialRange, &'a [u32])>,
    /// Highest MODSEQ of the result (RFC 7162 3.1.5).
    pub modseq: Option<ModSeq>,
}

/// `* ESEARCH (TAG "A282") UID MIN 2 COUNT 3`.
pub fn esearch(e: &Esearch<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ESEARCH (TAG ");
    string(e.tag.as_bytes(), false, out);
    out.push(b')');
    if e.uid {
        out.extend_from_slice(b" UID");
    }
    for (name, value) in [
        (&b" MIN "[..], e.min.map(u64::from)),
        (b" MAX ", e.max.map(u64::from)),
        (b" COUNT ", e.count),
        (b" MODSEQ ", e.modseq.map(|m| m.0)),
    ] {
        if let Some(value) = value {
            out.extend_from_slice(name);
            number(out, value);
        }
    }
    if let Some(all) = e.all.filter(|a| !a.is_empty()) {
        out.extend_from_slice(b" ALL ");
        all.write(out);
    }
    if let Some(all) = e.sorted.filter(|a| !a.is_empty()) {
        out.extend_from_slice(b" ALL ");
        in_order(all.iter().copied(), out);
    }
    if let Some((range, numbers)) = e.partial {
        out.extend_from_slice(b" PARTIAL (");
        let sign: &[u8] = if range.from_end { b"-" } else { b"" };
        out.extend_from_slice(sign);
        number(out, u64::from(range.first));
        out.push(b':');
        out.extend_from_slice(sign);
        number(out, u64::from(range.last));
        out.push(b' ');
        if numbers.is_empty() {
            out.extend_from_slice(b"NIL");
        } else {
            in_order(numbers.iter().copied(), out);
        }
        out.push(b')');
    }
    out.extend_from_slice(b"\r\n");
}

/// Numbers as a set that keeps their order: only rising runs become ranges.
fn in_order(numbers: impl Iterator<Item = u32>, out: &mut Vec<u8>) {
    let mut run: Option<(u32, u32)> = None;
    let mut first = true;
    let mut put = |run: (u32, u32), out: &mut Vec<u8>| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        number(out, u64::from(run.0));
        if run.1 > run.0 {
            out.push(b':');
            number(out, u64::from(run.1));
        }
    };
    for n in numbers {
        run = Some(match run {
            Some((a, b)) if b.checked_add(1) == Some(n) => (a, n),
            Some(done) => {
                put(done, out);
                (n, n)
            }
            None => (n, n),
        });
    }
    if let Some(done) = run {
        put(done, out);
    }
}

/// `* VANISHED (EARLIER) 41,43:116` (RFC 7162 3.2.10); nothing for an empty set.
pub fn vanished(uids: &Ranges, earlier: bool, out: &mut Vec<u8>) {
    if !uids.is_empty() {
        out.extend_from_slice(if earlier { b"* VANISHED (EARLIER) " } else { b"* VANISHED " });
        uids.write(out);
        out.extend_from_slice(b"\r\n");
    }
}

/// `APPENDUID 38505 3955` (RFC 9051 7.1), without its brackets.
pub fn append_uid(uid_validity: UidValidity, uids: &[Uid], out: &mut Vec<u8>) {
    out.extend_from_slice(b"APPENDUID ");
    number(out, u64::from(uid_validity.0));
    out.push(b' ');
    in_order(uids.iter().map(|u| u.0), out);
}

/// `COPYUID 38505 304,319:320 3956:3958` (RFC 9051 7.1), without its brackets. Both sets have the order of the pairs.
pub fn copy_uid(uid_validity: UidValidity, pairs: &[(Uid, Uid)], out: &mut Vec<u8>) {
    out.extend_from_slice(b"COPYUID ");
    number(out, u64::from(uid_validity.0));
    out.push(b' ');
    in_order(pairs.iter().map(|p| p.0.0), out);
    out.push(b' ');
    in_order(pairs.iter().map(|p| p.1.0), out);
}

/// `* THREAD (2)(3 6 (4 23)(44 7 96))` (RFC 5256 4). No recursion: a thread may be as long as a mailbox.
pub fn thread(forest: &Forest, out: &mut Vec<u8>) {
    enum Write {
        Open(usize),
        Close,
    }
    out.extend_from_slice(b"* THREAD");
    let mut before = b" ".as_slice();
    let mut todo = Vec::new();
    for root in &forest.roots {
        out.extend_from_slice(before);
        before = b"";
        todo.push(Write::Open(*root));
        while let Some(write) = todo.pop() {
            let Write::Open(mut node) = write else {
                out.push(b')');
                continue;
            };
            out.push(b'(');
            todo.push(Write::Close);
            loop {
                let n = &forest.nodes[node];
                if n.number != 0 {
                    number(out, u64::from(n.number));
                }
                match n.children.as_slice() {
                    [] => break,
                    [one] => {
                        if n.number != 0 {
                            out.push(b' ');
                        }
                        node = *one;
                    }
                    many => {
                        if n.number != 0 {
                            out.push(b' ');
                        }
                        todo.extend(many.iter().rev().map(|c| Write::Open(*c)));
                        break;
                    }
                }
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::thread::Node;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn searches() {
        let found = Ranges::from_numbers([2, 84, 85, 882]);
        assert_eq!(written(|o| search(&found, Some(ModSeq(9)), o)), "* SEARCH 2 84 85 882 (MODSEQ 9)\r\n");
        assert_eq!(written(|o| search(&Ranges::default(), Some(ModSeq(9)), o)), "* SEARCH\r\n");
        assert_eq!(written(|o| sort(&[5, 3, 4], None, o)), "* SORT 5 3 4\r\n");
        let e = Esearch { tag: "A\"1", uid: true, min: Some(2), count: Some(4), all: Some(&found), ..Esearch::default() };
        assert_eq!(written(|o| esearch(&e, o)), "* ESEARCH (TAG \"A\\\"1\") UID MIN 2 COUNT 4 ALL 2,84:85,882\r\n");
        let e = Esearch { tag: "a", all: Some(&Ranges::default()), count: Some(0), ..Esearch::default() };
        assert_eq!(written(|o| esearch(&e, o)), "* ESEARCH (TAG \"a\") COUNT 0\r\n");
        // RFC 5267 2: the order of a SORT is kept
        let e = Esearch { tag: "a", sorted: Some(&[5, 3, 4, 1, 2, 9]), ..Esearch::default() };
        assert_eq!(written(|o| esearch(&e, o)), "* ESEARCH (TAG \"a\") ALL 5,3:4,1:2,9\r\n");
        let range = PartialRange { from_end: true, first: 1, last: 100 };
        let e = Esearch { tag: "a", partial: Some((range, &[])), ..Esearch::default() };
        assert_eq!(written(|o| esearch(&e, o)), "* ESEARCH (TAG \"a\") PARTIAL (-1:-100 NIL)\r\n");
    }

    #[test]
    fn codes() {
        // RFC 9051 6.4.7
        let pairs = [(Uid(304), Uid(3956)), (Uid(319), Uid(3957)), (Uid(320), Uid(3958))];
        assert_eq!(written(|o| copy_uid(UidValidity(38505), &pairs, o)), "COPYUID 38505 304,319:320 3956:3958");
        assert_eq!(written(|o| append_uid(UidValidity(38505), &[Uid(3955)], o)), "APPENDUID 38505 3955");
        assert_eq!(written(|o| vanished(&Ranges::from_numbers([41, 43, 44]), true, o)), "* VANISHED (EARLIER) 41,43:44\r\n");
        assert_eq!(written(|o| vanished(&Ranges::default(), true, o)), "");
    }

    #[test]
    fn threads() {
        let node = |number, children: &[usize]| Node { number, children: children.to_vec() };
        // RFC 5256 4
        let f = Forest {
            nodes: vec![
                node(2, &[]),
                node(3, &[2]),
                node(6, &[3, 5]),
                node(4, &[4]),
                node(23, &[]),
                node(44, &[6]),
                node(7, &[7]),
                node(96, &[]),
            ],
            roots: vec![0, 1],
        };
        assert_eq!(written(|o| thread(&f, o)), "* THREAD (2)(3 6 (4 23)(44 7 96))\r\n");
        let f = Forest { nodes: vec![node(0, &[1, 2]), node(3, &[]), node(5, &[])], roots: vec![0] };
        assert_eq!(written(|o| thread(&f, o)), "* THREAD ((3)(5))\r\n");
        assert_eq!(written(|o| thread(&Forest::default(), o)), "* THREAD\r\n");
        // a chain of a million does not recurse
        let n = 1_000_000;
        let nodes = (0..n).map(|i| node(1, if i + 1 < n { std::slice::from_ref(&NEXT[0]) } else { &[] }));
        let mut nodes: Vec<Node> = nodes.collect();
        for (i, n) in nodes.iter_mut().enumerate() {
            n.children.iter_mut().for_each(|c| *c = i + 1);
        }
        assert_eq!(written(|o| thread(&Forest { nodes, roots: vec![0] }, o)).len(), 2 * n + 12);
    }

    const NEXT: [usize; 1] = [0];
}
