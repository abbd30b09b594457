//! The directory as its callers use it, each test on SQLite and on PostgreSQL.

mod accounts;
mod domains;
mod routes;
mod sign_in;

use crate::{Directory, HashCost, NewAccount, NewDomain, NewPassword, Resolution, Settings};
use twinpost_message::Address;
use twinpost_sql::testing::Place;

pub(crate) const ACTOR: &str = "test";
pub(crate) const PASSWORD: &str = "correct horse";

/// Hashes that cost next to nothing.
pub(crate) fn settings() -> Settings {
    Settings { cost: HashCost { memory_kib: 8, passes: 1, scram_iterations: 16 }, ..Settings::default() }
}

pub(crate) fn a(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

pub(crate) fn person(password: &str) -> NewAccount {
    NewAccount { password: NewPassword::Plain(password.to_owned()), ..NewAccount::default() }
}

pub(crate) async fn open(place: &Place) -> Directory {
    Directory::open(place.location(), settings()).await.expect("the directory opens")
}

/// `school.example` with `anna@` and `ben@`.
pub(crate) async fn school(place: &Place) -> Directory {
    let directory = open(place).await;
    directory.add_domain(ACTOR, "school.example", &NewDomain::default()).await.expect("a new domain");
    for name in ["anna", "ben"] {
        let address = a(&format!("{name}@school.example"));
        directory.add_account(ACTOR, &address, &person(PASSWORD)).await.expect("a new account");
    }
    directory
}

/// Where mail goes, in short: `anna+folder out:x@y` or the refusal's name.
pub(crate) fn shown(resolution: &Resolution) -> String {
    let Resolution::Deliver { local, remote } = resolution else { return format!("{resolution:?}") };
    let hint = |f: &Option<String>| f.as_ref().map_or_else(String::new, |f| format!("+{f}"));
    let mut all: Vec<String> = local.iter().map(|t| format!("{}{}", t.address.local(), hint(&t.folder))).collect();
    all.extend(remote.iter().map(|r| format!("out:{r}")));
    all.join(" ")
}

proptest::proptest! {
    #[test]
    fn no_bytes_upset_a_parser(data in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        crate::fuzz(&data);
    }
    #[test]
    fn no_text_upsets_a_parser(text in "(\\{[A-Z0-9-]{0,14}\\})?\\$?(1|5|6|2a|2b|argon2id)?(\\$\\PC{0,20}){0,5}") {
        crate::fuzz(text.as_bytes());
    }
    #[test]
    fn no_list_upsets_the_reader(text in "address[,;\t](password|hash|quota_bytes|aliases|suspended)\r?\n(\\PC{0,30}[,;\t]\\PC{0,30}\r?\n){0,5}") {
        crate::fuzz(text.as_bytes());
    }
}
