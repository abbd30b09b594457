//! What a connection costs while it waits: its future, and nothing in its buffers.

use crate::bench::{Bench, settings};
use std::net::SocketAddr;
use twinpost_wire::Stream;

#[tokio::test]
async fn the_future_of_a_connection_is_small() {
    let bench = Bench::new(settings());
    let (_here, there) = tokio::io::duplex(64);
    let address = SocketAddr::from(([127, 0, 0, 1], 143));
    let future = bench.server.connection(Stream::boxed(Box::new(there), address, address), bench.stop.clone());
    // An idle connection may cost 20 KB in all, most of it the system's socket: the future gets a fifth.
    let bytes = size_of_val(&future);
    assert!(bytes < 4096, "{bytes} bytes");
}
