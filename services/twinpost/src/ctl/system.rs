//! `twinpost ctl setup|disks|update|board|support|power|reset|node`: orders for `twinpost system` of this node.
//!
//! Contract: what destroys something or disconnects somebody is previewed first and agreed to on a terminal, by typing the word that the preview
//! names or by yes; elsewhere it needs `--yes`. A refusal lists every reason. With `--json` the last line of the answer is its value; how far
//! long work is comes before it, a line of JSON each.
//!
//! Failure classes: no `twinpost system` (this is no node of the image): exit 3; refused or failed: exit 1, with every reason.

use super::pair::Language;
use super::show;
use crate::cli::{
    BoardOrder, DisksOrder, NodeOrder, Order, PowerOrder, ResetOrder, SetupWish, SlotName, SupportOrder, UpdateOrder,
};
use crate::{EXIT_DONE, EXIT_FAILED, EXIT_UNREACHABLE, complain};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use twinpost_node::api::{BundleFrom, Done, Power, Request, SOCKET, Slot, Step, SupportTo, Text};
use twinpost_node::client::{CallError, call};

/// Between two lines of progress about one thing.
const JSON_EVERY: Duration = Duration::from_secs(2);

/// Carries out an order about the machine, if it is one; gives the exit code.
pub async fn run(order: &Order, json: bool) -> Option<u8> {
    if let Order::Node(NodeOrder::Log { lines, boot, unit }) = order {
        return Some(log(*lines, *boot, unit.as_deref(), json));
    }
    let (request, sure) = match asked(order) {
        Ok(Some(asked)) => asked,
        Ok(None) => return None,
        Err(why) => {
            complain(&why);
            return Some(EXIT_FAILED);
        }
    };
    let language = Language::of_terminal();
    let talk = Talk { socket: PathBuf::from(SOCKET), by: super::actor(), json, language };
    Some(match talk.through(request, sure).await {
        Ok(done) => {
            if json {
                show::note("", &done.value, true);
            } else {
                show::text(language.both(&done.text.en, &done.text.zh));
            }
            EXIT_DONE
        }
        Err(Ended::Call(CallError::Refused(refused))) => {
            if json {
                show::note("", &json!({ "error": refused }), true);
            } else {
                let reasons: Vec<&str> = refused.reasons.iter().map(|r| language.both(&r.en, &r.zh)).collect();
                match reasons.as_slice() {
                    [one] => complain(one),
                    many => {
                        let title = language.word("refused, nothing was changed:", "已拒绝，未做任何更改：");
                        complain(&format!("{title}\n- {}", many.join("\n- ")));
                    }
                }
            }
            EXIT_FAILED
        }
        Err(Ended::Call(error)) => {
            said(&error.to_string(), json);
            EXIT_UNREACHABLE
        }
        Err(Ended::Not(why)) => {
            said(&why, json);
            EXIT_FAILED
        }
    })
}

/// The log as journald keeps it; its own program reads it best.
fn log(lines: u32, boot: i32, unit: Option<&str>, json: bool) -> u8 {
    let form = if json { "json" } else { "short-monotonic" };
    let mut command = std::process::Command::new("journalctl");
    command.args(["--no-pager", "--quiet", "--output", form]);
    // Whatever name the machine had when it wrote them: the first lines of a start come before its name is known.
    command.arg("--merge").arg(format!("--lines={lines}"));
    if boot != 0 {
        command.arg(format!("--boot={boot}"));
    }
    if let Some(unit) = unit {
        command.arg(format!("--unit={unit}"));
    }
    match command.status() {
        Ok(status) if status.success() => EXIT_DONE,
        Ok(_) => EXIT_FAILED,
        Err(error) => {
            said(&format!("the log cannot be read: journalctl: {error}"), json);
            EXIT_FAILED
        }
    }
}

fn said(why: &str, json: bool) {
    if json {
        show::note("", &json!({ "error": why }), true);
    } else {
        complain(why);
    }
}

