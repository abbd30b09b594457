//! Soak: the desk and the book against a network, clients and phones that do everything that goes wrong, in simulated
//! time, with the process killed between any two steps and started again on the same spool.
//!
//! What must hold: every message ends; what was told as accepted reached the network in every part (0 lost); a part
//! that reached it twice belongs to a message marked as a possible duplicate (0 unmarked); an incoming message is given
//! out exactly once. `TWINPOST_SOAK=1000000` sets the number of sends, `TWINPOST_SEED` repeats one run.

use crate::api::{Answer, Class, Reason, SmsState};
use crate::book::{self, Body, Book, Draft, Fragment, Job, Op, Reference};
use crate::desk::{Desk, Effect, WaySpec};
use crate::settings::{Limits, Pace};
use crate::transport::{Blame, Fate, Outcome, Parcel, Report, Token};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    /// True so often in a thousand.
    fn mille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    /// Epoch, flight, what.
    Lands(u32, u64, What),
    WayBack(usize),
    /// Message, part, way, TP-MR; delivered or lost.
    Reported(u32, u8, usize, u8, bool),
    /// The modem shows it (again) until it is confirmed.
    PhoneSends(u32),
    Resubmit(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Accepted(u8),
    BadNumber,
    Moment,
    Unclear,
    WayTrouble,
    NotSent,
    Unknown,
    Duplicate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Nothing,
    Asked,
    Queued,
    Ended(SmsState),
}

struct Message {
    client: Client,
    class: Class,
    parts: u8,
    report: bool,
    durable: bool,
    to: u64,
    /// The number is bad or barred: failing is right.
    bad: bool,
    canceled: bool,
    /// Copies of each part that reached the network.
    copies: Vec<u32>,
}

struct World {
    dice: Dice,
    now: i64,
    epoch: u32,
    desk: Desk,
    book: Option<Book>,
    folder: tempfile::TempDir,
    jobs: VecDeque<Job>,
    happens: BinaryHeap<Reverse<(i64, u64, Happens)>>,
    stamp: u64,
    messages: Vec<Message>,
    outstanding: BTreeSet<u32>,
    ways: Vec<WaySpec>,
    up: Vec<bool>,
    /// The modem puts its own TP-MR into the PDU.
    own_mr: Vec<Option<u8>>,
    /// What the service centre still holds: number and TP-MR.
    held: VecDeque<(u64, u8)>,
    sends: u64,
    kills: u64,
    unknown: u64,
    phones: Vec<PhoneMessage>,
    settled: bool,
}

#[derive(Default)]
struct PhoneMessage {
    parts: u8,
    confirmed: Vec<bool>,
    given: u32,
}

fn pace() -> Pace {
    let s = Duration::from_secs;
    Pace {
        parts_per_minute: 6_000_000,
        burst_parts: 1_000_000,
        retry: vec![s(2), s(10), s(60)],
        alarm_retry: vec![s(1), s(5), s(20)],
        unknown_max: 200,
        unclear_max: 200,
        person_validity: s(1_000_000),
        ..Pace::default()
    }
}

fn limits() -> Limits {
    Limits { queue: 100_000, alarms: 100_000, ..Limits::default() }
}

fn open(state: SmsState) -> bool {
    matches!(state, SmsState::Queued | SmsState::Sending | SmsState::Waiting)
}

fn sentence(text: &str, permanent: bool) -> Reason {
    Reason { permanent, code: None, text: text.into(), zh: String::new() }
}

impl World {
    fn new(seed: u64, ways: Vec<WaySpec>, own_mr: Vec<Option<u8>>) -> World {
        // A memory file system where there is one: what is tested is a killed process, not a cut of power.
        let shm = std::path::Path::new("/dev/shm");
        let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
        let book = Book::open(folder.path()).unwrap();
        let desk = Desk::new(pace(), limits(), ways.clone(), Vec::new(), 0, 0);
        let up = vec![true; ways.len()];
        let mut world = World {
            dice: Dice(seed),
            now: 0,
            epoch: 0,
            desk,
            book: Some(book),
            folder,
            jobs: VecDeque::new(),
            happens: BinaryHeap::new(),
            stamp: 0,
            messages: Vec::new(),
            outstanding: BTreeSet::new(),
            ways,
            up,
            own_mr,
            held: VecDeque::new(),
            sends: 0,
            kills: 0,
            unknown: 0,
            phones: Vec::new(),
            settled: false,
        };
        world.announce();
        world
    }

