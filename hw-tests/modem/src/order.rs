//! Orders to a running simulator: as values from tests, as lines on the control socket.

use crate::address::unhex;
use crate::options::{Card, Effect, Fault, Stage, Timing, Until};

/// Something that shall happen to the modem.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// A phone sends a text to the modem. The sender may be a name.
    Receive {
        /// Number or name.
        from: String,
        /// Any text; long ones come in parts.
        text: String,
    },
    /// A TPDU comes from the network as it is.
    ReceivePdu(Vec<u8>),
    /// Faults of the next sends, in this order.
    Faults(Vec<Fault>),
    /// A fault with a probability for each send.
    Chance(Fault, f64),
    /// No more faults, ordered or by chance; garble and unsolicited lines end too.
    Healthy,
    /// The next extended commands end with this `+CME ERROR`.
    Cme(u16, u32),
    /// Probability for each byte to be changed.
    Garble(f64),
    /// Probability for an unsolicited line at each place inside an answer.
    Unsolicited(f64),
    /// An unsolicited line now (behind a running answer).
    Line(String),
    /// An unsolicited line inside the next answer.
    Inside(String),
    /// Registration as in `+CREG`: 0 not searching, 1 home, 2 searching, 3 denied, 5 roaming.
    Network(u8),
    /// Signal 0..31, 99.
    Signal(u8),
    /// SIM card in, out, locked.
    Card(Card),
    /// The SIM asks for this PIN from the next start on; `None`: for none.
    Pin(Option<String>),
    /// The message memory is full, whatever is in it.
    Full(bool),
    /// Places of the SIM's memory.
    Capacity(usize),
    /// A phone is switched on or off: the service centre keeps its messages until their validity is over.
    Phone {
        /// As messages name it, with `+` when international.
        number: String,
        /// On.
        on: bool,
    },
    /// The service centre makes status reports.
    Reports(bool),
    /// TP-ST of reports (23.040 9.2.3.15): 0 delivered, 0x46 validity period expired, ...
    ReportStatus(u8),
    /// Milliseconds until the report.
    ReportDelay(u64),
    /// The service centre refuses marked repeats with TP-FCS 0xC5.
    RefuseRepeats(bool),
    /// Hang now.
    Hang(Until),
    /// Come back from a hang.
    Wake,
    /// Start anew now; with a number the port is away for so many milliseconds.
    Reset(Option<u64>),
    /// Power off and on.
    PowerCycle,
    /// DTR falls and rises.
    Dtr,
    /// How long things take.
    Timing(Timing),
    /// Milliseconds that the echo takes.
    EchoDelay(u64),
    /// Fixed speed of the modem; `None` follows the terminal.
    Baud(Option<u32>),
}

/// What `help` says.
pub const HELP: &str = "\
receive NUMBER|NAME TEXT...        a phone sends a text to the modem (\\n is a line end; long ones come in parts)
receive-pdu HEX                    a TPDU comes from the network as it is
hang [STAGE] [UNTIL]               hang now, or at a STAGE of the next send
reset [STAGE] [away MS]            start anew now, or at a STAGE of the next send; with the port away as a USB one
error CODE [before|sent|not-sent] [N | P]   +CMS ERROR for the next N sends (1), or with probability P (0.01)
late MS [N | P]                    the answer to a send comes late
chance P hang|reset STAGE [UNTIL|away MS]   a fault with a probability for each send
cme CODE [N]                       +CME ERROR for the next N extended commands
healthy                            no more faults
  STAGE: before-prompt, after-prompt, sent (behind Ctrl-Z, the message went out), not-sent
  UNTIL: at (the next command), cfun (AT+CFUN=1,1), dtr, power, or milliseconds; default at
garble P                           probability for each byte to be changed
unsolicited P                      probability for unsolicited lines inside answers
line TEXT | inside TEXT            an unsolicited line now | inside the next answer
ring                               line RING
register | roam | deregister | searching | denied   the network
signal N                           0..31, 99 unknown
sim in|out|locked                  the card
pin DIGITS|none                    the PIN that the SIM asks for from the next start on
storage-full on|off                message memory full (+CMS ERROR: 322)
capacity N                         places of the SIM's memory
phone NUMBER off|on                a phone that is off: its messages wait until their validity is over
report on|off                      the service centre makes status reports
report status N | report delay MS  TP-ST of the reports; milliseconds until they come
repeats refuse|take                the service centre refuses marked repeats (TP-FCS C5)
wake | power | dtr                 back from a hang; power off and on; DTR falls and rises
timing instant|radio|MS            how long a send takes
echo-delay MS                      the echo comes late
baud N|auto                        the modem's speed
state | counters | received [N] | seed | help | quit";

fn stage(word: &str) -> Option<Stage> {
    Some(match word {
        "before-prompt" | "before" => Stage::BeforePrompt,
        "after-prompt" => Stage::AfterPrompt,
        "sent" | "after-send" | "after-ctrl-z" => Stage::AfterSend { sent: true },
        "not-sent" => Stage::AfterSend { sent: false },
        _ => return None,
    })
}

fn until(word: &str) -> Result<Until, String> {
    Ok(match word {
        "at" => Until::At,
        "cfun" => Until::Cfun,
        "dtr" => Until::Dtr,
        "power" => Until::Power,
        ms => Until::Ms(number(ms)?),
    })
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("'{word}' is not a number that fits here"))
}

fn probability(word: &str) -> Result<f64, String> {
    number(word).and_then(|p: f64| if (0.0..=1.0).contains(&p) { Ok(p) } else { Err(format!("{word} is not in 0..1")) })
}

fn switch(word: &str) -> Result<bool, String> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(format!("'{other}' is neither on nor off")),
    }
}