/// Tells `twinpost system`, if there is one, that this node got or lost its peer.
///
/// # Errors
/// It refused.
pub async fn tell(request: Request) -> Result<Option<Text>, String> {
    if !Path::new(SOCKET).exists() {
        return Ok(None);
    }
    match call(Path::new(SOCKET), &super::actor(), request, |_| {}).await {
        Ok(done) => Ok(Some(done.text)),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the order is agreed to already; harmless ones need no word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    NotNeeded,
    Needed { given: bool },
}

/// The request of an order, and whether it needs a word.
fn asked(order: &Order) -> Result<Option<(Request, Word)>, String> {
    let needed = |given| Word::Needed { given };
    let slot = |slot: SlotName| match slot {
        SlotName::A => Slot::A,
        SlotName::B => Slot::B,
    };
    let here = |file: &Path| std::path::absolute(file).map_err(|e| format!("{}: {e}", file.display()));
    Ok(Some(match order {
        Order::Setup(setup) if setup.show.is_some() => (Request::SetupShow, Word::NotNeeded),
        Order::Setup(setup) => {
            if *setup.wish == SetupWish::default() {
                return Err(
                    "say what is to be set; `twinpost ctl setup --help` lists it, `setup show` shows what is set".to_owned()
                );
            }
            let wish = serde_json::to_value(&setup.wish).map_err(|e| e.to_string())?;
            (Request::Setup { wish, go: true }, needed(setup.yes))
        }
        Order::Disks(DisksOrder::List) => (Request::DisksList, Word::NotNeeded),
        Order::Disks(DisksOrder::Init { erase, single, sure }) => {
            (Request::DisksInit { erase: erase.erase.clone(), single: *single, go: true }, needed(sure.yes))
        }
        Order::Disks(DisksOrder::Replace { bay, erase, wait, sure }) => {
            let (bay, erase) = (bay.clone(), erase.erase.clone());
            (Request::DisksReplace { bay, erase, wait: *wait, go: true }, needed(sure.yes))
        }
        Order::Disks(DisksOrder::Locate { bay, off }) => (Request::DisksLocate { bay: bay.clone(), on: !off }, Word::NotNeeded),
        Order::Disks(DisksOrder::Install { bays, source, erase, sure }) => {
            let (source, bays, erase) = (source.clone(), bays.clone(), erase.erase.clone());
            (Request::DisksInstall { source, bays, erase, go: true }, needed(sure.yes))
        }
        Order::Update(UpdateOrder::Status) => (Request::UpdateStatus, Word::NotNeeded),
        Order::Update(UpdateOrder::Install { file, usb: _, downgrade, this_node, sure }) => {
            let from = file.as_ref().map_or(Ok(BundleFrom::Usb), |file| here(file).map(BundleFrom::File))?;
            let (downgrade, this_node) = (*downgrade, *this_node);
            (Request::UpdateInstall { from, downgrade, this_node, go: true }, needed(sure.yes))
        }
        // It changes nothing that runs.
        Order::Update(UpdateOrder::Commit(_)) => (Request::UpdateCommit, Word::NotNeeded),
        Order::Update(UpdateOrder::Back(sure)) => (Request::UpdateBack { go: true }, needed(sure.yes)),
        Order::Update(UpdateOrder::Slot { slot: name, sure }) | Order::Power(PowerOrder::Slot { slot: name, sure }) => {
            (Request::Power { what: Power::Slot(slot(*name)), go: true }, needed(sure.yes))
        }
        Order::Board(order) => (Request::Board { explain: matches!(order, BoardOrder::Explain) }, Word::NotNeeded),
        Order::Support(SupportOrder::Save { file, .. }) => {
            let to = file.as_ref().map_or(Ok(SupportTo::Usb), |file| here(file).map(SupportTo::File))?;
            (Request::Support { to }, Word::NotNeeded)
        }
        Order::Power(PowerOrder::Reboot(sure)) => (Request::Power { what: Power::Reboot, go: true }, needed(sure.yes)),
        Order::Power(PowerOrder::Off(sure)) => (Request::Power { what: Power::Off, go: true }, needed(sure.yes)),
        Order::Reset(ResetOrder::Factory { mail, sure }) => (Request::FactoryReset { mail: *mail, go: true }, needed(sure.yes)),
        // The log is not asked of the daemon.
        Order::Node(NodeOrder::Log { .. }) => return Ok(None),
        Order::Node(NodeOrder::Status) => (Request::Status, Word::NotNeeded),
        _ => return Ok(None),
    }))
}

/// The same request as a preview.
fn preview(request: &Request) -> Request {
    let mut preview = request.clone();
    match &mut preview {
        Request::DisksInit { go, .. }
        | Request::DisksReplace { go, .. }
        | Request::DisksInstall { go, .. }
        | Request::UpdateInstall { go, .. }
        | Request::UpdateBack { go }
        | Request::Setup { go, .. }
        | Request::FactoryReset { go, .. }
        | Request::Power { go, .. } => *go = false,
        _ => {}
    }
    preview
}

/// Why there is no result.
enum Ended {
    Call(CallError),
    Not(String),
}

struct Talk {
    socket: PathBuf,
    by: String,
    json: bool,
    language: Language,
}

impl Talk {
    async fn through(&self, request: Request, word: Word) -> Result<Done, Ended> {
        if word == (Word::Needed { given: false }) {
            let told = self.call(preview(&request)).await?;
            self.agreed(&told)?;
        }
        self.call(request).await
    }

    /// The person agrees to what the preview told.
    #[allow(clippy::print_stderr, reason = "a question on the terminal")]
    fn agreed(&self, told: &Done) -> Result<(), Ended> {
        let language = self.language;
        if !std::io::stdin().is_terminal() {
            return Err(Ended::Not(
                language.word("nobody is there to ask: add --yes", "没有可以询问的终端：请加 --yes").to_owned(),
            ));
        }
        eprintln!("{}", language.both(&told.text.en, &told.text.zh));
        match &told.confirm {
            Some(word) => eprint!("{} ", language.both(&format!("Type {word} to go on:"), &format!("输入 {word} 以继续："))),
            None => eprint!("{} ", language.word("Go on? [y/N]", "继续？[y/N]")),
        }
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer).is_ok();
        let good = match &told.confirm {
            Some(word) => answer.trim() == word,
            None => matches!(answer.trim(), "y" | "Y" | "yes" | "是"),
        };
        if read && good { Ok(()) } else { Err(Ended::Not(language.word("nothing was done", "未做任何操作").to_owned())) }
    }

    async fn call(&self, request: Request) -> Result<Done, Ended> {
        let mut bar = Bar { json: self.json, language: self.language, bar: None, told: String::new(), at: None };
        let outcome = call(&self.socket, &self.by, request, |step| bar.step(&step)).await;
        bar.end();
        outcome.map_err(Ended::Call)
    }
}

