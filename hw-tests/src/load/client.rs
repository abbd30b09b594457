//! A connection that sends bytes and reads lines.

use super::Target;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// One connection to the server under load.
pub struct Client {
    stream: BufReader<Box<dyn Io>>,
    line: Vec<u8>,
}

fn broken(doing: &str, error: &dyn std::fmt::Display) -> String {
    format!("{doing}: {error}")
}

impl Client {
    /// Connects; with TLS from the first byte if asked.
    pub async fn connect(target: &Target) -> Result<Self, String> {
        let tcp = TcpStream::connect(target.addr).await.map_err(|e| broken(&format!("connecting to {}", target.addr), &e))?;
        tcp.set_nodelay(true).map_err(|e| broken("TCP_NODELAY", &e))?;
        let stream: Box<dyn Io> = if target.tls {
            let config = rustls::ClientConfig::builder()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate))
                .with_no_client_auth();
            let name = ServerName::IpAddress(target.addr.ip().into());
            Box::new(
                tokio_rustls::TlsConnector::from(Arc::new(config))
                    .connect(name, tcp)
                    .await
                    .map_err(|e| broken("TLS handshake", &e))?,
            )
        } else {
            Box::new(tcp)
        };
        Ok(Self { stream: BufReader::with_capacity(1 << 16, stream), line: Vec::new() })
    }
    /// Sends these bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.get_mut().write_all(bytes).await.map_err(|e| broken("sending", &e))?;
        self.stream.get_mut().flush().await.map_err(|e| broken("sending", &e))
    }
    /// The next line without its CRLF.
    pub async fn line(&mut self) -> Result<&[u8], String> {
        self.line.clear();
        let n = self.stream.read_until(b'\n', &mut self.line).await.map_err(|e| broken("reading", &e))?;
        if n == 0 {
            return Err("the server closed the connection".to_owned());
        }
        while matches!(self.line.last(), Some(b'\r' | b'\n')) {
            self.line.pop();
        }
        Ok(&self.line)
    }
    /// Reads and drops this many bytes.
    pub async fn skip(&mut self, mut bytes: usize) -> Result<(), String> {
        while bytes > 0 {
            let have = self.stream.fill_buf().await.map_err(|e| broken("reading", &e))?.len().min(bytes);
            if have == 0 {
                return Err("the server closed the connection".to_owned());
            }
            std::pin::Pin::new(&mut self.stream).consume(have);
            bytes -= have;
        }
        Ok(())
    }
    /// Reads an SMTP reply: its code and last line.
    pub async fn reply(&mut self) -> Result<(u16, String), String> {
        loop {
            let line = self.line().await?;
            let code = std::str::from_utf8(line.get(..3).unwrap_or_default()).ok().and_then(|c| c.parse().ok());
            let code = code.ok_or_else(|| format!("not a reply: {}", String::from_utf8_lossy(line)))?;
            if line.get(3) != Some(&b'-') {
                return Ok((code, String::from_utf8_lossy(line).into_owned()));
            }
        }
    }
    /// Reads an IMAP answer up to its tagged line, literals included; gives the untagged bytes read and that line.
    pub async fn tagged(&mut self, tag: &str) -> Result<(u64, String), String> {
        let mut total = 0u64;
        loop {
            let line = self.line().await?;
            total += line.len() as u64 + 2;
            if line.starts_with(tag.as_bytes()) && line.get(tag.len()) == Some(&b' ') {
                return Ok((total, String::from_utf8_lossy(line).into_owned()));
            }
            if let Some(n) = literal_length(line) {
                self.skip(n).await?;
                total += n as u64;
            }
        }
    }
    /// Reads POP3 lines up to the single dot; gives the bytes read.
    pub async fn dot(&mut self) -> Result<u64, String> {
        let mut total = 0u64;
        loop {
            let line = self.line().await?;
            if line == b"." {
                return Ok(total);
            }
            total += line.len() as u64 + 2;
        }
    }
    /// Reads one byte or the end: for connections that only wait.
    pub async fn wait_closed(&mut self) -> Result<(), String> {
        let mut byte = [0u8; 64];
        while self.stream.read(&mut byte).await.map_err(|e| broken("reading", &e))? > 0 {}
        Ok(())
    }
}

/// `... {123}` at the end of a line.
fn literal_length(line: &[u8]) -> Option<usize> {
    let inner = line.strip_suffix(b"}")?;
    let open = memchr::memrchr(b'{', inner)?;
    std::str::from_utf8(&inner[open + 1..]).ok()?.parse().ok()
}

/// Takes any certificate: this measures speed against a server that the caller has just started.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
