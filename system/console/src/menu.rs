//! The menu: what each entry asks, and which order it gives. It is a face on orders; it has no power of its own.
//!
//! Contract: a line of the person, the end of an order and answers to questions come in; steps come out. An empty answer or `0`
//! leads back; nothing is changed before the last question of an entry was answered.

mod entries;
mod flow;
#[cfg(test)]
mod tests;

use crate::Tongue;
use crate::probe::Probe;
use crate::session::{Answer, Ask, Place};
use crate::words;
use entries::Entry;
use flow::{Flow, Sort};

/// What shall happen next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Text.
    Say(String),
    /// Text that waits for an answer on its line.
    Question(String),
    /// An order, with a terminal.
    Run(Vec<String>),
    /// A test of the network.
    Probe(Probe),
    /// Find out; [`Menu::gathered`] hears it.
    Gather(Vec<Ask>),
}

/// The menu of one terminal.
#[derive(Debug)]
pub(crate) struct Menu {
    place: Place,
    tongue: Tongue,
    /// The dialogue that is under way; none: the main menu.
    flow: Option<Flow>,
}

impl Menu {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, tongue: Tongue::default(), flow: None }
    }

    pub(crate) fn tongue(&self) -> Tongue {
        self.tongue
    }

    /// Drops the dialogue that is under way.
    pub(crate) fn home(&mut self) {
        self.flow = None;
    }

    /// The main menu.
    pub(crate) fn screen(&self) -> String {
        let mut page = format!("{}\n\n", self.place.title);
        if self.place.installer {
            page.push_str(self.tongue.say(
                "This machine was started from an installer medium. Nothing is written before you agree to it.\n\n",
                "本机从安装介质启动。在您确认之前不会写入任何数据。\n\n",
            ));
        }
        for (number, entry) in Entry::all(self.place.installer) {
            page.push_str(&format!(" {number:2}  {}\n", entry.title(self.tongue)));
        }
        if self.place.chinese {
            page.push_str(self.tongue.say("  l  中文\n", "  l  English\n"));
        }
        page.push_str(match self.place.orders {
            true => self.tongue.say("\nA number, or an order (help lists them).\n", "\n请输入编号或命令（help 列出命令）。\n"),
            false => self.tongue.say("\nA number.\n", "\n请输入编号。\n"),
        });
        page
    }

    /// What the person typed.
    pub(crate) fn line(&mut self, line: &str) -> Vec<Step> {
        match self.flow.take() {
            Some(flow) if line.is_empty() && flow.takes_empty() => self.go(flow.answer("", self.tongue)),
            Some(_) if line.is_empty() || line == "0" => vec![],
            Some(flow) => self.go(flow.answer(line, self.tongue)),
            None => self.main(line),
        }
    }

    fn main(&mut self, line: &str) -> Vec<Step> {
        if line.is_empty() || line == "?" {
            return vec![Step::Say(format!("\n{}", self.screen()))];
        }
        if line.eq_ignore_ascii_case("l") && self.place.chinese {
            self.tongue = self.tongue.other();
            return vec![Step::Say(format!("\n{}", self.screen()))];
        }
        if line.bytes().all(|b| b.is_ascii_digit()) {
            let entry = Entry::all(self.place.installer).find(|(number, _)| number.to_string() == line);
            return match entry {
                Some((_, entry)) => self.go(entry.open(self.tongue)),
                None => vec![Step::Say(format!("{}\n", self.tongue.say("There is no such number.", "没有这个编号。")))],
            };
        }
        if !self.place.orders {
            let text = self.tongue.say(
                "Orders are switched off on this console ([console] orders in node.toml). Choose a number.",
                "此控制台已禁用命令（node.toml 中的 [console] orders）。请输入编号。",
            );
            return vec![Step::Say(format!("{text}\n"))];
        }
        match words::split(line) {
            Ok(mut words) => {
                // People who know the command line write its name.
                if words.first().is_some_and(|word| word == "twinpost") {
                    words.remove(0);
                }
                if words.first().is_some_and(|word| word == "ctl") {
                    words.remove(0);
                }
                vec![Step::Run(words)]
            }
            Err(unclosed) => vec![Step::Say(format!("{unclosed}\n"))],
        }
    }

    /// The order of an entry ended.
    pub(crate) fn ended(&mut self, code: u8) -> Vec<Step> {
        match self.flow.take() {
            Some(flow) => self.go(flow.ended(code, self.tongue)),
            None => vec![],
        }
    }

    /// The answers to a question of an entry.
    pub(crate) fn gathered(&mut self, answers: &[Answer]) -> Vec<Step> {
        match self.flow.take() {
            Some(flow) => self.go(flow.gathered(answers, self.tongue)),
            None => vec![],
        }
    }

    fn go(&mut self, (flow, steps): Sort) -> Vec<Step> {
        self.flow = flow;
        steps
    }
}
