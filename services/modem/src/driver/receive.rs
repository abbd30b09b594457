//! Received messages: listing, reading, deleting, acknowledging, handing over.
//!
//! Contract: one chore at a time, so that sends come between. What fails is found again by the next listing.
//! Failure classes: [`Break`].

use std::collections::BTreeSet;

use super::{Break, Driver};
use crate::Token;
use crate::at::{Command, Expect, Final, fields, hex_decode};
use crate::inbox::Chore;
use crate::link::Link;
use crate::state::Storage;

impl Driver {
    /// Hands over what the user's channel takes.
    pub(super) fn give(&mut self) {
        while self.inbox.has_waiting() {
            let Ok(permit) = self.events.try_reserve() else { return };
            match self.inbox.next_event() {
                Some(event) => permit.send(event),
                None => drop(permit),
            }
            self.inbox.given();
        }
    }

    /// Does one thing of the inbox.
    pub(super) async fn chore(&mut self, link: &mut Link) -> Result<(), Break> {
        match self.inbox.chore() {
            None => Ok(()),
            Some(Chore::Read(memory, index)) => self.read(link, &memory, index).await,
            Some(Chore::Delete(token, memory, index)) => self.delete(link, token, &memory, index).await,
            Some(Chore::Acknowledge(token)) => self.acknowledge(link, token).await,
        }
    }

    /// Selects the memory for reading and deleting.
    async fn select(&mut self, link: &mut Link, memory: &str) -> Result<(), Break> {
        if memory.is_empty() || self.session.memory == memory {
            return Ok(());
        }
        let command = Command::new(format!("AT+CPMS=\"{}\"", memory.replace('"', ""))).prefix("+CPMS:").within_ms(5_000);
        if self.ask(link, command).await?.last == Final::Ok {
            memory.clone_into(&mut self.session.memory);
        }
        Ok(())
    }

    async fn read(&mut self, link: &mut Link, memory: &str, index: u16) -> Result<(), Break> {
        self.select(link, memory).await?;
        let command = Command::new(format!("AT+CMGR={index}")).expect(Expect::Pdus("+CMGR:".to_owned())).within_ms(5_000);
        let answer = self.ask(link, command).await?;
        match answer.lines.as_slice() {
            [header, pdu, ..] => {
                // TS 27.005 4.4: <stat> 0 and 1 are received messages, 2 and 3 somebody's own
                let own = fields(header, "+CMGR:").is_some_and(|f| f[0] == "2" || f[0] == "3");
                if let Some(pdu) = hex_decode(pdu).filter(|_| !own) {
                    self.new_message(memory, index, pdu);
                    self.count_place(memory, 1);
                }
            }
            // The place is empty: told so, or by +CMS ERROR: 321.
            _ if answer.last == Final::Ok && !answer.garbled => {}
            _ if answer.last.as_cms() == Some(321) => {}
            _ => self.inbox.unreadable(memory, index),
        }
        Ok(())
    }

    fn new_message(&mut self, memory: &str, index: u16, pdu: Vec<u8>) {
        if self.inbox.stored(memory, index, pdu) {
            self.state.send_modify(|s| s.counters.received += 1);
        }
    }

    /// Counts a place of the receiving memory taken or freed, so that a full one is known at once.
    fn count_place(&mut self, memory: &str, by: i32) {
        self.told(|s| {
            if let Some(storage) = s.storage.as_mut().filter(|s| s.memory == memory) {
                storage.used = u16::try_from((i32::from(storage.used) + by).max(0)).unwrap_or(u16::MAX).min(storage.total);
            }
        });
        if self.state.borrow().phase.can_send() {
            self.judge();
        }
    }

