//! Received messages between the modem and the user: what was read, what was handed over, what may be deleted.
//!
//! Contract: a message leaves the modem (by `+CMGD` or `+CNMA`) only after its token was confirmed. The same message on
//! the same place is handed over once, however often it is listed. Pure: the driver asks it what to do next. Bounded:
//! at [`MAX_HELD`] messages no more are read, and stay where they are. No failure classes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{Event, Token};

/// Messages held at most.
pub(crate) const MAX_HELD: usize = 512;
/// How often a place is read that gives no readable PDU; the next listing tries again.
const MAX_READS: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In a memory, at an index.
    Stored(String, u16),
    /// Routed directly; `owed`: the network waits for `+CNMA`.
    Direct { owed: bool },
}

#[derive(Debug)]
struct Held {
    pdu: Vec<u8>,
    place: Place,
    confirmed: bool,
}

/// Something to do on the modem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chore {
    /// `+CMGR` at this place.
    Read(String, u16),
    /// `+CMGD` at this place.
    Delete(Token, String, u16),
    /// `+CNMA` for a direct message.
    Acknowledge(Token),
}

/// The inbox.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    last: u64,
    held: BTreeMap<Token, Held>,
    /// Not handed over yet.
    waiting: VecDeque<Token>,
    reads: VecDeque<(String, u16)>,
    tries: BTreeMap<(String, u16), u8>,
    deletes: BTreeSet<Token>,
    acknowledgements: VecDeque<Token>,
}

impl Inbox {
    fn hold(&mut self, pdu: Vec<u8>, place: Place) -> Token {
        self.last += 1;
        let token = Token(self.last);
        self.held.insert(token, Held { pdu, place, confirmed: false });
        self.waiting.push_back(token);
        token
    }

    /// The modem says that something lies there (`+CMTI`).
    pub(crate) fn announced(&mut self, memory: &str, index: u16) {
        let place = (memory.to_owned(), index);
        if !self.reads.contains(&place) && self.reads.len() < 2 * MAX_HELD {
            self.tries.remove(&place);
            self.reads.push_back(place);
        }
    }

    /// A message was read there. Returns whether it is new.
    pub(crate) fn stored(&mut self, memory: &str, index: u16, pdu: Vec<u8>) -> bool {
        self.tries.remove(&(memory.to_owned(), index));
        let place = Place::Stored(memory.to_owned(), index);
        if let Some((&token, held)) = self.held.iter().find(|(_, h)| h.place == place) {
            if held.pdu == pdu {
                if held.confirmed {
                    self.deletes.insert(token);
                }
                return false;
            }
            self.forget(token); // somebody else emptied the place
        }
        if self.held.len() >= MAX_HELD {
            return false;
        }
        self.hold(pdu, place);
        true
    }

    /// A message came directly. `owed`: with `+CSMS` 1 the network waits for our acknowledgement.
    pub(crate) fn direct(&mut self, pdu: Vec<u8>, owed: bool) {
        if self.held.len() < MAX_HELD + 64 {
            self.hold(pdu, Place::Direct { owed });
        }
    }

    /// A reading gave nothing readable.
    pub(crate) fn unreadable(&mut self, memory: &str, index: u16) {
        let place = (memory.to_owned(), index);
        let tries = self.tries.entry(place.clone()).or_default();
        *tries += 1;
        if *tries < MAX_READS {
            self.reads.push_back(place);
        } else {
            self.tries.remove(&place);
        }
    }

    /// The next message to hand over.
    pub(crate) fn next_event(&self) -> Option<Event> {
        let &token = self.waiting.front()?;
        let pdu = self.held.get(&token)?.pdu.clone();
        // TS 23.040 9.2.3.1: TP-MTI 10 from the service centre is a status report
        let first = pdu.get(1 + usize::from(*pdu.first()?));
        let report = first.is_some_and(|octet| octet & 0b11 == 0b10);
        Some(if report { Event::StatusReport { pdu, token } } else { Event::Deliver { pdu, token } })
    }

    /// It was handed over.
    pub(crate) fn given(&mut self) {
        self.waiting.pop_front();
    }

    /// Whether something waits to be handed over.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The user has stored it.
    pub(crate) fn confirm(&mut self, token: Token) {
        let Some(held) = self.held.get_mut(&token) else { return };
        if std::mem::replace(&mut held.confirmed, true) {
            return;
        }
        match held.place {
            Place::Stored(..) => drop(self.deletes.insert(token)),
            Place::Direct { owed: true } => self.acknowledgements.push_back(token),
            Place::Direct { owed: false } => self.forget(token),
        }
    }

    /// What to do next; acknowledgements first, the network's patience is short.
    pub(crate) fn chore(&mut self) -> Option<Chore> {
        if let Some(token) = self.acknowledgements.pop_front() {
            return Some(Chore::Acknowledge(token));
        }
        if let Some(token) = self.deletes.pop_first() {
            match &self.held.get(&token)?.place {
                Place::Stored(memory, index) => return Some(Chore::Delete(token, memory.clone(), *index)),
                Place::Direct { .. } => return None,
            }
        }
        if self.held.len() < MAX_HELD {
            let (memory, index) = self.reads.pop_front()?;
            return Some(Chore::Read(memory, index));
        }
        None
    }

