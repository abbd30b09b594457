//! The listening side: answers the partner, and nobody else.
//!
//! Contract: at most [`MAX_HANDSHAKES`] strangers are looked at at once (and as many from the partner's addresses), each for at most five seconds; of the partner's connections the newest two live. Requests of one
//! connection are answered in the order in which they are done, at most [`MAX_REQUESTS`] at once.
//!
//! Failure classes: counted in [`super::Counts`]; none stops the server.

use super::client::confirm;
use super::transfer::Files;
use super::{Counters, Envelope, Handler, Shared};
use crate::error::Error;
use crate::frame::{Codec, Frame, FrameError, MAX_FRAME_BYTES};
use crate::message::{Answer, Hello, OLDEST_PROTOCOL, PROTOCOL, Refusal, RefusalKind, Request};
use crate::pair::Letter;
use crate::tls::{self, PartnerOnly, Unwelcome};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

/// Connections that are not authenticated yet.
const MAX_HANDSHAKES: usize = 16;
/// Requests of one connection at once.
const MAX_REQUESTS: usize = 32;
const MAX_SESSIONS: usize = 2;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The client asks every second.
const IDLE: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(600);

type Stream = Framed<TlsStream<TcpStream>, Codec>;

pub(super) struct Server {
    shared: Arc<Shared>,
    handler: Arc<dyn Handler>,
    acceptor: TlsAcceptor,
    /// For the partner's addresses, and for everybody else: a crowd on the LAN does not keep the partner out.
    handshakes: [Arc<Semaphore>; 2],
    sessions: Mutex<VecDeque<CancellationToken>>,
    files: Files,
}

impl Server {
    pub(super) fn new(shared: Arc<Shared>, handler: Arc<dyn Handler>) -> Result<Self, Error> {
        let config = tls::server(&shared.identity, PartnerOnly(shared.identity.clone()))?;
        Ok(Self {
            shared,
            handler,
            acceptor: config.into(),
            handshakes: std::array::from_fn(|_| Arc::new(Semaphore::new(MAX_HANDSHAKES))),
            sessions: Mutex::default(),
            files: Files::default(),
        })
    }

