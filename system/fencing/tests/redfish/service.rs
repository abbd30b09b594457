//! A small Redfish service, written from DSP0266 (protocol) and DSP0268 (ComputerSystem): enough to switch one system, and to do it wrong.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// How this service behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Ids of its systems; the first is the peer.
    pub systems: Vec<&'static str>,
    /// What ComputerSystem.Reset takes, and where that is said.
    pub allowed: Option<&'static [&'static str]>,
    pub in_action_info: bool,
    /// `If-Match` is required (428), or compared (412).
    pub wants_tag: bool,
    /// Answers 204 and does nothing.
    pub lies: bool,
    /// After an order, PowerState passes through this.
    pub between: Option<&'static str>,
    /// Readings alternate between Off and On.
    pub flaps: bool,
    /// Answers to everything.
    pub says: Option<&'static [u8]>,
    /// Answers nothing.
    pub hangs: bool,
    /// Refuses the action with this status.
    pub refuses: Option<u16>,
    /// Address of the action, if not its own.
    pub target: Option<&'static str>,
    /// Forgets every session after this many requests.
    pub forgets_after: usize,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            systems: vec!["437XR1138R2"],
            allowed: Some(&["On", "ForceOff", "GracefulShutdown", "ForceRestart"]),
            in_action_info: false,
            wants_tag: false,
            lies: false,
            between: None,
            flaps: false,
            says: None,
            hangs: false,
            refuses: None,
            target: None,
            forgets_after: usize::MAX,
        }
    }
}

#[derive(Debug)]
pub struct State {
    pub on: bool,
    pub manners: Manners,
    between: Option<&'static str>,
    /// Requests as `METHOD path`, in order.
    pub requests: Vec<String>,
    tokens: HashMap<String, usize>,
    pub logins: usize,
    readings: usize,
}

pub struct Service {
    pub state: Arc<Mutex<State>>,
    pub base: String,
    pub dir: tempfile::TempDir,
    /// SHA-256 of its certificate, and a file with it.
    pub fingerprint: [u8; 32],
    pub certificate: PathBuf,
}

pub const USER: &str = "fence";
pub const PASSWORD: &str = "p:ss wörd";

impl Service {
    /// `secure`: HTTPS with a certificate of its own, as BMCs come from the factory.
    pub async fn start(secure: bool, manners: Manners) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = dir.path().join("certificate.pem");
        std::fs::write(&file, certificate.pem()).unwrap();
        let fingerprint = twinpost_https::fingerprint(certificate.der());
        let tls = secure.then(|| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        });
        let state = Arc::new(Mutex::new(State {
            on: true,
            manners,
            between: None,
            requests: Vec::new(),
            tokens: HashMap::new(),
            logins: 0,
            readings: 0,
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &state).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &state).await;
                            }
                        }
                    }
                });
            }
        });
        let base = format!("{}://127.0.0.1:{port}", if secure { "https" } else { "http" });
        Self { state, base, dir, fingerprint, certificate: file }
    }

    pub fn password(&self, text: &str) -> PathBuf {
        password_file(self.dir.path(), text)
    }

    pub fn is_on(&self) -> bool {
        self.state.lock().unwrap().on
    }
}