    fn announce(&mut self) {
        for way in 0..self.ways.len() {
            self.desk.way(self.now, way, self.up[way], sentence("down", false));
        }
    }

    fn later(&mut self, after: u64, what: Happens) {
        self.stamp += 1;
        let at = self.now + i64::try_from(after).unwrap();
        self.happens.push(Reverse((at, self.stamp, what)));
    }

    fn new_message(&mut self) {
        let n = u32::try_from(self.messages.len()).unwrap();
        let class = match self.dice.below(10) {
            0 => Class::Alarm,
            1 | 2 => Class::Notice,
            _ => Class::Person,
        };
        let parts = if self.dice.mille(200) { 2 + u8::try_from(self.dice.below(4)).unwrap() } else { 1 };
        self.messages.push(Message {
            client: Client::Nothing,
            class,
            parts,
            report: self.dice.mille(300),
            durable: class == Class::Alarm,
            to: 13_000_000_000 + self.dice.below(500),
            bad: self.dice.mille(20),
            canceled: false,
            copies: vec![0; usize::from(parts)],
        });
        self.outstanding.insert(n);
        self.submit(n);
    }

    fn submit(&mut self, n: u32) {
        let m = &mut self.messages[n as usize];
        if matches!(m.client, Client::Ended(_)) {
            return;
        }
        m.client = Client::Asked;
        let draft = Draft {
            key: n.to_string(),
            digest: *blake3::hash(&n.to_be_bytes()).as_bytes(),
            class: m.class,
            to: m.to.to_string(),
            text: "x".into(),
            account: Some((m.to % 7).to_string()),
            domain: None,
            report: m.report,
            flash: false,
            durable: m.durable,
            parts: m.parts,
            submitted_ms: self.now,
            deadline_ms: self.now + 1_000_000_000,
        };
        self.desk.submit(self.now, u64::from(n), draft);
    }

    /// The process is killed. What it had not written is gone; what the modem has it goes on with.
    fn kill(&mut self) {
        self.kills += 1;
        self.epoch += 1;
        // The commit that was under way may have come through.
        if self.dice.mille(500) {
            let ops: Vec<Op> = self.jobs.drain(..).flat_map(|j| j.ops).collect();
            if !ops.is_empty() {
                self.book.as_mut().unwrap().apply(&ops).unwrap();
            }
        }
        self.jobs.clear();
        self.book = None;
        let mut book = Book::open(self.folder.path()).unwrap();
        let unfinished = book.open_messages(1_000_000).unwrap();
        let mr = book.last_mr().unwrap();
        let recent = book.recent_mrs().unwrap();
        self.book = Some(book);
        self.desk = Desk::new(pace(), limits(), self.ways.clone(), Vec::new(), mr, self.now);
        self.desk.remember_mrs(recent);
        self.desk.restore(self.now, unfinished);
        self.announce();
        // A message whose last part's outcome was written, and its end was not, ends with the first commit.
        let mut ending = BTreeSet::new();
        let mut effects = Vec::new();
        while let Some(effect) = self.desk.poll() {
            if let Effect::Job(job) = &effect {
                ending.extend(job.ops.iter().filter_map(|op| match op {
                    Op::Message(change) if !open(change.state) => Some(change.row),
                    _ => None,
                }));
            }
            effects.push(effect);
        }
        for effect in effects {
            self.effect(effect);
        }
        let outstanding: Vec<u32> = self.outstanding.iter().copied().collect();
        for n in outstanding {
            let m = &self.messages[n as usize];
            if m.durable && m.client == Client::Queued {
                // It was answered as kept: it must be there without anybody's doing.
                let record = self.find(n).unwrap_or_else(|| panic!("alarm {n} was accepted and is gone"));
                let on_desk = self.desk.status(self.now, &n.to_string()).is_some();
                if open(record.state) {
                    assert!(on_desk || ending.contains(&record.row), "alarm {n} is not taken up");
                } else {
                    self.ended(n, record.state, on_desk);
                }
            } else {
                self.submit(n);
            }
        }
    }

    fn find(&mut self, n: u32) -> Option<book::Record> {
        let answers = self.book.as_mut().unwrap().apply(&[Op::Find { key: n.to_string() }]).unwrap();
        match answers.into_iter().next() {
            Some(book::Answer::Found(record)) => record.map(|r| *r),
            other => panic!("{other:?}"),
        }
    }

