//! PDUs that others published, read by the simulator's own decoder.

use twinpost_hw_modem::tpdu::{Deliver, Malformed, Submit, Validity};
use twinpost_hw_modem::{decode, encode, pack, unhex, unpack};

fn submit(hex: &str) -> Submit {
    Submit::decode(&unhex(hex.as_bytes()).expect("hex")).unwrap_or_else(|e| panic!("{hex}: {e}"))
}

#[test]
fn packing_of_septets() {
    // 3GPP TS 23.038 6.1.2.1.1 shows the layout; "hellohello" is the example of the page "SMS messages and the PDU format" (dreamfabric).
    let codes = encode("hellohello").expect("in the alphabet");
    let octets = unhex(b"E8329BFD4697D9EC37").expect("hex");
    assert_eq!(pack(&codes, 0), octets);
    assert_eq!(decode(&unpack(&octets, 10, 0), 0, 0), "hellohello");
    // 6.1.2.3.1: a lone @ in the last septet of eight octets' worth is told from padding by the length alone.
    assert_eq!(unpack(&pack(&[0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0], 0), 8, 0).len(), 8);
}

#[test]
fn submits_of_other_pages_and_programs() {
    // The same page: to 46708251358, validity four days (0xAA).
    let s = submit("11000B916407281553F80000AA0AE8329BFD4697D9EC37");
    assert_eq!((s.to.to_string().as_str(), s.data.text.as_str()), ("+46708251358", "hellohello"));
    assert_eq!(s.validity, Validity::For(4 * 86_400));
    // smsd 3.1.21 (Debian): the extension table.
    let s = submit("11000D91945111325476F80000FF19C8329BFD066D50D7B79C4DDEA44066F9BB0D9AB7E764");
    assert_eq!(s.data.text, "Hello {World} from smsd");
    // gammu-smsd 1.42 (Debian): a national number.
    let s = submit("11000D81945111325476F80000FF1AC8329BFD066D50D7B79C4DDEA44066F9BB0D3A87DBED3A");
    assert_eq!((s.to.to_string().as_str(), s.data.text.as_str()), ("4915112345678", "Hello {World} from gammu"));
}

#[test]
fn a_deliver_of_another_page() {
    // dreamfabric: from 27838890001, "How are you?" in PDU 07917283010010F5040BC87238880900F10000993092516195800AE8329BFD4697D9EC37.
    let pdu = unhex(b"040BC87238880900F10000993092516195800AE8329BFD4697D9EC37").expect("hex");
    let d = Deliver::decode(&pdu).expect("a DELIVER");
    assert_eq!((d.from.value.as_str(), d.data().expect("user data").text.as_str()), ("27838890001", "hellohello"));
    assert_eq!(d.encode(), pdu);
}

#[test]
fn national_tables_by_header() {
    // Turkish single shift (24 01 01): "ş" behind an escape; 23.040 9.2.3.24.15.
    let header = [3u8, 0x24, 1, 1];
    let codes = [0x61, 0x1b, 0x73, 0x62];
    let septets = (header.len() * 8usize).div_ceil(7);
    let mut tpdu = vec![0x41, 0, 1, 0x81, 0xf1, 0, 0, (septets + codes.len()) as u8];
    tpdu.extend(header);
    tpdu.extend(pack(&codes, septets * 7 - header.len() * 8));
    let s = Submit::decode(&tpdu).expect("good");
    assert_eq!((s.data.text.as_str(), s.data.languages), ("aşb", (0, 1)));
    // Locking (25 01 0D, Urdu) and single together.
    tpdu[8..12].copy_from_slice(&[3, 0x25, 1, 13]);
    assert_eq!(Submit::decode(&tpdu).expect("good").data.languages, (13, 0));
}

#[test]
fn what_is_wrong_is_named() {
    let bad = |hex: &str| Submit::decode(&unhex(hex.as_bytes()).expect("hex")).expect_err(hex);
    assert_eq!(bad(""), Malformed::Short("the first octet"));
    assert_eq!(bad("0000"), Malformed::Field("TP-MTI is not that of SMS-SUBMIT"));
    assert_eq!(bad("01000B9164"), Malformed::Short("TP-DA"));
    assert_eq!(bad("0100FF91"), Malformed::Field("an address is longer than 20 digits"));
    assert_eq!(bad("01000181F1000005E8329B"), Malformed::Short("TP-UD"));
    assert_eq!(bad("01000181F1000001E832"), Malformed::Long(1));
    assert_eq!(bad("01000181F100008D"), Malformed::Short("TP-UD"));
    assert_eq!(bad("01000181F10004A1"), Malformed::Field("TP-UDL is above 160 septets or 140 octets"));
    assert_eq!(bad("41000181F1000003050003"), Malformed::Short("the user data header"));
    assert_eq!(bad("41000181F100080205"), Malformed::Short("TP-UD"));
}

#[test]
fn a_cut_escape_or_pair_shows() {
    // An escape as the last septet of a part, and half a surrogate pair: a phone shows a space, and a replacement character.
    assert_eq!(decode(&[0x61, 0x1b], 0, 0), "a ");
    assert_eq!(twinpost_hw_modem::decode_ucs2(&[0xd8, 0x3d]), "\u{fffd}");
}