/// `N` times, or with probability `P` (a number with a point).
fn often(fault: Fault, word: Option<&&str>) -> Result<Order, String> {
    match word {
        None => Ok(Order::Faults(vec![fault])),
        Some(p) if p.contains('.') => Ok(Order::Chance(fault, probability(p)?)),
        Some(n) => Ok(Order::Faults(vec![fault; number::<usize>(n)?.min(100_000)])),
    }
}

fn fault(words: &[&str]) -> Result<Order, String> {
    let hangs = words[0] == "hang";
    let (place, rest) = match words.get(1).and_then(|w| stage(w)) {
        Some(place) => (Some(place), &words[2..]),
        None => (None, &words[1..]),
    };
    let away_ms = match rest {
        ["away", ms, ..] if !hangs => Some(number(ms)?),
        ["away"] if !hangs => Some(1000),
        [] => None,
        [_, ..] if hangs => None,
        [word, ..] => return Err(format!("'{word}' is not a stage and not 'away'")),
    };
    let until = if hangs { rest.first().map_or(Ok(Until::At), |w| until(w))? } else { Until::At };
    Ok(match (place, hangs) {
        (None, true) => Order::Hang(until),
        (None, false) => Order::Reset(away_ms),
        (Some(stage), true) => Order::Faults(vec![Fault { stage, effect: Effect::Hang(until) }]),
        (Some(stage), false) => Order::Faults(vec![Fault { stage, effect: Effect::Reset { away_ms } }]),
    })
}

impl Order {
    /// Reads a line of the control socket.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let rest = |n: usize| line.trim_start().splitn(n + 1, char::is_whitespace).nth(n).unwrap_or("").trim();
        let sent = Stage::AfterSend { sent: true };
        Ok(match words.as_slice() {
            ["receive", from, _, ..] => Self::Receive { from: (*from).to_owned(), text: rest(2).replace("\\n", "\n") },
            ["receive-pdu", hex] => Self::ReceivePdu(unhex(hex.as_bytes()).ok_or("the TPDU is not hex")?),
            ["hang" | "reset", ..] => fault(&words)?,
            ["chance", p, rest @ ..] if matches!(rest.first(), Some(&("hang" | "reset"))) => match fault(rest)? {
                Self::Faults(faults) => Self::Chance(faults[0], probability(p)?),
                _ => return Err("name a stage: before-prompt, after-prompt, sent, not-sent".to_owned()),
            },
            ["error", code, tail @ ..] => {
                let effect = Effect::Cms(number(code)?);
                let (stage, tail) = match tail.first().and_then(|w| stage(w)) {
                    Some(stage) => (stage, &tail[1..]),
                    None => (Stage::AfterSend { sent: false }, tail),
                };
                often(Fault { stage, effect }, tail.first())?
            }
            ["late", ms, tail @ ..] => often(Fault { stage: sent, effect: Effect::Late(number(ms)?) }, tail.first())?,
            ["cme", code] => Self::Cme(number(code)?, 1),
            ["cme", code, n] => Self::Cme(number(code)?, number(n)?),
            ["healthy"] => Self::Healthy,
            ["garble", p] => Self::Garble(probability(p)?),
            ["unsolicited", p] => Self::Unsolicited(probability(p)?),
            ["line", _, ..] => Self::Line(rest(1).replace("\\n", "\n")),
            ["inside", _, ..] => Self::Inside(rest(1).replace("\\n", "\n")),
            ["ring"] => Self::Line("RING".to_owned()),
            ["register"] => Self::Network(1),
            ["roam"] => Self::Network(5),
            ["deregister"] => Self::Network(0),
            ["searching"] => Self::Network(2),
            ["denied"] => Self::Network(3),
            ["signal", n] => match number(n)? {
                n @ (0..=31 | 99) => Self::Signal(n),
                n => return Err(format!("{n} is not in 0..31 and not 99")),
            },
            ["sim", "in"] => Self::Card(Card::In),
            ["sim", "out"] => Self::Card(Card::Out),
            ["sim", "locked"] => Self::Card(Card::Locked),
            ["pin", "none"] => Self::Pin(None),
            ["pin", digits] if (4..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Self::Pin(Some((*digits).to_owned()))
            }
            ["storage-full"] => Self::Full(true),
            ["storage-full", word] => Self::Full(switch(word)?),
            ["capacity", n] => Self::Capacity(number::<usize>(n)?.min(10_000)),
            ["phone", number, word] => Self::Phone { number: (*number).to_owned(), on: switch(word)? },
            ["report", "status", n] => Self::ReportStatus(number(n)?),
            ["report", "delay", ms] => Self::ReportDelay(number(ms)?),
            ["report", word] => Self::Reports(switch(word)?),
            ["repeats", "refuse"] => Self::RefuseRepeats(true),
            ["repeats", "take"] => Self::RefuseRepeats(false),
            ["wake"] => Self::Wake,
            ["power"] => Self::PowerCycle,
            ["dtr"] => Self::Dtr,
            ["timing", "instant"] => Self::Timing(Timing::Instant),
            ["timing", "radio"] => Self::Timing(Timing::Radio),
            ["timing", ms] => Self::Timing(Timing::SendMs(number(ms)?)),
            ["echo-delay", ms] => Self::EchoDelay(number(ms)?),
            ["baud", "auto"] => Self::Baud(None),
            ["baud", n] => Self::Baud(Some(number(n)?)),
            [] => return Err("an empty line; 'help' lists the orders".to_owned()),
            [word, ..] => return Err(format!("'{word}' is no order, or not with these words; 'help' lists the orders")),
        })
    }
}
