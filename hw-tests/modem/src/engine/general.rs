//! Commands about the modem and the network (V.250, 27.007), and the way to those about SIM and messages.

use super::Engine;
use super::line::{Op, Reply, parse};
use super::profile::Profile;
use crate::stamp;

impl Engine {
    /// Carries out one command of a line.
    pub(super) fn command(&mut self, command: &str) -> Reply {
        if !command.starts_with(|c: char| c.is_ascii_alphabetic() || c == '&') {
            let (name, op) = parse(command);
            return self.extended(&name, &op);
        }
        self.basic(command)
    }

    fn basic(&mut self, command: &str) -> Reply {
        let upper = command.to_ascii_uppercase();
        let split = upper.find(|c: char| c.is_ascii_digit() || matches!(c, '=' | '?')).unwrap_or(upper.len());
        let (letter, value) = upper.split_at(split);
        let number: u8 = value.parse().unwrap_or(0);
        let profile = &mut self.profile;
        match (letter, number) {
            ("E", 0 | 1) => profile.echo = number == 1,
            ("V", 0 | 1) => profile.words = number == 1,
            ("Q", 0 | 1) => profile.quiet = number == 1,
            ("Z", _) => *profile = self.saved.clone(),
            ("&F", _) => *profile = Profile::new(&self.options),
            ("&W", _) => self.saved = profile.clone(),
            ("&D", 0..=2) => profile.dtr = number,
            ("&C" | "&K" | "&S" | "X" | "L" | "M" | "H" | "\\Q", _) => {}
            ("I", _) => {
                let family = self.options.family;
                self.info(&format!("{}\n{}\n{}", family.manufacturer, family.model, family.revision));
            }
            ("S", _) => return self.register(&upper[1..]),
            ("D" | "A" | "O", _) => return Reply::NoCarrier,
            _ => return Reply::Error,
        }
        Reply::Ok
    }

