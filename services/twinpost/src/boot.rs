//! `twinpost boot`: what a node of the image does before its network and its services.

use crate::cli::Boot;
use crate::{EXIT_FAILED, complain};

/// Runs once.
pub async fn run(_arguments: Boot) -> u8 {
    complain("this build cannot boot a node yet");
    EXIT_FAILED
}
