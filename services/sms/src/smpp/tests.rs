//! The session against a service centre that is played octet by octet from SMPP 3.4, without the codec.

use super::*;
use crate::book::{Body, Reference};
use crate::settings::LongText;
use crate::transport::{Blame, Fate};
use tokio::net::TcpListener;
use twinpost_hw_modem::smsc::wire::{Session, SubmitSm, deliver_sm};

/// Accepts a connection and lets it in.
async fn admit(listener: &TcpListener) -> Session {
    let mut centre = Session { stream: listener.accept().await.unwrap().0 };
    let bind = centre.read().await.unwrap();
    // bind_transceiver: system_id, password, system_type, version 3.4, any address.
    assert_eq!((bind.id, bind.body.as_slice()), (0x09, &b"school\0secret\0\0\x34\0\0\0"[..]));
    centre.write(0x8000_0009, 0, bind.sequence, b"SMSC\0").await.unwrap();
    centre
}

fn submit_sm(body: &[u8]) -> SubmitSm {
    SubmitSm::read(body).expect("a whole submit_sm")
}

fn parcel(text: &str, number: u8, of: u8) -> Parcel {
    Parcel {
        key: "k".into(),
        to: "+8613800138000".into(),
        text: text.into(),
        number,
        of,
        reference: 0x0107,
        mr: 1,
        again: false,
        report: true,
        flash: false,
        validity_s: 2 * 86_400 + 3_661,
        more_follows: false,
    }
}

async fn start(change: impl FnOnce(&mut SmppSettings)) -> (Arc<BySmpp>, mpsc::Receiver<Inbound>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = SmppSettings::new("127.0.0.1", listener.local_addr().unwrap().port(), "school", "secret");
    settings.reconnect_min = Duration::from_millis(5);
    settings.response_max = Duration::from_secs(20);
    change(&mut settings);
    let (way, inbound) = BySmpp::start(settings).unwrap();
    (Arc::new(way), inbound, listener)
}

async fn until(way: &BySmpp, condition: Condition) {
    let mut state = way.state();
    state.wait_for(|w| w.condition == condition).await.unwrap();
}

fn send(way: &Arc<BySmpp>, parcel: Parcel) -> tokio::task::JoinHandle<Outcome> {
    let way = way.clone();
    tokio::spawn(async move { way.send(parcel).await })
}

#[tokio::test]
async fn a_part_is_sent_with_its_header_and_accepted_under_the_operators_name() {
    let (way, _inbound, listener) = start(|_| ()).await;
    let mut centre = admit(&listener).await;
    until(&way, Condition::Ready).await;
    let text = "[".repeat(100);
    let outcome = send(&way, parcel(&text, 2, 2));
    let raw = centre.read().await.unwrap();
    let sm = submit_sm(&raw.body);
    assert_eq!((raw.id, sm.to), (0x04, (1, 1, b"8613800138000".to_vec())));
    assert_eq!((sm.esm_class, sm.registered, sm.data_coding), (0x40, 1, 0));
    assert_eq!(sm.validity, b"000002010101000R");
    assert_eq!(&sm.text[..6], [5, 0, 3, 7, 2, 2]);
    // TS 23.038 6.2.1.1: [ is ESC 0x3C; 76 of them fit part 1 of 153 septets.
    assert_eq!(sm.text[6..], [0x1B, 0x3C].repeat(24));
    centre.write(0x8000_0004, 0, raw.sequence, b"id-77\0").await.unwrap();
    assert_eq!(outcome.await.unwrap(), Outcome::Accepted(Reference::Id("id-77".into())));
    way.stop().await;
    assert_eq!(centre.read().await.unwrap().id, 0x06, "unbind");
}

#[tokio::test]
async fn chinese_goes_as_ucs2_and_sar_parameters_name_the_parts_when_asked_for() {
    let (way, _inbound, listener) = start(|s| s.long_text = LongText::Sar).await;
    let mut centre = admit(&listener).await;
    until(&way, Condition::Ready).await;
    let _outcome = send(&way, parcel(&"水".repeat(80), 2, 2));
    let sm = submit_sm(&centre.read().await.unwrap().body);
    assert_eq!((sm.esm_class, sm.data_coding), (0, 8));
    assert_eq!(sm.text, [0x6C, 0x34].repeat(13));
    // SMPP 3.4 5.3.2.22 to 24: 0x020C reference, 0x020E total, 0x020F number.
    assert_eq!(sm.tlvs, [2, 0x0C, 0, 2, 1, 7, 2, 0x0E, 0, 1, 2, 2, 0x0F, 0, 1, 2]);
}

