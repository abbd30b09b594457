//! ARP packets and neighbour advertisements as bytes on the wire.
//!
//! Contract: frames are built whole (Ethernet header and checksum included), since the socket takes them raw: an announcement must
//! not depend on routes, on neighbour entries or on our own packet filter. Parsing takes any bytes and never panics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub(crate) type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ETHERNET_BYTES: usize = 14;
/// IEEE 802.3: the shortest frame without its check sum.
const FRAME_MIN_BYTES: usize = 60;
/// RFC 4861 4.3, 4.4.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// RFC 826: request and reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Request,
    Reply,
}

/// Who claims which address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub(crate) address: IpAddr,
    pub(crate) mac: Mac,
}

pub(crate) fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn arp(form: Form, mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_MIN_BYTES);
    frame.extend(BROADCAST);
    frame.extend(mac);
    frame.extend(ETHERTYPE_ARP);
    // RFC 826: Ethernet, IPv4, lengths 6 and 4, operation.
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, if form == Form::Request { 1 } else { 2 }]);
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend(target_mac);
    frame.extend(target.octets());
    frame.resize(FRAME_MIN_BYTES, 0);
    frame
}

/// RFC 5227 3: an announcement. Some hosts take their cache from requests only, some (against RFC 826) from replies only: both are sent.
pub(crate) fn arp_announcement(form: Form, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let target_mac = if form == Form::Request { [0; 6] } else { mac };
    arp(form, mac, address, target_mac, address)
}

/// RFC 5227 2.1.1: a probe, whose sender address is all zero so that it pollutes no cache.
pub(crate) fn arp_probe(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(Form::Request, mac, Ipv4Addr::UNSPECIFIED, [0; 6], address)
}

/// RFC 4861 7.2.6: an unsolicited advertisement to all nodes, override flag set so that caches take it at once.
pub(crate) fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    // RFC 4861 4.4, with the target link-layer address option (4.6.1).
    let mut body = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    body.extend(address.octets());
    body.extend([2, 1]);
    body.extend(mac);
    // RFC 2464 7: multicast in Ethernet frames.
    icmpv6([0x33, 0x33, 0, 0, 0, 1], mac, address, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), body)
}

/// RFC 4862 5.4.2: a solicitation from the unspecified address, for duplicate address detection.
pub(crate) fn solicitation(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend(address.octets());
    let [.., x, y, z] = address.octets();
    // RFC 4291 2.7.1: the solicited-node address.
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z]));
    icmpv6([0x33, 0x33, 0xff, x, y, z], mac, Ipv6Addr::UNSPECIFIED, group, body)
}

fn icmpv6(to_mac: Mac, mac: Mac, from: Ipv6Addr, to: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    /// RFC 4861 7.1: anything less is not from this link and is ignored.
    const HOP_LIMIT: u8 = 255;
    let length = u16::try_from(body.len()).expect("the bodies made here have at most 32 bytes");
    // RFC 8200 8.1: the check sum covers a pseudo-header.
    let mut sum = 0_u32;
    let pseudo = from.octets().into_iter().chain(to.octets()).chain([0, 0]).chain(length.to_be_bytes());
    let covered: Vec<u8> = pseudo.chain([0, 0, 0, ICMPV6]).chain(body.iter().copied()).collect();
    for pair in covered.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).expect("folded to 16 bits");
    body[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(ETHERNET_BYTES + 40 + body.len());
    frame.extend(to_mac);
    frame.extend(mac);
    frame.extend(ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(body);
    frame
}

/// Who says in this frame that an address is its own: the sender of any ARP packet (RFC 5227 2.4), the target of a neighbour
/// advertisement. `None` for everything else, probes included.
pub(crate) fn claim(frame: &[u8]) -> Option<Claim> {
    let (ethernet, packet) = frame.split_at_checked(ETHERNET_BYTES)?;
    if ethernet[12..] == ETHERTYPE_ARP {
        let packet = packet.get(..28)?;
        if packet[..6] != [0, 1, 0x08, 0, 6, 4] {
            return None;
        }
        let sender: [u8; 4] = packet[14..18].try_into().ok()?;
        let address = Ipv4Addr::from(sender);
        return (!address.is_unspecified()).then_some(Claim { address: address.into(), mac: packet[8..14].try_into().ok()? });
    }
    if ethernet[12..] == ETHERTYPE_IPV6 {
        let (header, body) = packet.split_at_checked(40)?;
        // Extension headers are not allowed here (RFC 6980 covers fragments), and no host sends others.
        if header[6] != 58 || header[7] != 255 || *body.first()? != ADVERTISEMENT {
            return None;
        }
        let target: [u8; 16] = body.get(8..24)?.try_into().ok()?;
        let address = IpAddr::from(Ipv6Addr::from(target));
        return Some(Claim { address, mac: ethernet[6..12].try_into().ok()? });
    }
    None
}

/// For tests: no frame makes the parser panic.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let _ = claim(data);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 0x0a];

    #[test]
    fn an_announcement_as_rfc_5227_draws_it() {
        let frame = arp_announcement(Form::Request, MAC, Ipv4Addr::new(192, 0, 2, 10));
        #[rustfmt::skip]
        let expected: Vec<u8> = vec![
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x0a, 8, 6,
            0, 1, 8, 0, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 0x0a, 192, 0, 2, 10,
            0, 0, 0, 0, 0, 0, 192, 0, 2, 10,
        ];
        assert_eq!(frame[..42], expected);
        assert_eq!(frame.len(), 60);
        let reply = arp_announcement(Form::Reply, MAC, Ipv4Addr::new(192, 0, 2, 10));
        assert_eq!((reply[21], &reply[32..38]), (2, &MAC[..]));
        let address = IpAddr::from([192, 0, 2, 10]);
        assert_eq!(claim(&frame), Some(Claim { address, mac: MAC }));
        assert_eq!(claim(&reply), Some(Claim { address, mac: MAC }));
        assert_eq!(claim(&arp_probe(MAC, Ipv4Addr::new(192, 0, 2, 10))), None, "a probe claims nothing");
    }

    fn check_sum_holds(frame: &[u8]) -> bool {
        let body = &frame[54..];
        let mut sum = 58 + u64::try_from(body.len()).unwrap();
        for pair in frame[22..54].chunks(2).chain(body.chunks(2)) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair[1]);
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum == 0xffff
    }

    proptest! {
        #[test]
        fn advertisements_claim_their_target(octets in any::<[u8; 16]>(), mac in any::<Mac>()) {
            let address = Ipv6Addr::from(octets);
            let frame = advertisement(mac, address);
            prop_assert!(check_sum_holds(&frame));
            prop_assert_eq!(frame.len(), 86);
            prop_assert_eq!(claim(&frame), Some(Claim { address: address.into(), mac }));
            let probe = solicitation(mac, address);
            prop_assert!(check_sum_holds(&probe));
            prop_assert_eq!(claim(&probe), None);
        }

        #[test]
        fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..120)) {
            fuzz(&data);
        }

        #[test]
        fn nothing_cut_or_bent_panics(cut in 0_usize..90, at in 0_usize..86, byte in any::<u8>()) {
            let mut frames = [advertisement(MAC, Ipv6Addr::LOCALHOST), arp_probe(MAC, Ipv4Addr::LOCALHOST)];
            for frame in &mut frames {
                if let Some(bent) = frame.get_mut(at) {
                    *bent = byte;
                }
                fuzz(&frame[..cut.min(frame.len())]);
            }
        }
    }
}
