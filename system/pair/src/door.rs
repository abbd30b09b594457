//! Requests that come in beside the control socket: from the program that runs the daemon, and from the peer.

use crate::api::{Alarm, Answer, Request, Severity, Status, Text};
use tokio::sync::{mpsc, oneshot};

/// Requests under way.
const ASKS_MAX: usize = 16;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This node.
    Here,
    /// The peer: not passed on to it again.
    Peer,
}

/// One request and where its answer goes.
pub(crate) struct Ask {
    pub(crate) request: Request,
    pub(crate) origin: Origin,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// What comes through the door.
pub(crate) enum Knock {
    /// A request.
    Ask(Ask),
    /// An alarm of a driver.
    Alarm(Alarm),
}

/// The daemon's end; into [`crate::Parts`].
pub struct Door {
    pub(crate) knocks: mpsc::Receiver<Knock>,
}

/// The other end. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    knocks: mpsc::Sender<Knock>,
}

/// Both ends. The handle may be used before the daemon runs: requests wait.
#[must_use]
pub fn door() -> (Handle, Door) {
    let (send, knocks) = mpsc::channel(ASKS_MAX);
    (Handle { knocks: send }, Door { knocks })
}

impl Handle {
    /// As over the control socket; [`Request::Watch`] is answered once.
    pub async fn ask(&self, request: Request) -> Answer {
        self.ask_from(request, Origin::Here).await
    }

    async fn ask_from(&self, request: Request, origin: Origin) -> Answer {
        let (reply, answer) = oneshot::channel();
        let gone = || Answer::Error { text: Text::new("the pair daemon is ending", "双机守护进程正在退出") };
        if self.knocks.send(Knock::Ask(Ask { request, origin, reply })).await.is_err() {
            return gone();
        }
        answer.await.unwrap_or_else(|_| gone())
    }

    /// Tells people something that a driver noticed (another host on the service address ...): kept and passed on like the daemon's own
    /// alarms.
    pub async fn alarm(&self, severity: Severity, code: &str, text: Text) {
        let alarm = Alarm { at: crate::clock::wall_s(), code: code.to_owned(), severity, text };
        let _ = self.knocks.send(Knock::Alarm(alarm)).await;
    }

    /// The status, unless the daemon is ending.
    pub async fn status(&self) -> Option<Status> {
        match self.ask(Request::Status).await {
            Answer::Status(status) => Some(*status),
            _ => None,
        }
    }

    /// What the peer asks over the trusted channel: `Standby`, `Status`, and `Order` with the name of a [`Request`] and its fields as
    /// arguments. For the handler of [`twinpost_peer`]; requests that are not the daemon's are refused as unknown.
    ///
    /// # Errors
    /// All reasons of a refusal.
    pub async fn peer_asked(&self, request: twinpost_peer::Request) -> Result<twinpost_peer::Answer, twinpost_peer::Refusal> {
        use twinpost_peer::{Refusal, RefusalKind};
        let order = match request {
            twinpost_peer::Request::Standby { why } => {
                tracing::info!(%why, "the peer asks this node to hand over");
                Request::Standby
            }
            twinpost_peer::Request::Status => Request::Status,
            twinpost_peer::Request::Order { name, arguments } => order_of(&name, arguments)?,
            _ => return Err(Refusal::new(RefusalKind::Unknown, "the pair daemon does not answer this")),
        };
        match self.ask_from(order, Origin::Peer).await {
            Answer::Done { .. } => Ok(twinpost_peer::Answer::Done),
            Answer::Refused { reasons } => {
                Err(Refusal { kind: RefusalKind::Refused, reasons: reasons.into_iter().map(|reason| reason.text.en).collect() })
            }
            Answer::Error { text } => Err(Refusal::new(RefusalKind::Failed, text.en)),
            other => match serde_json::to_value(&other) {
                Ok(value) => Ok(twinpost_peer::Answer::Told(value)),
                Err(e) => Err(Refusal::new(RefusalKind::Failed, e.to_string())),
            },
        }
    }
}

/// An order by its name and fields. Only what may come from the other node.
fn order_of(name: &str, arguments: serde_json::Value) -> Result<Request, twinpost_peer::Refusal> {
    use twinpost_peer::{Refusal, RefusalKind};
    let mut object = match arguments {
        serde_json::Value::Object(object) => object,
        serde_json::Value::Null => serde_json::Map::new(),
        _ => return Err(Refusal::new(RefusalKind::Malformed, "arguments of an order are an object")),
    };
    object.insert("op".to_owned(), name.into());
    let request: Request = serde_json::from_value(object.into())
        .map_err(|e| Refusal::new(RefusalKind::Malformed, format!("the order {name:.40} cannot be read: {e}")))?;
    match request {
        Request::Maintenance { .. } | Request::FailBack { .. } | Request::Preview { .. } | Request::Standby | Request::Status => {
            Ok(request)
        }
        Request::Leaving { .. } => Ok(request),
        _ => Err(Refusal::unknown(name)),
    }
}
