//! Questions whose answers become the options of one order.

use super::{Flow, Sort, Step, told};
use crate::Tongue;
use crate::words;
use serde_json::Value;
use std::net::IpAddr;

/// A form that is being filled in.
#[derive(Debug)]
pub(in crate::menu) struct Form {
    /// The order, growing.
    words: Vec<String>,
    fields: &'static [Field],
    at: usize,
    /// The order is shown and a yes is waited for before it is given.
    confirm: bool,
    /// Hears how the order ended.
    then: Option<Box<Flow>>,
}

#[derive(Debug)]
struct Field {
    /// Option of the order; empty: the answer is a word of its own.
    option: &'static str,
    english: &'static str,
    chinese: &'static str,
    kind: Kind,
    /// May be left out.
    optional: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// `a` or `b`.
    Node,
    /// An address with its prefix length.
    Network,
    Address,
    /// Addresses, with blanks or commas between.
    Addresses,
    /// Names or addresses.
    Hosts,
    Domain,
    Bay,
    Bays,
    /// Serial numbers of disks.
    Serials,
    /// A pairing code.
    Code,
}

const LAN: Field = Field {
    option: "--lan",
    english: "Address of this node in the LAN, such as 192.0.2.11/24: ",
    chinese: "本节点在局域网中的地址，例如 192.0.2.11/24：",
    kind: Kind::Network,
    optional: false,
};
const GATEWAY: Field =
    Field { option: "--gateway", english: "Gateway: ", chinese: "网关：", kind: Kind::Address, optional: false };
const DNS: Field = Field {
    option: "--dns",
    english: "Name servers, with blanks between: ",
    chinese: "域名服务器（以空格分隔）：",
    kind: Kind::Addresses,
    optional: false,
};
const NTP: Field = Field {
    option: "--ntp",
    english: "Time servers, with blanks between: ",
    chinese: "时间服务器（以空格分隔）：",
    kind: Kind::Hosts,
    optional: false,
};

static FIRST: [Field; 7] = [
    Field {
        option: "--node",
        english: "Which node of the pair is this, a or b: ",
        chinese: "本机是配对中的哪个节点（a 或 b）：",
        kind: Kind::Node,
        optional: false,
    },
    LAN,
    Field { english: "Gateway (Enter: none): ", chinese: "网关（直接回车表示无）：", optional: true, ..GATEWAY },
    Field {
        english: "Name servers, with blanks between (Enter: none): ",
        chinese: "域名服务器，以空格分隔（直接回车表示无）：",
        optional: true,
        ..DNS
    },
    Field {
        english: "Time servers, with blanks between (Enter: the usual ones): ",
        chinese: "时间服务器，以空格分隔（直接回车使用默认）：",
        optional: true,
        ..NTP
    },
    Field {
        option: "--service",
        english: "Service address, which moves between the nodes, such as 192.0.2.100/24: ",
        chinese: "服务地址（在两个节点之间切换），例如 192.0.2.100/24：",
        kind: Kind::Network,
        optional: false,
    },
    Field {
        option: "--domain",
        english: "Mail domain, such as school.example: ",
        chinese: "邮件域名，例如 school.example：",
        kind: Kind::Domain,
        optional: false,
    },
];
static ONLY_LAN: [Field; 1] = [LAN];
static ONLY_GATEWAY: [Field; 1] = [GATEWAY];
static ONLY_DNS: [Field; 1] = [DNS];
static ONLY_NTP: [Field; 1] = [NTP];
static BAY: [Field; 1] = [Field {
    option: "",
    english: "Bay, as `disks list` names it: ",
    chinese: "盘位（见磁盘列表）：",
    kind: Kind::Bay,
    optional: false,
}];
static INSTALL: [Field; 2] = [
    Field {
        option: "",
        english: "Bays to install to, with blanks between (Enter: all): ",
        chinese: "要安装的盘位，以空格分隔（直接回车表示全部）：",
        kind: Kind::Bays,
        optional: true,
    },
    Field {
        option: "--erase",
        english: "Serial numbers of disks that hold something and may be erased (Enter: none): ",
        chinese: "含有数据且允许擦除的磁盘的序列号（直接回车表示无）：",
        kind: Kind::Serials,
        optional: true,
    },
];
static CODE: [Field; 1] = [Field {
    option: "",
    english: "Code shown by the other node: ",
    chinese: "对端显示的配对码：",
    kind: Kind::Code,
    optional: false,
}];

impl Form {
    fn new(order: &[&str], fields: &'static [Field]) -> Self {
        Self { words: order.iter().map(|&word| word.to_owned()).collect(), fields, at: 0, confirm: false, then: None }
    }
    pub(super) fn first_setup() -> Self {
        Self { confirm: true, ..Self::new(&["setup"], &FIRST) }
    }
    pub(super) fn lan() -> Self {
        Self::new(&["setup"], &ONLY_LAN)
    }
    pub(super) fn gateway() -> Self {
        Self::new(&["setup"], &ONLY_GATEWAY)
    }
    pub(super) fn dns() -> Self {
        Self::new(&["setup"], &ONLY_DNS)
    }
    pub(super) fn ntp() -> Self {
        Self::new(&["setup"], &ONLY_NTP)
    }
    pub(super) fn replace() -> Self {
        Self::new(&["disks", "replace"], &BAY)
    }
    pub(super) fn install() -> Self {
        Self { then: Some(Box::new(Flow::Installed)), ..Self::new(&["disks", "install"], &INSTALL) }
    }
    pub(super) fn join() -> Self {
        Self::new(&["pair", "pairing", "join"], &CODE)
    }

