//! Commands about messages: settings, memories, reading and deleting (27.005).

use super::Engine;
use super::line::{DataFor, Op, Reply};
use crate::address::{Number, split_centre};
use crate::storage::{Memory, Status, Stored};

impl Engine {
    pub(super) fn message_command(&mut self, name: &str, op: &Op) -> Reply {
        match (name, op) {
            ("+CSMS", _) => return self.service(op),
            ("+CMGF", Op::Read) => {
                let mode = u8::from(self.profile.text);
                self.info(&format!("+CMGF: {mode}"));
                return Reply::Ok;
            }
            ("+CMGF", Op::Test) => {
                self.info("+CMGF: (0,1)");
                return Reply::Ok;
            }
            ("+CMGF", Op::Set(v)) => {
                match v[0].as_str() {
                    "0" => self.profile.text = false,
                    "1" => self.profile.text = true,
                    _ => return Reply::Cms(303),
                }
                return Reply::Ok;
            }
            ("+CMMS", _) => return self.choice(name, op, 2, |p| &mut p.more),
            ("+CSDH", Op::Set(v)) => {
                self.profile.show_header = v[0] == "1";
                return Reply::Ok;
            }
            ("+CSDH", Op::Read) => {
                let shown = u8::from(self.profile.show_header);
                self.info(&format!("+CSDH: {shown}"));
                return Reply::Ok;
            }
            ("+CSMP", _) => return self.text_parameters(op),
            ("+CNMI", _) => return self.indications(op),
            ("+CNMA", Op::Execute) => return self.acknowledge(true),
            ("+CNMA", Op::Test) => {
                self.info("+CNMA: (0-2)");
                return Reply::Ok;
            }
            ("+CNMA", Op::Set(v)) => {
                let kind = match v[0].as_str() {
                    "0" => 0,
                    "1" => 1,
                    "2" => 2,
                    _ => return Reply::Cms(305),
                };
                let length = v.get(1).map_or(Some(0), |l| l.parse().ok());
                return match length {
                    Some(0) => self.acknowledge(kind != 2),
                    Some(length @ 1..=176) => self.begin_data(DataFor::Acknowledge { kind, length }),
                    _ => Reply::Cms(305),
                };
            }
            _ => {}
        }
        let known = ["+CMGS", "+CMGW", "+CMSS", "+CMGL", "+CMGR", "+CMGD", "+CPMS", "+CSCA", "+CSAS", "+CRES"];
        if !known.contains(&name) {
            return Reply::Error;
        }
        if *op != Op::Test
            && !matches!(name, "+CMGS" | "+CMSS")
            && let Some(error) = self.sim_cms()
        {
            return error;
        }
        match (name, op) {
            ("+CMGS", Op::Set(v)) => self.submit_command(v),
            ("+CMGW", Op::Set(v)) => self.write_command(v),
            ("+CMSS", Op::Set(v)) => self.send_stored(v),
            ("+CMGS" | "+CMGW" | "+CMSS" | "+CMGR" | "+CSCA", Op::Test) => Reply::Ok,
            ("+CMGL", Op::Test) => {
                let words = self.profile.text;
                self.info(if words {
                    "+CMGL: (\"REC UNREAD\",\"REC READ\",\"STO UNSENT\",\"STO SENT\",\"ALL\")"
                } else {
                    "+CMGL: (0-4)"
                });
                Reply::Ok
            }
            ("+CMGL", Op::Execute) => self.list("0"),
            ("+CMGL", Op::Set(v)) => self.list(&v[0]),
            ("+CMGR", Op::Set(v)) => self.read_message(&v[0]),
            ("+CMGD", Op::Test) => {
                let used: Vec<String> =
                    self.storage.list(self.profile.memories[0]).iter().map(|(at, _)| at.to_string()).collect();
                self.info(&format!("+CMGD: ({}),(0-4)", used.join(",")));
                Reply::Ok
            }
            ("+CMGD", Op::Set(v)) => self.delete(v),
            ("+CPMS", _) => self.memories(op),
            ("+CSCA", Op::Read) => {
                let centre = self.profile.centre.clone();
                let kind = if centre.starts_with('+') { 145 } else { 129 };
                self.info(&format!("+CSCA: \"{centre}\",{kind}"));
                Reply::Ok
            }
            ("+CSCA", Op::Set(v)) => {
                let plain = v[0].strip_prefix('+').unwrap_or(&v[0]);
                let international = v[0].starts_with('+') || v.get(1).is_some_and(|t| t == "145");
                if plain.len() > 20 || !plain.bytes().all(|b| b.is_ascii_digit()) {
                    return Reply::Cms(305);
                }
                self.profile.centre = format!("{}{plain}", if international && !plain.is_empty() { "+" } else { "" });
                Reply::Ok
            }
            ("+CSAS", Op::Execute | Op::Set(_)) => {
                self.saved = self.profile.clone();
                Reply::Ok
            }
            ("+CRES", Op::Execute | Op::Set(_)) => {
                self.profile.centre = self.saved.centre.clone();
                self.profile.csmp = self.saved.csmp;
                Reply::Ok
            }
            _ => Reply::Error,
        }
    }