    /// Whether [`Inbox::chore`] has something.
    pub(crate) fn has_chores(&self) -> bool {
        !self.acknowledgements.is_empty() || !self.deletes.is_empty() || (!self.reads.is_empty() && self.held.len() < MAX_HELD)
    }

    /// Deleted or acknowledged.
    pub(crate) fn forget(&mut self, token: Token) {
        self.held.remove(&token);
        self.deletes.remove(&token);
        self.waiting.retain(|t| *t != token);
    }

    /// The modem restarted: it no longer waits for acknowledgements, the network sends those messages again. Readings
    /// are left to the listing that follows.
    pub(crate) fn restarted(&mut self) {
        self.acknowledgements.clear();
        self.reads.clear();
        self.tries.clear();
        self.held.retain(|_, h| !(h.confirmed && matches!(h.place, Place::Direct { .. })));
        for held in self.held.values_mut() {
            if let Place::Direct { owed } = &mut held.place {
                *owed = false;
            }
        }
    }

    /// A complete listing of a memory: what is no longer there was deleted.
    pub(crate) fn listed(&mut self, memory: &str, indices: &BTreeSet<u16>) {
        let gone: Vec<Token> = self
            .held
            .iter()
            .filter(|(_, h)| h.confirmed && matches!(&h.place, Place::Stored(m, i) if m == memory && !indices.contains(i)))
            .map(|(t, _)| *t)
            .collect();
        for token in gone {
            self.forget(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVER: [u8; 4] = [0x01, 0x91, 0x04, 0x05];
    const REPORT: [u8; 4] = [0x00, 0x06, 0x01, 0x02];

    fn give(inbox: &mut Inbox) -> Option<Token> {
        let event = inbox.next_event()?;
        inbox.given();
        match event {
            Event::Deliver { token, .. } | Event::StatusReport { token, .. } => Some(token),
            _ => None,
        }
    }

    #[test]
    fn deleted_only_after_confirmation() {
        let mut inbox = Inbox::default();
        inbox.announced("SM", 3);
        inbox.announced("SM", 3);
        assert_eq!(inbox.chore(), Some(Chore::Read("SM".into(), 3)));
        assert_eq!(inbox.chore(), None);
        assert!(inbox.stored("SM", 3, DELIVER.to_vec()));
        let token = give(&mut inbox).unwrap();
        assert_eq!(inbox.chore(), None);
        assert!(!inbox.stored("SM", 3, DELIVER.to_vec()), "the same place and message is not new");
        assert!(give(&mut inbox).is_none());
        inbox.confirm(token);
        inbox.confirm(token);
        assert_eq!(inbox.chore(), Some(Chore::Delete(token, "SM".into(), 3)));
        assert_eq!(inbox.chore(), None);
        // The deletion failed; a later listing shows it again, and only the deletion is repeated.
        assert!(!inbox.stored("SM", 3, DELIVER.to_vec()));
        assert_eq!(inbox.chore(), Some(Chore::Delete(token, "SM".into(), 3)));
        inbox.forget(token);
        assert!(inbox.stored("SM", 3, DELIVER.to_vec()), "now it is another message with the same text");
    }

    #[test]
    fn direct_messages_are_acknowledged_once() {
        let mut inbox = Inbox::default();
        inbox.direct(REPORT.to_vec(), true);
        assert!(matches!(inbox.next_event(), Some(Event::StatusReport { .. })));
        let token = give(&mut inbox).unwrap();
        inbox.confirm(token);
        assert_eq!(inbox.chore(), Some(Chore::Acknowledge(token)));
        inbox.forget(token);
        inbox.direct(DELIVER.to_vec(), true);
        let token = give(&mut inbox).unwrap();
        inbox.restarted();
        inbox.confirm(token);
        assert_eq!(inbox.chore(), None, "the modem that restarted wants none");
        inbox.direct(DELIVER.to_vec(), false);
        let token = give(&mut inbox).unwrap();
        inbox.confirm(token);
        assert_eq!(inbox.chore(), None);
    }

    #[test]
    fn a_full_house_reads_no_more() {
        let mut inbox = Inbox::default();
        for index in 0..u16::try_from(MAX_HELD).unwrap() {
            assert!(inbox.stored("SM", index, DELIVER.to_vec()));
        }
        assert!(!inbox.stored("ME", 1, DELIVER.to_vec()));
        inbox.announced("ME", 2);
        assert!(!inbox.has_chores());
        let token = give(&mut inbox).unwrap();
        inbox.confirm(token);
        assert!(matches!(inbox.chore(), Some(Chore::Delete(..))));
        inbox.forget(token);
        assert_eq!(inbox.chore(), Some(Chore::Read("ME".into(), 2)));
    }

    #[test]
    fn unreadable_places_are_left_after_three_readings() {
        let mut inbox = Inbox::default();
        inbox.announced("SM", 1);
        for _ in 0..3 {
            assert!(inbox.chore().is_some());
            inbox.unreadable("SM", 1);
        }
        assert!(inbox.chore().is_none());
    }
}
