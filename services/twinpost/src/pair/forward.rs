//! Orders for the programs of the other node: they go over the trusted channel and its answer comes back.
//!
//! Contract: one order, one answer. Mail orders go to the node that serves, which carries them out as if they were given there; its audit trail has
//! the name of the one who gave it. Orders with a file (an import) do not go over: they are larger than a message of the channel. Of the
//! orders of `twinpost system` only those of an update go over ([`answer_system`]): whoever holds one node must not get the other's disks erased.
//!
//! Failure classes: the channel is down, or the other node does not serve either: a sentence that says where to give the order.

use crate::control::{Answer, CallError, Failure, Request, call};
use crate::node::Folder;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use twinpost_node::api::{BundleFrom, Done, Line, Power, Request as SystemRequest, SOCKET};
use twinpost_peer::{Channel, Refusal, RefusalKind};

/// Name of the order on the channel.
pub const MAIL: &str = "mail";
/// Name of an order for `twinpost system`.
pub const SYSTEM: &str = "system";
/// Name of the bundle among the files that this node gives to the other.
pub const BUNDLE: &str = "update/bundle";
/// Where the bundle of an update lies, on both nodes.
pub const BUNDLE_FILE: &str = "/state/system/update.bundle";
/// A mail order takes so long at most.
pub const MAIL_LIMIT: Duration = Duration::from_secs(60);
/// Largest order: a message of the channel has room for it.
const ORDER_MAX_BYTES: usize = 64 << 10;

/// At the node where the order was given.
///
/// # Errors
/// A sentence.
pub async fn send(channel: &Channel, name: &str, order: Value, limit: Duration) -> Result<Value, String> {
    if order.to_string().len() > ORDER_MAX_BYTES {
        return Err("this order is too large to be passed on: give it on the node that serves".to_owned());
    }
    let request = twinpost_peer::Request::Order { name: name.to_owned(), arguments: order };
    match channel.call_within(request, limit).await {
        Ok(twinpost_peer::Answer::Told(answer)) => Ok(answer),
        Ok(other) => Err(format!("the other node's answer was {other:?}")),
        Err(error) => Err(format!("the other node could not be asked: {error}")),
    }
}

/// Where the bundle is that the other node asks for.
///
/// # Errors
/// There is none.
pub fn bundle() -> Result<PathBuf, Refusal> {
    let path = PathBuf::from(BUNDLE_FILE);
    if path.is_file() { Ok(path) } else { Err(Refusal::new(RefusalKind::NotFound, "no update is under way here")) }
}

/// An order of an update, at the node that it is for.
///
/// # Errors
/// It is none, or could not be passed on.
pub async fn answer_system(channel: Option<&Channel>, arguments: Value) -> Result<twinpost_peer::Answer, Refusal> {
    let failed = |why: String| Refusal::new(RefusalKind::Failed, why);
    let told = |line: &Line| serde_json::to_value(line).map(twinpost_peer::Answer::Told).map_err(|e| failed(e.to_string()));
    if arguments.get("op").and_then(Value::as_str) == Some("receive_bundle") {
        let channel = channel.ok_or_else(|| failed("the channel is not there yet".to_owned()))?;
        let fetched = channel.fetch(BUNDLE, Path::new(BUNDLE_FILE), |_| {}).await.map_err(|e| failed(e.to_string()))?;
        tracing::info!(bytes = fetched.bytes, "the bundle of an update came from the other node");
        return told(&Line::Done(Done::default()));
    }
    let request: SystemRequest = serde_json::from_value(arguments)
        .map_err(|e| Refusal::new(RefusalKind::Malformed, format!("this is no order of this version: {e}")))?;
    let of_update = match &request {
        SystemRequest::UpdateView
        | SystemRequest::UpdateForget
        | SystemRequest::UpdateReturn { .. }
        | SystemRequest::Power { what: Power::Reboot, go: true } => true,
        SystemRequest::UpdateInstall { from: BundleFrom::File(file), this_node: true, .. } => file == Path::new(BUNDLE_FILE),
        _ => false,
    };
    if !of_update {
        return Err(Refusal::new(RefusalKind::Refused, "the other node may not order this"));
    }
    match twinpost_node::client::call(Path::new(SOCKET), "the other node", request, |_| {}).await {
        Ok(done) => told(&Line::Done(done)),
        Err(twinpost_node::client::CallError::Refused(refused)) => told(&Line::Error(refused)),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// At the node that serves.
///
/// # Errors
/// It is no order, or there is no mail process here.
pub async fn answer(folder: &Folder, arguments: Value) -> Result<twinpost_peer::Answer, Refusal> {
    let failed = |kind, why: String| Refusal::new(kind, why);
    let request: Request = serde_json::from_value(arguments)
        .map_err(|e| failed(RefusalKind::Malformed, format!("this is no order of this version: {e}")))?;
    if request.attachment_bytes > 0 {
        return Err(failed(RefusalKind::Malformed, "an order with a file must be given on the node that serves".to_owned()));
    }
    let answer = match call(&folder.socket(), &request, &[], |_| {}).await {
        Ok(value) => Answer::Done(value),
        Err(CallError::Refused(failure)) => Answer::Failed(failure),
        Err(CallError::NotRunning) => return Err(failed(RefusalKind::Refused, "no mail process runs there either".to_owned())),
        Err(CallError::Broken(why)) => Answer::Failed(Failure { message: why, exit: crate::EXIT_UNREACHABLE, found: None }),
    };
    serde_json::to_value(answer).map(twinpost_peer::Answer::Told).map_err(|e| failed(RefusalKind::Failed, e.to_string()))
}
