//! The desk with a real book, a fake way whose outcomes are written in the test, and a clock that the test sets.

use super::*;
use crate::api::Reason;
use crate::book::Book;
use crate::transport::{Blame, Fate, Outcome, Report};

struct Bench {
    desk: Desk,
    book: Option<Book>,
    folder: tempfile::TempDir,
    now: i64,
    /// What was given to ways and has no outcome yet.
    air: VecDeque<(usize, u64, Parcel)>,
    told: Vec<Status>,
    replies: Vec<(u64, Answer)>,
    confirmed: Vec<Token>,
    broken_disk: bool,
    spec: Vec<WaySpec>,
    pace: Pace,
}

fn reason(text: &str, permanent: bool) -> Reason {
    Reason { permanent, code: None, text: text.into(), zh: String::new() }
}

impl Bench {
    fn new(ways: &[(&str, usize)]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::open(folder.path()).unwrap();
        let spec: Vec<WaySpec> = ways.iter().map(|(name, window)| WaySpec { name: (*name).into(), window: *window }).collect();
        let pace = Pace { parts_per_minute: 100_000, burst_parts: 1000, ..Pace::default() };
        let desk = Desk::new(pace.clone(), Limits::default(), spec.clone(), Vec::new(), 0, 0);
        let mut bench = Bench {
            desk,
            book: Some(book),
            folder,
            now: 0,
            air: VecDeque::new(),
            told: Vec::new(),
            replies: Vec::new(),
            confirmed: Vec::new(),
            broken_disk: false,
            spec,
            pace,
        };
        for way in 0..ways.len() {
            bench.way(way, true);
        }
        bench
    }

    fn way(&mut self, way: usize, ready: bool) {
        self.desk.way(self.now, way, ready, reason("the way is not ready", false));
        self.act();
    }

    fn submit(&mut self, key: &str, class: Class, account: &str, parts: u8) {
        self.submit_to(key, class, account, parts, "+8613800138000", true);
    }

    fn submit_to(&mut self, key: &str, class: Class, account: &str, parts: u8, to: &str, report: bool) {
        let draft = Draft {
            key: key.into(),
            digest: *blake3::hash(to.as_bytes()).as_bytes(),
            class,
            to: to.into(),
            text: "text".into(),
            account: Some(account.into()),
            domain: None,
            report,
            flash: false,
            durable: class == Class::Alarm,
            parts,
            submitted_ms: self.now,
            deadline_ms: self.now + 86_400_000,
        };
        self.desk.submit(self.now, 1, draft);
        self.act();
    }

    fn act(&mut self) {
        while let Some(effect) = self.desk.poll() {
            match effect {
                Effect::Job(job) => {
                    let result = match (&mut self.book, self.broken_disk && !job.must) {
                        (Some(book), false) => book.apply(&job.ops).map_err(|e| e.to_string()),
                        _ => Err("disk full".into()),
                    };
                    self.desk.committed(self.now, job.tag, result);
                }
                Effect::Send { way, flight, parcel } => self.air.push_back((way, flight, parcel)),
                Effect::Reply { ticket, answer } => self.replies.push((ticket, answer)),
                Effect::Publish(status) => self.told.push(status),
                Effect::Confirm { token, .. } => self.confirmed.push(token),
            }
        }
    }

    /// Gives the part that has been on the wire longest its outcome; says whose it was.
    fn land(&mut self, outcome: Outcome) -> (String, u8) {
        let (_, flight, parcel) = self.air.pop_front().expect("something is on the wire");
        self.desk.sent(self.now, flight, outcome);
        self.act();
        (parcel.key.to_string(), parcel.number)
    }

    fn accept(&mut self) -> (String, u8) {
        let mr = self.air[0].2.mr;
        self.land(Outcome::Accepted(Reference::Mr(mr)))
    }

    fn at(&mut self, ms: i64) {
        self.now = ms;
        self.desk.tick(ms);
        self.act();
    }

    fn last(&self, key: &str) -> &Status {
        self.told.iter().rev().find(|s| s.key == key).expect("a status was told")
    }

