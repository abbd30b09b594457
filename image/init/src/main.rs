//! First program of the appliance: finds, verifies and mounts the root.

fn main() {}