    /// `+CSMS` (27.005 3.2.1).
    fn service(&mut self, op: &Op) -> Reply {
        match op {
            Op::Read => {
                let service = u8::from(self.profile.phase2plus);
                self.info(&format!("+CSMS: {service},1,1,1"));
            }
            Op::Test => self.info(if self.options.family.phase2plus { "+CSMS: (0,1)" } else { "+CSMS: (0)" }),
            Op::Set(v) => {
                match v[0].as_str() {
                    "0" => self.profile.phase2plus = false,
                    "1" if self.options.family.phase2plus => self.profile.phase2plus = true,
                    _ => return Reply::Cms(302),
                }
                self.info("+CSMS: 1,1,1");
            }
            Op::Execute => return Reply::Error,
        }
        Reply::Ok
    }

    /// `+CSMP` (27.005 3.3.2).
    fn text_parameters(&mut self, op: &Op) -> Reply {
        match op {
            Op::Read => {
                let [first, validity, protocol, coding] = self.profile.csmp;
                self.info(&format!("+CSMP: {first},{validity},{protocol},{coding}"));
            }
            Op::Test => {}
            Op::Execute => return Reply::Error,
            Op::Set(v) => {
                let mut values = self.profile.csmp;
                for (place, text) in values.iter_mut().zip(v) {
                    if !text.is_empty() {
                        let Ok(value) = text.parse() else { return Reply::Cms(305) };
                        *place = value;
                    }
                }
                self.profile.csmp = values;
            }
        }
        Reply::Ok
    }

    /// `+CNMI` (27.005 3.4.1).
    fn indications(&mut self, op: &Op) -> Reply {
        match op {
            Op::Read => {
                let text: Vec<String> = self.profile.cnmi.iter().map(u8::to_string).collect();
                self.info(&format!("+CNMI: {}", text.join(",")));
            }
            Op::Test => self.info("+CNMI: (0-3),(0-3),(0,2,3),(0-2),(0,1)"),
            Op::Execute => self.profile.cnmi = [0; 5],
            Op::Set(v) => {
                if v.len() > 5 {
                    return Reply::Cms(302);
                }
                let mut values = self.profile.cnmi;
                for (n, text) in v.iter().enumerate().filter(|(_, t)| !t.is_empty()) {
                    match text.parse::<u8>() {
                        Ok(value) if value <= [3, 3, 3, 2, 1][n] && !(n == 2 && value == 1) => values[n] = value,
                        _ => return Reply::Cms(302),
                    }
                }
                self.profile.cnmi = values;
                self.deliver_waiting();
            }
        }
        Reply::Ok
    }

    fn begin_data(&mut self, what: DataFor) -> Reply {
        self.prompt(what);
        Reply::Later
    }

    fn submit_command(&mut self, values: &[String]) -> Reply {
        if self.profile.text {
            let valid = Number::parse(&values[0]).is_some_and(|n| n.kind != 0xd0);
            return if valid { self.begin_send(DataFor::SendText { to: values[0].clone() }) } else { Reply::Cms(305) };
        }
        match values[0].parse::<usize>() {
            // 23.040: the shortest SUBMIT has 7 octets, the longest 164 + 12 of address.
            Ok(length @ 7..=176) if values.len() == 1 => self.begin_send(DataFor::Send { length }),
            _ => Reply::Cms(304),
        }
    }

    fn write_command(&mut self, values: &[String]) -> Reply {
        if self.profile.text {
            return self.begin_data(DataFor::WriteText { to: values[0].clone() });
        }
        let status = values.get(1).map_or(Some(2), |s| s.parse::<u8>().ok()).filter(|s| *s < 4);
        match (values[0].parse::<usize>(), status) {
            (Ok(length @ 7..=176), Some(status)) => self.begin_data(DataFor::Write { length, status }),
            _ => Reply::Cms(304),
        }
    }

    pub(super) fn written(&mut self, pdu: Option<Vec<u8>>, status: u8) {
        let memory = self.profile.memories[1];
        let reply = match (pdu, Status::of(status)) {
            (Some(_), Some(_)) if self.full => Reply::Cms(322),
            (Some(pdu), Some(status)) => match self.storage.keep(memory, Stored { status, pdu }) {
                Some(index) => {
                    self.info(&format!("+CMGW: {index}"));
                    Reply::Ok
                }
                None => Reply::Cms(322),
            },
            _ => Reply::Cms(304),
        };
        if reply == Reply::Ok { self.resume(reply) } else { self.finish(reply) }
    }

