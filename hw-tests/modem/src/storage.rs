//! Message memories (27.005 3.1, 3.2.2): SM on the SIM, ME in the modem, MT both, SR for status reports.

/// A memory by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    Sm,
    Me,
    Mt,
    Sr,
}

impl Memory {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "SM" => Some(Self::Sm),
            "ME" => Some(Self::Me),
            "MT" => Some(Self::Mt),
            "SR" => Some(Self::Sr),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sm => "SM",
            Self::Me => "ME",
            Self::Mt => "MT",
            Self::Sr => "SR",
        }
    }
}

/// `<stat>` of PDU mode (27.005 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Unread = 0,
    Read = 1,
    Unsent = 2,
    Sent = 3,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        ["REC UNREAD", "REC READ", "STO UNSENT", "STO SENT"][self as usize]
    }

    pub(crate) fn of(n: u8) -> Option<Self> {
        [Self::Unread, Self::Read, Self::Unsent, Self::Sent].get(usize::from(n)).copied()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub status: Status,
    /// With the service centre in front.
    pub pdu: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Storage {
    sm: Vec<Option<Stored>>,
    me: Vec<Option<Stored>>,
    sr: Vec<Option<Stored>>,
}

impl Storage {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { sm: vec![None; capacity], me: vec![None; 100], sr: vec![None; 20] }
    }

    /// Changes the places of a memory; messages beyond are lost.
    pub(crate) fn resize(&mut self, memory: Memory, capacity: usize) {
        match memory {
            Memory::Sm | Memory::Mt => self.sm.resize(capacity, None),
            Memory::Me => self.me.resize(capacity, None),
            Memory::Sr => self.sr.resize(capacity, None),
        }
    }

    /// The slot of an index from 1.
    pub(crate) fn slot(&mut self, memory: Memory, index: usize) -> Option<&mut Option<Stored>> {
        let at = index.checked_sub(1)?;
        match memory {
            Memory::Sm => self.sm.get_mut(at),
            Memory::Me => self.me.get_mut(at),
            Memory::Sr => self.sr.get_mut(at),
            Memory::Mt if at < self.sm.len() => self.sm.get_mut(at),
            Memory::Mt => self.me.get_mut(at - self.sm.len()),
        }
    }

    pub(crate) fn capacity(&self, memory: Memory) -> usize {
        match memory {
            Memory::Sm => self.sm.len(),
            Memory::Me => self.me.len(),
            Memory::Sr => self.sr.len(),
            Memory::Mt => self.sm.len() + self.me.len(),
        }
    }

    fn all(&self, memory: Memory) -> impl Iterator<Item = &Option<Stored>> {
        let (first, second): (&[_], &[_]) = match memory {
            Memory::Sm => (&self.sm, &[]),
            Memory::Me => (&self.me, &[]),
            Memory::Sr => (&self.sr, &[]),
            Memory::Mt => (&self.sm, &self.me),
        };
        first.iter().chain(second)
    }

    pub(crate) fn used(&self, memory: Memory) -> usize {
        self.all(memory).flatten().count()
    }

    /// Messages with their index, in its order.
    pub(crate) fn list(&self, memory: Memory) -> Vec<(usize, Stored)> {
        self.all(memory).enumerate().filter_map(|(at, s)| s.clone().map(|s| (at + 1, s))).collect()
    }

    /// Keeps a message in the first free place; `None` when there is none.
    pub(crate) fn keep(&mut self, memory: Memory, stored: Stored) -> Option<usize> {
        let at = self.all(memory).position(Option::is_none)? + 1;
        *self.slot(memory, at)? = Some(stored);
        Some(at)
    }
}
