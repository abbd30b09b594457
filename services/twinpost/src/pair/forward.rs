//! Mail orders that were given on the node that does not serve: they go to the other one and its answer comes back.
//!
//! Contract: one order, one answer, over the trusted channel; the serving node carries it out as if it were given there, and its audit trail has the
//! name of the one who gave it. Orders with a file (an import) do not go over: they are larger than a message of the channel.
//!
//! Failure classes: the channel is down, or the other node does not serve either: a sentence that says where to give the order.

use crate::control::{Answer, CallError, Failure, Request, call};
use crate::node::Folder;
use serde_json::Value;
use twinpost_peer::{Channel, Refusal, RefusalKind};

/// Name of the order on the channel.
pub const MAIL: &str = "mail";
/// Largest order: a message of the channel has room for it.
const ORDER_MAX_BYTES: usize = 64 << 10;

/// At the node where the order was given.
///
/// # Errors
/// A sentence.
pub async fn send(channel: &Channel, order: Value) -> Result<Value, String> {
    if order.to_string().len() > ORDER_MAX_BYTES {
        return Err("this order is too large to be passed on: give it on the node that serves".to_owned());
    }
    let request = twinpost_peer::Request::Order { name: MAIL.to_owned(), arguments: order };
    match channel.call(request).await {
        Ok(twinpost_peer::Answer::Told(answer)) => Ok(answer),
        Ok(other) => Err(format!("the other node's answer was {other:?}")),
        Err(error) => Err(format!("the other node could not be asked: {error}")),
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
