//! Orders by SMS: what an administrator's telephone may ask of the appliance.
//!
//! Contract: the words are understood here, the codes are made and judged here, what an order does is the user's
//! [`Orders`]. Nothing that changes something is done without a one-time code that went to the administrator's own
//! telephone and came back from it: the sender's number of a message can be forged, the way to a telephone cannot.

mod gate;
mod words;

pub(crate) use gate::{Gate, Verdict};
pub(crate) use words::{Order, words};

use crate::api::State;
use std::future::Future;

/// Language of an answer: that of the words of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Chinese.
    Chinese,
}

/// What the orders do. Answers are sentences for a telephone: keep them below 160 characters where possible.
pub trait Orders: Send + Sync + 'static {
    /// `STATUS`: the appliance in a few words. `state` is what this process knows of the modem and the queue.
    fn status(&self, state: &State, language: Language) -> impl Future<Output = String> + Send;

    /// `ACK n`, asked by this administrator's number: alarm `n` is acknowledged. Either way a sentence.
    fn acknowledge(&self, alarm: u32, by: &str, language: Language) -> impl Future<Output = Result<String, String>> + Send;

    /// `SWITCH`, asked by this number with a good code: the peer takes over. Either way a sentence.
    fn switch(&self, by: &str, language: Language) -> impl Future<Output = Result<String, String>> + Send;
}

impl Language {
    /// One of two sentences.
    pub(crate) fn say<'a>(self, english: &'a str, chinese: &'a str) -> &'a str {
        match self {
            Language::English => english,
            Language::Chinese => chinese,
        }
    }
}