/// How far long work is: a bar on a terminal, a line at each new step elsewhere, lines of JSON for machines.
struct Bar {
    json: bool,
    language: Language,
    bar: Option<indicatif::ProgressBar>,
    told: String,
    at: Option<Instant>,
}

impl Bar {
    #[allow(clippy::print_stderr, reason = "progress is for the person who waits")]
    fn step(&mut self, step: &Step) {
        let what = self.language.both(&step.what.en, &step.what.zh);
        if self.json {
            // Machines read the last value; these lines are for those that show progress of their own, perhaps over a slow serial line.
            let now = Instant::now();
            let soon = self.at.is_some_and(|at| now.duration_since(at) < JSON_EVERY);
            if self.told == what && soon {
                return;
            }
            self.at = Some(now);
            what.clone_into(&mut self.told);
            show::text(&serde_json::to_string(&json!({ "progress": step })).unwrap_or_default());
        } else if std::io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| {
                let style = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {percent} % {eta}");
                indicatif::ProgressBar::new(step.of).with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
            });
            bar.set_length(step.of);
            bar.set_position(step.done);
            bar.set_message(what.to_owned());
        } else if self.told != what {
            what.clone_into(&mut self.told);
            eprintln!("{what}");
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Erase, SetupOrder, Sure};
    use serde_json::Value;

    fn erase() -> Erase {
        Erase { erase: vec!["S1".to_owned()] }
    }

    #[test]
    fn what_destroys_has_a_preview_that_changes_nothing() {
        let sure = Sure { yes: false };
        let orders = [
            Order::Disks(DisksOrder::Init { erase: erase(), single: false, sure }),
            Order::Disks(DisksOrder::Replace { bay: "1".to_owned(), erase: erase(), wait: false, sure }),
            Order::Disks(DisksOrder::Install { bays: Vec::new(), source: None, erase: erase(), sure }),
            Order::Update(UpdateOrder::Install { file: Some("x".into()), usb: false, downgrade: false, this_node: false, sure }),
            Order::Update(UpdateOrder::Back(sure)),
            Order::Update(UpdateOrder::Slot { slot: SlotName::B, sure }),
            Order::Power(PowerOrder::Reboot(sure)),
            Order::Power(PowerOrder::Off(sure)),
            Order::Reset(ResetOrder::Factory { mail: true, sure }),
            Order::Setup(Box::new(SetupOrder {
                show: None,
                wish: Box::new(SetupWish { node: Some("a".to_owned()), ..SetupWish::default() }),
                yes: false,
            })),
        ];
        for order in orders {
            let (request, word) = asked(&order).unwrap().unwrap();
            assert!(word == (Word::Needed { given: false }), "{order:?}");
            assert!(!request.harmless() && preview(&request).harmless(), "{order:?}");
        }
        let (request, word) = asked(&Order::Node(NodeOrder::Status)).unwrap().unwrap();
        assert!(word == Word::NotNeeded && request.harmless());
        assert!(asked(&Order::Status).unwrap().is_none());
        let nothing = SetupOrder { show: None, wish: Box::default(), yes: true };
        assert!(asked(&Order::Setup(Box::new(nothing))).is_err());
    }

    #[test]
    fn the_word_of_a_setup_goes_over_as_it_was_typed() {
        let wish = SetupWish { node: Some("b".to_owned()), lan: Some("192.0.2.12/24".to_owned()), ..SetupWish::default() };
        let order = Order::Setup(Box::new(SetupOrder { show: None, wish: Box::new(wish), yes: true }));
        let (request, _) = asked(&order).unwrap().unwrap();
        let Request::Setup { wish, go: true } = request else { panic!("{request:?}") };
        assert_eq!((&wish["node"], &wish["lan"], &wish["gateway"]), (&json!("b"), &json!("192.0.2.12/24"), &Value::Null));
    }
}
