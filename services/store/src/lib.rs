//! Empty until its part arrives.

pub mod files;
pub mod pack;
