//! PLAIN (RFC 4616) and LOGIN on the server's side.

use crate::{Failure, MESSAGE_MAX_BYTES, Mechanism, Password, Step, prepare_stored};

fn syntax(mechanism: Mechanism, what: &'static str) -> Step {
    Step::Failed(Failure::Syntax { mechanism, what })
}

/// `[authzid] NUL authcid NUL passwd`
pub(crate) fn plain(message: &[u8]) -> Step {
    // RFC 4616 2
    if message.len() > MESSAGE_MAX_BYTES {
        return syntax(Mechanism::Plain, "too long");
    }
    let Ok(text) = std::str::from_utf8(message) else { return syntax(Mechanism::Plain, "not UTF-8") };
    let mut parts = text.split('\0');
    let (Some(authzid), Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return syntax(Mechanism::Plain, "not three parts");
    };
    if user.is_empty() || password.is_empty() {
        return syntax(Mechanism::Plain, "empty name or password");
    }
    Step::CheckPassword {
        authzid: (!authzid.is_empty()).then(|| prepare_stored(authzid).into_owned()),
        user: prepare_stored(user).into_owned(),
        password: Password::new(prepare_stored(password)),
    }
}

/// LOGIN: two questions.
#[derive(Default)]
pub(crate) struct Login {
    user: Option<String>,
}

impl Login {
    pub(crate) fn first(&mut self) -> Step {
        Step::Challenge(b"Username:".to_vec())
    }

    pub(crate) fn step(&mut self, message: &[u8]) -> Step {
        if message.len() > MESSAGE_MAX_BYTES {
            return syntax(Mechanism::Login, "too long");
        }
        let text = match std::str::from_utf8(message) {
            Ok(text) if !text.is_empty() && !text.contains('\0') => prepare_stored(text).into_owned(),
            _ => return syntax(Mechanism::Login, "empty, or not UTF-8"),
        };
        match self.user.take() {
            None => {
                self.user = Some(text);
                Step::Challenge(b"Password:".to_vec())
            }
            Some(user) => Step::CheckPassword { authzid: None, user, password: Password::new(text) },
        }
    }
}
