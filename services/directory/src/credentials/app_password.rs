//! App passwords: one for each program, made here, shown once, revocable one by one.
//!
//! They hold 100 random bits, so a plain digest protects them: nobody can try them all. That makes them cheap to check,
//! also for a program that signs in every minute.

use super::{hex, keyed};
use crate::directory::{Directory, now_s};
use crate::error::Error;
use crate::rows::AppPasswordRow;
use crate::types::{AppPassword, Services};
use twinpost_message::{AccountId, Address};
use twinpost_sql::read;

const APP_PASSWORDS_MAX: usize = 50;
const NAME_MAX_CHARS: usize = 80;
/// No letters that look like others: people type them from a screen.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
const LETTERS: usize = 20;

/// What is stored. People type capitals, spaces and hyphens as they like.
pub(super) fn verifier(account: AccountId, password: &str) -> String {
    let plain: String = password.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_ascii_lowercase()).collect();
    hex(&keyed(b"app password", &[&account.0.to_be_bytes(), plain.as_bytes()]))
}

/// `abcde-fghjk-mnpqr-stuvw`
fn random() -> String {
    let bits: [u8; LETTERS] = rand::random();
    let letters: Vec<char> = bits.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])).collect();
    letters.chunks(5).map(|c| c.iter().collect::<String>()).collect::<Vec<_>>().join("-")
}

impl Directory {
    /// Makes an app password and returns it: this is the only time that it can be seen.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::Deleted`], [`Error::Taken`] for the name, [`Error::TooMany`], [`Error::Value`].
    pub async fn add_app_password(
        &self,
        actor: &str,
        address: &Address,
        name: &str,
        services: Services,
    ) -> Result<String, Error> {
        let name = name.trim();
        if name.is_empty() || name.chars().count() > NAME_MAX_CHARS || name.chars().any(char::is_control) {
            let why = format!("give 1 to {NAME_MAX_CHARS} characters, for example the program's name");
            return Err(Error::Value { what: "the name of an app password", why });
        }
        if services == Services::NONE {
            return Err(Error::Value {
                what: "the list of services",
                why: "an app password for nothing opens nothing".to_owned(),
            });
        }
        let present = self.app_passwords(address).await?;
        if present.iter().any(|p| p.name == name) {
            return Err(Error::Taken {
                name: name.to_owned(),
                what: "the name of another app password of this account".to_owned(),
            });
        }
        if present.len() >= APP_PASSWORDS_MAX {
            let given = present.len() + 1;
            return Err(Error::TooMany { what: "the app passwords of an account", max: APP_PASSWORDS_MAX, given });
        }
        let password = random();
        self.change(actor, |draft| {
            let account = draft.account(address)?;
            draft.note("app_password.add", address.to_string(), format!("{name} for {services}"));
            draft.put_app_password(AppPasswordRow {
                account: account.id.0,
                name: name.to_owned(),
                services,
                verifier: verifier(account.id, &password),
                created_s: now_s(),
            });
            Ok(())
        })
        .await?;
        Ok(password)
    }

    /// Revokes an app password at once.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::NoAppPassword`].
    pub async fn revoke_app_password(&self, actor: &str, address: &Address, name: &str) -> Result<(), Error> {
        if !self.app_passwords(address).await?.iter().any(|p| p.name == name) {
            return Err(Error::NoAppPassword { address: address.to_string(), name: name.to_owned() });
        }
        self.change(actor, |draft| {
            let account = draft.any_account(address)?;
            draft.note("app_password.revoke", address.to_string(), name);
            draft.writes.drop_app_passwords.push((account.id.0, name.to_owned()));
            draft.bump_credential(account.id);
            Ok(())
        })
        .await
    }

    /// The app passwords of an account, by name.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::Database`].
    pub async fn app_passwords(&self, address: &Address) -> Result<Vec<AppPassword>, Error> {
        let account = self.account(address).ok_or_else(|| Error::NoAccount(address.to_string()))?;
        let rows = self.app_password_rows(account.id).await?;
        Ok(rows.into_iter().map(|r| AppPassword { name: r.name, services: r.services, created_s: r.created_s }).collect())
    }

    pub(super) async fn app_password_rows(&self, account: AccountId) -> Result<Vec<AppPasswordRow>, Error> {
        let sql = "SELECT name, services, verifier, created_s FROM app_password WHERE account_id = $1 ORDER BY created_s, name";
        let rows: Vec<(String, i64, String, i64)> =
            read!(self.inner.db, c => sqlx::query_as(sql).bind(account.0).fetch_all(c).await?);
        Ok(rows
            .into_iter()
            .map(|(name, services, verifier, created_s)| AppPasswordRow {
                account: account.0,
                name,
                services: Services(u16::try_from(services).unwrap_or(0)).both(Services::ALL),
                verifier,
                created_s,
            })
            .collect())
    }
}
