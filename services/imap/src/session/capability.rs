//! What the server says it can, by state.

use crate::Settings;
use twinpost_sasl::{Bindings, Mechanism};

/// What every signed-in session offers. Each name stands here because its command works (see the dialogue of its name).
const SIGNED_IN: &str = "IMAP4rev2 IMAP4rev1 LITERAL+ ENABLE ID IDLE NAMESPACE UIDPLUS UNSELECT CHILDREN ESEARCH SEARCHRES \
MOVE BINARY MULTIAPPEND LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE CONDSTORE QRESYNC STATUS=SIZE QUOTA \
QUOTA=RES-STORAGE QUOTA=RES-MESSAGE QUOTA=RES-MAILBOX SORT SORT=DISPLAY THREAD=ORDEREDSUBJECT THREAD=REFERENCES WITHIN \
OBJECTID SAVEDATE PREVIEW REPLACE METADATA NOTIFY PARTIAL UTF8=ACCEPT";

/// What the connection is like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Connection {
    /// TLS is on.
    pub tls: bool,
    /// STARTTLS would work.
    pub can_start_tls: bool,
    /// Passwords may be sent: TLS, or loopback where the setting allows it.
    pub private: bool,
    /// Compressed already.
    pub compressed: bool,
}

/// The capabilities, without the word CAPABILITY. `append_limit_bytes` is there after sign-in (RFC 7889 2).
pub(crate) fn list(settings: &Settings, connection: Connection, bindings: &Bindings, append_limit_bytes: Option<u32>) -> String {
    if let Some(limit) = append_limit_bytes {
        let mut text = format!("{SIGNED_IN} APPENDLIMIT={limit}");
        // RFC 4978 2: not offered twice.
        if settings.compress && !connection.compressed {
            text.push_str(" COMPRESS=DEFLATE");
        }
        return text;
    }
    let mut text = String::from("IMAP4rev2 IMAP4rev1 LITERAL+ ENABLE ID SASL-IR");
    if connection.can_start_tls && !connection.tls {
        text.push_str(" STARTTLS");
    }
    // RFC 9051 6.2.3: without TLS no password is taken.
    if !connection.private {
        text.push_str(" LOGINDISABLED");
    }
    for mechanism in Mechanism::offered(connection.private, bindings) {
        text.push_str(" AUTH=");
        text.push_str(mechanism.name());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_only_where_they_are_private() {
        let settings = Settings::default();
        let plain = Connection { can_start_tls: true, ..Connection::default() };
        let text = list(&settings, plain, &Bindings::NONE, None);
        assert!(text.contains(" STARTTLS LOGINDISABLED") && !text.contains("AUTH=PLAIN"), "{text}");
        let tls = Connection { tls: true, can_start_tls: true, private: true, compressed: false };
        let text = list(&settings, tls, &Bindings::NONE, None);
        assert!(text.contains(" AUTH=PLAIN") && !text.contains("STARTTLS") && !text.contains("LOGINDISABLED"), "{text}");
        assert!(list(&settings, tls, &Bindings::NONE, Some(7)).ends_with("APPENDLIMIT=7 COMPRESS=DEFLATE"));
        assert!(!list(&settings, Connection { compressed: true, ..tls }, &Bindings::NONE, Some(7)).contains("DEFLATE"));
    }
}