    fn send_stored(&mut self, values: &[String]) -> Reply {
        if let Some(error) = self.send_obstacle() {
            return error;
        }
        let memory = self.profile.memories[1];
        let index = values[0].parse().unwrap_or(0);
        let Some(Some(stored)) = self.storage.slot(memory, index) else { return Reply::Cms(321) };
        if !matches!(stored.status, Status::Unsent | Status::Sent) {
            return Reply::Cms(302);
        }
        stored.status = Status::Sent;
        let pdu = stored.pdu.clone();
        let Some((centre, tpdu)) = split_centre(&pdu) else { return Reply::Cms(304) };
        self.asked_ms = self.now_ms();
        self.choose_fault_of_stored();
        self.send(super::send::Job { octets: tpdu.to_vec(), centre, command: "+CMSS" });
        Reply::Later
    }

    fn list(&mut self, which: &str) -> Reply {
        let wanted = match (self.profile.text, which.to_ascii_uppercase().as_str()) {
            (true, "ALL") | (false, "4") => None,
            (true, word) => match (0..4).filter_map(Status::of).find(|s| s.word() == word) {
                // Bare +CMGL lists what is unread.
                None if word == "0" => Some(Status::Unread),
                None => return Reply::Cms(305),
                found => found,
            },
            (false, n) => match n.parse().ok().and_then(Status::of) {
                None => return Reply::Cms(305),
                found => found,
            },
        };
        let memory = self.profile.memories[0];
        for (index, stored) in self.storage.list(memory) {
            if wanted.is_some_and(|w| w != stored.status) {
                continue;
            }
            let text = self.shown(&stored, Some(index));
            self.info(&text);
            self.mark_read(memory, index);
        }
        Reply::Ok
    }

    fn mark_read(&mut self, memory: Memory, index: usize) {
        if let Some(Some(stored)) = self.storage.slot(memory, index)
            && stored.status == Status::Unread
        {
            stored.status = Status::Read;
        }
    }

    fn read_message(&mut self, index: &str) -> Reply {
        let memory = self.profile.memories[0];
        let index = index.parse().unwrap_or(0);
        match self.storage.slot(memory, index).map(|s| s.clone()) {
            None => Reply::Cms(321),
            Some(None) if self.options.family.sm20 => {
                self.info("+CMGR: 0,,0\n");
                Reply::Ok
            }
            Some(None) => Reply::Cms(321),
            Some(Some(stored)) => {
                let text = self.shown(&stored, None);
                self.info(&text);
                self.mark_read(memory, index);
                Reply::Ok
            }
        }
    }

    fn delete(&mut self, values: &[String]) -> Reply {
        let memory = self.profile.memories[0];
        let flag = values.get(1).map_or(Some(0), |f| f.parse::<u8>().ok());
        let gone = |s: Status| match flag {
            Some(1) => s == Status::Read,
            Some(2) => matches!(s, Status::Read | Status::Sent),
            Some(3) => s != Status::Unread,
            _ => true,
        };
        match flag {
            Some(0) => match values[0].parse().ok().and_then(|index| self.storage.slot(memory, index)) {
                Some(slot) => self.counters.deleted += u64::from(slot.take().is_some()),
                None => return Reply::Cms(321),
            },
            Some(1..=4) => {
                for (index, stored) in self.storage.list(memory) {
                    if gone(stored.status)
                        && let Some(slot) = self.storage.slot(memory, index)
                    {
                        *slot = None;
                        self.counters.deleted += 1;
                    }
                }
            }
            _ => return Reply::Cms(305),
        }
        // 24.011: the modem tells the network that it has room again.
        self.deliver_waiting();
        Reply::Ok
    }

    fn memories(&mut self, op: &Op) -> Reply {
        let figures = |engine: &Self, m: Memory| format!("{},{}", engine.storage.used(m), engine.storage.capacity(m));
        match op {
            Op::Read => {
                let text: Vec<String> =
                    self.profile.memories.iter().map(|m| format!("\"{}\",{}", m.name(), figures(self, *m))).collect();
                self.info(&format!("+CPMS: {}", text.join(",")));
            }
            Op::Test => {
                let names: Vec<String> = self.options.family.memories.iter().map(|m| format!("\"{m}\"")).collect();
                let group = format!("({})", names.join(","));
                self.info(&format!("+CPMS: {group},{group},{group}"));
            }
            Op::Set(v) => {
                let mut chosen = self.profile.memories;
                if v.len() > 3 {
                    return Reply::Cms(305);
                }
                for (place, name) in chosen.iter_mut().zip(v).filter(|(_, name)| !name.is_empty()) {
                    match Memory::named(name).filter(|m| self.options.family.memories.contains(&m.name())) {
                        Some(memory) => *place = memory,
                        None => return Reply::Cms(302),
                    }
                }
                self.profile.memories = chosen;
                let text: Vec<String> = chosen.iter().map(|m| figures(self, *m)).collect();
                self.info(&format!("+CPMS: {}", text.join(",")));
            }
            Op::Execute => return Reply::Error,
        }
        Reply::Ok
    }
}
