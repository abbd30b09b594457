//! `twinpost boot`: what a node of the image does before its network and its services.
//!
//! Contract: runs once and exits 0 whatever it found, for a node that does not start cannot even say what is wrong with it; what is wrong stands in
//! its report and becomes an alarm. The folder of the node is there afterwards, with the owners that the other programs need.
//!
//! Failure classes: none of its own.

use crate::cli::Boot;
use crate::{EXIT_DONE, complain, logs};
use twinpost_node::folder;
use twinpost_node::render::boot::{Sys, boot};

/// Runs once.
pub async fn run(arguments: Boot) -> u8 {
    if let Err(message) = logs::open(&twinpost_config::Log::default()) {
        complain(&message);
    }
    let sys = Sys { root: arguments.root, ..Sys::default() };
    let node = sys.node.clone();
    Box::pin(boot(&sys)).await;
    if let Err(error) = folder::People::find().and_then(|people| folder::prepare(&node, folder::RUN.as_ref(), &people)) {
        tracing::error!(%error, "the node's folder is not as it should be");
    }
    EXIT_DONE
}
