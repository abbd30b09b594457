//! The client's side: connecting, and TLS towards other servers.
//!
//! The verifier without verification below is here on purpose and used nowhere else: a mail server that is found by
//! MX may show any certificate, and opportunistic TLS (RFC 7435) protects against listeners all the same; refusing it
//! would send the mail in plain text. Where a name is configured or proven, [`ClientTls::verified`] is used.

use crate::error::TlsError;
use crate::stream::Stream;
use crate::tls::{provider, read_chain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// Connects to `to`, from `from` where the route out has to be a certain address. The time-out is the caller's.
///
/// # Errors
/// The system's error.
pub async fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<Stream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from.filter(|f| f.is_ipv4() == to.is_ipv4()) {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let tcp = socket.connect(to).await?;
    tcp.set_nodelay(true)?;
    Stream::tcp(tcp)
}

/// TLS settings of a client.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Encrypts, does not verify who the server is (RFC 7435).
    ///
    /// # Errors
    /// [`TlsError::Config`], which the fixed settings exclude.
    pub fn opportunistic() -> Result<Self, TlsError> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider())))
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// The server must show a certificate for its name that one of these CAs signed. `ca_file`: PEM, such as the
    /// system's `/etc/ssl/certs/ca-certificates.crt`.
    ///
    /// # Errors
    /// [`TlsError::File`] when there is no usable certificate in the file.
    pub fn verified(ca_file: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let (taken, _) = roots.add_parsable_certificates(read_chain(ca_file)?);
        if taken == 0 {
            return Err(TlsError::File { path: ca_file.to_owned(), what: "no usable CA certificate".to_owned() });
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.0.clone())
    }

    /// What to send as SNI and to compare: the host name, else the address (which is not sent, RFC 6066 3).
    pub(crate) fn server_name(name: &str, peer: IpAddr) -> ServerName<'static> {
        ServerName::try_from(name.trim_end_matches('.').to_owned()).unwrap_or_else(|_| ServerName::IpAddress(peer.into()))
    }
}

/// Takes any certificate; still checks that the server holds its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
