//! Runs `dialogues/*.txt`. The first word of a file's name says which door it knocks at; `+ stored N` counts what was
//! delivered, `+ last TEXT` and `+ lacks TEXT` look into the last message.

mod memory;

use memory::{School, Words};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use twinpost_dialogue::{Dialogue, Duplex, Peer, Script, files};
use twinpost_smtp::{AuthOffer, BareLineEnds, Server, Settings};
use twinpost_wire::Stream;

struct Door {
    server: Arc<Server<School, Words, ()>>,
    school: Arc<School>,
    client: Arc<rustls::ClientConfig>,
}

impl Peer for Door {
    async fn connect(&mut self, _: u32) -> io::Result<Box<dyn Duplex>> {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (peer, local) = ("192.0.2.7:4711".parse().unwrap(), "192.0.2.1:25".parse().unwrap());
        let server = self.server.clone();
        tokio::spawn(async move {
            server.serve_connection(Stream::boxed(Box::new(there), peer, local), CancellationToken::new()).await;
        });
        Ok(Box::new(here))
    }

    async fn upgrade(&mut self, _: u32, plain: Box<dyn Duplex>) -> io::Result<Box<dyn Duplex>> {
        let name = "mx.school.example".try_into().unwrap();
        let tls = tokio_rustls::TlsConnector::from(self.client.clone()).connect(name, plain).await?;
        Ok(Box::new(tls))
    }

    async fn call(&mut self, text: &str) -> io::Result<()> {
        let stored = self.school.stored.lock().unwrap();
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t");
        let last = stored.last().map(memory::Stored::text).unwrap_or_default();
        let fault = match word {
            "stored" if rest == stored.len().to_string() => return Ok(()),
            "stored" => format!("{} messages are stored", stored.len()),
            "last" if last.contains(&rest) => return Ok(()),
            "lacks" if !last.contains(&rest) => return Ok(()),
            "envelope" if format!("{:?}", stored.last().map(|s| &s.envelope)).contains(&rest) => return Ok(()),
            "envelope" => format!("{:#?}", stored.last().map(|s| &s.envelope)),
            "quarantined" if stored.last().is_some_and(|s| s.message.quarantine) => return Ok(()),
            _ => last,
        };
        Err(io::Error::other(fault))
    }
}

fn settings(name: &str) -> Settings {
    let host = "mx.school.example";
    match name.split(['-', '.']).next() {
        Some("mx") => Settings::mx(host),
        Some("refuse") => Settings { bare_line_ends: BareLineEnds::Refuse, ..Settings::mx(host) },
        Some("limits") => Settings {
            size_max_bytes: 300,
            recipients_max: 2,
            messages_max: 3,
            errors_max: 4,
            command_line_max_bytes: 512,
            text_line_max_bytes: Some(100),
            header_max_bytes: 200,
            header_fields_max: 5,
            received_max: 2,
            ..Settings::mx(host)
        },
        Some("submission") => Settings::submission(host),
        Some("plainauth") => {
            Settings { auth: AuthOffer::Always, tls_required: false, errors_max: 100, ..Settings::submission(host) }
        }
        Some("lmtp") => Settings::lmtp(host),
        other => panic!("a dialogue's name begins with its door, not with {other:?}"),
    }
}

#[tokio::test]
async fn dialogues() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, client) = memory::tls(dir.path());
    let client = Arc::new(client);
    let mut failures = String::new();
    for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues")).unwrap() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let school = Arc::new(School::default());
        let server = Server::new(settings(&name), Some(tls.clone()), school.clone(), Arc::new(Words), Arc::new(()));
        let mut door = Door { server: Arc::new(server), school, client: client.clone() };
        if let Err(failure) = Dialogue::new().run(&Script::load(&file).unwrap(), &mut door).await {
            failures += &format!("{failure}\n");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}
