//! TLS 1.3 between two keys: no authority, no names, no dates, only pins.
//!
//! Contract: both sides show a certificate and prove that they hold its key; the key is compared with the pin byte by byte. No session is resumed, so a
//! pin that is taken away counts from the next connection on.
//!
//! Failure classes: [`Unwelcome`] for those who connect to us.

use crate::error::Error;
use crate::identity::Identity;
use crate::secret::{PublicKey, provider};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::sync::Arc;

/// Says whose key is believed.
pub(crate) trait Pins: Send + Sync {
    fn knows(&self, key: &PublicKey) -> bool;
}

/// The partner, present or being paired.
pub(crate) struct PartnerOnly(pub(crate) Arc<Identity>);

impl Pins for PartnerOnly {
    fn knows(&self, key: &PublicKey) -> bool {
        self.0.pair_with(key).is_some()
    }
}

/// Anyone who holds a key: for pairing, where the code decides afterwards.
pub(crate) struct Anyone;

impl Pins for Anyone {
    fn knows(&self, _: &PublicKey) -> bool {
        true
    }
}

struct Verifier {
    pins: Box<dyn Pins>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let key = key_of(certificate)?;
        if self.pins.knows(&key) {
            return Ok(());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // RFC 8446 4.4.3: the proof that the other side holds the key that is pinned.
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

// Never reached: only TLS 1.3 is offered.
fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<PublicKey, rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(PublicKey::new(parsed.subject_public_key_info().to_vec()))
}

/// The key of the other side of a finished handshake.
pub(crate) fn peer_key(connection: &CommonState) -> Option<PublicKey> {
    key_of(connection.peer_certificates()?.first()?).ok()
}

// As `map_err` wants it.
#[allow(clippy::needless_pass_by_value)]
fn setup(why: rustls::Error) -> Error {
    Error::Crypto { what: "preparing TLS", why: why.to_string() }
}

pub(crate) fn server(identity: &Identity, pins: impl Pins + 'static) -> Result<Arc<ServerConfig>, Error> {
    let (chain, key) = identity.certified();
    let verifier = Arc::new(Verifier { pins: Box::new(pins), provider: provider() });
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setup)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(setup)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

pub(crate) fn client(identity: &Identity, pins: impl Pins + 'static) -> Result<Arc<ClientConfig>, Error> {
    let (chain, key) = identity.certified();
    let verifier = Arc::new(Verifier { pins: Box::new(pins), provider: provider() });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(setup)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// Any name: it is neither sent nor compared.
pub(crate) fn no_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into())
}

/// Why a handshake of somebody who connected failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unwelcome {
    Stranger,
    NoCertificate,
    Version,
    Garbage,
    Ended,
}

pub(crate) fn classify(error: &std::io::Error) -> Unwelcome {
    use rustls::{AlertDescription, Error as Tls};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) {
        Some(Tls::InvalidCertificate(_)) => Unwelcome::Stranger,
        Some(Tls::NoCertificatesPresented) => Unwelcome::NoCertificate,
        Some(Tls::PeerIncompatible(_)) => Unwelcome::Version,
        Some(Tls::AlertReceived(AlertDescription::ProtocolVersion)) => Unwelcome::Version,
        Some(Tls::AlertReceived(_)) => Unwelcome::Stranger,
        Some(_) => Unwelcome::Garbage,
        None => Unwelcome::Ended,
    }
}