    async fn delete(&mut self, link: &mut Link, token: Token, memory: &str, index: u16) -> Result<(), Break> {
        self.select(link, memory).await?;
        if self.session.memory != memory {
            return Ok(()); // the index would mean another message there
        }
        // SIM cards are slow to write; makers give up to 25 s
        let answer = self.ask(link, Command::new(format!("AT+CMGD={index}")).within_ms(25_000)).await?;
        if answer.last == Final::Ok || answer.last.as_cms() == Some(321) {
            self.inbox.forget(token);
            self.count_place(memory, -1);
        }
        Ok(())
    }

    /// Tells the network that a directly routed message is stored (TS 27.005 3.4.4).
    async fn acknowledge(&mut self, link: &mut Link, token: Token) -> Result<(), Break> {
        let mut answer = self.say(link, "AT+CNMA", Expect::Nothing).await?;
        if matches!(answer.last, Final::Error | Final::Cme(_)) {
            answer = self.say(link, "AT+CNMA=0", Expect::Nothing).await?; // some take only this form in PDU mode
        }
        self.inbox.forget(token);
        if answer.last != Final::Ok {
            // Too late (340) or refused: the modem has switched its routing off (TS 27.005 3.4.1), and the network
            // sends the message again.
            if let Some(parameters) = self.session.cnmi.clone() {
                self.set(link, &format!("AT+CNMI={parameters}")).await?;
            }
        }
        Ok(())
    }

    /// Lists everything in the memory: what came while nobody listened.
    pub(super) async fn list_all(&mut self, link: &mut Link) -> Result<(), Break> {
        let memory = self.session.memory.clone();
        for _ in 0..3 {
            // TS 27.005 4.1: 4 is all. Each line of the answer starts the time anew.
            let command = Command::new("AT+CMGL=4").expect(Expect::Pdus("+CMGL:".to_owned())).within_ms(20_000);
            let answer = self.ask(link, command).await?;
            if answer.last != Final::Ok {
                return self.read_one_by_one(&memory);
            }
            let mut indices = BTreeSet::new();
            for pair in answer.lines.chunks_exact(2) {
                let Some(f) = fields(&pair[0], "+CMGL:") else { continue };
                let Some(index) = f[0].parse::<u16>().ok() else { continue };
                indices.insert(index);
                if f.get(1).is_some_and(|stat| stat == "2" || stat == "3") {
                    continue; // somebody's own, not received
                }
                if let Some(pdu) = hex_decode(&pair[1]) {
                    self.new_message(&memory, index, pdu);
                }
            }
            if !answer.garbled {
                self.inbox.listed(&memory, &indices);
                return Ok(());
            }
        }
        Ok(())
    }

    /// A modem that does not list: all places are read.
    #[allow(clippy::unnecessary_wraps)] // the tail of list_all
    fn read_one_by_one(&mut self, memory: &str) -> Result<(), Break> {
        let storage = self.state.borrow().storage.clone().unwrap_or_default();
        if storage.used > 0 {
            for index in 0..=storage.total.min(300) {
                self.inbox.announced(memory, index);
            }
        }
        Ok(())
    }

    /// How full the memory for received messages is.
    pub(super) async fn read_storage(&mut self, link: &mut Link) -> Result<(), Break> {
        let command = Command::new("AT+CPMS?").prefix("+CPMS:").within_ms(5_000);
        let answer = self.ask(link, command).await?;
        let Some(f) = answer.lines.first().and_then(|l| fields(l, "+CPMS:")).filter(|_| answer.last == Final::Ok) else {
            return Ok(());
        };
        if self.session.memory.is_empty() {
            self.session.memory.clone_from(&f[0]);
        }
        // TS 27.005 3.2.2: three memories, each with used and total; the last one receives. Old phones have fewer.
        let group = f.chunks_exact(3).nth(2).or_else(|| f.chunks_exact(3).last());
        if let Some([memory, used, total]) = group
            && let (Ok(used), Ok(total)) = (used.parse(), total.parse())
        {
            let storage = Storage { memory: memory.clone(), used, total };
            self.told(|s| s.storage = Some(storage));
        }
        Ok(())
    }
}
