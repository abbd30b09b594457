//! The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): the client's address from a load balancer.
//!
//! Contract: only read from peers that are configured as proxies, since anybody could claim anything. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header: version 1 has 107 bytes at most, version 2 is bounded here (16 bytes, addresses, some TLVs).
pub const HEADER_MAX_BYTES: usize = 16 + 2048;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the header, to consume.
    pub len: usize,
    /// Client and server address; `None` when the proxy speaks for itself (LOCAL, UNKNOWN).
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// A whole header.
    Done(Header),
    /// The beginning of one.
    More,
    /// Not a header.
    Invalid,
}

/// Parses the beginning of a connection.
#[must_use]
pub fn parse(data: &[u8]) -> Parse {
    let common = data.len().min(SIGNATURE.len());
    if data[..common] == SIGNATURE[..common] {
        return if data.len() < 16 { Parse::More } else { version_2(data) };
    }
    let common = data.len().min(6);
    if data[..common] == b"PROXY "[..common] { version_1(data) } else { Parse::Invalid }
}

fn version_1(data: &[u8]) -> Parse {
    let Some(end) = memchr::memchr(b'\n', &data[..data.len().min(107)]) else {
        return if data.len() < 107 { Parse::More } else { Parse::Invalid };
    };
    let Some(line) = data[..end].strip_suffix(b"\r").and_then(|l| std::str::from_utf8(l).ok()) else {
        return Parse::Invalid;
    };
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Parse::Done(Header { len: end + 1, addresses: None });
    }
    let fields: Vec<&str> = words.collect();
    let &[source, target, source_port, target_port] = fields.as_slice() else { return Parse::Invalid };
    let address = |ip: &str, port: &str| {
        let ip: IpAddr = ip.parse().ok()?;
        let right_family = match family {
            Some("TCP4") => ip.is_ipv4(),
            Some("TCP6") => ip.is_ipv6(),
            _ => false,
        };
        right_family.then_some(SocketAddr::new(ip.to_canonical(), port.parse().ok()?))
    };
    match (address(source, source_port), address(target, target_port)) {
        (Some(source), Some(target)) => Parse::Done(Header { len: end + 1, addresses: Some((source, target)) }),
        _ => Parse::Invalid,
    }
}

fn version_2(data: &[u8]) -> Parse {
    let len = 16 + usize::from(u16::from_be_bytes([data[14], data[15]]));
    if len > HEADER_MAX_BYTES {
        return Parse::Invalid;
    }
    if data.len() < len {
        return Parse::More;
    }
    let body = &data[16..len];
    let addresses = match (data[12], data[13]) {
        (0x20, _) => None, // LOCAL
        (0x21, 0x11) => match body.first_chunk::<12>() {
            Some(b) => {
                let ip = |at: usize| IpAddr::from(Ipv4Addr::new(b[at], b[at + 1], b[at + 2], b[at + 3]));
                let port = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
                Some((SocketAddr::new(ip(0), port(8)), SocketAddr::new(ip(4), port(10))))
            }
            None => return Parse::Invalid,
        },
        (0x21, 0x21) => match (body.first_chunk::<16>(), body.get(16..).and_then(|b| b.first_chunk::<16>()), body.get(32..36)) {
            (Some(source), Some(target), Some(ports)) => {
                let ip = |b: &[u8; 16]| IpAddr::from(Ipv6Addr::from(*b)).to_canonical();
                let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
                Some((SocketAddr::new(ip(source), port(0)), SocketAddr::new(ip(target), port(2))))
            }
            _ => return Parse::Invalid,
        },
        // Other families (Unix sockets, UDP) tell nothing that we can use.
        (0x21, _) => None,
        _ => return Parse::Invalid,
    };
    Parse::Done(Header { len, addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(data: &[u8]) -> (usize, Option<(String, String)>) {
        match parse(data) {
            Parse::Done(h) => (h.len, h.addresses.map(|(a, b)| (a.to_string(), b.to_string()))),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn version_1_lines() {
        let (len, addresses) = done(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\nEHLO x\r\n");
        assert_eq!(len, 43);
        assert_eq!(addresses, Some(("192.0.2.7:4711".into(), "198.51.100.1:25".into())));
        assert_eq!(done(b"PROXY UNKNOWN ffff::1 rubbish\r\n").1, None);
        assert_eq!(done(b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n").1.unwrap().0, "[2001:db8::7]:1");
        assert_eq!(parse(b"PROXY TCP4 192.0.2.7 198."), Parse::More);
        assert_eq!(parse(b"PRO"), Parse::More);
        assert_eq!(parse(b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n"), Parse::Invalid);
        assert_eq!(parse(b"EHLO x\r\n"), Parse::Invalid);
        assert_eq!(parse(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\n"), Parse::Invalid);
    }

    #[test]
    fn version_2_headers() {
        let mut data = SIGNATURE.to_vec();
        data.extend([0x21, 0x11, 0, 12, 192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0, 25]);
        assert_eq!(done(&data), (28, Some(("192.0.2.7:4711".into(), "198.51.100.1:25".into()))));
        for cut in 0..data.len() {
            assert_eq!(parse(&data[..cut]), Parse::More, "{cut}");
        }
        data[12] = 0x20;
        assert_eq!(done(&data).1, None);
        data[12] = 0x31;
        assert_eq!(parse(&data), Parse::Invalid);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(proptest::num::u8::ANY, 0..64), version in 0u8..3) {
            let mut all = match version { 1 => b"PROXY TCP4 ".to_vec(), 2 => SIGNATURE.to_vec(), _ => Vec::new() };
            all.extend(data);
            if let Parse::Done(header) = parse(&all) { proptest::prop_assert!(header.len <= all.len()); }
            crate::fuzz(&all);
        }
    }
}
