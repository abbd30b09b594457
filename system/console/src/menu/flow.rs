//! The dialogues of the entries: question by question, each answer checked where it is typed.

mod form;

use super::Step;
use crate::Tongue;
use crate::look;
use crate::net;
use crate::probe::Probe;
use crate::session::Answer;
use crate::status;
use form::Form;
use serde_json::Value;

/// Where the dialogue goes on (none: back in the main menu), and what is done now.
pub(super) type Sort = (Option<Flow>, Vec<Step>);

/// A dialogue that is under way.
#[derive(Debug)]
pub(super) enum Flow {
    /// Waits for the reports of the status.
    Status,
    /// Waits for the addresses.
    AddressesSeen,
    /// Which address to change; whether this node was set up already.
    Addresses { done: bool },
    /// Questions that make one order.
    Form(Form),
    /// Waits for the list of accounts.
    AdministratorsSeen,
    /// Which administrator.
    Administrators(Vec<String>),
    /// Sure about this one.
    AdministratorSure(String),
    /// The new password was made; the account may be suspended.
    AdministratorDone(String),
    /// Which test.
    Tests,
    /// Of what.
    Test(TestKind),
    /// What about the disks.
    Disks,
    /// The disks of the installer's machine are being shown.
    DisksShown,
    /// The installation; restart afterwards?
    Installed,
    /// What about the pair.
    Pair,
    /// Waits for the slots.
    SlotsSeen,
    /// Which slot.
    Slots(Vec<String>),
    /// Yes or no.
    Sure(Sure),
    /// The slot was chosen: start it now?
    SlotChosen,
}

/// What is done after a yes.
#[derive(Debug)]
pub(super) enum Sure {
    Reboot,
    PowerOff,
    Slot(String),
}

/// A test of the network.
#[derive(Clone, Copy, Debug)]
pub(super) enum TestKind {
    Ping,
    Name,
}

impl TestKind {
    pub(super) fn title(self, tongue: Tongue) -> &'static str {
        match self {
            Self::Ping => tongue.say("Ping an address", "ping 一个地址"),
            Self::Name => tongue.say("Ask the name servers", "查询域名服务器"),
        }
    }
}

pub(super) fn ask(flow: Flow, question: &str) -> Sort {
    (Some(flow), vec![Step::Question(question.to_owned())])
}

/// A list to choose from by number.
pub(super) fn choose(flow: Flow, rows: &[impl AsRef<str>], tongue: Tongue) -> Sort {
    let mut text = String::from("\n");
    for (at, row) in rows.iter().enumerate() {
        text.push_str(&format!(" {:2}  {}\n", at + 1, row.as_ref()));
    }
    text.push_str(tongue.say("\nNumber, or Enter to go back: ", "\n编号（直接回车返回）："));
    (Some(flow), vec![Step::Question(text)])
}

pub(super) fn run(then: Option<Flow>, words: &[&str]) -> Sort {
    (then, vec![Step::Run(words.iter().map(|&word| word.to_owned()).collect())])
}

fn told(text: &str) -> Sort {
    (None, vec![Step::Say(format!("{text}\n"))])
}

fn no_such_number(tongue: Tongue) -> Sort {
    told(tongue.say("There is no such number; nothing was done.", "没有这个编号，未执行任何操作。"))
}

fn yes(line: &str) -> bool {
    matches!(line.to_lowercase().as_str(), "y" | "yes" | "是")
}

fn chosen<'a, T>(line: &str, rows: &'a [T]) -> Option<&'a T> {
    line.parse::<usize>().ok()?.checked_sub(1).and_then(|at| rows.get(at))
}

impl Flow {
    /// An empty answer means something here: the value that stands in brackets.
    pub(super) fn takes_empty(&self) -> bool {
        matches!(self, Self::Form(_))
    }