    fn ended(&mut self, n: u32, state: SmsState, more: bool) {
        let m = &mut self.messages[n as usize];
        match state {
            SmsState::Queued | SmsState::Sending | SmsState::Waiting => return,
            SmsState::Accepted | SmsState::Delivered | SmsState::NotDelivered => {
                assert!(m.copies.iter().all(|c| *c > 0), "message {n} was told as accepted and is lost: {:?}", m.copies);
            }
            SmsState::Failed => assert!(m.bad, "message {n} failed without a reason of the world"),
            SmsState::Canceled => assert!(m.canceled, "message {n} was taken back by nobody"),
        }
        m.client = Client::Ended(state);
        if !more || state != SmsState::Accepted {
            self.outstanding.remove(&n);
        }
        if state == SmsState::Accepted {
            self.outstanding.remove(&n);
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Job(job) => self.jobs.push_back(job),
            Effect::Send { way, flight, parcel } => self.send(way, flight, &parcel),
            Effect::Reply { ticket, answer } => self.replied(u32::try_from(ticket).unwrap(), &answer),
            Effect::Publish(status) => {
                let n: u32 = status.key.parse().unwrap();
                self.ended(n, status.state, status.more);
            }
            Effect::Confirm { .. } => {}
        }
    }

    /// One effect of the desk, or one group of commits. `false`: there is none.
    fn act(&mut self) -> bool {
        if let Some(effect) = self.desk.poll() {
            self.effect(effect);
            return true;
        }
        if self.jobs.is_empty() {
            return false;
        }
        // Some of what waits shares a commit.
        let group = 1 + self.dice.below(self.jobs.len() as u64 + 3) as usize;
        let group: Vec<Job> = self.jobs.drain(..group.min(self.jobs.len())).collect();
        let lengths: Vec<(u64, usize)> = group.iter().map(|j| (j.tag, j.ops.len())).collect();
        let ops: Vec<Op> = group.into_iter().flat_map(|j| j.ops).collect();
        let mut answers = self.book.as_mut().unwrap().apply(&ops).unwrap().into_iter();
        for (tag, length) in lengths {
            let mine = answers.by_ref().take(length).collect();
            self.desk.committed(self.now, tag, Ok(mine));
        }
        true
    }

    fn replied(&mut self, n: u32, answer: &Answer) {
        match answer {
            Answer::Accepted { stored, .. } => {
                assert!(stored, "this disk never fails");
                let m = &mut self.messages[n as usize];
                if m.client == Client::Asked {
                    m.client = Client::Queued;
                }
            }
            Answer::Status(status) => {
                if self.messages[n as usize].client == Client::Asked {
                    self.messages[n as usize].client = Client::Queued;
                }
                self.ended(n, status.state, status.more);
            }
            Answer::Refused { .. } => self.later(1_000, Happens::Resubmit(n)),
            other => panic!("{other:?}"),
        }
    }

    /// The way and the network decide.
    fn send(&mut self, way: usize, flight: u64, parcel: &Parcel) {
        self.sends += 1;
        let n: u32 = parcel.key.parse().unwrap();
        let part = usize::from(parcel.number) - 1;
        if !self.up[way] {
            let after = self.dice.below(50);
            return self.later(after, Happens::Lands(self.epoch, flight, What::NotSent));
        }
        let trouble = if self.settled { 1000 } else { self.dice.below(1000) };
        let m = &self.messages[n as usize];
        let to = m.to;
        let mr = match &mut self.own_mr[way] {
            Some(own) => {
                *own = own.wrapping_add(1);
                *own
            }
            None => parcel.mr,
        };
        let what = if m.bad {
            What::BadNumber
        } else if parcel.again && self.held.contains(&(to, mr)) && self.dice.mille(500) {
            What::Duplicate
        } else {
            match trouble {
                0..20 => What::Moment,
                20..25 => What::Unclear,
                25..30 => What::WayTrouble,
                30..40 => {
                    self.down(way);
                    What::NotSent
                }
                // Hangs, resets and garbled answers after Ctrl-Z, before and after the network has it.
                40..60 => {
                    self.down(way);
                    What::Unknown
                }
                60..80 => {
                    self.reaches(n, part, way, mr, to);
                    self.down(way);
                    What::Unknown
                }
                _ => {
                    self.reaches(n, part, way, mr, to);
                    What::Accepted(mr)
                }
            }
        };
        if what == What::Unknown {
            self.unknown += 1;
        }
        let after = self.dice.below(100);
        self.later(after, Happens::Lands(self.epoch, flight, what));
    }

