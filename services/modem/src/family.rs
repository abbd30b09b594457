//! Families of modems: their quirks as data, one file each in the `families` folder, built into the program. The folder's
//! README explains the keys.
//!
//! Contract: [`families`] holds every file of the folder, read once; [`find`] gives the best match for what `+CGMI` and
//! `+CGMM` said, the generic family at worst. Failure class: [`FamilyError`] names file, line and key; a test reads all.

use std::sync::LazyLock;

use crate::at::Dialect;

mod schema;

pub use schema::FamilyError;

/// What DTR does on this modem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtr {
    /// Nothing, or nothing that helps: the step is left out of the reset ladder.
    Ignored,
    /// Its drop ends calls and returns to command state (`AT&D2`), which frees a hung data state.
    HangsUp,
    /// Its rise starts a modem that has switched itself off (Siemens terminals).
    Starts,
}

/// One family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Its name in settings, the file's name.
    pub name: String,
    /// For people.
    pub title: String,
    /// Where its facts come from.
    pub sources: Vec<String>,
    /// Patterns of `+CGMI`, `*` at their ends stands for anything; upper and lower case are the same.
    pub maker: Vec<String>,
    /// Patterns of `+CGMM`.
    pub model: Vec<String>,
    /// Speeds to try first, bit/s.
    pub bauds: Vec<u32>,
    /// RTS/CTS flow control.
    pub rts_cts: bool,
    /// What DTR does.
    pub dtr: Dtr,
    /// Commands of the bring-up, right after the identity; a refusal is no fault.
    pub init: Vec<String>,
    /// Command that reads the SIM card's serial number without a PIN, and its answer's beginning.
    pub iccid: Option<(String, String)>,
    /// Command that reads how many PIN tries are left, its answer's beginning, and the field with the number.
    pub pin_tries: Option<(String, String, usize)>,
    /// `+CSMS` services in order of preference; 1 is phase 2+, with `+CNMA`.
    pub csms: Vec<u8>,
    /// `+CNMI` parameters in order of preference.
    pub cnmi: Vec<String>,
    /// Wants one `+CNMA` after the bring-up before it tells of anything.
    pub wake_ack: bool,
    /// Memories for received messages in order of preference; empty: as the modem has it.
    pub memories: Vec<String>,
    /// `+CMMS` mode while more is queued; 0: not supported.
    pub cmms: u8,
    /// Longest wait for the prompt, s.
    pub prompt_s: u64,
    /// Longest wait for the answer to a PDU, s.
    pub answer_s: u64,
    /// Longest wait for other commands, ms.
    pub command_ms: u64,
    /// Commands that restart the modem; the first that is answered OK does it.
    pub restart: Vec<String>,
    /// How long it is given to start, s.
    pub boot_s: u64,
    /// Its lines and pauses.
    pub dialect: Dialect,
}

static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|(name, text)| schema::read(name, text).unwrap_or_else(|e| panic!("a test reads every family file: {e}")))
        .collect()
});

/// Every file of the folder.
const FILES: [(&str, &str); 15] = [
    ("generic", include_str!("../families/generic.toml")),
    ("mc35i", include_str!("../families/mc35i.toml")),
    ("tc35", include_str!("../families/tc35.toml")),
    ("mc55", include_str!("../families/mc55.toml")),
    ("cinterion", include_str!("../families/cinterion.toml")),
    ("wavecom", include_str!("../families/wavecom.toml")),
    ("sim800", include_str!("../families/sim800.toml")),
    ("sim7600", include_str!("../families/sim7600.toml")),
    ("sim7670", include_str!("../families/sim7670.toml")),
    ("m35", include_str!("../families/m35.toml")),
    ("ec20", include_str!("../families/ec20.toml")),
    ("ec25", include_str!("../families/ec25.toml")),
    ("huawei", include_str!("../families/huawei.toml")),
    ("nokia", include_str!("../families/nokia.toml")),
    ("zte", include_str!("../families/zte.toml")),
];

/// All families, the generic one first.
pub fn families() -> &'static [Family] {
    &FAMILIES
}

/// The family of this name.
pub fn by_name(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|f| f.name.eq_ignore_ascii_case(name))
}

/// The generic family.
pub fn generic() -> &'static Family {
    &FAMILIES[0]
}

