//! The promises of the packs.
