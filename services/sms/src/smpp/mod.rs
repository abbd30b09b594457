//! An operator's SMPP 3.4 service as a way out: one transceiver session, made again for ever.
//!
//! Contract: a part whose `submit_sm` was written and whose answer has not come when the session ends has an unknown
//! outcome; one that was not written was not sent. A `deliver_sm` is answered when it is stored; while there is no room
//! the operator is told that our queue is full, and shows it again.
//!
//! Failure classes: [`Condition::Disconnected`], [`Condition::BindRefused`]; everything else ends the session and the
//! next one is tried after a pause that grows.

mod codec;
mod pdu;
#[cfg(test)]
mod tests;

use crate::api::{Condition, Kind, ResetStep, Way};
use crate::error::Error;
use crate::reasons;
use crate::settings::SmppSettings;
use crate::transport::{Inbound, Outcome, Parcel, Token, Transport};
use codec::{Came, Codec};
use futures_util::{SinkExt, StreamExt};
use pdu::Delivered;
use rusmpp::pdus::DeliverSmResp;
use rusmpp::{Command, CommandStatus, Pdu};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
type Line = Framed<Box<dyn Io>, Codec>;

#[derive(Debug)]
enum Ask {
    Send { parcel: Parcel, reply: oneshot::Sender<Outcome> },
    Confirm(Token),
}

/// An SMPP service.
pub(crate) struct BySmpp {
    asks: mpsc::Sender<Ask>,
    state: watch::Receiver<Way>,
    window: usize,
    stop: CancellationToken,
    again: Arc<tokio::sync::Notify>,
}

impl BySmpp {
    /// Starts the session's task.
    ///
    /// # Errors
    /// [`Error::Settings`]: a name or password does not fit its field, or the CA file cannot be used.
    pub(crate) fn start(settings: SmppSettings) -> Result<(BySmpp, mpsc::Receiver<Inbound>), Error> {
        if pdu::bind(&settings).is_none() {
            return Err(Error::Settings("the SMPP name, password or system type is too long or not ASCII".into()));
        }
        let tls = match &settings.tls_ca {
            Some(file) => Some(connector(file).map_err(|e| Error::Settings(format!("{}: {e}", file.display())))?),
            None => None,
        };
        let (asks, asked) = mpsc::channel(256);
        let (inbound, received) = mpsc::channel(64);
        let (state_in, state) = watch::channel(way(Condition::Disconnected, ""));
        let stop = CancellationToken::new();
        let again = Arc::new(tokio::sync::Notify::new());
        let window = usize::from(settings.window.clamp(1, 100));
        let task = Task { settings, tls, asked, inbound, state: state_in, stop: stop.clone(), again: again.clone() };
        tokio::spawn(task.run());
        Ok((BySmpp { asks, state, window, stop, again }, received))
    }
}

impl Transport for BySmpp {
    fn kind(&self) -> Kind {
        Kind::Smpp
    }

    fn window(&self) -> usize {
        self.window
    }

    fn state(&self) -> watch::Receiver<Way> {
        self.state.clone()
    }

    async fn send(&self, parcel: Parcel) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        if self.asks.send(Ask::Send { parcel, reply }).await.is_err() {
            return not_connected();
        }
        outcome.await.unwrap_or_else(|_| pdu::no_answer())
    }

    async fn confirm(&self, token: Token) {
        // A session that has ended shows it again.
        let _ = self.asks.send(Ask::Confirm(token)).await;
    }

    async fn reset(&self, _: ResetStep) {
        self.again.notify_one();
    }

    async fn stop(&self) {
        self.stop.cancel();
        // The task answers what it has, says goodbye, and drops its end.
        self.asks.closed().await;
    }
}

struct Task {
    settings: SmppSettings,
    tls: Option<TlsConnector>,
    asked: mpsc::Receiver<Ask>,
    inbound: mpsc::Sender<Inbound>,
    state: watch::Sender<Way>,
    stop: CancellationToken,
    again: Arc<tokio::sync::Notify>,
}

/// Why a session ended.
enum End {
    Stopped,
    Lost(String),
    BindRefused(u32),
}

