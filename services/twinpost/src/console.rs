//! `twinpost console`: the menu on a screen or a serial line.

use crate::cli::Console;
use crate::{EXIT_FAILED, complain};

/// Runs until the terminal goes away.
pub async fn run(_arguments: Console) -> u8 {
    complain("this build has no console yet");
    EXIT_FAILED
}
