//! The accept loop on a system without free descriptors. In a process of its own: the limit holds for all of it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use twinpost_wire::{Connection, LineEnds, ServeSettings, Stream, listen, serve};

#[tokio::test]
async fn accepting_goes_on_when_descriptors_are_free_again() {
    let endpoint = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, stop) = (endpoint.address(), CancellationToken::new());
    let handle = |connection: Connection<()>| async move {
        let mut stream = connection.stream;
        stream.queue(b"hello\r\n");
        stream.shutdown().await;
    };
    let serving = tokio::spawn(serve(endpoint, ServeSettings::default(), stop.clone(), |_| Ok(()), handle));
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64.min(hard), hard).unwrap();
    let client = tokio::net::TcpSocket::new_v4().unwrap();
    let mut hoard = Vec::new();
    let exhausted = loop {
        match File::open("/dev/null") {
            Ok(file) => hoard.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(exhausted.raw_os_error(), Some(24), "EMFILE: {exhausted}");
    // The kernel takes the connection; the server cannot accept it.
    let mut stream = Stream::tcp(client.connect(address).await.unwrap()).unwrap();
    let waits = stream.read_line(100, LineEnds::Strict, Duration::from_millis(300)).await;
    assert!(waits.is_err(), "{waits:?}");
    drop(hoard);
    let line = stream.read_line(100, LineEnds::Strict, Duration::from_secs(20)).await.unwrap().unwrap();
    assert_eq!(&line[..], b"hello");
    stop.cancel();
    serving.await.unwrap();
}
