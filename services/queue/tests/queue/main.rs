//! The queue against real sockets: scripted mail servers, a spool in memory, and DNS both made up and real.

mod dialogue;
mod errands;
mod limits;
mod names;
mod peer;
mod reports;
mod routes;
mod smart_host;
mod spool;

use names::Names;
use peer::Manners;
use spool::Memory;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use twinpost_queue::courier::{Courier, NoCourier};
use twinpost_queue::dns::Dns;
use twinpost_queue::{Queue, Settings};

/// A queue at work.
struct Site<D: Dns = Names, C: Courier = NoCourier> {
    spool: Memory,
    queue: Arc<Queue<Memory, D, C>>,
    stop: CancellationToken,
    run: Option<JoinHandle<()>>,
}

fn settings() -> Settings {
    Settings {
        host_name: "mail.us.example".into(),
        port: peer::port(),
        retry: vec![Duration::from_secs(120)],
        connect_timeout: Duration::from_secs(3),
        reply_timeout: Duration::from_secs(20),
        data_timeout: Duration::from_secs(20),
        fault_pause: Duration::from_millis(5),
        keep_idle: Duration::from_secs(30),
        ..Settings::default()
    }
}

impl<D: Dns> Site<D> {
    fn start(dns: D, settings: Settings) -> Self {
        Self::over(Memory::new(), dns, settings)
    }
    fn over(spool: Memory, dns: D, settings: Settings) -> Self {
        Self::with_courier(spool, dns, NoCourier, settings)
    }
}

impl<D: Dns, C: Courier> Site<D, C> {
    fn with_courier(spool: Memory, dns: D, courier: C, settings: Settings) -> Self {
        let queue = Queue::with_courier(spool.clone(), dns, courier, settings).unwrap();
        let stop = CancellationToken::new();
        let run = Some(tokio::spawn(queue.clone().run(stop.clone())));
        Self { spool, queue, stop, run }
    }
    /// Everything is due, and nobody rests.
    fn again(&self) {
        self.spool.due();
        self.queue.wake();
    }
    async fn end(mut self) -> Memory {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.run.take().unwrap()).await.expect("the queue stops").unwrap();
        self.spool.clone()
    }
}

impl<D: Dns, C: Courier> Drop for Site<D, C> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One server, of the domain there.example.
async fn there(manners: Manners) -> (peer::Peer, Names) {
    let peer = peer::Peer::start(manners).await;
    let names = Names::new().mx("there.example", &[(10, "mx.there.example")]).host("mx.there.example", &[peer.ip()]);
    (peer, names)
}