    fn kill(&mut self) {
        self.book = None;
        self.air.clear();
        let mut book = Book::open(self.folder.path()).unwrap();
        let open = book.open_messages(1000).unwrap();
        let mr = book.last_mr().unwrap();
        self.book = Some(book);
        self.desk = Desk::new(self.pace.clone(), Limits::default(), self.spec.clone(), Vec::new(), mr, self.now);
        self.desk.restore(self.now, open);
        for way in 0..self.spec.len() {
            self.way(way, true);
        }
        self.act();
    }

    fn report(&mut self, mr: u8, fate: Fate) {
        let report = Report { reference: Reference::Mr(mr), to: "13800138000".into(), fate };
        self.desk.report(self.now, 0, report, Token(u64::from(mr)));
        self.act();
    }
}

#[test]
fn an_alarm_goes_between_two_parts_of_a_long_text_and_notices_before_people() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.submit("long", Class::Person, "a", 3);
    b.submit("notice", Class::Notice, "b", 1);
    b.submit("alarm", Class::Alarm, "", 1);
    let order: Vec<(String, u8)> = (0..5).map(|_| b.accept()).collect();
    let order: Vec<(&str, u8)> = order.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    assert_eq!(order, [("long", 1), ("alarm", 1), ("notice", 1), ("long", 2), ("long", 3)]);
    assert_eq!(b.last("long").accepted, 3);
    assert!(b.air.is_empty());
}

#[test]
fn one_account_cannot_stand_before_another() {
    let mut b = Bench::new(&[("modem", 1)]);
    for n in 0..20 {
        b.submit(&format!("a{n}"), Class::Person, "a", 1);
    }
    b.submit("b0", Class::Person, "b", 1);
    b.submit("b1", Class::Person, "b", 1);
    let order: Vec<String> = (0..8).map(|_| b.accept().0).collect();
    assert!(order.contains(&"b0".to_owned()) && order.contains(&"b1".to_owned()), "{order:?}");
}

#[test]
fn a_bad_number_fails_alone_and_a_busy_network_delays_one_message_only() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.submit("bad", Class::Person, "a", 2);
    b.submit("busy", Class::Person, "b", 1);
    b.submit("good", Class::Person, "c", 1);
    b.land(Outcome::Refused(Blame::Message, reason("no such number", true)));
    assert_eq!(b.last("bad").state, SmsState::Failed);
    b.land(Outcome::Refused(Blame::Moment, reason("congestion", false)));
    assert_eq!(b.last("busy").state, SmsState::Waiting);
    assert_eq!(b.accept().0, "good");
    assert!(b.air.is_empty());
    let due = b.desk.next_wake(b.now).unwrap();
    assert_eq!(due, 20_000, "the first pause");
    b.at(due);
    assert_eq!(b.accept().0, "busy");
}

#[test]
fn trouble_of_the_way_is_nobodys_attempt_and_a_barred_number_does_not_hold_up_the_others() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.submit("barred", Class::Alarm, "", 1);
    b.submit("other", Class::Person, "a", 1);
    b.land(Outcome::Refused(Blame::Way, reason("operator determined barring", true)));
    // The way rests: nothing goes.
    assert!(b.air.is_empty());
    b.at(10_000);
    assert_eq!(b.accept().0, "other", "somebody else goes first after the rest");
    b.at(10_001);
    let (key, _) = b.land(Outcome::Refused(Blame::Way, reason("operator determined barring", true)));
    assert_eq!(key, "barred");
    // The way took another message meanwhile: it is this number's own trouble.
    assert_eq!(b.last("barred").state, SmsState::Failed);
    b.submit("next", Class::Person, "a", 1);
    assert_eq!(b.accept().0, "next");
}

#[test]
fn not_ready_keeps_the_place_and_the_status_tells_why() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.submit("one", Class::Person, "a", 1);
    b.submit("two", Class::Person, "a", 1);
    b.way(0, false);
    b.land(Outcome::NotSent(reason("no network", false)));
    let status = b.desk.status(b.now, "two").unwrap();
    assert_eq!((status.state, status.reason.unwrap().text.as_str()), (SmsState::Waiting, "no network"));
    b.at(60_000);
    assert!(b.air.is_empty());
    b.way(0, true);
    assert_eq!(b.accept().0, "one");
    assert_eq!(b.desk.queue(b.now, 10).0[0].attempts, 0);
}

