//! The accept loop.
//!
//! Contract: runs until its token is cancelled, then waits for the connections (they watch the same token) and, after
//! the grace time, cuts off the rest. A connection that panics ends alone and is logged. A system without free
//! descriptors makes it wait, never end.

use crate::listen::Endpoint;
use crate::proxy::{self, Parse};
use crate::stream::{Stream, plain_v4};
use crate::tls::ServerTls;
use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One log line in this time while connections cannot be accepted.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// How a listener treats what comes in.
#[derive(Clone)]
pub struct ServeSettings {
    /// TLS from the first byte (ports 465, 993, 995).
    pub tls: Option<ServerTls>,
    /// Proxies that put a PROXY header before each connection; from all others it is not read.
    pub proxies: Vec<IpAddr>,
    /// For the PROXY header and the handshake together.
    pub handshake: Duration,
    /// How long connections have to end by themselves at shutdown.
    pub grace: Duration,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self { tls: None, proxies: Vec::new(), handshake: Duration::from_secs(30), grace: Duration::from_secs(10) }
    }
}

/// What a handler gets.
pub struct Connection<P> {
    /// The stream, TLS done where the listener asks for it.
    pub stream: Stream,
    /// What the admission gave: released when the handler drops it.
    pub permit: P,
    /// Cancelled at shutdown: say goodbye and end.
    pub stop: CancellationToken,
}

/// Accepts connections until `stop`. `admit` decides by the client's address: a permit (kept as long as the handler
/// keeps it), or a refusal with an optional line for a client that speaks plain text (`421 ...\r\n`).
pub async fn serve<P, A, H, F>(endpoint: Endpoint, settings: ServeSettings, stop: CancellationToken, admit: A, handle: H)
where
    P: Send + 'static,
    A: Fn(SocketAddr) -> Result<P, Option<Bytes>> + Clone + Send + 'static,
    H: Fn(Connection<P>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut complained: Option<Instant> = None;
    loop {
        let tcp = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(listener = %endpoint.address(), "a connection's task panicked: {error}");
                }
                continue;
            }
            accepted = endpoint.listener.accept() => match accepted {
                Ok((tcp, peer)) => (tcp, plain_v4(peer)),
                Err(error) => {
                    after_error(&endpoint, &error, &stop, &mut complained).await;
                    continue;
                }
            },
        };
        let (tcp, peer) = tcp;
        prepare(&tcp);
        if settings.proxies.contains(&peer.ip()) {
            let (settings, stop, admit, handle) = (settings.clone(), stop.clone(), admit.clone(), handle.clone());
            tasks.spawn(async move {
                let Some(stream) = Box::pin(read_header(tcp, settings.handshake)).await else { return };
                let decision = admit(stream.peer_addr());
                if let Some(connection) = Box::pin(admitted(stream, &settings, stop, decision)).await {
                    handle(connection).await;
                }
            });
            continue;
        }
        // Most refusals cost no task.
        let permit = match admit(peer) {
            Ok(permit) => permit,
            Err(line) => {
                refuse(&tcp, settings.tls.is_none().then_some(line).flatten());
                continue;
            }
        };
        let Ok(stream) = Stream::tcp(tcp) else { continue };
        let (tls, stop, handle) = (settings.tls.clone(), stop.clone(), handle.clone());
        let within = settings.handshake;
        match tls {
            None => drop(tasks.spawn(handle(Connection { stream, permit, stop }))),
            Some(tls) => drop(tasks.spawn(async move {
                if let Some(stream) = Box::pin(handshake(stream, &tls, within)).await {
                    handle(Connection { stream, permit, stop }).await;
                }
            })),
        }
    }
    drop(endpoint);
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(settings.grace, all).await.is_err() {
        tracing::info!(connections = tasks.len(), "connections cut off at shutdown");
        tasks.shutdown().await;
    }
}

async fn handshake(mut stream: Stream, tls: &ServerTls, within: Duration) -> Option<Stream> {
    match stream.start_tls(tls, within).await {
        Ok(()) => Some(stream),
        Err(error) => {
            tracing::debug!(peer = %stream.peer_addr(), local = %stream.local_addr(), "{error}");
            None
        }
    }
}

async fn read_header(tcp: TcpStream, within: Duration) -> Option<Stream> {
    let mut stream = Stream::tcp(tcp).ok()?;
    let found = tokio::time::timeout(within, async {
        loop {
            match proxy::parse(stream.buffered()) {
                Parse::Done(header) => break Some(header),
                Parse::More if stream.buffered().len() < proxy::HEADER_MAX_BYTES => {
                    if !stream.fill_more(within).await.ok()? {
                        break None;
                    }
                }
                Parse::More | Parse::Invalid => break None,
            }
        }
    })
    .await;
    let Ok(Some(header)) = found else {
        tracing::warn!(proxy = %stream.peer_addr(), "no PROXY header from an address that is configured as proxy");
        return None;
    };
    stream.consume(header.len);
    if let Some((peer, local)) = header.addresses {
        stream.set_addresses(peer, local);
    }
    Some(stream)
}

async fn admitted<P>(
    mut stream: Stream,
    settings: &ServeSettings,
    stop: CancellationToken,
    decision: Result<P, Option<Bytes>>,
) -> Option<Connection<P>> {
    match decision {
        Ok(permit) => {
            let stream = match &settings.tls {
                // Behind the header there may be the ClientHello already: it stays with the stream.
                Some(tls) => match stream.start_tls_behind_proxy(tls, settings.handshake).await {
                    Ok(()) => stream,
                    Err(error) => {
                        tracing::debug!(peer = %stream.peer_addr(), "{error}");
                        return None;
                    }
                },
                None => stream,
            };
            Some(Connection { stream, permit, stop })
        }
        Err(line) => {
            if let Some(line) = line.filter(|_| settings.tls.is_none()) {
                stream.queue_bytes(line);
                stream.set_write_timeout(Duration::from_secs(1));
                stream.shutdown().await;
            }
            None
        }
    }
}

fn prepare(tcp: &TcpStream) {
    // Answers are gathered, so waiting for more (Nagle) only costs time. Keepalive finds clients that are gone: an
    // IDLE connection says nothing for half an hour. Neither failing is a reason to refuse.
    let _ = tcp.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(Duration::from_mins(3)).with_interval(Duration::from_secs(30));
    let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
}

/// Writes the refusal if the socket takes it at once (a new one always does) and closes.
fn refuse(tcp: &TcpStream, line: Option<Bytes>) {
    if let Some(line) = line {
        let _ = SockRef::from(tcp).send(&line);
    }
}

async fn after_error(endpoint: &Endpoint, error: &io::Error, stop: &CancellationToken, complained: &mut Option<Instant>) {
    // The peer was gone before we came: accept(2) hands such errors over.
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    ) {
        return;
    }
    // EMFILE, ENFILE, ENOBUFS, ENOMEM: wait until somebody gives something back.
    if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
        *complained = Some(Instant::now());
        tracing::warn!(listener = %endpoint.address(), "cannot accept connections now: {error}");
    }
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(Duration::from_millis(250)) => {}
    }
}

#[cfg(test)]
mod tests;
