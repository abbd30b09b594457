//! What the peer asks over the trusted channel, and who answers it.

use super::{aside, forward};
use crate::node::Folder;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use twinpost_pair::Handle;
use twinpost_peer::{Answer, Channel, ConfigCopy, Handler, Refusal, Request};

/// What this node does for its peer.
pub struct Answers {
    handle: Handle,
    copy: ConfigCopy,
    folder: Folder,
    /// Itself is what answers there: known once it stands.
    channel: OnceLock<Weak<Channel>>,
}

impl Answers {
    /// Answers by the daemon and the history of the document.
    pub fn new(handle: Handle, copy: ConfigCopy, folder: Folder) -> Self {
        Self { handle, copy, folder, channel: OnceLock::new() }
    }

    /// The channel on which it answers, for what is fetched from the other node.
    pub fn over(&self, channel: &Arc<Channel>) {
        // Set once, by the one who made both.
        let _ = self.channel.set(Arc::downgrade(channel));
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
                Request::Order { name, arguments } if name == forward::SYSTEM => {
                    let channel = self.channel.get().and_then(Weak::upgrade);
                    return forward::answer_system(channel.as_deref(), arguments).await;
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
        Box::pin(async move { if name == forward::BUNDLE { forward::bundle() } else { aside::file(&self.folder, &name) } })
    }
}