#[test]
fn an_unknown_outcome_goes_again_marked_with_the_same_reference_and_not_for_ever() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.submit("doubt", Class::Alarm, "", 1);
    let first = b.air[0].2.clone();
    assert!(!first.again);
    for n in 0..3 {
        b.land(Outcome::Unknown(reason("silence", false)));
        assert!(b.air.is_empty());
        b.at(b.desk.next_wake(b.now).unwrap());
        let again = &b.air[0].2;
        assert!(again.again && again.mr == first.mr, "attempt {n}");
        assert!(b.last("doubt").possible_duplicate);
    }
    b.land(Outcome::Unknown(reason("silence", false)));
    let end = b.last("doubt");
    assert!(end.state == SmsState::Failed && end.possible_duplicate && !end.more);
}

#[test]
fn a_service_centre_that_has_it_already_or_a_report_settles_the_doubt() {
    let mut b = Bench::new(&[("modem", 1)]);
    // The modem has shown that it sends our TP-MR.
    b.submit("before", Class::Alarm, "", 1);
    b.accept();
    b.submit("held", Class::Alarm, "", 1);
    b.land(Outcome::Unknown(reason("silence", false)));
    b.at(b.desk.next_wake(b.now).unwrap());
    b.land(Outcome::Refused(Blame::Duplicate, reason("duplicate", true)));
    assert_eq!(b.last("held").state, SmsState::Accepted);

    b.submit("reported", Class::Alarm, "", 1);
    let mr = b.air[0].2.mr;
    b.land(Outcome::Unknown(reason("silence", false)));
    b.report(mr, Fate::Delivered);
    let end = b.last("reported");
    assert!(end.state == SmsState::Delivered && !end.possible_duplicate, "{end:?}");
    b.at(b.now + 100_000);
    assert!(b.air.is_empty(), "no second attempt");
}

#[test]
fn reports_end_a_message_even_when_they_come_before_the_answer() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.submit("m", Class::Person, "a", 2);
    let mr = b.air[0].2.mr;
    b.report(mr, Fate::Delivered);
    assert_eq!(b.confirmed, [Token(u64::from(mr))]);
    b.accept();
    let second = b.air[0].2.mr;
    b.accept();
    let status = b.last("m");
    assert!(status.state == SmsState::Accepted && status.more);
    b.report(second, Fate::Pending(reason("the phone is off", false)));
    assert_eq!(b.last("m").state, SmsState::Accepted);
    // Over a restart too.
    b.kill();
    b.report(second, Fate::Lost(reason("expired", true)));
    let end = b.last("m");
    assert!(end.state == SmsState::NotDelivered && !end.more && end.reason.is_some());
}

#[test]
fn a_known_key_is_sent_once_over_restarts_and_continues_where_it_was() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.submit("k", Class::Person, "a", 3);
    b.accept();
    // Part 2 was handed out when the power went.
    assert_eq!(b.air[0].2.number, 2);
    let mr = b.air[0].2.mr;
    b.kill();
    assert!(b.air.is_empty(), "a person's text is in memory only");
    b.submit("k", Class::Person, "a", 3);
    let again = b.air[0].2.clone();
    assert_eq!((again.number, again.mr, again.again), (2, mr, true));
    b.accept();
    b.accept();
    let end = b.last("k").clone();
    assert!(end.state == SmsState::Accepted && end.possible_duplicate && end.accepted == 3);
    b.submit("k", Class::Person, "a", 3);
    assert!(b.air.is_empty());
    b.kill();
    b.submit("k", Class::Person, "a", 3);
    assert!(b.air.is_empty());
    assert!(matches!(&b.replies.last().unwrap().1, Answer::Status(s) if s.state == SmsState::Accepted));
    b.submit_to("k", Class::Person, "a", 3, "10086", true);
    assert!(matches!(&b.replies.last().unwrap().1, Answer::Refused { .. }), "the key is another message's");
}

#[test]
fn a_kept_alarm_goes_on_by_itself_after_a_restart() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.way(0, false);
    b.submit("a", Class::Alarm, "", 1);
    assert!(matches!(b.replies[0].1, Answer::Accepted { stored: true, .. }));
    b.kill();
    assert_eq!(b.accept().0, "a");
    assert!(!b.last("a").possible_duplicate, "it had never been handed out");
}