/// The family whose patterns say most about what the modem called itself.
pub fn find(maker: &str, model: &str) -> &'static Family {
    let score = |family: &Family| -> Option<usize> {
        let maker = best(&family.maker, maker)?;
        let model = best(&family.model, model)?;
        Some(maker + 100 * model)
    };
    FAMILIES.iter().filter_map(|f| Some((score(f)?, f))).max_by_key(|(score, _)| *score).map_or(generic(), |(_, f)| f)
}

/// Length of the longest pattern that matches, counted without its stars.
fn best(patterns: &[String], text: &str) -> Option<usize> {
    patterns.iter().filter(|p| matches(p, text)).map(|p| p.trim_matches('*').len()).max()
}

fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_uppercase(), text.trim().to_ascii_uppercase());
    let core = pattern.trim_matches('*');
    match (pattern.starts_with('*'), pattern.ends_with('*')) {
        (false, false) => text == core,
        (false, true) => text.starts_with(core),
        (true, false) => text.ends_with(core),
        (true, true) => text.contains(core),
    }
}

/// Tries bytes as a family file; for fuzzing.
pub(crate) fn fuzz(data: &[u8]) {
    let _ = schema::read("fuzz", &String::from_utf8_lossy(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_built_in_and_reads() {
        let mut names: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/families"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n.ends_with(".toml"))
            .collect();
        names.sort();
        let mut built: Vec<String> = FILES.iter().map(|(n, _)| format!("{n}.toml")).collect();
        built.sort();
        assert_eq!(names, built);
        for (name, text) in FILES {
            if let Err(error) = schema::read(name, text) {
                panic!("{error}");
            }
        }
        for family in families() {
            assert!(!family.sources.is_empty(), "{} names no source", family.name);
            assert!(!family.cnmi.is_empty() && !family.restart.is_empty(), "{}", family.name);
        }
    }

    #[test]
    fn modems_find_their_family() {
        // What the modems themselves answer to +CGMI and +CGMM.
        for (maker, model, family) in [
            ("SIEMENS", "MC35i", "mc35i"),
            ("SIEMENS", "TC35", "tc35"),
            ("SIEMENS", "TC35i", "tc35"),
            ("SIEMENS", "MC55", "mc55"),
            ("Cinterion", "BGS2-W", "cinterion"),
            ("Cinterion", "MC55i", "mc55"),
            ("WAVECOM MODEM", "MULTIBAND  900E  1800", "wavecom"),
            ("WAVECOM MODEM", "900P", "wavecom"),
            ("Sierra Wireless", "FXT009", "generic"),
            ("SIMCOM_Ltd", "SIMCOM_SIM800L", "sim800"),
            ("SIMCOM INCORPORATED", "SIMCOM_SIM7600E-H", "sim7600"),
            ("SIMCOM INCORPORATED", "A7670E-FASE", "sim7670"),
            ("SIMCOM INCORPORATED", "SIM7670G-MNGV", "sim7670"),
            ("Quectel_Ltd", "Quectel_M35", "m35"),
            ("Quectel", "EC20F", "ec20"),
            ("Quectel", "EC25", "ec25"),
            ("Quectel", "EG25", "ec25"),
            ("huawei", "E3531", "huawei"),
            ("HUAWEI TECHNOLOGIES CO., LTD", "MG323", "huawei"),
            ("Nokia Mobile Phones", "Nokia 6210", "nokia"),
            ("Nokia", "Nokia 6310i", "nokia"),
            ("ZTE CORPORATION", "MF190", "zte"),
            ("ZTE INCORPORATED", "MF110", "zte"),
            ("Telit", "GE864", "generic"),
            ("", "", "generic"),
        ] {
            assert_eq!(find(maker, model).name, family, "{maker} {model}");
        }
        assert_eq!(by_name("EC25").unwrap().name, "ec25");
        assert!(by_name("abacus").is_none());
    }

    #[test]
    fn siemens_is_told_not_to_say_ok_for_a_failure() {
        for name in ["mc35i", "tc35", "mc55", "cinterion"] {
            assert!(by_name(name).unwrap().init.iter().any(|c| c == "AT^SM20=0,0"), "{name}");
        }
    }
}
