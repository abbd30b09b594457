//! The connecting side: keeps one connection to the partner and carries the calls over it.
//!
//! Contract: each call ends exactly once; one that left with a connection that ended is not repeated, since the partner may have carried it out.
//!
//! Failure classes: the reasons in [`State::Down`].

use super::{Answered, Call, Envelope, Shared, State};
use crate::error::Error;
use crate::frame::{Codec, Frame, FrameError, MAX_FRAME_BYTES};
use crate::message::{Answer, Hello, OLDEST_PROTOCOL, PROTOCOL, Request};
use crate::tls::{self, PartnerOnly};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use socket2::SockRef;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::Framed;

const CONNECT: Duration = Duration::from_secs(2);
const HANDSHAKE: Duration = Duration::from_secs(4);
/// A connection that is asked this often ...
const ASK: Duration = Duration::from_secs(1);
/// ... and says nothing for so long is given up.
const SILENT: Duration = Duration::from_secs(4);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const PAUSE_HEARD: Duration = Duration::from_secs(1);
const PAUSE_UNHEARD: Duration = Duration::from_secs(15);

type Stream = Framed<TlsStream<TcpStream>, Codec>;

pub(super) struct Client {
    shared: Arc<Shared>,
    connector: TlsConnector,
    calls: mpsc::UnboundedReceiver<Call>,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, calls: mpsc::UnboundedReceiver<Call>) -> Result<Self, Error> {
        let config = tls::client(&shared.identity, PartnerOnly(shared.identity.clone()))?;
        Ok(Self { shared, connector: config.into(), calls })
    }

    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let why = match self.connect().await {
                Ok((stream, hello, address)) => {
                    pause = FIRST_PAUSE;
                    tracing::info!(%address, partner = hello.about.name, program = hello.about.program, "connected to the other node");
                    self.shared.state.send_replace(State::Up { hello, address });
                    let why = self.carry(stream).await;
                    tracing::warn!(%address, why, "the connection to the other node ended");
                    why
                }
                Err(why) => why,
            };
            self.shared.state.send_if_modified(|state| {
                let new = State::Down { why };
                let changed = *state != new;
                *state = new;
                changed
            });
            while let Ok(call) = self.calls.try_recv() {
                let _ = call.done.send(Err(Error::Down { why: "the connection ended before it was sent".to_owned() }));
            }
            self.pause(pause).await;
            let longest = if *self.shared.heard.borrow() { PAUSE_HEARD } else { PAUSE_UNHEARD };
            pause = (pause * 2).min(longest);
        }
    }

    /// Waits, but not once frames of the partner come again or the pair changes.
    async fn pause(&self, pause: Duration) {
        let mut heard = self.shared.heard.subscribe();
        let mut pair = self.shared.identity.watch();
        let wait = if *heard.borrow_and_update() { pause.min(PAUSE_HEARD) } else { pause };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = heard.changed() => {}
            _ = pair.changed() => {}
        }
    }

    async fn connect(&self) -> Result<(Stream, Hello, SocketAddr), String> {
        if self.shared.identity.pair().is_none() && self.shared.identity.unfinished().is_none() {
            return Err(Error::NotPaired.to_string());
        }
        let mut whys = Vec::new();
        for &address in &self.shared.settings.partner {
            match self.connect_to(address).await {
                Ok((stream, hello)) => return Ok((stream, hello, address)),
                Err(why) => whys.push(format!("{address}: {why}")),
            }
        }
        Err(if whys.is_empty() { "no address of the other node is set".to_owned() } else { whys.join("; ") })
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<(Stream, Hello), String> {
        let tcp = match timeout(CONNECT, self.tcp(address)).await {
            Err(_) => return Err("no answer to the connection attempt".to_owned()),
            Ok(tcp) => tcp.map_err(|e| e.to_string())?,
        };
        let greeted = async {
            let tls = self.connector.connect(tls::no_name(), tcp).await.map_err(|e| meaning(&e))?;
            self.greet(tls).await
        };
        timeout(HANDSHAKE, greeted).await.unwrap_or_else(|_| Err("connected, but it does not greet".to_owned()))
    }

    async fn tcp(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = self.shared.settings.from.filter(|from| from.is_ipv4() == address.is_ipv4()) {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let tcp = socket.connect(address).await?;
        tcp.set_nodelay(true)?;
        SockRef::from(&tcp).set_tcp_user_timeout(Some(SILENT * 2))?;
        Ok(tcp)
    }

    async fn greet(&self, tls: TlsStream<TcpStream>) -> Result<(Stream, Hello), String> {
        let key = tls::peer_key(tls.get_ref().1).ok_or("no certificate came")?;
        let pair = self.shared.identity.pair_with(&key).ok_or("this node is not paired with it any more")?;
        let hello = self.shared.hello(pair.cluster, pair.node);
        let mut stream = Framed::new(tls, Codec::new(MAX_FRAME_BYTES));
        let envelope = Envelope { hello: Some(hello), ..Envelope::default() };
        let json = envelope.json().map_err(|e| e.to_string())?;
        stream.send(Frame { json, data: Bytes::new() }).await.map_err(|e| broken(&e))?;
        let frame = stream.next().await.ok_or("it closed the connection")?.map_err(|e| broken(&e))?;
        let envelope: Envelope = serde_json::from_slice(&frame.json).map_err(|e| format!("its greeting is no message: {e}"))?;
        if let Some(refused) = envelope.refused {
            return Err(refused.to_string());
        }
        let hello = envelope.hello.ok_or("it does not greet")?;
        if hello.cluster != pair.cluster || hello.node == pair.node {
            return Err(format!(
                "it is node {} of pair {:08x}, expected node {} of {:08x}",
                hello.node,
                hello.cluster,
                pair.node.other(),
                pair.cluster
            ));
        }
        if hello.protocol < OLDEST_PROTOCOL || hello.oldest > PROTOCOL {
            return Err(format!(
                "it speaks version {} of the channel, this node {PROTOCOL}: upgrade the older one",
                hello.protocol
            ));
        }
        confirm(&self.shared, &hello).await;
        Ok((stream, hello))
    }

    /// Carries calls until the connection ends; says why it did.
    async fn carry(&mut self, stream: Stream) -> String {
        let (sink, mut incoming) = stream.split();
        let (outgoing, frames) = mpsc::unbounded_channel();
        let writer = tokio::spawn(write(sink, frames));
        let mut pending: HashMap<u64, Call> = HashMap::new();
        let why = self.exchange(&mut incoming, &outgoing, &mut pending).await;
        writer.abort();
        for (_, call) in pending {
            let _ = call.done.send(Err(Error::Lost { why: why.clone() }));
        }
        why
    }

    // Calls in `outgoing` are bounded by their places, questions by the pace of asking.
    async fn exchange(
        &mut self,
        incoming: &mut SplitStream<Stream>,
        outgoing: &mpsc::UnboundedSender<Frame>,
        pending: &mut HashMap<u64, Call>,
    ) -> String {
        let mut last_id = 0_u64;
        let mut heard = Instant::now();
        let mut ask = tokio::time::interval(ASK);
        let question = serde_json::to_value(Request::Time).unwrap_or_default();
        loop {
            let (request, within_ms, call) = tokio::select! {
                frame = incoming.next() => {
                    match frame {
                        None => return "it closed the connection".to_owned(),
                        Some(Err(why)) => return broken(&why),
                        Some(Ok(frame)) => {
                            heard = Instant::now();
                            if let Err(why) = answered(frame, pending) {
                                return why;
                            }
                        }
                    }
                    continue;
                }
                call = self.calls.recv() => match call {
                    None => return "the channel was closed".to_owned(),
                    // Nobody waits for it any more: it is not sent late.
                    Some(call) if call.done.is_closed() => continue,
                    Some(call) => (call.request.clone(), call.within_ms, Some(call)),
                },
                _ = ask.tick() => {
                    if heard.elapsed() >= SILENT {
                        return format!("it has said nothing for {} s", SILENT.as_secs());
                    }
                    pending.retain(|_, call| !call.done.is_closed());
                    (question.clone(), 1000, None)
                }
            };
            last_id += 1;
            let envelope = Envelope { id: last_id, request: Some(request), within_ms: Some(within_ms), ..Envelope::default() };
            match (envelope.json(), call) {
                (Ok(json), call) => {
                    if let Some(call) = call {
                        call.sent.store(true, Ordering::Release);
                        pending.insert(last_id, call);
                    }
                    if outgoing.send(Frame { json, data: Bytes::new() }).is_err() {
                        return "writing to it failed".to_owned();
                    }
                }
                (Err(why), Some(call)) => drop(call.done.send(Err(why))),
                (Err(_), None) => {}
            }
        }
    }
}

async fn write(mut sink: SplitSink<Stream, Frame>, mut frames: mpsc::UnboundedReceiver<Frame>) {
    while let Some(frame) = frames.recv().await {
        if sink.send(frame).await.is_err() {
            return;
        }
    }
}

fn answered(frame: Frame, pending: &mut HashMap<u64, Call>) -> Result<(), String> {
    let envelope: Envelope = serde_json::from_slice(&frame.json).map_err(|e| format!("it sent what is no message: {e}"))?;
    // An answer to a question of our own, or to a call that nobody waits for any more.
    let Some(call) = pending.remove(&envelope.id) else { return Ok(()) };
    let done: Answered = match (envelope.answer, envelope.refused) {
        (_, Some(refused)) => Err(Error::Refused(refused)),
        (Some(answer), None) => {
            serde_json::from_value::<Answer>(answer).map(|answer| (answer, frame.data)).map_err(|e| Error::Answer(e.to_string()))
        }
        (None, None) => Err(Error::Answer("an empty answer".to_owned())),
    };
    let _ = call.done.send(done);
    Ok(())
}

/// A hello of the partner over a pinned connection is the last step of a pairing that was interrupted, and news about the partner.
pub(super) async fn confirm(shared: &Arc<Shared>, hello: &Hello) {
    let (identity, hello) = (shared.identity.clone(), hello.clone());
    let done = super::blocking(move || {
        if identity.unfinished().is_some_and(|next| next.cluster == hello.cluster && next.node == hello.node.other()) {
            identity.commit()?;
            tracing::info!(partner = hello.about.name, "an interrupted pairing is finished: both nodes are paired");
        }
        identity.learn(&hello.about)
    });
    if let Err(why) = done.await {
        tracing::warn!(%why, "what the other node told about itself cannot be kept");
    }
}

fn broken(why: &FrameError) -> String {
    match why {
        FrameError::Io(io) => meaning(io),
        other => other.to_string(),
    }
}

fn meaning(why: &std::io::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError, Error as Tls};
    match why.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) {
        Some(Tls::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            "another machine answers there: its key is not the one of the paired node".to_owned()
        }
        Some(Tls::AlertReceived(Alert::AccessDenied | Alert::BadCertificate | Alert::CertificateUnknown | Alert::UnknownCA)) => {
            "it does not know this node's key: it is paired with another node or with none".to_owned()
        }
        _ => why.to_string(),
    }
}