    fn reaches(&mut self, n: u32, part: usize, way: usize, mr: u8, to: u64) {
        let m = &mut self.messages[n as usize];
        m.copies[part] += 1;
        assert!(!(m.canceled && m.client == Client::Ended(SmsState::Canceled)), "message {n} was taken back and went");
        self.held.push_back((to, mr));
        if self.held.len() > 100 {
            self.held.pop_front();
        }
        if m.report {
            let good = self.dice.mille(900);
            let after = self.dice.below(5_000);
            self.later(after, Happens::Reported(n, u8::try_from(part).unwrap(), way, mr, good));
        }
    }

    fn down(&mut self, way: usize) {
        if self.up[way] {
            self.up[way] = false;
            self.desk.way(self.now, way, false, sentence("silent", false));
            let after = 100 + self.dice.below(5_000);
            self.later(after, Happens::WayBack(way));
        }
    }

    fn lands(&mut self, flight: u64, what: What) {
        let outcome = match what {
            What::Accepted(mr) => Outcome::Accepted(Reference::Mr(mr)),
            What::BadNumber => Outcome::Refused(Blame::Message, sentence("no such number", true)),
            What::Moment => Outcome::Refused(Blame::Moment, sentence("congestion", false)),
            What::Unclear => Outcome::Refused(Blame::Unclear, sentence("error 500", false)),
            What::WayTrouble => Outcome::Refused(Blame::Way, sentence("no service", false)),
            What::NotSent => Outcome::NotSent(sentence("not ready", false)),
            What::Unknown => Outcome::Unknown(sentence("silence", false)),
            What::Duplicate => Outcome::Refused(Blame::Duplicate, sentence("duplicate", true)),
        };
        self.desk.sent(self.now, flight, outcome);
    }

    fn happen(&mut self, what: &Happens) {
        match *what {
            Happens::Lands(epoch, flight, what) => {
                if epoch == self.epoch {
                    self.lands(flight, what);
                }
            }
            Happens::WayBack(way) => {
                self.up[way] = true;
                self.desk.way(self.now, way, true, sentence("", false));
            }
            Happens::Reported(n, _, way, mr, good) => {
                let fate = if good { Fate::Delivered } else { Fate::Lost(sentence("the phone was off", true)) };
                let report = Report { reference: Reference::Mr(mr), to: self.messages[n as usize].to.to_string(), fate };
                self.desk.report(self.now, way, report, Token(0));
            }
            Happens::PhoneSends(n) => self.phone_sends(n),
            Happens::Resubmit(n) => {
                if self.messages[n as usize].client == Client::Asked {
                    self.submit(n);
                }
            }
        }
    }

    fn new_phone_message(&mut self) {
        let n = u32::try_from(self.phones.len()).unwrap();
        let parts = 1 + u8::try_from(self.dice.below(3)).unwrap();
        self.phones.push(PhoneMessage { parts, confirmed: vec![false; usize::from(parts)], given: 0 });
        let after = self.dice.below(2_000);
        self.later(after, Happens::PhoneSends(n));
    }

    /// The modem shows every part that was not confirmed; the book stores it; a kill may come before the confirmation.
    fn phone_sends(&mut self, n: u32) {
        let parts = self.phones[n as usize].parts;
        for number in 1..=parts {
            if self.phones[n as usize].confirmed[usize::from(number) - 1] {
                continue;
            }
            let text = format!("{n}/{number}");
            let fragment = Fragment {
                from: format!("+86139{:08}", n % 40),
                reference: u16::try_from(n % 256).unwrap(),
                total: parts,
                number,
                digest: *blake3::hash(text.as_bytes()).as_bytes(),
                body: Body::Text(text),
                sent_s: self.now / 1000,
                received_s: self.now / 1000,
                until_confirmed: false,
            };
            let answers = self.book.as_mut().unwrap().apply(&[Op::Fragment(Box::new(fragment))]).unwrap();
            if let Some(book::Answer::Stored(stored)) = answers.into_iter().next() {
                for message in stored.given {
                    let of: u32 = message.text.split('/').next().unwrap().parse().unwrap();
                    assert_eq!(message.parts, self.phones[of as usize].parts, "a phone's message {of} was cut: {}", message.text);
                    self.phones[of as usize].given += 1;
                }
            }
            if !self.settled && self.dice.mille(30) {
                // Killed before the modem was told; it shows the part again.
                self.kill();
                let after = self.dice.below(1_000);
                return self.later(after, Happens::PhoneSends(n));
            }
            self.phones[n as usize].confirmed[usize::from(number) - 1] = true;
        }
    }