#[test]
fn an_alarm_goes_out_though_the_disk_refuses_it_and_others_are_refused() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.broken_disk = true;
    b.submit("person", Class::Person, "a", 1);
    assert!(matches!(&b.replies[0].1, Answer::Refused { reason } if !reason.permanent));
    b.submit("alarm", Class::Alarm, "", 2);
    assert!(matches!(b.replies[1].1, Answer::Accepted { stored: false, .. }));
    b.accept();
    b.accept();
    assert_eq!(b.last("alarm").state, SmsState::Accepted);
}

#[test]
fn a_message_taken_back_stops_where_it_is() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.submit("m", Class::Person, "a", 3);
    b.submit("queued", Class::Person, "a", 1);
    assert_eq!(b.desk.cancel(b.now, "queued").unwrap().state, SmsState::Canceled);
    b.act();
    b.accept();
    // Part 2 is on the wire and cannot be taken back.
    assert_eq!(b.desk.cancel(b.now, "m").unwrap().state, SmsState::Sending);
    b.act();
    b.accept();
    let end = b.last("m");
    assert_eq!((end.state, end.accepted), (SmsState::Canceled, 2));
    assert!(b.air.is_empty());
    assert!(b.desk.cancel(b.now, "m").is_none());
}

#[test]
fn what_is_too_late_fails_with_the_last_obstacle() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.submit("m", Class::Person, "a", 1);
    b.land(Outcome::Refused(Blame::Moment, reason("congestion", false)));
    b.way(0, false);
    b.at(86_400_000);
    let end = b.last("m");
    assert_eq!(end.state, SmsState::Failed);
    assert!(end.reason.as_ref().unwrap().text.contains("congestion"));
    assert_eq!(b.desk.waiting(), Waiting::default());
}

#[test]
fn people_are_held_to_the_rate_and_alarms_are_not() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.pace = Pace { parts_per_minute: 60, alarm_share_percent: 50, burst_parts: 2, ..Pace::default() };
    b.kill();
    for n in 0..4 {
        b.submit(&format!("p{n}"), Class::Person, "a", 1);
    }
    b.accept();
    b.accept();
    assert!(b.air.is_empty(), "the burst is used up");
    b.submit("alarm", Class::Alarm, "", 1);
    assert_eq!(b.accept().0, "alarm");
    let wake = b.desk.next_wake(b.now).unwrap();
    assert_eq!(wake, 2_000, "30 a minute are left for people");
    b.at(wake);
    assert_eq!(b.accept().0, "p2");
}

#[test]
fn another_way_takes_over_when_the_first_has_been_dead_for_long() {
    let mut b = Bench::new(&[("modem", 1), ("operator", 4)]);
    b.submit("two", Class::Alarm, "", 2);
    b.accept();
    b.way(0, false);
    b.land(Outcome::NotSent(reason("silent", false)));
    b.submit("fresh", Class::Alarm, "", 1);
    assert!(b.air.is_empty(), "a short trouble is waited for");
    b.at(b.desk.next_wake(b.now).unwrap().max(30_000));
    let by: Vec<(usize, String, u8)> = b.air.iter().map(|(w, _, p)| (*w, p.key.to_string(), p.number)).collect();
    assert_eq!(by, [(1, "two".into(), 1), (1, "two".into(), 2), (1, "fresh".into(), 1)]);
    for _ in 0..3 {
        b.land(Outcome::Accepted(Reference::Id("x".into())));
    }
    assert!(b.last("two").possible_duplicate, "the phone may show part 1 of both");
    assert!(!b.last("fresh").possible_duplicate);
    // The modem is back: it is preferred again.
    b.way(0, true);
    b.submit("later", Class::Alarm, "", 1);
    assert_eq!(b.air[0].0, 0);
}

#[test]
fn counts_are_kept_by_day_account_and_class() {
    let mut b = Bench::new(&[("modem", 1)]);
    b.submit("a", Class::Person, "a@x", 2);
    b.accept();
    b.accept();
    b.submit("b", Class::Person, "a@x", 1);
    b.land(Outcome::Refused(Blame::Message, reason("no", true)));
    let answers = b.book.as_mut().unwrap().apply(&[Op::Statistics { from_day: 0 }]).unwrap();
    let book::Answer::Counted(counts) = &answers[0] else { panic!("{answers:?}") };
    assert_eq!(counts.len(), 1);
    let c = &counts[0];
    assert_eq!((c.account.as_str(), c.sent, c.parts, c.failed), ("a@x", 1, 2, 1));
}
