//! One suite of behaviour for both engines: our own witness, and a real etcd (Debian package etcd-server).

mod etcd;
mod suite;

use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use twinpost_witness::{Client, ClientSettings, Key, Server, Settings, Witness, enrol};

struct Own {
    dir: tempfile::TempDir,
    address: String,
    key: Key,
}

impl suite::Engine for Own {
    async fn nodes(&self, cluster: u32) -> [Arc<dyn Witness>; 2] {
        enrol(self.dir.path(), cluster, &self.key).unwrap();
        [0, 1].map(|node| {
            let settings = ClientSettings::new(&self.address, cluster, node, self.key.clone());
            // Nothing is lost on loopback; on a loaded machine an answer may take its time.
            Arc::new(Client::new(ClientSettings { limit: std::time::Duration::from_secs(10), ..settings })) as Arc<dyn Witness>
        })
    }

    fn shortest_lease_ms(&self) -> u64 {
        800
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn own_witness() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::bind(Settings { listen: "127.0.0.1:0".parse().unwrap(), dir: dir.path().to_owned() }).await.unwrap();
    let address = server.local_addr().to_string();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(server.run(shutdown.clone()));
    suite::run(&Own { dir, address, key: Key::generate() }).await;
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_etcd() {
    let etcd = etcd::Running::start(None).await;
    suite::run(&etcd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_etcd_with_tls_and_password() {
    etcd::secured().await;
}
