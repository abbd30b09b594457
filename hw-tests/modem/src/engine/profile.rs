//! What a terminal can set, and `&F`, `&W`, `Z` bring back.

use crate::options::Options;
use crate::storage::Memory;

/// The settings of a modem at one time.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub echo: bool,
    pub words: bool,
    pub quiet: bool,
    pub s3: u8,
    pub s4: u8,
    pub s5: u8,
    pub s_other: [u8; 64],
    pub cmee: u8,
    pub creg: [u8; 3],
    pub text: bool,
    pub phase2plus: bool,
    pub cnmi: [u8; 5],
    pub memories: [Memory; 3],
    pub show_header: bool,
    pub csmp: [u8; 4],
    pub character_set: String,
    pub more: u8,
    pub sm20: [u8; 2],
    pub centre: String,
    pub operator_format: u8,
    pub dtr: u8,
}

impl Profile {
    pub(super) fn new(options: &Options) -> Self {
        let first = Memory::named(options.family.memories[0]).unwrap_or(Memory::Sm);
        Self {
            echo: true,
            words: true,
            quiet: false,
            s3: 13,
            s4: 10,
            s5: 8,
            s_other: [0; 64],
            cmee: 0,
            creg: [0; 3],
            text: false,
            phase2plus: false,
            cnmi: [0; 5],
            memories: [first; 3],
            show_header: false,
            // 27.005 3.2.4: SMS-SUBMIT with a validity of 24 hours.
            csmp: [17, 167, 0, 0],
            character_set: "GSM".to_owned(),
            more: 0,
            sm20: [1, 1],
            centre: options.smsc.clone(),
            operator_format: 0,
            dtr: 0,
        }
    }
}
