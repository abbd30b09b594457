//! A real etcd on free loopback ports, ended by its own handle.

use crate::suite::{Engine, Nodes};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use twinpost_https::{Client as Http, Method, Request, Trust, header};
use twinpost_witness::{Claimed, Credentials, Error, Etcd, EtcdSettings, Renewed, Witness};

/// Server certificate of an etcd, signed by an authority of its own.
pub struct Tls {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

pub struct Running {
    child: Child,
    pub address: String,
    pub dir: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().expect("etcd runs");
        self.child.wait().expect("etcd was started here");
    }
}

/// A port that was free a moment ago; both are held until both are known.
fn free_ports() -> [u16; 2] {
    let held = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

impl Running {
    pub async fn start(tls: Option<&Tls>) -> Self {
        let mut log = String::new();
        for _ in 0..5 {
            match Self::try_start(tls).await {
                Ok(running) => return running,
                Err(why) => log = why,
            }
        }
        panic!("etcd does not start: {log}");
    }

    /// Its log, if somebody else took a port in between.
    async fn try_start(tls: Option<&Tls>) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let [client, peer] = free_ports();
        let address = format!("{}://127.0.0.1:{client}", if tls.is_some() { "https" } else { "http" });
        let peers = format!("http://127.0.0.1:{peer}");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir.path().join("data"));
        command.args(["--listen-client-urls", &address, "--advertise-client-urls", &address, "--listen-peer-urls", &peers]);
        command.args(["--initial-advertise-peer-urls", &peers, "--initial-cluster", &format!("default={peers}")]);
        if let Some(tls) = tls {
            command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("etcd-server is installed");
        let mut running = Self { child, address, dir };
        let trust = tls.map(|tls| Trust::Authorities(tls.authority.clone()));
        let http = Http::new(&running.address, trust.as_ref(), None).unwrap();
        let health = Request::new(Method::GET, "/health");
        // Until it answers or has ended.
        while running.child.try_wait().unwrap().is_none() {
            if let Ok(answer) = http.send(&health, Duration::from_secs(5)).await
                && answer.excerpt().contains("true")
            {
                return Ok(running);
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Err(std::fs::read_to_string(running.dir.path().join("log")).unwrap())
    }

    fn settings(&self, cluster: u32, node: u8) -> EtcdSettings {
        EtcdSettings { limit: Duration::from_secs(20), ..EtcdSettings::new(vec![self.address.clone()], cluster, node) }
    }
}

impl Engine for Running {
    async fn nodes(&self, cluster: u32) -> Nodes {
        [0, 1].map(|node| Arc::new(Etcd::new(self.settings(cluster, node)).unwrap()) as Arc<dyn Witness>)
    }

    fn shortest_lease_ms(&self) -> u64 {
        1000
    }
}

fn certificates(dir: &Path) -> Tls {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, text: String| {
        std::fs::write(dir.join(name), text).unwrap();
        dir.join(name)
    };
    Tls {
        authority: write("authority.pem", authority.pem()),
        certificate: write("server.pem", certificate.pem()),
        key: write("server.key", key.serialize_pem()),
    }
}

async fn post(http: &Http, path: &str, body: &Value) -> Value {
    let request = Request::new(Method::POST, path).json(body.to_string());
    let answer = http.send(&request, Duration::from_secs(10)).await.unwrap();
    assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.excerpt());
    serde_json::from_slice(&answer.body).unwrap()
}

/// An etcd that asks for a password over TLS: right ones, wrong ones, a member that is down, and its end.
pub async fn secured() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certificates(dir.path());
    let running = Running::start(Some(&tls)).await;
    let trust = Some(Trust::Authorities(tls.authority.clone()));
    let http = Http::new(&running.address, trust.as_ref(), None).unwrap();
    for user in ["root", "node"] {
        post(&http, "/v3/auth/user/add", &json!({ "name": user, "password": "pass of it" })).await;
        post(&http, "/v3/auth/role/add", &json!({ "name": user })).await;
        post(&http, "/v3/auth/user/grant", &json!({ "user": user, "role": user })).await;
    }
    let encoded = |text: &str| serde_json::to_value(base64_of(text)).unwrap();
    let range = json!({ "permType": "READWRITE", "key": encoded("twinpost/"), "range_end": encoded("twinpost0") });
    post(&http, "/v3/auth/role/grant", &json!({ "name": "node", "perm": range })).await;
    post(&http, "/v3/auth/enable", &json!({})).await;

    let password = dir.path().join("password");
    std::fs::write(&password, "pass of it\n").unwrap();
    let settings = EtcdSettings {
        // The first member is not there.
        endpoints: vec!["https://127.0.0.1:9".to_owned(), running.address.clone()],
        trust: trust.clone(),
        credentials: Some(Credentials { user: "node".to_owned(), password: password.clone() }),
        ..running.settings(1, 0)
    };
    let node = Etcd::new(settings.clone()).unwrap();
    assert_eq!(node.claim(0, 1).await.unwrap(), Claimed::Won { reign: 1, granted_ms: u32::MAX });
    assert_eq!(node.renew(1).await.unwrap(), Renewed::Renewed);
    assert_eq!(node.read().await.unwrap(), (1, 0));

    let wrong = dir.path().join("wrong");
    std::fs::write(&wrong, "another\n").unwrap();
    let credentials = Some(Credentials { user: "node".to_owned(), password: wrong });
    let stranger = Etcd::new(EtcdSettings { credentials, ..settings.clone() }).unwrap();
    let refused = stranger.claim(1, 2).await.unwrap_err();
    assert!(matches!(&refused, Error::Etcd { what, .. } if what.contains("authentication failed")), "{refused}");
    // The certificate is not of this authority.
    let other = certificates(tempfile::tempdir_in(dir.path()).unwrap().keep().as_path());
    let distrusting = EtcdSettings { trust: Some(Trust::Authorities(other.authority)), ..settings.clone() };
    let unheard = Etcd::new(EtcdSettings { endpoints: vec![running.address.clone()], ..distrusting }).unwrap();
    assert!(matches!(unheard.claim(1, 2).await.unwrap_err(), Error::Silent { last: Some(_), .. }));

    // Not what was there before: a register that another wrote is damaged, never empty.
    let token = post_login(&http).await;
    let key = base64_of("twinpost/00000001/reign");
    let put = json!({ "key": key, "value": base64_of("{}") });
    let request = Request::new(Method::POST, "/v3/kv/put").json(put.to_string());
    let request = request.header(header::AUTHORIZATION, &token).unwrap();
    assert_eq!(http.send(&request, Duration::from_secs(10)).await.unwrap().status.as_u16(), 200);
    assert!(matches!(node.claim(1, 2).await, Err(Error::Refused { why: twinpost_witness::Refusal::Damaged, .. })));

    let mut state = node.state();
    drop(running);
    assert!(matches!(node.renew(1).await.unwrap_err(), Error::Silent { .. }));
    state.wait_for(|reachable| !reachable).await.unwrap();
}

async fn post_login(http: &Http) -> String {
    let answer = post(http, "/v3/auth/authenticate", &json!({ "name": "root", "password": "pass of it" })).await;
    answer["token"].as_str().unwrap().to_owned()
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
