//! What the firmware says of the machine (SMBIOS, which Linux calls DMI), and patterns for it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The fields under /sys/class/dmi/id that a board may be recognised by. Serial numbers and dates are none of them: they differ between
/// machines of one model.
pub const FIELDS: [&str; 10] = [
    "sys_vendor",
    "product_name",
    "product_version",
    "product_sku",
    "product_family",
    "board_vendor",
    "board_name",
    "board_version",
    "bios_vendor",
    "chassis_type",
];

/// What the firmware says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dmi(pub BTreeMap<String, String>);

impl Dmi {
    /// Reads it from this /sys. What cannot be read (there is no firmware in a container) is absent.
    #[must_use]
    pub fn read(sys: &Path) -> Self {
        let folder = sys.join("class/dmi/id");
        let field = |name: &&str| {
            let text = std::fs::read_to_string(folder.join(name)).ok()?;
            Some(((*name).to_owned(), text.trim().to_owned())).filter(|(_, text)| !text.is_empty())
        };
        Self(FIELDS.iter().filter_map(field).collect())
    }

    /// A field; empty when the firmware does not say.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// A pattern: every field that it names must be so. A text that ends with `*` is a beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match(pub BTreeMap<String, String>);

/// How narrow a pattern is: a whole text counts more than a beginning.
const WHOLE: u32 = 2;
const BEGINNING: u32 = 1;

impl Match {
    /// How narrow the match is; or what is different, one sentence a field.
    ///
    /// # Errors
    /// What is different.
    pub fn against(&self, dmi: &Dmi) -> Result<u32, Vec<String>> {
        let mut weight = 0;
        let mut different = Vec::new();
        for (name, pattern) in &self.0 {
            let here = dmi.field(name);
            let (fits, worth) = match pattern.strip_suffix('*') {
                Some(beginning) => (here.starts_with(beginning), BEGINNING),
                None => (here == pattern, WHOLE),
            };
            if fits {
                weight += worth;
            } else if here.is_empty() {
                different.push(format!("{name} should be {pattern:?}, the firmware says nothing"));
            } else {
                different.push(format!("{name} should be {pattern:?}, is {here:?}"));
            }
        }
        if different.is_empty() { Ok(weight) } else { Err(different) }
    }

    /// Both patterns at once; the second's fields win.
    pub(crate) fn and(&self, further: &Self) -> Self {
        let mut both = self.0.clone();
        both.extend(further.0.clone());
        Self(both)
    }

    /// In words: `sys_vendor "QEMU", product_name "Standard PC*"`.
    #[must_use]
    pub fn words(&self) -> String {
        self.0.iter().map(|(name, pattern)| format!("{name} {pattern:?}")).collect::<Vec<_>>().join(", ")
    }
}