    pub(super) async fn serve_when_there(self: Arc<Self>, address: SocketAddr) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Ok(listener) = TcpListener::bind(address).await {
                tracing::info!(%address, "the address is there now");
                return self.serve(listener).await;
            }
        }
    }

    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((tcp, from)) => match self.places(from).try_acquire_owned() {
                        Ok(place) => drop(connections.spawn(self.clone().connection(tcp, from, place))),
                        Err(_) => Counters::count(&self.shared.counters.crowd),
                    },
                    Err(why) => {
                        // Out of file descriptors: the connections that wait do not go away by asking again at once.
                        tracing::warn!(%why, "accepting a connection failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn places(&self, from: SocketAddr) -> Arc<Semaphore> {
        let known = self.shared.settings.partner.iter().any(|partner| partner.ip() == from.ip());
        self.handshakes[usize::from(!known)].clone()
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, from: SocketAddr, place: OwnedSemaphorePermit) {
        let counters = &self.shared.counters;
        let Ok(greeted) = timeout(HANDSHAKE, self.greet(tcp)).await else {
            Counters::count(&counters.slow);
            tracing::info!(%from, "a connection was too slow to say who it is");
            return;
        };
        drop(place);
        match greeted {
            Ok(stream) => {
                Counters::count(&counters.accepted);
                let mine = self.join();
                tokio::select! {
                    () = mine.cancelled() => {}
                    () = self.session(stream) => {}
                }
            }
            Err(why) => tracing::info!(%from, why, "a connection was refused"),
        }
    }

    /// The newest sessions live: after a cut cable the old one may look alive for a while.
    fn join(&self) -> CancellationToken {
        let mine = CancellationToken::new();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.push_back(mine.clone());
        while sessions.len() > MAX_SESSIONS {
            if let Some(oldest) = sessions.pop_front() {
                oldest.cancel();
            }
        }
        mine
    }

    async fn greet(&self, tcp: TcpStream) -> Result<Stream, String> {
        let counters = &self.shared.counters;
        let _ = tcp.set_nodelay(true);
        let tls = self.acceptor.accept(tcp).await.map_err(|why| {
            Counters::count(match tls::classify(&why) {
                Unwelcome::Stranger => &counters.strangers,
                Unwelcome::NoCertificate => &counters.no_certificate,
                Unwelcome::Version => &counters.version,
                Unwelcome::Garbage | Unwelcome::Ended => &counters.garbage,
            });
            why.to_string()
        })?;
        let pair = tls::peer_key(tls.get_ref().1).and_then(|key| self.shared.identity.pair_with(&key));
        let Some(pair) = pair else {
            Counters::count(&counters.strangers);
            return Err("its key is not known any more".to_owned());
        };
        let mut stream = Framed::new(tls, Codec::new(MAX_FRAME_BYTES));
        let frame = match stream.next().await {
            None => return Err("it went away without a greeting".to_owned()),
            Some(frame) => frame.map_err(|why| {
                self.count(&why);
                why.to_string()
            })?,
        };
        let said: Option<Envelope> = serde_json::from_slice(&frame.json).ok();
        let Some(hello) = said.and_then(|envelope| envelope.hello) else {
            Counters::count(&counters.oversized);
            return Err("its first message is no greeting".to_owned());
        };
        let mine = self.shared.hello(pair.cluster, pair.node);
        if let Err(refusal) = self.fits(&mine, &hello) {
            let why = refusal.to_string();
            let envelope = Envelope { refused: Some(refusal), ..Envelope::default() };
            let json = envelope.json().map_err(|e| e.to_string())?;
            let _ = stream.send(Frame { json, data: Bytes::new() }).await;
            let _ = stream.close().await;
            return Err(why);
        }
        let envelope = Envelope { hello: Some(mine), ..Envelope::default() };
        let json = envelope.json().map_err(|e| e.to_string())?;
        // Before the answer: whoever hears it may rely on this node being paired.
        confirm(&self.shared, &hello).await;
        stream.send(Frame { json, data: Bytes::new() }).await.map_err(|e| e.to_string())?;
        Ok(stream)
    }

    fn fits(&self, mine: &Hello, theirs: &Hello) -> Result<(), Refusal> {
        let counters = &self.shared.counters;
        if theirs.cluster != mine.cluster || theirs.node == mine.node {
            Counters::count(&counters.mismatched);
            let reason = format!(
                "this is node {} of pair {:08x}, the greeting is of node {} of {:08x}: pair the nodes again",
                mine.node, mine.cluster, theirs.node, theirs.cluster
            );
            return Err(Refusal::new(RefusalKind::Refused, reason));
        }
        if theirs.protocol < OLDEST_PROTOCOL || theirs.oldest > PROTOCOL {
            Counters::count(&counters.version);
            let reason = format!(
                "this node speaks version {PROTOCOL} of the channel, the other {}: upgrade the older one",
                theirs.protocol
            );
            return Err(Refusal::new(RefusalKind::Refused, reason));
        }
        Ok(())
    }

    fn count(&self, why: &FrameError) {
        match why {
            FrameError::TooLarge { .. } | FrameError::Header => Counters::count(&self.shared.counters.oversized),
            FrameError::Io(_) => {}
        }
    }

    async fn session(self: &Arc<Self>, stream: Stream) {
        let (mut sink, mut incoming) = stream.split();
        let (outgoing, mut frames) = mpsc::channel::<Frame>(MAX_REQUESTS);
        let mut requests = JoinSet::new();
        let write = async {
            while let Some(frame) = frames.recv().await {
                // A partner that does not read its answers is as good as gone.
                if !matches!(timeout(IDLE, sink.send(frame)).await, Ok(Ok(()))) {
                    return;
                }
            }
        };
        let read = async {
            loop {
                let frame = tokio::select! {
                    Some(_) = requests.join_next() => continue,
                    frame = timeout(IDLE, incoming.next()) => frame,
                };
                let frame = match frame {
                    Err(_) => return Counters::count(&self.shared.counters.slow),
                    Ok(None) => return,
                    Ok(Some(Err(why))) => return self.count(&why),
                    Ok(Some(Ok(frame))) => frame,
                };
                let Ok(envelope) = serde_json::from_slice::<Envelope>(&frame.json) else {
                    return Counters::count(&self.shared.counters.oversized);
                };
                // A message of another kind comes from a newer version, which does not expect an answer to it.
                let Some(request) = envelope.request else { continue };
                Counters::count(&self.shared.counters.requests);
                let (id, server, outgoing) = (envelope.id, self.clone(), outgoing.clone());
                while requests.try_join_next().is_some() {}
                if requests.len() >= MAX_REQUESTS {
                    let busy = Refusal::new(RefusalKind::Busy, "too many requests at once");
                    if !reply(&outgoing, id, Err(busy)).await {
                        return;
                    }
                    continue;
                }
                let limit = envelope.within_ms.map_or(LONGEST, |ms| Duration::from_millis(ms.into()).min(LONGEST));
                requests.spawn(async move {
                    let answer = timeout(limit, server.answer(request)).await.unwrap_or_else(|_| {
                        Err(Refusal::new(RefusalKind::Late, format!("not done within {} ms", limit.as_millis())))
                    });
                    reply(&outgoing, id, answer).await;
                });
            }
        };
        tokio::select! {
            () = write => {}
            () = read => {}
        }
    }

    async fn answer(&self, request: Value) -> Result<(Answer, Bytes), Refusal> {
        let name = request.get("ask").and_then(Value::as_str).unwrap_or_default().to_owned();
        let request = serde_json::from_value::<Request>(request).map_err(|why| {
            if Request::NAMES.contains(&name.as_str()) {
                return Refusal::new(RefusalKind::Malformed, format!("the request `{name}` cannot be understood: {why}"));
            }
            Counters::count(&self.shared.counters.unknown);
            Refusal::unknown(&name)
        })?;
        let plain = |answer| Ok((answer, Bytes::new()));
        match request {
            Request::Time => plain(now()),
            Request::Version => plain(Answer::Version(self.shared.settings.about.clone())),
            Request::Keys(step) => {
                let identity = self.shared.identity.clone();
                super::blocking(move || identity.change_keys(&step)).await.map_err(failed)?;
                plain(Answer::Done)
            }
            Request::RotateKeys => {
                if self.shared.identity.pair().is_none_or(|pair| pair.node == Letter::B) {
                    return Err(Refusal::new(RefusalKind::Refused, "only node a drives a change of keys"));
                }
                // Boxed: it asks the partner back, and is far larger than any other request.
                Box::pin(self.shared.rotate_keys()).await.map_err(failed)?;
                plain(Answer::Done)
            }
            Request::File { name } => {
                let path = self.handler.file(name.clone()).await?;
                plain(self.files.facts(name, path).await?)
            }
            Request::Read { name, offset, bytes, hash } => {
                let path = self.handler.file(name.clone()).await?;
                let data = self.files.piece(name, path, offset, bytes, hash).await?;
                Ok((Answer::Piece { offset }, data))
            }
            Request::Standby { .. }
            | Request::Status
            | Request::ConfigOffer(_)
            | Request::ConfigGet
            | Request::Order { .. }
            | Request::Receive { .. } => plain(self.handler.answer(request).await?),
        }
    }
}