#[tokio::test]
async fn refusals_are_told_by_their_kind_and_a_lost_connection_leaves_the_outcome_unknown() {
    let (way, _inbound, listener) = start(|_| ()).await;
    let mut centre = admit(&listener).await;
    until(&way, Condition::Ready).await;
    for (status, blame) in
        [(0x0B, Blame::Message), (0x58, Blame::Way), (0x14, Blame::Way), (0x08, Blame::Moment), (0x45, Blame::Unclear)]
    {
        let outcome = send(&way, parcel("x", 1, 1));
        let raw = centre.read().await.unwrap();
        // The body is left out, as SMPP 3.4 4.4.2 allows.
        centre.write(0x8000_0004, status, raw.sequence, &[]).await.unwrap();
        match outcome.await.unwrap() {
            Outcome::Refused(found, reason) => assert_eq!((found, reason.code), (blame, Some(status)), "{}", reason.text),
            other => panic!("{status:X}: {other:?}"),
        }
    }
    let outcome = send(&way, parcel("x", 1, 1));
    centre.read().await.unwrap();
    drop(centre);
    assert!(matches!(outcome.await.unwrap(), Outcome::Unknown(_)));
    until(&way, Condition::Disconnected).await;
    // It comes back by itself; a refused bind is told as what it is.
    let mut second = Session { stream: listener.accept().await.unwrap().0 };
    let bind = second.read().await.unwrap();
    second.write(0x8000_0009, 0x0E, bind.sequence, &[]).await.unwrap();
    until(&way, Condition::BindRefused).await;
    let _third = admit(&listener).await;
    until(&way, Condition::Ready).await;
}

#[tokio::test]
async fn a_quiet_line_is_enquired_and_a_dead_one_given_up() {
    let (way, _inbound, listener) = start(|s| {
        s.enquire = Duration::from_millis(20);
        s.response_max = Duration::from_millis(200);
    })
    .await;
    let mut centre = admit(&listener).await;
    let enquire = centre.read().await.unwrap();
    assert_eq!((enquire.id, enquire.status), (0x15, 0));
    centre.write(0x8000_0015, 0, enquire.sequence, &[]).await.unwrap();
    centre.write(0x15, 0, 99, &[]).await.unwrap();
    // Theirs is answered, ours comes again; then nobody answers it.
    let mut ids = vec![centre.read().await.unwrap().id, centre.read().await.unwrap().id];
    ids.sort_unstable();
    assert_eq!(ids, [0x15, 0x8000_0015]);
    until(&way, Condition::Ready).await;
    until(&way, Condition::Disconnected).await;
}

fn said(esm_class: u8, data_coding: u8, text: &[u8], tlvs: &[u8]) -> Vec<u8> {
    deliver_sm("+8613800138000", esm_class, data_coding, text, tlvs)
}

#[tokio::test]
async fn messages_and_receipts_are_read_and_answered_once_they_are_stored() {
    let (way, mut inbound, listener) = start(|_| ()).await;
    let mut centre = admit(&listener).await;
    let mut header = vec![5, 0, 3, 9, 2, 1];
    header.extend("水".encode_utf16().flat_map(u16::to_be_bytes));
    centre.write(0x05, 0, 41, &said(0x40, 8, &header, &[])).await.unwrap();
    let Some(Inbound::Fragment(f, token)) = inbound.recv().await else { panic!("a part") };
    assert_eq!((f.from.as_str(), f.reference, f.total, f.number), ("+8613800138000", 9, 2, 1));
    assert!(f.body == Body::Utf16(vec![0x6C, 0x34]) && f.until_confirmed);
    way.confirm(token).await;
    let answer = centre.read().await.unwrap();
    assert_eq!((answer.id, answer.status, answer.sequence), (0x8000_0005, 0, 41));
    // GSM alphabet, one septet an octet: @ is 0, the euro sign ESC 0x65.
    centre.write(0x05, 0, 42, &said(0, 0, &[0x00, 0x1B, 0x65], &[])).await.unwrap();
    let Some(Inbound::Fragment(f, _)) = inbound.recv().await else { panic!("a message") };
    assert_eq!(f.body, Body::Text("@€".into()));
    // SMPP 3.4 appendix B, and the parameters that say the same: 0x001E receipted_message_id, 0x0427 message_state.
    let text = b"id:77 sub:001 dlvrd:000 submit date:2611220300 done date:2611220301 stat:UNDELIV err:001 text:";
    centre.write(0x05, 0, 43, &said(0x04, 0, text, &[])).await.unwrap();
    let Some(Inbound::Report(report, _)) = inbound.recv().await else { panic!("a receipt") };
    assert_eq!(report.reference, Reference::Id("77".into()));
    assert!(matches!(&report.fate, Fate::Lost(reason) if reason.permanent));
    let tlvs = [0x00, 0x1E, 0, 3, b'7', b'8', 0, 0x04, 0x27, 0, 1, 2];
    centre.write(0x05, 0, 44, &said(0x04, 0, b"", &tlvs)).await.unwrap();
    let Some(Inbound::Report(report, _)) = inbound.recv().await else { panic!("a receipt") };
    assert_eq!((report.reference, report.fate), (Reference::Id("78".into()), Fate::Delivered));
}
