//! Whom TLS trusts: authorities in a file, or one certificate.

use crate::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whom to believe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// A certificate for the host's name, signed by one of the authorities in this PEM file.
    Authorities(PathBuf),
    /// The certificate with this SHA-256 fingerprint, whatever its name and dates say: a BMC signs its own, and its clock is often wrong.
    Pinned([u8; 32]),
}

impl Trust {
    /// Reads a fingerprint as tools print it: 64 hex digits, colons between them allowed, any case.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is none.
    pub fn pinned(text: &str) -> Result<Self, Error> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let wrong = || Error::Setting(format!("{text:?} is no SHA-256 fingerprint: 64 hex digits, colons allowed"));
        if digits.len() != 64 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut pin = [0; 32];
        for (i, byte) in pin.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[i * 2..i * 2 + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self::Pinned(pin))
    }
}

/// The client's own certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// PEM chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// SHA-256 of a certificate, as [`Trust::Pinned`] takes it.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate.as_ref()).into()
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bad = |what: String| Error::File { path: path.to_owned(), what };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|e| bad(e.to_string()))?
        .take(1000)
        .collect::<Result<_, _>>()
        .map_err(|e| bad(e.to_string()))?;
    if found.is_empty() { Err(bad("no certificate in it".to_owned())) } else { Ok(found) }
}

pub(crate) fn config(trust: &Trust, identity: Option<&Identity>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Setting(format!("TLS: {e}")))?;
    let builder = match trust {
        Trust::Authorities(path) => {
            let mut roots = RootCertStore::empty();
            let (taken, _) = roots.add_parsable_certificates(chain(path)?);
            if taken == 0 {
                return Err(Error::File { path: path.clone(), what: "no usable authority in it".to_owned() });
            }
            builder.with_root_certificates(roots)
        }
        Trust::Pinned(pin) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Pin { pin: *pin, provider })),
    };
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(own) => {
            let key =
                PrivateKeyDer::from_pem_file(&own.key).map_err(|e| Error::File { path: own.key.clone(), what: e.to_string() })?;
            let bad = |e: rustls::Error| Error::File { path: own.certificate.clone(), what: e.to_string() };
            builder.with_client_auth_cert(chain(&own.certificate)?, key).map_err(bad)
        }
    }
}

/// Believes one certificate, whose key the server must still prove to have.
#[derive(Debug)]
struct Pin {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if fingerprint(certificate) == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("the certificate has another fingerprint than the pinned one".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fingerprints_as_tools_print_them() {
        let plain = "00ff".repeat(16);
        let colons = ["00:FF"; 16].join(":");
        let want = Trust::Pinned(std::array::from_fn(|i| if i % 2 == 0 { 0 } else { 255 }));
        assert_eq!(Trust::pinned(&plain).unwrap(), want);
        assert_eq!(Trust::pinned(&colons).unwrap(), want);
        for bad in ["", "00ff", &"zz".repeat(32), &"é".repeat(32)] {
            assert!(Trust::pinned(bad).is_err(), "{bad}");
        }
    }
}