pub fn password_file(dir: &Path, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(format!("password {}", text.len()));
    std::fs::write(&path, format!("{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: &Mutex<State>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line).await {
                Ok(length) if length > 0 => {}
                _ => return,
            }
            if line.trim_end().is_empty() {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let headers: HashMap<String, String> = head[1..]
            .iter()
            .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let (method, path) = head[0].strip_suffix(" HTTP/1.1").unwrap().split_once(' ').unwrap();
        let answer = {
            let mut state = state.lock().unwrap();
            state.requests.push(format!("{method} {path}"));
            if state.manners.hangs { None } else { Some(state.answer(method, path, &headers, &body)) }
        };
        let Some(answer) = answer else { std::future::pending().await };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn http(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nOData-Version: 4.0\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// DSP0266, error responses.
fn error(status: u16, message: &str) -> Vec<u8> {
    http(
        status,
        "",
        &serde_json::json!({ "error": { "code": "Base.1.8.GeneralError", "message": "See ExtendedInfo",
            "@Message.ExtendedInfo": [{ "MessageId": "Base.1.8.GeneralError", "Message": message }] } })
        .to_string(),
    )
}

impl State {
    fn allowed_in(&mut self, headers: &HashMap<String, String>) -> bool {
        if let Some(token) = headers.get("x-auth-token") {
            let Some(used) = self.tokens.get_mut(token) else { return false };
            *used += 1;
            return *used <= self.manners.forgets_after;
        }
        // "fence:p:ss wörd" in base64 (HTTP Basic, UTF-8).
        headers.get("authorization").is_some_and(|value| value == "Basic ZmVuY2U6cDpzcyB3w7ZyZA==")
    }

    fn answer(&mut self, method: &str, path: &str, headers: &HashMap<String, String>, body: &[u8]) -> Vec<u8> {
        if let Some(bytes) = self.manners.says {
            return bytes.to_vec();
        }
        let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        match (method, path.trim_end_matches('/')) {
            // The root needs no login (DSP0266, authentication).
            ("GET", "/redfish/v1") => {
                let root = serde_json::json!({ "@odata.id": "/redfish/v1/", "RedfishVersion": "1.6.0",
                    "Systems": { "@odata.id": "/redfish/v1/Systems" },
                    "Links": { "Sessions": { "@odata.id": "/redfish/v1/SessionService/Sessions" } } });
                return http(200, "", &root.to_string());
            }
            ("POST", "/redfish/v1/SessionService/Sessions") => {
                if json["UserName"] != USER || json["Password"] != PASSWORD {
                    return error(401, "The supplied credentials are not authorized.");
                }
                self.logins += 1;
                let token = format!("token{}", self.logins);
                self.tokens.insert(token.clone(), 0);
                return http(201, &format!("X-Auth-Token: {token}\r\nLocation: /redfish/v1/SessionService/Sessions/1\r\n"), "{}");
            }
            _ => {}
        }
        if !self.allowed_in(headers) {
            return error(401, "The supplied credentials are not authorized.");
        }
        if (method, path) == ("GET", "/redfish/v1/Systems") {
            let members: Vec<_> = self
                .manners
                .systems
                .iter()
                .map(|id| serde_json::json!({ "@odata.id": format!("/redfish/v1/Systems/{id}") }))
                .collect();
            return http(200, "", &serde_json::json!({ "Members@odata.count": members.len(), "Members": members }).to_string());
        }
        let own = format!("/redfish/v1/Systems/{}", self.manners.systems[0]);
        match (method, path) {
            ("GET", path) if path == own => http(200, "ETag: \"77\"\r\n", &self.system(&own).to_string()),
            ("GET", path) if path == format!("{own}/ResetActionInfo") => {
                let info = serde_json::json!({ "Parameters": [{ "Name": "ResetType", "Required": true, "AllowableValues": self.manners.allowed }] });
                http(200, "", &info.to_string())
            }
            ("POST", path) if path == format!("{own}/Actions/ComputerSystem.Reset") => self.reset(&json, headers),
            _ => error(404, "The resource was not found."),
        }
    }

    fn system(&mut self, own: &str) -> serde_json::Value {
        self.readings += 1;
        let steady = if self.on { "On" } else { "Off" };
        let power = match self.between.take() {
            Some(between) => between,
            None if self.manners.flaps => ["Off", "On"][self.readings % 2],
            None => steady,
        };
        let target = self.manners.target.map_or_else(|| format!("{own}/Actions/ComputerSystem.Reset"), str::to_owned);
        let mut action = serde_json::json!({ "target": target });
        if self.manners.in_action_info {
            action["@Redfish.ActionInfo"] = format!("{own}/ResetActionInfo").into();
        } else if let Some(allowed) = self.manners.allowed {
            action["ResetType@Redfish.AllowableValues"] = allowed.into();
        }
        serde_json::json!({ "@odata.id": own, "Id": self.manners.systems[0], "PowerState": power,
            "Actions": { "#ComputerSystem.Reset": action } })
    }

    fn reset(&mut self, json: &serde_json::Value, headers: &HashMap<String, String>) -> Vec<u8> {
        if let Some(status) = self.manners.refuses {
            return error(status, "The system is being updated.");
        }
        if self.manners.wants_tag {
            match headers.get("if-match").map(String::as_str) {
                None => return error(428, "If-Match is required."),
                Some("\"77\"") => {}
                Some(_) => return error(412, "The ETag is another."),
            }
        }
        let on = match json["ResetType"].as_str() {
            Some("On" | "ForceOn") => true,
            Some("ForceOff") => false,
            _ => return error(400, "The value for ResetType is not in the list."),
        };
        if !self.manners.lies {
            self.on = on;
        }
        self.between = self.manners.between;
        http(204, "", "")
    }
}
