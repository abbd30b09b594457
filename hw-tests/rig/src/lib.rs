//! Two machines to try the appliance on: in QEMU, or real ones on a bench.

pub mod blocklog;
pub mod recover;
