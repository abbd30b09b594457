//! TLS for servers: certificates by name, exchanged while connections live.
//!
//! Contract: [`ServerTls::reload`] either takes all new files or none; on an error the old certificates stay in use and
//! the error names the file. Resumption is by tickets only, so that no session cache grows with the number of clients.

use crate::error::TlsError;
use crate::io::Raw;
use crate::x509;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// One certificate with its key, both PEM. The names it serves are those in the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// The certificate and the intermediates behind it.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The provider of all TLS in the house, chosen here once.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone()
}

/// Server side TLS: cheap to clone, all clones change together at a reload.
#[derive(Clone)]
pub struct ServerTls(Arc<Shared>);

struct Shared {
    files: Mutex<Vec<CertFiles>>,
    ticketer: Arc<dyn rustls::server::ProducesTickets>,
    now: ArcSwap<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

impl ServerTls {
    /// Loads certificates. The first one serves clients that name no server, or an unknown one.
    ///
    /// # Errors
    /// [`TlsError::File`] names the file and what is wrong with it.
    pub fn load(files: Vec<CertFiles>) -> Result<Self, TlsError> {
        // RFC 5077, RFC 8446 4.6.1: keys of the tickets live in memory and change every few hours.
        let ticketer = aws_lc_rs::Ticketer::new()?;
        let loaded = Loaded::load(&files, &ticketer)?;
        Ok(Self(Arc::new(Shared { files: Mutex::new(files), ticketer, now: ArcSwap::from_pointee(loaded) })))
    }

    /// Reads the files again (all of them): after a renewal.
    ///
    /// # Errors
    /// As [`ServerTls::load`]; the certificates in use stay.
    pub fn reload(&self) -> Result<(), TlsError> {
        let files = self.0.files.lock();
        self.0.now.store(Arc::new(Loaded::load(&files, &self.0.ticketer)?));
        Ok(())
    }

    /// Takes another list of files, as after a change of settings.
    ///
    /// # Errors
    /// As [`ServerTls::load`]; list and certificates in use stay.
    pub fn replace(&self, new: Vec<CertFiles>) -> Result<(), TlsError> {
        let mut files = self.0.files.lock();
        self.0.now.store(Arc::new(Loaded::load(&new, &self.0.ticketer)?));
        *files = new;
        Ok(())
    }

    /// When the first of the certificates ends, seconds since 1970 UTC.
    #[must_use]
    pub fn expires_s(&self) -> Option<i64> {
        self.0.now.load().certificates.0.iter().map(|e| e.expires_s).min()
    }

    pub(crate) fn current(&self) -> (Arc<ServerConfig>, Arc<Certificates>) {
        let now = self.0.now.load();
        (now.config.clone(), now.certificates.clone())
    }
}

impl Loaded {
    fn load(files: &[CertFiles], ticketer: &Arc<dyn rustls::server::ProducesTickets>) -> Result<Self, TlsError> {
        if files.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let certificates = Arc::new(Certificates(files.iter().map(Entry::load).collect::<Result<_, _>>()?));
        // RFC 8314 4.1, RFC 9325 3.1.1: TLS 1.2 and 1.3
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        config.ticketer = ticketer.clone();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // One ticket is one write less than the default; mail clients open few connections at once.
        config.send_tls13_tickets = 1;
        Ok(Self { config: Arc::new(config), certificates })
    }
}

/// Certificates of one load, first match by name.
#[derive(Debug)]
pub(crate) struct Certificates(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    key: Arc<CertifiedKey>,
    end_point: Option<Vec<u8>>,
    expires_s: i64,
}

pub(crate) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |what: String| TlsError::File { path: path.to_owned(), what };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|e| fault(format!("reading the certificate: {e}")))?
        .collect::<Result<_, _>>()
        .map_err(|e| fault(format!("reading the certificate: {e}")))?;
    if chain.is_empty() {
        return Err(fault("no certificate in the file".to_owned()));
    }
    Ok(chain)
}

impl Entry {
    fn load(files: &CertFiles) -> Result<Self, TlsError> {
        let chain = read_chain(&files.chain)?;
        let fault = |path: &Path, what: String| TlsError::File { path: path.to_owned(), what };
        let facts = x509::facts(&chain[0]).ok_or_else(|| fault(&files.chain, "not an X.509 certificate".to_owned()))?;
        let key =
            PrivateKeyDer::from_pem_file(&files.key).map_err(|e| fault(&files.key, format!("reading the private key: {e}")))?;
        let signer =
            provider().key_provider.load_private_key(key).map_err(|e| fault(&files.key, format!("the private key: {e}")))?;
        let end_point = facts.end_point(&chain[0]);
        let key = CertifiedKey::new(chain, signer);
        key.keys_match().map_err(|e| fault(&files.key, format!("does not belong to {}: {e}", files.chain.display())))?;
        Ok(Self { key: Arc::new(key), end_point, expires_s: facts.not_after_s })
    }

    fn serves(&self, name: &ServerName<'_>) -> bool {
        let Some(end) = self.key.cert.first() else { return false };
        // RFC 9525 6.3
        ParsedCertificate::try_from(end).is_ok_and(|c| rustls::client::verify_server_name(&c, name).is_ok())
    }
}

