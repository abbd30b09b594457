//! Boards on trees like /sys, made in folders of the tests' own.

mod fixture;
mod parsing;
mod resolving;

use std::path::PathBuf;

/// The boards of this repository.
fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../board")
}