impl Task {
    async fn run(mut self) {
        let mut pause = self.settings.reconnect_min;
        let mut next_token = 0;
        loop {
            let began = Instant::now();
            let end = self.session(&mut next_token).await;
            match end {
                End::Stopped => return,
                End::Lost(why) => {
                    tracing::warn!(host = %self.settings.host, "SMPP: {why}");
                    self.tell(Condition::Disconnected, &why);
                }
                End::BindRefused(code) => {
                    let why = format!("SMPP status 0x{code:X}");
                    tracing::error!(host = %self.settings.host, system_id = %self.settings.system_id, "SMPP: bind refused, {why}");
                    self.tell(Condition::BindRefused, &why);
                }
            }
            if began.elapsed() > self.settings.reconnect_max {
                pause = self.settings.reconnect_min;
            }
            let until = Instant::now() + pause;
            pause = (pause * 2).min(self.settings.reconnect_max);
            loop {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.again.notified() => break,
                    () = tokio::time::sleep_until(until) => break,
                    ask = self.asked.recv() => match ask {
                        Some(Ask::Send { reply, .. }) => drop(reply.send(not_connected())),
                        Some(Ask::Confirm(_)) => {}
                        None => return,
                    },
                }
            }
        }
    }

    fn tell(&self, condition: Condition, detail: &str) {
        self.state.send_if_modified(|old| {
            let new = old.condition != condition;
            if new {
                *old = way(condition, detail);
            }
            new
        });
    }

    async fn connect(&self) -> Result<Line, String> {
        let (host, port) = (self.settings.host.as_str(), self.settings.port);
        let tcp = TcpStream::connect((host, port)).await.map_err(|e| format!("cannot connect to {host}:{port}: {e}"))?;
        tcp.set_nodelay(true).map_err(|e| e.to_string())?;
        let stream: Box<dyn Io> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = rustls_pki_types::ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
                Box::new(tls.connect(name, tcp).await.map_err(|e| format!("TLS with {host}: {e}"))?)
            }
        };
        Ok(Framed::new(stream, Codec::new()))
    }

    /// Connects and binds.
    async fn bind(&self) -> Result<Line, End> {
        let Some(bind) = pdu::bind(&self.settings) else { return Err(End::Lost("the name does not fit".into())) };
        let mut line = self.connect().await.map_err(End::Lost)?;
        line.send(Command::new(CommandStatus::EsmeRok, 1, bind)).await.map_err(|e| End::Lost(e.to_string()))?;
        loop {
            let answer = line.next().await.ok_or_else(|| End::Lost("closed before the bind was answered".into()))?;
            let answer = answer.map_err(|e| End::Lost(e.to_string()))?;
            match answer {
                Came::Bare { status, .. } => return Err(End::BindRefused(status)),
                Came::Whole(answer) => match (answer.pdu(), u32::from(answer.status())) {
                    (Some(Pdu::BindTransceiverResp(_)), 0) => return Ok(line),
                    (_, 0) => {}
                    (_, code) => return Err(End::BindRefused(code)),
                },
            }
        }
    }

    async fn session(&mut self, next_token: &mut u64) -> End {
        let bound = tokio::select! {
            () = self.stop.cancelled() => return End::Stopped,
            bound = tokio::time::timeout(self.settings.response_max, self.bind()) => bound,
        };
        let mut line = match bound {
            Ok(Ok(line)) => line,
            Ok(Err(end)) => return end,
            Err(_) => return End::Lost("no answer to the bind in time".into()),
        };
        tracing::info!(host = %self.settings.host, system_id = %self.settings.system_id, "SMPP: bound");
        self.tell(Condition::Ready, "");
        let mut open: HashMap<u32, (oneshot::Sender<Outcome>, Instant)> = HashMap::new();
        let end = self.serve(&mut line, &mut open, next_token).await;
        // What has no answer now never gets one.
        for (_, (reply, _)) in open {
            let _ = reply.send(pdu::no_answer());
        }
        end.unwrap_or_else(End::Lost)
    }

    async fn serve(
        &mut self,
        line: &mut Line,
        open: &mut HashMap<u32, (oneshot::Sender<Outcome>, Instant)>,
        next_token: &mut u64,
    ) -> Result<End, String> {
        let mut sequence: u32 = 1;
        let mut next = move || {
            // SMPP 3.4 3.2: 0x00000001 to 0x7FFFFFFF
            sequence = if sequence >= 0x7FFF_FFFF { 1 } else { sequence + 1 };
            sequence
        };
        let text = |e: rusmpp::tokio_codec::EncodeError| e.to_string();
        let mut shown: HashMap<u64, u32> = HashMap::new();
        let mut heard = Instant::now();
        let mut enquired: Option<Instant> = None;
        loop {
            let oldest = open.values().map(|(_, at)| *at).chain(enquired).min();
            let give_up = oldest.map(|at| at + self.settings.response_max);
            let enquire = heard + self.settings.enquire;
            let wake = give_up.map_or(enquire, |g| if enquired.is_some() { g } else { g.min(enquire) });
            tokio::select! {
                () = self.stop.cancelled() => {
                    // SMPP 3.4 4.2: unbind; the answer is not waited for, what is open stays unknown.
                    let _ = line.send(Command::new(CommandStatus::EsmeRok, next(), Pdu::Unbind)).await;
                    return Ok(End::Stopped);
                }
                () = self.again.notified() => return Err("ended by order".into()),
                ask = self.asked.recv() => match ask {
                    Some(Ask::Send { parcel, reply }) => {
                        let Some(sm) = pdu::submit(&self.settings, &parcel) else {
                            let _ = reply.send(pdu::unfit(&parcel));
                            continue;
                        };
                        let n = next();
                        open.insert(n, (reply, Instant::now()));
                        line.send(Command::new(CommandStatus::EsmeRok, n, sm)).await.map_err(text)?;
                    }
                    Some(Ask::Confirm(token)) => if let Some(n) = shown.remove(&token.0) {
                        line.send(Command::new(CommandStatus::EsmeRok, n, DeliverSmResp::default())).await.map_err(text)?;
                    },
                    None => return Ok(End::Stopped),
                },
                came = line.next() => {
                    let came = came.ok_or("the operator closed the connection")?.map_err(|e| e.to_string())?;
                    heard = Instant::now();
                    enquired = None;
                    let command = match came {
                        Came::Bare { status, sequence } => {
                            if let Some((reply, _)) = open.remove(&sequence) {
                                let _ = reply.send(pdu::refused(status));
                            }
                            continue;
                        }
                        Came::Whole(command) => command,
                    };
                    let n = command.sequence_number();
                    let status = command.status();
                    match command.pdu() {
                        Some(Pdu::DeliverSm(sm)) => {
                            *next_token += 1;
                            let token = Token(*next_token);
                            let inbound = match pdu::delivered(sm) {
                                Delivered::Report(report) => Inbound::Report(report, token),
                                Delivered::Fragment(fragment) => Inbound::Fragment(fragment, token),
                            };
                            if self.inbound.try_send(inbound).is_ok() {
                                shown.insert(token.0, n);
                            } else {
                                let full = Command::new(CommandStatus::EsmeRmsgqful, n, DeliverSmResp::default());
                                line.send(full).await.map_err(text)?;
                            }
                        }
                        Some(Pdu::SubmitSmResp(answer)) if u32::from(status) == 0 => {
                            if let Some((reply, _)) = open.remove(&n) {
                                let id = answer.message_id().as_str().to_owned();
                                let _ = reply.send(Outcome::Accepted(crate::book::Reference::Id(id)));
                            }
                        }
                        Some(Pdu::EnquireLink) => {
                            line.send(Command::new(CommandStatus::EsmeRok, n, Pdu::EnquireLinkResp)).await.map_err(text)?;
                        }
                        Some(Pdu::Unbind) => {
                            let _ = line.send(Command::new(CommandStatus::EsmeRok, n, Pdu::UnbindResp)).await;
                            return Err("the operator ended the session".into());
                        }
                        // A refusal may come with or without a body, or as generic_nack.
                        _ if u32::from(status) != 0 => {
                            if let Some((reply, _)) = open.remove(&n) {
                                let _ = reply.send(pdu::refused(u32::from(status)));
                            }
                        }
                        _ => {}
                    }
                }
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    if give_up.is_some_and(|g| g <= now) {
                        return Err(format!("no answer within {} s", self.settings.response_max.as_secs()));
                    }
                    if enquired.is_none() && enquire <= now {
                        enquired = Some(now);
                        line.send(Command::new(CommandStatus::EsmeRok, next(), Pdu::EnquireLink)).await.map_err(text)?;
                    }
                }
            }
        }
    }
}

fn connector(ca: &std::path::Path) -> Result<TlsConnector, String> {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let certificates = rustls_pki_types::CertificateDer::pem_file_iter(ca).map_err(|e| e.to_string())?;
    let (taken, _) = roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if taken == 0 {
        return Err("there is no usable certificate in it".into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn way(condition: Condition, detail: &str) -> Way {
    let (text, zh) = reasons::condition(condition);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Way {
        name: String::new(),
        kind: Kind::Smpp,
        condition,
        text: if detail.is_empty() { text.to_owned() } else { format!("{text} ({detail})") },
        zh: zh.to_owned(),
        since_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        signal_dbm: None,
        operator: None,
        family: None,
        model: None,
        imei: None,
        smsc: None,
        registration: None,
    }
}

fn not_connected() -> Outcome {
    let (text, zh) = reasons::condition(Condition::Disconnected);
    Outcome::NotSent(reasons::way(text, zh))
}