impl Certificates {
    fn by_name<'a>(&'a self, name: Option<&str>) -> impl Iterator<Item = &'a Entry> {
        let name = name.and_then(|n| ServerName::try_from(n.to_owned()).ok());
        let any = name.as_ref().is_some_and(|n| self.0.iter().any(|e| e.serves(n)));
        // Nobody is refused for an unknown name: old MTAs send what they like (RFC 7817 4, RFC 8461 8 ask for a match
        // on the client's side).
        self.0
            .iter()
            .enumerate()
            .filter(move |(i, e)| match &name {
                Some(name) if any => e.serves(name),
                _ => *i == 0,
            })
            .map(|(_, e)| e)
    }

    /// RFC 5929 4.1, when it is clear which certificate was shown.
    pub(crate) fn end_point(&self, name: Option<&str>) -> Option<Vec<u8>> {
        let mut entries = self.by_name(name);
        match (entries.next(), entries.next()) {
            (Some(only), None) => only.end_point.clone(),
            _ => None,
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 6066 3
        let schemes = hello.signature_schemes();
        let mut entries = self.by_name(hello.server_name()).peekable();
        let first = entries.peek().map(|e| e.key.clone());
        entries.find(|e| e.key.key.choose_scheme(schemes).is_some()).map(|e| e.key.clone()).or(first)
    }
}

/// What the two ends agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// Name of the cipher suite as in the IANA registry.
    pub cipher: String,
    /// The name that the client asked for (server side only).
    pub sni: Option<String>,
    /// The peer showed a certificate.
    pub peer_certificate: bool,
}

impl TlsInfo {
    pub(crate) fn of(tls: &tokio_rustls::TlsStream<Raw>) -> Self {
        let common = tls.get_ref().1;
        let version = match common.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        };
        let cipher = common.negotiated_cipher_suite().and_then(|c| c.suite().as_str()).unwrap_or("unknown");
        Self {
            version,
            // rustls prefixes the suites of 1.3 to tell them apart; the registry does not.
            cipher: cipher.replace("TLS13_", "TLS_"),
            sni: match tls {
                tokio_rustls::TlsStream::Server(s) => s.get_ref().1.server_name().map(str::to_owned),
                tokio_rustls::TlsStream::Client(_) => None,
            },
            peer_certificate: common.peer_certificates().is_some(),
        }
    }

    pub(crate) fn exporter(tls: &tokio_rustls::TlsStream<Raw>) -> Option<Vec<u8>> {
        const LABEL: &[u8] = b"EXPORTER-Channel-Binding";
        if tls.get_ref().1.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return None;
        }
        match tls {
            tokio_rustls::TlsStream::Server(s) => s.get_ref().1.export_keying_material(vec![0; 32], LABEL, Some(b"")),
            tokio_rustls::TlsStream::Client(s) => s.get_ref().1.export_keying_material(vec![0; 32], LABEL, Some(b"")),
        }
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::self_signed::{SelfSignedSettings, self_signed};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use time::{Duration, OffsetDateTime};

    fn settings(name: &str) -> SelfSignedSettings {
        SelfSignedSettings { names: vec![name.to_owned()], ..Default::default() }
    }

    #[test]
    fn a_bad_reload_keeps_the_old_certificate_and_says_what_is_wrong() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = OffsetDateTime::now_utc();
        let first = self_signed(one.path(), &settings("a.example"), now).unwrap().server;
        let second = self_signed(two.path(), &settings("b.example"), now).unwrap().server;
        let tls = ServerTls::load(vec![first.clone(), second.clone()]).unwrap();
        let before = tls.current().1;
        let by = |name| before.by_name(name).map(|e| e.end_point.clone().unwrap()).collect::<Vec<_>>();
        assert_eq!(by(Some("a.example")), by(None));
        assert_ne!(by(Some("b.example")), by(None));
        assert_eq!(by(Some("c.example")), by(None));
        assert_eq!((before.end_point(None), before.end_point(Some("b.example"))), (by(None).pop(), by(Some("b.example")).pop()));

        fs::copy(&second.key, &first.key).unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("server-key.pem: does not belong to"), "{error}");
        fs::write(&first.chain, "no certificate\n").unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("server.pem: no certificate in the file"), "{error}");
        fs::remove_file(&first.chain).unwrap();
        tls.reload().unwrap_err();
        assert!(Arc::ptr_eq(&before, &tls.current().1));
        assert!(tls.replace(vec![]).is_err());
        tls.replace(vec![second]).unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.current().1));
        tls.reload().unwrap();
    }

    #[test]
    fn certificates_are_kept_until_they_must_be_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let wanted = SelfSignedSettings { ips: vec!["127.0.0.1".parse().unwrap()], ..settings("mail.example") };
        let made = self_signed(dir.path(), &wanted, now).unwrap();
        assert!(made.renewed);
        for key in ["ca-key.pem", "server-key.pem"] {
            let mode = fs::metadata(dir.path().join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        let tls = ServerTls::load(vec![made.server.clone()]).unwrap();
        let day_s = 86_400;
        assert_eq!(tls.expires_s(), Some(now.unix_timestamp() + 397 * day_s));
        let ca = fs::read(&made.ca).unwrap();
        assert!(!self_signed(dir.path(), &wanted, now + Duration::days(300)).unwrap().renewed);
        // Another name, less than 30 days left, or another CA's end near: renewed; the CA only in the last case.
        let other = SelfSignedSettings { names: vec!["mail.example".into(), "imap.example".into()], ..wanted.clone() };
        assert!(self_signed(dir.path(), &other, now).unwrap().renewed);
        assert!(!self_signed(dir.path(), &other, now).unwrap().renewed);
        assert!(self_signed(dir.path(), &other, now + Duration::days(370)).unwrap().renewed);
        assert_eq!(fs::read(&made.ca).unwrap(), ca);
        assert!(self_signed(dir.path(), &other, now + Duration::days(3400)).unwrap().renewed);
        assert_ne!(fs::read(&made.ca).unwrap(), ca);
    }
}
