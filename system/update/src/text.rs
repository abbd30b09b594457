//! Words for people in both languages, and how far long work is.

use serde::{Deserialize, Serialize};

/// A sentence in both languages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Text {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

impl Text {
    /// Both languages.
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self { en: en.into(), zh: zh.into() }
    }

    /// What is the same in both: an error of the system, a name.
    pub fn same(text: impl Into<String>) -> Self {
        let en = text.into();
        Self { zh: en.clone(), en }
    }
}

/// How far long work is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is being done.
    pub what: Text,
    /// How much of it is done.
    pub done: u64,
    /// All of it, in the same unit (bytes here); 0 where nobody knows.
    pub of: u64,
}

/// Who wants to hear how far long work is.
pub type Progress<'a> = &'a (dyn Fn(Step) + Send + Sync);