    /// An answer of the person.
    pub(super) fn answer(self, line: &str, tongue: Tongue) -> Sort {
        match self {
            Self::Addresses { done } => match (done, line) {
                (false, "1") => Form::first_setup().next(tongue),
                (true, "1") => Form::lan().next(tongue),
                (true, "2") => Form::gateway().next(tongue),
                (true, "3") => Form::dns().next(tongue),
                (true, "4") => Form::ntp().next(tongue),
                _ => no_such_number(tongue),
            },
            Self::Form(form) => form.answer(line, tongue),
            Self::Administrators(list) => match chosen(line, &list) {
                Some(address) => {
                    let question = match tongue {
                        Tongue::English => format!("A new password for {address}: the old one is void. Go on? [y/N] "),
                        Tongue::Chinese => format!("将为 {address} 生成新密码，旧密码作废。继续？[y/N] "),
                    };
                    ask(Self::AdministratorSure(address.clone()), &question)
                }
                None => no_such_number(tongue),
            },
            Self::AdministratorSure(address) if yes(line) => {
                let words = ["account", "password", &address].map(str::to_owned).to_vec();
                (Some(Self::AdministratorDone(address)), vec![Step::Run(words)])
            }
            Self::Tests => match line {
                "1" => ask(Self::Test(TestKind::Ping), tongue.say("Address or name: ", "地址或域名：")),
                "2" => {
                    ask(Self::Test(TestKind::Name), tongue.say("Name, such as school.example: ", "域名，例如 school.example："))
                }
                _ => no_such_number(tongue),
            },
            Self::Test(kind) => match (kind, line.split_whitespace().next()) {
                (TestKind::Ping, Some(host)) => (None, vec![Step::Probe(Probe::Ping(host.to_owned()))]),
                (TestKind::Name, Some(name)) => (None, vec![Step::Probe(Probe::Name(name.to_owned()))]),
                (_, None) => (None, vec![]),
            },
            Self::Disks => match line {
                "1" => run(None, &["disks", "list"]),
                "2" => run(None, &["disks", "init"]),
                "3" => Form::replace().next(tongue),
                _ => no_such_number(tongue),
            },
            Self::Pair => match line {
                "1" => run(None, &["pair", "status"]),
                "2" => run(None, &["pair", "standby"]),
                "3" => run(None, &["pair", "takeover"]),
                "4" => run(None, &["pair", "pairing", "offer"]),
                "5" => Form::join().next(tongue),
                _ => no_such_number(tongue),
            },
            Self::Slots(slots) => match chosen(line, &slots) {
                Some(slot) => {
                    let question = match tongue {
                        Tongue::English => format!("Start system {slot} at the next start. Go on? [y/N] "),
                        Tongue::Chinese => format!("下次启动时使用系统 {slot}。继续？[y/N] "),
                    };
                    ask(Self::Sure(Sure::Slot(slot.clone())), &question)
                }
                None => no_such_number(tongue),
            },
            Self::Sure(what) if yes(line) => match what {
                Sure::Reboot => run(None, &["power", "reboot", "--yes"]),
                Sure::PowerOff => run(None, &["power", "off", "--yes"]),
                Sure::Slot(slot) => run(Some(Self::SlotChosen), &["update", "slot", &slot, "--yes"]),
            },
            Self::SlotChosen | Self::Installed if yes(line) => run(None, &["power", "reboot", "--yes"]),
            Self::Sure(_) | Self::SlotChosen | Self::Installed | Self::AdministratorSure(_) => {
                told(tongue.say("Nothing was done.", "未执行任何操作。"))
            }
            // These wait for answers of programs, not of people.
            Self::Status
            | Self::AddressesSeen
            | Self::AdministratorsSeen
            | Self::AdministratorDone(_)
            | Self::SlotsSeen
            | Self::DisksShown => (None, vec![]),
        }
    }