    /// The next question, or the order.
    pub(super) fn next(self, tongue: Tongue) -> Sort {
        let question = match self.fields.get(self.at) {
            Some(field) => tongue.say(field.english, field.chinese).to_owned(),
            None if self.confirm => {
                let order = words::join(&self.words);
                format!("\n{order}\n{}", tongue.say("Do it? [y/N] ", "执行？[y/N] "))
            }
            None => return (self.then.map(|then| *then), vec![Step::Run(self.words)]),
        };
        (Some(Flow::Form(self)), vec![Step::Question(question)])
    }

    pub(super) fn answer(mut self, line: &str, tongue: Tongue) -> Sort {
        let Some(field) = self.fields.get(self.at) else {
            if super::yes(line) {
                return (None, vec![Step::Run(self.words)]);
            }
            return told(tongue.say("Nothing was done.", "未执行任何操作。"));
        };
        if line.is_empty() && !field.optional {
            return told(tongue.say("Nothing was done.", "未执行任何操作。"));
        }
        match field.kind.values(line) {
            Ok(values) => {
                for value in values {
                    if !field.option.is_empty() {
                        self.words.push(field.option.to_owned());
                    }
                    self.words.push(value);
                }
                self.at += 1;
                self.next(tongue)
            }
            Err((english, chinese)) => {
                let again = Step::Say(format!("{}\n", tongue.say(english, chinese)));
                let (flow, mut steps) = self.next(tongue);
                steps.insert(0, again);
                (flow, steps)
            }
        }
    }
}

type Wrong = (&'static str, &'static str);

impl Kind {
    fn values(self, line: &str) -> Result<Vec<String>, Wrong> {
        let parts: Vec<String> =
            line.split([' ', ',', '\t']).filter(|part| !part.is_empty()).take(8).map(str::to_owned).collect();
        let all = |good: fn(&str) -> bool, wrong: Wrong| {
            if parts.iter().all(|part| good(part)) { Ok(parts.clone()) } else { Err(wrong) }
        };
        let one = |good: fn(&str) -> bool, wrong: Wrong| if parts.len() > 1 { Err(wrong) } else { all(good, wrong) };
        match self {
            Self::Node => one(|part| matches!(part, "a" | "b"), ("Type a or b.", "请输入 a 或 b。")),
            Self::Network => one(
                |part| network(part).is_some(),
                (
                    "This is no address with its prefix length, such as 192.0.2.11/24.",
                    "格式应为“地址/前缀长度”，例如 192.0.2.11/24。",
                ),
            ),
            Self::Address => one(|part| part.parse::<IpAddr>().is_ok(), ("This is no address.", "不是有效的地址。")),
            Self::Addresses => all(|part| part.parse::<IpAddr>().is_ok(), ("One of these is no address.", "其中有无效的地址。")),
            Self::Hosts => all(host, ("One of these is neither a name nor an address.", "其中有无效的域名或地址。")),
            Self::Domain => one(
                |part| host(part) && part.contains('.'),
                ("This is no domain, such as school.example.", "不是有效的域名，例如 school.example。"),
            ),
            Self::Bay => one(
                |part| {
                    !part.starts_with('-')
                        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
                },
                ("This is no bay.", "不是有效的盘位。"),
            ),
            Self::Bays => all(
                |part| {
                    !part.starts_with('-')
                        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
                },
                ("One of these is no bay.", "其中有无效的盘位。"),
            ),
            // An option would be taken for one.
            Self::Serials => all(|part| !part.starts_with('-'), ("One of these is no serial number.", "其中有无效的序列号。")),
            Self::Code => one(
                |part| part.bytes().all(|b| b.is_ascii_digit() || b == b'-'),
                ("The code is eight digits: 1234-5678.", "配对码为八位数字：1234-5678。"),
            ),
        }
    }
}

/// An address with a prefix length that it can have.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix) = (address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
    (1..=if address.is_ipv4() { 32 } else { 128 }).contains(&prefix).then_some((address, prefix))
}

/// A name in the form of hostname(7) or with letters beyond ASCII, or an address.
fn host(text: &str) -> bool {
    let label = |label: &str| {
        let good = |c: char| c.is_alphanumeric() || c == '-';
        !label.is_empty() && label.len() <= 63 && label.chars().all(good) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.trim_end_matches('.').split('.').all(label))
}

/// What was set, as rows of a page.
pub(super) fn settings(setup: &Value, tongue: Tongue) -> String {
    let rows = [
        ("node", "Node", "节点"),
        ("lan", "Address of this node", "本节点地址"),
        ("gateway", "Gateway", "网关"),
        ("dns", "Name servers", "域名服务器"),
        ("ntp", "Time servers", "时间服务器"),
        ("service", "Service address", "服务地址"),
        ("domain", "Mail domain", "邮件域名"),
    ];
    let mut page = String::new();
    for (key, english, chinese) in rows {
        let text = match &setup[key] {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            _ => continue,
        };
        if !text.is_empty() {
            page.push_str(&format!("{}: {text}\n", tongue.say(english, chinese)));
        }
    }
    page
}
