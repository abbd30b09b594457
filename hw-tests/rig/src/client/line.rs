//! A connection of lines, plain or with TLS, that never waits for ever.

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

enum Io {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// One connection.
pub struct Line {
    io: Io,
    peer: SocketAddr,
    read: Vec<u8>,
}

fn tls(tcp: TcpStream, peer: SocketAddr, ca: &Path) -> Result<Io> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(Error::other)? {
        roots.add(certificate.map_err(Error::other)?).map_err(Error::other)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    start(tcp, peer, config)
}

fn start(tcp: TcpStream, peer: SocketAddr, config: ClientConfig) -> Result<Io> {
    let connection = ClientConnection::new(Arc::new(config), ServerName::IpAddress(peer.ip().into())).map_err(Error::other)?;
    let mut stream = StreamOwned::new(connection, tcp);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(Io::Tls(Box::new(stream)))
}

/// A client that believes every certificate: the tests know whom they speak to by the network that they made themselves.
mod unchecked {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
    use std::sync::Arc;

    #[derive(Debug)]
    struct Anyone(CryptoProvider);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    pub(super) fn config() -> std::io::Result<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(std::io::Error::other)?;
        let anyone = Arc::new(Anyone(aws_lc_rs::default_provider()));
        Ok(builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth())
    }
}

impl Line {
    /// Connects without TLS.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn plain(peer: SocketAddr) -> Result<Self> {
        Self::plain_within(peer, PATIENCE, PATIENCE)
    }

    /// The same with other limits for the connection and for each answer.
    pub fn plain_within(peer: SocketAddr, connect: Duration, answer: Duration) -> Result<Self> {
        let tcp = TcpStream::connect_timeout(&peer, connect)?;
        tcp.set_read_timeout(Some(answer))?;
        tcp.set_write_timeout(Some(answer))?;
        tcp.set_nodelay(true)?;
        Ok(Self { io: Io::Plain(tcp), peer, read: Vec::new() })
    }

    /// Connects with TLS from the first byte, checked against this authority.
    pub fn tls(peer: SocketAddr, ca: &Path) -> Result<Self> {
        let mut line = Self::plain(peer)?;
        line.start_tls(ca)?;
        Ok(line)
    }

    /// Connects with TLS from the first byte to a server whose certificate nobody has checked yet, as that of a new appliance.
    pub fn tls_unchecked(peer: SocketAddr, connect: Duration, answer: Duration) -> Result<Self> {
        let mut line = Self::plain_within(peer, connect, answer)?;
        let Io::Plain(tcp) = &line.io else { unreachable!("it was made plain") };
        line.io = start(tcp.try_clone()?, peer, unchecked::config()?)?;
        Ok(line)
    }

    /// Turns TLS on. What was read ahead in plain text must be nothing.
    pub fn start_tls(&mut self, ca: &Path) -> Result<()> {
        assert!(self.read.is_empty(), "the server said more before TLS: {:?}", String::from_utf8_lossy(&self.read));
        let Io::Plain(tcp) = &self.io else { panic!("TLS is on already") };
        self.io = tls(tcp.try_clone()?, self.peer, ca)?;
        Ok(())
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.io {
            Io::Plain(io) => io.write_all(bytes),
            Io::Tls(io) => io.write_all(bytes).and_then(|()| io.flush()),
        }
    }

    fn more(&mut self) -> Result<()> {
        let mut chunk = [0u8; 16384];
        let n = match &mut self.io {
            Io::Plain(io) => io.read(&mut chunk)?,
            Io::Tls(io) => io.read(&mut chunk)?,
        };
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.read.extend_from_slice(&chunk[..n]);
        Ok(())
    }

    /// The next line without its CRLF.
    pub fn line(&mut self) -> Result<Vec<u8>> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.read[seen..].iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.read.drain(..=seen + at).collect();
                while matches!(line.last(), Some(b'\r' | b'\n')) {
                    line.pop();
                }
                return Ok(line);
            }
            seen = self.read.len();
            self.more()?;
        }
    }

    /// So many bytes.
    pub fn exactly(&mut self, bytes: usize) -> Result<Vec<u8>> {
        while self.read.len() < bytes {
            self.more()?;
        }
        Ok(self.read.drain(..bytes).collect())
    }

    /// Everything until the server closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more().is_ok() {}
        std::mem::take(&mut self.read)
    }
}
