//! What the peer asks over the trusted channel, and who answers it.

use super::{aside, forward};
use crate::node::Folder;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use twinpost_pair::Handle;
use twinpost_peer::{Answer, ConfigCopy, Handler, Refusal, Request};

/// What this node does for its peer.
pub struct Answers {
    handle: Handle,
    copy: ConfigCopy,
    folder: Folder,
}

impl Answers {
    /// Answers by the daemon and the history of the document.
    pub fn new(handle: Handle, copy: ConfigCopy, folder: Folder) -> Self {
        Self { handle, copy, folder }
    }
}

impl Handler for Answers {
    fn answer(&self, request: Request) -> BoxFuture<'_, Result<Answer, Refusal>> {
        Box::pin(async move {
            let request = match request {
                Request::Order { name, .. } if name == aside::LIST => return aside::answer(&self.folder),
                Request::Order { name, arguments } if name == forward::MAIL => {
                    return forward::answer(&self.folder, arguments).await;
                }
                other => other,
            };
            match self.copy.answer(&request).await {
                Some(answer) => answer,
                None => self.handle.peer_asked(request).await,
            }
        })
    }

    fn file(&self, name: String) -> BoxFuture<'_, Result<PathBuf, Refusal>> {
        Box::pin(async move { aside::file(&self.folder, &name) })
    }
}
