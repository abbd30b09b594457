//! English and Chinese.

/// The language of the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tongue {
    /// English.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Tongue {
    /// One of two texts.
    #[must_use]
    pub fn say<'a>(self, english: &'a str, chinese: &'a str) -> &'a str {
        match self {
            Self::English => english,
            Self::Chinese => chinese,
        }
    }
    /// What an order's own texts follow (`LANG`).
    #[must_use]
    pub fn locale(self) -> &'static str {
        self.say("en_US.UTF-8", "zh_CN.UTF-8")
    }
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::English => Self::Chinese,
            Self::Chinese => Self::English,
        }
    }
}
