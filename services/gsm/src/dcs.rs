//! The data coding scheme octet, TP-DCS (3GPP TS 23.038 section 4).
//!
//! Contract: any octet has a meaning; the reserved ones are read as the standard orders: default alphabet. Nothing fails.

/// How the user data is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Septets of the default alphabet or of national tables.
    Septets,
    /// Octets whose meaning is the application's.
    Octets,
    /// UTF-16, big end first.
    Ucs2,
}

/// Message class: where the message is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 0: shown at once and not stored: a flash message.
    Flash,
    /// 1: the mobile's own store.
    Mobile,
    /// 2: the SIM.
    Sim,
    /// 3: the terminal equipment.
    Terminal,
}

impl Class {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Flash,
            1 => Self::Mobile,
            2 => Self::Sim,
            _ => Self::Terminal,
        }
    }

    const fn bits(self) -> u8 {
        self as u8
    }
}

/// What kind of message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitingKind {
    /// Voice mail.
    Voice,
    /// Fax.
    Fax,
    /// Electronic mail.
    Mail,
    /// Anything else.
    Other,
}

/// Message waiting indication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// What waits.
    pub kind: WaitingKind,
    /// Set (`true`) or clear the indication.
    pub active: bool,
    /// Whether the text is kept; else it may be thrown away once the indication is set.
    pub store: bool,
}

/// TP-DCS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dcs(pub u8);

impl Dcs {
    /// General data coding, not compressed.
    #[must_use]
    pub const fn new(coding: Coding, class: Option<Class>) -> Self {
        let alphabet = match coding {
            Coding::Septets => 0x00,
            Coding::Octets => 0x04,
            Coding::Ucs2 => 0x08,
        };
        match class {
            Some(class) => Self(0x10 | alphabet | class.bits()),
            None => Self(alphabet),
        }
    }

    /// Message waiting: in septets (stored or not), or stored in UCS-2. A discarded UCS-2 indication does not exist: it is stored.
    #[must_use]
    pub const fn waiting_for(waiting: Waiting, coding: Coding) -> Self {
        let group = match (coding, waiting.store) {
            (Coding::Ucs2, _) => 0xE0,
            (_, true) => 0xD0,
            (_, false) => 0xC0,
        };
        Self(group | if waiting.active { 8 } else { 0 } | waiting.kind as u8)
    }

    /// How the user data is coded.
    #[must_use]
    pub const fn coding(self) -> Coding {
        match self.0 >> 4 {
            0..=7 => match self.0 >> 2 & 3 {
                1 => Coding::Octets,
                2 => Coding::Ucs2,
                // TS 23.038 4: a reserved coding is read as the default alphabet.
                _ => Coding::Septets,
            },
            0xE => Coding::Ucs2,
            0xF if self.0 & 4 != 0 => Coding::Octets,
            _ => Coding::Septets,
        }
    }

    /// Message class, when the octet has one.
    #[must_use]
    pub const fn class(self) -> Option<Class> {
        match self.0 >> 4 {
            0..=7 if self.0 & 0x10 != 0 => Some(Class::from_bits(self.0)),
            0xF => Some(Class::from_bits(self.0)),
            _ => None,
        }
    }

    /// Whether the text is compressed (TS 23.042). Nobody compresses; such data is not read as text.
    #[must_use]
    pub const fn compressed(self) -> bool {
        self.0 < 0x80 && self.0 & 0x20 != 0
    }

    /// Whether the sender wishes the message deleted once it was read.
    #[must_use]
    pub const fn delete_after_reading(self) -> bool {
        self.0 >> 6 == 1
    }

    /// Message waiting indication, when the octet is one.
    #[must_use]
    pub const fn waiting(self) -> Option<Waiting> {
        let store = match self.0 >> 4 {
            0xC => false,
            0xD | 0xE => true,
            _ => return None,
        };
        let kind = match self.0 & 3 {
            0 => WaitingKind::Voice,
            1 => WaitingKind::Fax,
            2 => WaitingKind::Mail,
            _ => WaitingKind::Other,
        };
        Some(Waiting { kind, active: self.0 & 8 != 0, store })
    }
}
