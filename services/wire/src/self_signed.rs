//! A small certificate authority in a folder, for a node without a certificate of its own.
//!
//! Contract: after [`self_signed`] the folder holds `ca.pem` (for clients), `ca-key.pem`, `server.pem` and
//! `server-key.pem` (keys with mode 0600), and the server certificate names what was asked and lives long enough.
//! The CA stays the same as long as it lives, so that clients who trust it go on to do so. Files are replaced by
//! rename: a reader never sees half of one.

use crate::error::TlsError;
use crate::tls::{CertFiles, read_chain};
use crate::x509;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::server::ParsedCertificate;
use rustls_pki_types::ServerName;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// What the certificate shall say.
#[derive(Clone, Debug)]
pub struct SelfSignedSettings {
    /// Host names.
    pub names: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// How long a server certificate lives. Clients refuse more than 825 days (Apple), 398 is the public CAs' habit.
    pub lifetime_days: i64,
    /// Renew when less than this is left.
    pub renew_days: i64,
}

impl Default for SelfSignedSettings {
    fn default() -> Self {
        Self { names: Vec::new(), ips: Vec::new(), lifetime_days: 397, renew_days: 30 }
    }
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct SelfSigned {
    /// The CA certificate that clients shall trust.
    pub ca: PathBuf,
    /// Certificate and key for [`crate::ServerTls::load`].
    pub server: CertFiles,
    /// Something was made or renewed in this call.
    pub renewed: bool,
}

const CA_DAYS: i64 = 3650;

/// Makes, keeps or renews CA and server certificate in `dir`.
///
/// # Errors
/// [`TlsError`]: the folder cannot be written, or a name is not one.
pub fn self_signed(dir: &Path, settings: &SelfSignedSettings, now: OffsetDateTime) -> Result<SelfSigned, TlsError> {
    fs::create_dir_all(dir).map_err(|e| fault(dir, format!("making the folder: {e}")))?;
    let (ca_path, ca_key_path) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
    let server = CertFiles { chain: dir.join("server.pem"), key: dir.join("server-key.pem") };

    let renew_before_s = now.unix_timestamp() + settings.renew_days * 86_400;
    // A CA must outlive what it signs.
    let ca_needed_s = now.unix_timestamp() + settings.lifetime_days * 86_400;
    let params = ca_params(now);
    let mut renewed = false;
    let ca_key = match KeyPair::from_pem(&fs::read_to_string(&ca_key_path).unwrap_or_default()) {
        Ok(key) if lives(&ca_path, now, ca_needed_s) => key,
        _ => {
            let key = KeyPair::generate()?;
            write(&ca_key_path, &key.serialize_pem(), 0o600)?;
            write(&ca_path, &params.self_signed(&key)?.pem(), 0o644)?;
            renewed = true;
            key
        }
    };
    if renewed || !server.key.exists() || !lives(&server.chain, now, renew_before_s) || !names_all(&server.chain, settings) {
        let key = KeyPair::generate()?;
        let certificate = server_params(settings, now)?.signed_by(&key, &Issuer::new(params, ca_key))?;
        write(&server.key, &key.serialize_pem(), 0o600)?;
        write(&server.chain, &certificate.pem(), 0o644)?;
        renewed = true;
    }
    Ok(SelfSigned { ca: ca_path, server, renewed })
}

fn ca_params(now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Twinpost appliance CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(CA_DAYS);
    params
}

fn server_params(settings: &SelfSignedSettings, now: OffsetDateTime) -> Result<CertificateParams, TlsError> {
    let names: Vec<String> = settings.names.iter().cloned().chain(settings.ips.iter().map(ToString::to_string)).collect();
    let mut params = CertificateParams::new(names.clone())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("twinpost", String::as_str));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(settings.lifetime_days);
    Ok(params)
}

fn fault(path: &Path, what: String) -> TlsError {
    TlsError::File { path: path.to_owned(), what }
}

fn lives(path: &Path, now: OffsetDateTime, until_s: i64) -> bool {
    read_chain(path)
        .ok()
        .and_then(|chain| x509::facts(&chain[0]))
        .is_some_and(|f| f.not_before_s <= now.unix_timestamp() && f.not_after_s > until_s)
}

fn names_all(path: &Path, settings: &SelfSignedSettings) -> bool {
    let Ok(chain) = read_chain(path) else { return false };
    let Ok(certificate) = ParsedCertificate::try_from(&chain[0]) else { return false };
    let ips = settings.ips.iter().map(|ip| ServerName::IpAddress((*ip).into()));
    let names = settings.names.iter().map(|n| ServerName::try_from(n.clone()));
    names.chain(ips.map(Ok)).all(|name| name.is_ok_and(|name| rustls::client::verify_server_name(&certificate, &name).is_ok()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let new = path.with_extension("new");
    let result = (|| {
        // A leftover of a crash may have other rights than we ask for.
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    result.map_err(|e| fault(path, format!("writing: {e}")))
}
