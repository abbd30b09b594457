//! A "no" of the gateway: the SMTP code, and a sentence that a teacher understands, in English and Chinese.
//!
//! Contract: the English sentence is printable ASCII whatever the mail held, so that it may stand in any SMTP reply
//! (RFC 5321 4.2); the Chinese one only where the session uses SMTPUTF8 (RFC 6531 3.5). Neither repeats a PIN.

use crate::settings::Language;
use std::fmt;

/// One sentence in both languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// English, printable ASCII.
    pub en: String,
    /// Simplified Chinese.
    pub zh: String,
}

impl Sentence {
    /// Takes both forms; what is not printable ASCII in the English one becomes `?`.
    #[must_use]
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Self {
        let clean = |text: String, fits: fn(char) -> bool| -> String {
            if text.chars().all(fits) { text } else { text.chars().map(|c| if fits(c) { c } else { '?' }).collect() }
        };
        Self { en: clean(en.into(), |c| (' '..='~').contains(&c)), zh: clean(zh.into(), |c| !c.is_control()) }
    }
    /// The sentence in this language.
    #[must_use]
    pub fn in_language(&self, language: Language) -> &str {
        match language {
            Language::ZhCn => &self.zh,
            Language::En => &self.en,
        }
    }
    /// The sentence for an SMTP reply: Chinese only after SMTPUTF8 (RFC 6531 3.5).
    #[must_use]
    pub fn for_smtp(&self, language: Language, smtputf8: bool) -> &str {
        self.in_language(if smtputf8 { language } else { Language::En })
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.en)
    }
}

/// What was wrong, for logs, statistics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Not a number and not a group.
    Address,
    /// Too few or too many digits.
    Digits,
    /// A group that is not here.
    NoGroup,
    /// The number's country or beginning is not allowed.
    Prefix,
    /// The sender may not send texts.
    Sender,
    /// No PIN where one is needed.
    NoPin,
    /// A wrong PIN, or too many of them.
    Pin,
    /// Nothing left for today.
    Quota,
    /// More numbers in one mail than allowed.
    TooManyNumbers,
    /// No sender: a report or other automatic mail.
    NullSender,
    /// From a mailing list.
    List,
    /// Written by a program.
    Automatic,
    /// Made by this gateway itself.
    Loop,
    /// More parts than allowed.
    TooLong,
    /// No text to send.
    Empty,
    /// The gateway could not look something up; later it may.
    Trouble,
}

impl Fault {
    /// One word for logs and audit lines.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Digits => "digits",
            Self::NoGroup => "no-group",
            Self::Prefix => "prefix",
            Self::Sender => "sender",
            Self::NoPin => "no-pin",
            Self::Pin => "pin",
            Self::Quota => "quota",
            Self::TooManyNumbers => "too-many-numbers",
            Self::NullSender => "null-sender",
            Self::List => "list",
            Self::Automatic => "automatic",
            Self::Loop => "loop",
            Self::TooLong => "too-long",
            Self::Empty => "empty",
            Self::Trouble => "trouble",
        }
    }
}

/// A refusal at RCPT or DATA, or a failure in a delivery status notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was wrong.
    pub fault: Fault,
    /// SMTP reply code (RFC 5321 4.2.3).
    pub code: u16,
    /// Subject and detail of the enhanced status code (RFC 3463); its class is the first digit of `code`.
    pub detail: (u16, u16),
    /// What happened and what to do.
    pub sentence: Sentence,
}

impl Refusal {
    pub(crate) fn new(fault: Fault, code: u16, detail: (u16, u16), en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self { fault, code, detail, sentence: Sentence::new(en, zh) }
    }
    /// `5.7.1`
    #[must_use]
    pub fn enhanced(&self) -> String {
        format!("{}.{}.{}", self.code / 100, self.detail.0, self.detail.1)
    }
    /// The same mail can never pass.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }
    /// The words for an SMTP reply.
    #[must_use]
    pub fn text(&self, language: Language, smtputf8: bool) -> &str {
        self.sentence.for_smtp(language, smtputf8)
    }

    pub(crate) fn trouble() -> Self {
        Self::new(
            Fault::Trouble,
            451,
            (3, 0),
            "the SMS gateway cannot answer at the moment: please try again in a few minutes",
            "短信网关暂时无法处理，请过几分钟再试",
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.code, self.enhanced(), self.sentence)
    }
}
