//! A mail system in memory: a school with a few people, each with a fate.

#![allow(dead_code, reason = "each test program uses a part")]

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use twinpost_message::{AccountId, Address};
use twinpost_sasl::{Accounts, Denied, Identity, Password, ScramSecret};
use twinpost_smtp::{Backend, Client, Envelope, Filter, Mail, MailAccepted, Message, Outcome, Rcpt, Refusal, Role, Verdict};
use twinpost_wire::{SelfSignedSettings, ServerTls, self_signed};

pub const ANNA: &str = "anna@school.example";

#[derive(Default)]
pub struct School {
    pub stored: Mutex<Vec<Stored>>,
    /// While set, `deliver` waits until `go` is told.
    pub hold: Mutex<Option<Arc<Notify>>>,
    pub people: People,
}

#[derive(Clone, Debug)]
pub struct Stored {
    pub envelope: Envelope,
    pub message: Message,
    pub account: Option<String>,
}

impl Stored {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message.bytes).into_owned()
    }
}

#[derive(Default)]
pub struct People;

fn identity(address: &str) -> Identity {
    Identity { account: AccountId(1), address: address.to_owned() }
}

impl Accounts for People {
    async fn check_password(&self, user: &str, password: &Password, service: &str, _: IpAddr) -> Result<Identity, Denied> {
        assert_eq!(service, "smtp");
        match (user, password.reveal()) {
            (ANNA, "pencil") => Ok(identity(ANNA)),
            ("gone@school.example", _) => Err(Denied::Suspended),
            ("reader@school.example", _) => Err(Denied::Service),
            ("down@school.example", _) => Err(Denied::Unavailable),
            _ => Err(Denied::Credentials),
        }
    }
    async fn scram_secret(&self, user: &str) -> Result<ScramSecret, Denied> {
        Ok(if user == ANNA { ScramSecret::from_password("pencil", b"salt", 4096) } else { ScramSecret::fake(user, b"key") })
    }
    async fn scram_done(&self, user: &str, _: &str, _: IpAddr) -> Result<Identity, Denied> {
        if user == ANNA { Ok(identity(ANNA)) } else { Err(Denied::Credentials) }
    }
}

fn may_use(address: &Address) -> bool {
    [ANNA, "staff@school.example"].contains(&address.to_string().as_str())
}

impl Backend for School {
    type Accounts = People;
    type Recipient = String;

    fn accounts(&self) -> &People {
        &self.people
    }

    async fn mail_from(&self, client: &Client, mail: &Mail) -> Result<MailAccepted, Refusal> {
        if let (Some(_), Some(sender)) = (&client.identity, &mail.sender)
            && !may_use(sender)
        {
            return Err(Refusal::not_owner());
        }
        let local = mail.sender.as_ref().map_or("", |s| s.local());
        match local {
            "blocked" => Err(Refusal::new(550, (7, 1), "not from there")),
            "small" => Ok(MailAccepted { size_max_bytes: Some(100) }),
            _ => Ok(MailAccepted::default()),
        }
    }

    async fn recipient(&self, client: &Client, mail: &Mail, rcpt: &Rcpt, earlier: &[String]) -> Result<String, Refusal> {
        let address = rcpt.address.to_string();
        if rcpt.address.domain() != "school.example" && address != "postmaster@mx.school.example" {
            return if client.identity.is_some() { Ok(address) } else { Err(Refusal::relay_denied()) };
        }
        match rcpt.address.local() {
            "full" => Err(Refusal::over_quota(true)),
            "tiny" if mail.params.size_bytes.is_some_and(|n| n > 1000) => Err(Refusal::over_quota(false)),
            "gone" => Err(Refusal::suspended()),
            "grey" => Err(Refusal::try_later()),
            "down" => Err(Refusal::trouble()),
            "single" if !earlier.is_empty() => Err(Refusal::too_many_recipients()),
            "anna" | "bob" | "carol" | "disk" | "lost" | "trap" | "postmaster" | "single" | "tiny" | "张三" => Ok(address),
            _ => Err(Refusal::unknown_user()),
        }
    }

    async fn may_send_as(&self, _: &Client, authors: &[Address]) -> Result<(), Refusal> {
        if authors.iter().all(may_use) { Ok(()) } else { Err(Refusal::new(550, (7, 1), "From is not yours")) }
    }

    async fn deliver(&self, client: &Client, envelope: &Envelope, recipients: Vec<String>, message: Message) -> Outcome {
        let hold = self.hold.lock().unwrap().clone();
        if let Some(go) = hold {
            go.notified().await;
        }
        assert_eq!(recipients.len(), envelope.recipients.len());
        let each: Vec<_> = recipients
            .iter()
            .map(|r| match r.split('@').next() {
                Some("disk") => Err(Refusal::disk_full()),
                Some("lost") => Err(Refusal::trouble()),
                _ => Ok(()),
            })
            .collect();
        let outcome = match (client.role, each.iter().find(|r| r.is_err())) {
            (Role::Lmtp, _) => Outcome::Each(each),
            (_, Some(refused)) => return Outcome::All(refused.clone()),
            (_, None) => Outcome::All(Ok(())),
        };
        let account = client.identity.as_ref().map(|i| i.address.clone());
        self.stored.lock().unwrap().push(Stored { envelope: envelope.clone(), message, account });
        outcome
    }
}

/// A filter with one of each verdict.
pub struct Words;

impl Filter for Words {
    async fn recipient(&self, _: &Client, _: &Mail, rcpt: &Rcpt) -> Result<(), Refusal> {
        if rcpt.address.local() == "trap" { Err(Refusal::new(550, (7, 1), "blocked by the filter")) } else { Ok(()) }
    }
    async fn message(&self, _: &Client, _: &Envelope, message: &[u8]) -> Verdict {
        assert!(message.starts_with(b"Received: "));
        let text = String::from_utf8_lossy(message);
        if text.contains("VIRUS") {
            Verdict::Refuse(Refusal::new(554, (7, 1), "a virus"))
        } else if text.contains("LATER") {
            Verdict::Refuse(Refusal::new(451, (7, 1), "cannot look now"))
        } else if text.contains("SUSPECT") {
            Verdict::Accept { headers: vec!["X-Spam: yes\r\n".into()], quarantine: true }
        } else {
            Verdict::ACCEPT
        }
    }
}

/// A certificate for `mx.school.example`, and a client's settings that trust it.
pub fn tls(dir: &Path) -> (ServerTls, rustls::ClientConfig) {
    use rustls::pki_types::pem::PemObject;
    let settings = SelfSignedSettings { names: vec!["mx.school.example".into()], ..Default::default() };
    let made = self_signed(dir, &settings, time::OffsetDateTime::now_utc()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(&made.ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (ServerTls::load(vec![made.server]).unwrap(), client)
}
