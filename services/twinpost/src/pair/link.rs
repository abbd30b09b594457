//! What the peer asks over the trusted channel, and who answers it.

use futures_util::future::BoxFuture;
use twinpost_pair::Handle;
use twinpost_peer::{Answer, ConfigCopy, Handler, Refusal, Request};

/// What this node does for its peer.
pub struct Answers {
    handle: Handle,
    copy: ConfigCopy,
}

impl Answers {
    /// Answers by the daemon and the history of the document.
    pub fn new(handle: Handle, copy: ConfigCopy) -> Self {
        Self { handle, copy }
    }
}

impl Handler for Answers {
    fn answer(&self, request: Request) -> BoxFuture<'_, Result<Answer, Refusal>> {
        Box::pin(async move {
            match self.copy.answer(&request).await {
                Some(answer) => answer,
                None => self.handle.peer_asked(request).await,
            }
        })
    }
}