    /// `S3=13`, `S3?`.
    fn register(&mut self, rest: &str) -> Reply {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, op) = rest.split_at(end);
        let Ok(number) = number.parse::<usize>() else { return Reply::Error };
        let profile = &mut self.profile;
        let place = match number {
            3 => &mut profile.s3,
            4 => &mut profile.s4,
            5 => &mut profile.s5,
            n => match profile.s_other.get_mut(n) {
                Some(place) => place,
                None => return Reply::Error,
            },
        };
        if op == "?" {
            let value = *place;
            self.info(&format!("{value:03}"));
            return Reply::Ok;
        }
        match op.strip_prefix('=').map(str::parse) {
            Some(Ok(value)) if number > 5 || value < 128 => *place = value,
            _ => return Reply::Error,
        }
        Reply::Ok
    }

    fn extended(&mut self, name: &str, op: &Op) -> Reply {
        if let Some((code, left)) = self.cme_next.take() {
            self.cme_next = left.checked_sub(1).filter(|n| *n > 0).map(|n| (code, n));
            return Reply::Cme(code);
        }
        let family = self.options.family;
        let say = |engine: &mut Self, text: &str| {
            engine.info(text);
            Reply::Ok
        };
        match (name, op) {
            ("+CGMI" | "+GMI", Op::Execute) => say(self, family.manufacturer),
            ("+CGMM" | "+GMM", Op::Execute) => say(self, family.model),
            ("+CGMR" | "+GMR", Op::Execute) => say(self, family.revision),
            ("+CGSN" | "+GSN", Op::Execute) => say(self, &self.options.imei.clone()),
            ("+CGMI" | "+CGMM" | "+CGMR" | "+CGSN" | "+CIMI" | "+CSAS" | "+CRES", Op::Test) => Reply::Ok,
            ("+CMEE", _) => self.choice(name, op, 2, |p| &mut p.cmee),
            ("+CREG", _) => self.registration_command(name, op, 0),
            ("+CGREG", _) => self.registration_command(name, op, 1),
            ("+CEREG", _) if family.lte => self.registration_command(name, op, 2),
            ("+COPS", _) => self.operator(op),
            ("+CSQ", Op::Execute) => {
                let level = if self.function == 1 { self.signal } else { 99 };
                let jitter = self.radio_ms(0, 2) as u8;
                let level = if level < 29 { level + jitter } else { level };
                say(self, &format!("+CSQ: {level},{}", if level == 99 { 99 } else { 0 }))
            }
            ("+CSQ", Op::Test) => say(self, "+CSQ: (0-31,99),(0-7,99)"),
            ("+CFUN", _) => self.functionality(op),
            ("+CPAS", Op::Execute) => say(self, "+CPAS: 0"),
            ("+CBC", Op::Execute) => say(self, "+CBC: 0,100"),
            ("+IPR", Op::Read) => say(self, &format!("+IPR: {}", self.speed.unwrap_or(0))),
            ("+IPR", Op::Test) => say(self, "+IPR: (0,1200,2400,4800,9600,19200,38400,57600,115200)"),
            ("+IPR", Op::Set(v)) => match v[0].parse::<u32>() {
                Ok(0) => {
                    self.speed = None;
                    Reply::Ok
                }
                Ok(baud @ (1200 | 2400 | 4800 | 9600 | 19200 | 38400 | 57600 | 115_200)) => {
                    // V.250 6.2.10: the answer still goes out at the old speed.
                    self.finish(Reply::Ok);
                    self.speed = Some(baud);
                    Reply::Silent
                }
                _ => Reply::Error,
            },
            ("+ICF" | "+IFC" | "+CRC" | "+CLIP" | "+CCWA" | "+CUSD" | "+CTZU" | "+CTZR" | "+CSCB", Op::Set(_)) => Reply::Ok,
            ("+CCLK", Op::Read) => {
                let now = stamp::octets(self.now_ms() / 1000, self.options.zone_quarters);
                say(self, &format!("+CCLK: \"{}\"", stamp::text(&now)))
            }
            ("+CCLK", Op::Set(_)) => Reply::Ok,
            ("+GCAP", Op::Execute) => say(self, "+GCAP: +CGSM,+DS"),
            ("+CSCS", Op::Read) => say(self, &format!("+CSCS: \"{}\"", self.profile.character_set)),
            ("+CSCS", Op::Test) => say(self, "+CSCS: (\"GSM\",\"IRA\",\"UCS2\",\"HEX\",\"8859-1\")"),
            ("+CSCS", Op::Set(v)) => {
                let known = ["GSM", "IRA", "UCS2", "HEX", "8859-1"].contains(&v[0].to_ascii_uppercase().as_str());
                if !known {
                    return Reply::Cme(4);
                }
                self.profile.character_set = v[0].to_ascii_uppercase();
                Reply::Ok
            }
            ("^SM20", Op::Set(v)) if family.sm20 => {
                let value = |n: usize| v.get(n).and_then(|t| t.parse::<u8>().ok()).filter(|n| *n < 2);
                match (value(0), v.get(1).map_or(Some(self.profile.sm20[1]), |_| value(1))) {
                    (Some(calls), Some(sends)) => self.profile.sm20 = [calls, sends],
                    _ => return Reply::Cme(21),
                }
                Reply::Ok
            }
            ("^SM20", Op::Read) if family.sm20 => {
                let [calls, sends] = self.profile.sm20;
                say(self, &format!("^SM20: {calls}, {sends}"))
            }
            ("^SMSO", Op::Execute) if family.sm20 => {
                self.info("^SMSO: MS OFF");
                self.finish(Reply::Ok);
                self.power = super::Power::Off;
                Reply::Silent
            }
            _ => self.sim_command(name, op),
        }
    }

    /// A setting of `0..=most` with `?`, `=?` and `=n`.
    pub(super) fn choice(&mut self, name: &str, op: &Op, most: u8, place: fn(&mut Profile) -> &mut u8) -> Reply {
        match op {
            Op::Read => {
                let value = *place(&mut self.profile);
                self.info(&format!("{name}: {value}"));
            }
            Op::Test => self.info(&format!("{name}: (0-{most})")),
            Op::Execute => *place(&mut self.profile) = 0,
            Op::Set(v) => match v[0].parse::<u8>() {
                Ok(n) if n <= most => *place(&mut self.profile) = n,
                _ => return Reply::Cme(50),
            },
        }
        Reply::Ok
    }

    /// `<stat>` of 27.007 7.2.
    pub(super) fn registration(&self) -> u8 {
        if self.function == 1 && self.sim_ready() { self.network } else { 0 }
    }

    pub(super) fn registered(&self) -> bool {
        matches!(self.registration(), 1 | 5)
    }

    fn registration_command(&mut self, name: &str, op: &Op, which: usize) -> Reply {
        match op {
            Op::Read => {
                let mode = self.profile.creg[which];
                let state = self.registration();
                let place = if mode == 2 && matches!(state, 1 | 5) { ",\"1A2B\",\"00C3\"" } else { "" };
                self.info(&format!("{name}: {mode},{state}{place}"));
            }
            Op::Test => self.info(&format!("{name}: (0-2)")),
            Op::Execute => self.profile.creg[which] = 0,
            Op::Set(v) => match v[0].parse::<u8>() {
                Ok(n) if n <= 2 => self.profile.creg[which] = n,
                _ => return Reply::Cme(50),
            },
        }
        Reply::Ok
    }

    /// The network lets the modem in, drops it, denies it: unsolicited lines and what waited for it.
    pub(super) fn set_network(&mut self, state: u8) {
        let before = self.registration();
        self.network = state;
        self.tell_registration(before);
    }

    fn tell_registration(&mut self, before: u8) {
        let now = self.registration();
        if now == before {
            return;
        }
        let names = [("+CREG", true), ("+CGREG", true), ("+CEREG", self.options.family.lte)];
        for (which, (name, there)) in names.into_iter().enumerate() {
            let place = if self.profile.creg[which] == 2 && matches!(now, 1 | 5) { ",\"1A2B\",\"00C3\"" } else { "" };
            if there && self.profile.creg[which] > 0 {
                self.unsolicited_line(format!("{name}: {now}{place}"));
            }
        }
        self.deliver_waiting();
    }

    fn operator(&mut self, op: &Op) -> Reply {
        match op {
            Op::Read => {
                let name = if self.profile.operator_format == 2 { &self.options.operator_code } else { &self.options.operator };
                let text = if self.registered() {
                    format!("+COPS: 0,{},\"{name}\"", self.profile.operator_format)
                } else {
                    "+COPS: 0".to_owned()
                };
                self.info(&text);
            }
            Op::Test => {
                let (name, code) = (self.options.operator.clone(), self.options.operator_code.clone());
                self.info(&format!(
                    "+COPS: (2,\"{name}\",\"{name}\",\"{code}\"),(3,\"CHN-UNICOM\",\"UNICOM\",\"46001\"),,(0-4),(0-2)"
                ));
            }
            Op::Execute => {}
            Op::Set(v) => match v[0].as_str() {
                "3" => match v.get(1).and_then(|t| t.parse::<u8>().ok()) {
                    Some(format) if format <= 2 => self.profile.operator_format = format,
                    _ => return Reply::Cme(50),
                },
                "0" | "1" | "4" => {
                    if !self.registered() {
                        return Reply::Cme(30);
                    }
                }
                "2" => self.set_network(0),
                _ => return Reply::Cme(50),
            },
        }
        Reply::Ok
    }

    fn functionality(&mut self, op: &Op) -> Reply {
        match op {
            Op::Read => {
                let function = self.function;
                self.info(&format!("+CFUN: {function}"));
            }
            Op::Test => self.info("+CFUN: (0,1,4),(0-1)"),
            Op::Execute => return Reply::Error,
            Op::Set(v) => {
                let function = match v[0].as_str() {
                    "0" => 0,
                    "1" => 1,
                    "4" => 4,
                    _ => return Reply::Cme(50),
                };
                if v.get(1).is_some_and(|r| r == "1") {
                    self.finish(Reply::Ok);
                    // What the modem has said is on the wire before it goes down.
                    let said = std::mem::take(&mut self.out);
                    self.reset(None);
                    self.out_bytes = said.iter().map(|(_, b)| b.len()).sum();
                    self.out = said;
                    return Reply::Silent;
                }
                let before = self.registration();
                self.function = function;
                let ms = self.radio_ms(300, 2500);
                self.tell_registration(before);
                if ms > 0 {
                    self.after(ms, super::Timer::Answer(Reply::Ok));
                    return Reply::Later;
                }
            }
        }
        Reply::Ok
    }
}