fn failed(why: Error) -> Refusal {
    match why {
        Error::Refused(refusal) => refusal,
        other => Refusal::new(RefusalKind::Failed, other.to_string()),
    }
}

async fn reply(outgoing: &mpsc::Sender<Frame>, id: u64, answer: Result<(Answer, Bytes), Refusal>) -> bool {
    let refuse = |refused| Envelope { id, refused: Some(refused), ..Envelope::default() };
    let mut data = Bytes::new();
    let envelope = match answer {
        Err(refused) => refuse(refused),
        Ok((answer, bytes)) => {
            data = bytes;
            Envelope { id, answer: serde_json::to_value(answer).ok(), ..Envelope::default() }
        }
    };
    let mut json = envelope.json();
    if json.as_ref().map_or(0, Bytes::len) + data.len() + 64 > MAX_FRAME_BYTES {
        data = Bytes::new();
        json = refuse(Refusal::new(RefusalKind::Failed, "the answer is larger than the channel carries")).json();
    }
    match json {
        Ok(json) => outgoing.send(Frame { json, data }).await.is_ok(),
        Err(_) => false,
    }
}

fn now() -> Answer {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let up_s = std::fs::read_to_string("/proc/uptime").ok();
    let up_ms = up_s.and_then(|text| {
        let (whole, part) = text.split_whitespace().next()?.split_once('.')?;
        Some(whole.parse::<u64>().ok()?.saturating_mul(1000).saturating_add(part.parse::<u64>().ok()?.saturating_mul(10)))
    });
    Answer::Time { unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX), up_ms: up_ms.unwrap_or_default() }
}
