//! The pair daemon: the heart of `twinpost-heartbeat` with links, disk, clock and drivers around it.

pub mod api;