    /// Until so many parts were sent, then in good weather until everything has ended.
    fn run(&mut self, sends: u64, width: usize) {
        let mut idle = 0u32;
        while self.sends < sends || !self.outstanding.is_empty() || !self.happens.is_empty() {
            self.settled = self.sends >= sends;
            if !self.settled {
                while self.outstanding.len() < width {
                    self.new_message();
                    if self.dice.mille(50) {
                        self.new_phone_message();
                    }
                }
                if self.dice.below(1_500) == 0 {
                    self.kill();
                }
                if self.dice.below(2_000) == 0 {
                    self.cancel_one();
                }
            }
            if self.act() {
                idle = 0;
                continue;
            }
            let next = self.happens.peek().map(|Reverse((at, _, _))| *at);
            let wake = self.desk.next_wake(self.now);
            let at = next.into_iter().chain(wake).min();
            let Some(at) = at else {
                panic!("{} messages wait and nothing will happen", self.outstanding.len());
            };
            self.now = self.now.max(at);
            if next.is_some_and(|next| next <= self.now)
                && let Some(Reverse((_, _, what))) = self.happens.pop()
            {
                self.happen(&what);
            }
            self.desk.tick(self.now);
            idle += 1;
            assert!(idle < 1_000_000, "nothing moves any more: {} messages wait", self.outstanding.len());
        }
    }

    fn cancel_one(&mut self) {
        let Some(&n) = self.outstanding.iter().next() else { return };
        if self.messages[n as usize].client != Client::Queued {
            return;
        }
        self.messages[n as usize].canceled = true;
        self.desk.cancel(self.now, &n.to_string());
    }

    fn check(&mut self) -> (u64, u64) {
        let (mut marked, mut twice) = (0, 0);
        for n in 0..self.messages.len() {
            let n = u32::try_from(n).unwrap();
            let record = self.find(n).unwrap_or_else(|| panic!("message {n} is not in the book"));
            let m = &self.messages[n as usize];
            let Client::Ended(told) = m.client else { panic!("message {n} never ended: {:?}", m.client) };
            let accepted = |s| matches!(s, SmsState::Accepted | SmsState::Delivered | SmsState::NotDelivered);
            assert!(
                told == record.state || (accepted(told) && accepted(record.state)),
                "message {n}: {told:?} {:?}",
                record.state
            );
            marked += u64::from(record.possible_duplicate);
            if m.copies.iter().any(|c| *c > 1) {
                twice += 1;
                assert!(record.possible_duplicate, "message {n} arrived twice and is not marked: {:?}", m.copies);
            }
        }
        for (n, phone) in self.phones.iter().enumerate() {
            assert_eq!(phone.given, 1, "a phone's message {n} was given out {} times", phone.given);
        }
        (marked, twice)
    }
}

fn way(name: &str, window: usize) -> WaySpec {
    WaySpec { name: name.into(), window }
}

#[test]
#[allow(clippy::print_stdout)] // the seed that repeats the run, and what it did
fn nothing_is_lost_and_no_duplicate_is_unmarked() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let sends = number("TWINPOST_SOAK").unwrap_or(100_000);
    let seed = number("TWINPOST_SEED").unwrap_or_else(|| rand::random_range(0..u64::from(u32::MAX)));
    println!("TWINPOST_SEED={seed}");
    // One modem that sends our TP-MR, one that sends its own, a modem with an operator's service beside it.
    let worlds = [
        (vec![way("modem", 1)], vec![None]),
        (vec![way("modem", 1)], vec![Some(0)]),
        (vec![way("operator", 10)], vec![None]),
        (vec![way("modem", 1), way("operator", 4)], vec![Some(7), None]),
    ];
    let each = sends.div_ceil(worlds.len() as u64);
    let began = std::time::Instant::now();
    for (n, (ways, own_mr)) in worlds.into_iter().enumerate() {
        let mut world = World::new(seed.wrapping_add(n as u64), ways, own_mr);
        world.run(each, 60);
        let (marked, twice) = world.check();
        println!(
            "world {n}: {} sends of {} messages, {} from phones, {} kills, {} unknown outcomes, {twice} arrived twice, \
             {marked} marked, 0 lost, 0 unmarked, {} s so far",
            world.sends,
            world.messages.len(),
            world.phones.len(),
            world.kills,
            world.unknown,
            began.elapsed().as_secs()
        );
        assert!(sends < 50_000 || (world.kills > 0 && twice > 0), "the weather was too good");
    }
}