    /// The order of this dialogue ended.
    pub(super) fn ended(self, code: u8, tongue: Tongue) -> Sort {
        match self {
            // A suspended administrator with a new password still could not come in.
            Self::AdministratorDone(address) if code == 0 => run(None, &["account", "resume", &address]),
            Self::DisksShown if code == 0 => Form::install().next(tongue),
            Self::Installed if code == 0 => ask(
                Self::Installed,
                tongue.say(
                    "Restart now? Take the stick out when the screen goes dark. [y/N] ",
                    "现在重启？屏幕变暗时请拔出 U 盘。[y/N] ",
                ),
            ),
            Self::SlotChosen if code == 0 => ask(Self::SlotChosen, tongue.say("Restart now? [y/N] ", "现在重启？[y/N] ")),
            _ => (None, vec![]),
        }
    }

    /// What was asked for came.
    pub(super) fn gathered(self, answers: &[Answer], tongue: Tongue) -> Sort {
        match self {
            Self::Status => (None, vec![Step::Say(status::page(answers, tongue))]),
            Self::AddressesSeen => {
                let setup = answers.first().and_then(|answer| answer.as_ref().ok()).unwrap_or(&Value::Null);
                let now = answers.get(1).and_then(|answer| answer.as_ref().ok()).unwrap_or(&Value::Null);
                let done = setup["node"].as_str().is_some_and(|node| !node.is_empty());
                let mut page = net::page(now, tongue);
                page.push_str(&form::settings(setup, tongue));
                let rows: &[&str] = if done {
                    &[
                        tongue.say("Change the address of this node", "修改本节点地址"),
                        tongue.say("Change the gateway", "修改网关"),
                        tongue.say("Change the name servers", "修改域名服务器"),
                        tongue.say("Change the time servers", "修改时间服务器"),
                    ]
                } else {
                    &[tongue.say("Set this node up for the first time", "首次设置本节点")]
                };
                let (flow, mut steps) = choose(Self::Addresses { done }, rows, tongue);
                steps.insert(0, Step::Say(page));
                (flow, steps)
            }
            Self::AdministratorsSeen => administrators(answers.first(), tongue),
            Self::SlotsSeen => slots(answers.first(), tongue),
            _ => (None, vec![]),
        }
    }
}

fn rows<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.as_array().or_else(|| value[key].as_array()).map(Vec::as_slice).unwrap_or_default()
}

fn administrators(answer: Option<&Answer>, tongue: Tongue) -> Sort {
    let accounts = match answer {
        Some(Ok(accounts)) => accounts,
        Some(Err(why)) => {
            let first = tongue.say(
                "The accounts are kept by the node that serves, and this one cannot ask for them:",
                "账户由正在服务的节点保存，本节点无法取得：",
            );
            return told(&format!("{first}\n{why}"));
        }
        None => return (None, vec![]),
    };
    let administers = |account: &&Value| matches!(account["role"].as_str(), Some("operator" | "domain_admin" | "domain-admin"));
    let list: Vec<String> =
        rows(accounts, "accounts").iter().filter(administers).filter_map(|a| a["address"].as_str()).map(str::to_owned).collect();
    if list.is_empty() {
        let text = tongue.say(
            "No account is an administrator. Make one: account add NAME@DOMAIN --role operator",
            "没有管理员账户。请创建：account add NAME@DOMAIN --role operator",
        );
        return told(text);
    }
    choose(Flow::Administrators(list.clone()), &list, tongue)
}

fn slots(answer: Option<&Answer>, tongue: Tongue) -> Sort {
    let value = match answer {
        Some(Ok(value)) => value,
        Some(Err(why)) => return told(why),
        None => return (None, vec![]),
    };
    let mut names = Vec::new();
    let mut shown = Vec::new();
    for slot in rows(value, "slots") {
        let Some(name) = slot["slot"].as_str().or_else(|| slot["name"].as_str()) else { continue };
        let version = slot["version"].as_str().unwrap_or("-");
        let state = look::sentence(&slot["state"], tongue).unwrap_or_default();
        names.push(name.to_owned());
        shown.push(format!("{name}: {version} {state}"));
    }
    if names.is_empty() {
        return told(tongue.say("This node does not tell which systems it has.", "本节点未报告可启动的系统。"));
    }
    choose(Flow::Slots(names), &shown, tongue)
}
