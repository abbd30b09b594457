//! A management controller for each machine: enough of Redfish (DMTF DSP0266, DSP0268) that a pair's own fencing switches its peer's power and reads it
//! back.
//!
//! Contract: `PowerState` is what the machine's power *is* when it is asked, not what was ordered. Basic login with one name and
//! password. Requests are bounded; each connection has a thread and a time limit.
//!
//! Failure classes: a bad request gets its HTTP status; nothing stops the service before it is dropped.

use crate::timeline::Timeline;
use crate::{Error, Result};
use base64::Engine as _;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest request: head and body.
const REQUEST_MOST: u64 = 16 << 10;
/// How long a connection may rest.
const IDLE: Duration = Duration::from_secs(30);
/// The name of the login.
pub const USER: &str = "fence";
/// Its password.
pub const PASSWORD: &str = "power and nothing else";
const SYSTEM: &str = "/redfish/v1/Systems/1";

/// The power behind a controller.
pub trait Mains: Send + Sync {
    /// Whether the machine has power now.
    fn is_on(&self) -> bool;
    /// Switches it, at once; the word is for the timeline.
    ///
    /// # Errors
    /// It cannot.
    fn switch(&self, on: bool) -> Result<()>;
}

/// See the module. It listens until it is dropped.
#[derive(Debug)]
pub struct Bmc {
    at: SocketAddr,
    over: Arc<AtomicBool>,
    /// Answers nothing while set: unplugged.
    deaf: Arc<AtomicBool>,
}

impl Bmc {
    /// Serves on a listener; threads are started in the caller's network namespace.
    ///
    /// # Errors
    /// No thread.
    pub fn serve(listener: TcpListener, node: &str, mains: Arc<dyn Mains>, timeline: &Timeline) -> Result<Self> {
        let at = listener.local_addr().map_err(Error::io("address of a management controller"))?;
        let (over, deaf) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let bmc = Self { at, over: over.clone(), deaf: deaf.clone() };
        let (timeline, source) = (timeline.clone(), format!("{node} bmc"));
        let serve = move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if deaf.load(Ordering::Relaxed) {
                    continue;
                }
                let (mains, timeline, source, deaf) = (mains.clone(), timeline.clone(), source.clone(), deaf.clone());
                let _ = std::thread::Builder::new().name(source.clone()).spawn(move || {
                    let _ = converse(&stream, &*mains, &deaf, &|text| timeline.note(&source, text));
                });
            }
        };
        std::thread::Builder::new().name(format!("{node} bmc")).spawn(serve).map_err(Error::io("a management controller"))?;
        Ok(bmc)
    }

    /// Where it is.
    #[must_use]
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Its own network cable out or in.
    pub fn unplug(&self, out: bool) {
        self.deaf.store(out, Ordering::Relaxed);
    }

    /// Ends it; called in the network namespace in which it serves.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        // The listening thread waits for a connection.
        let _ = TcpStream::connect_timeout(&self.at, Duration::from_secs(1));
    }
}

struct Request {
    method: String,
    path: String,
    login: bool,
    body: Value,
    closes: bool,
}

fn converse(stream: &TcpStream, mains: &dyn Mains, deaf: &AtomicBool, note: &dyn Fn(&str)) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream);
    let mut out = stream;
    while let Some(request) = read(&mut lines)? {
        if deaf.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (status, body) = answer(&request, mains, note);
        if request.method != "GET" {
            note(&format!("{} {} {}: {status}", request.method, request.path, request.body));
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            out,
            "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nOData-Version: 4.0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        if request.closes {
            break;
        }
    }
    Ok(())
}

/// The next request; none at the end of the connection.
fn read(lines: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let bad = || std::io::Error::other("not a request");
    let mut bounded = lines.take(REQUEST_MOST);
    let mut line = String::new();
    if bounded.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (method, path) = (words.next().ok_or_else(bad)?.to_owned(), words.next().ok_or_else(bad)?.to_owned());
    let (mut length, mut login, mut closes) = (0, false, false);
    loop {
        let mut line = String::new();
        if bounded.read_line(&mut line)? == 0 {
            return Err(bad());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().map_err(|_| bad())?,
            "connection" => closes = value.eq_ignore_ascii_case("close"),
            "authorization" => {
                let pair = format!("{USER}:{PASSWORD}");
                login = value == format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
            }
            _ => {}
        }
    }
    if length as u64 > REQUEST_MOST {
        return Err(bad());
    }
    let mut body = vec![0; length];
    bounded.read_exact(&mut body)?;
    Ok(Some(Request { method, path, login, body: serde_json::from_slice(&body).unwrap_or_default(), closes }))
}

/// DSP0266, error responses.
fn refusal(status: u16, message: &str) -> (u16, Value) {
    let extended = json!([{ "MessageId": "Base.1.8.GeneralError", "Message": message }]);
    (status, json!({ "error": { "code": "Base.1.8.GeneralError", "message": message, "@Message.ExtendedInfo": extended } }))
}

fn answer(request: &Request, mains: &dyn Mains, note: &dyn Fn(&str)) -> (u16, Value) {
    let path = request.path.trim_end_matches('/');
    // The service root needs no login (DSP0266, authentication).
    if (request.method.as_str(), path) == ("GET", "/redfish/v1") {
        let systems = json!({ "@odata.id": "/redfish/v1/Systems" });
        return (200, json!({ "@odata.id": "/redfish/v1/", "RedfishVersion": "1.6.0", "Systems": systems }));
    }
    if !request.login {
        note("a request with a wrong login");
        return refusal(401, "The login is wrong.");
    }
    match (request.method.as_str(), path) {
        ("GET", "/redfish/v1/Systems") => (200, json!({ "Members@odata.count": 1, "Members": [{ "@odata.id": SYSTEM }] })),
        ("GET", SYSTEM) => {
            let state = if mains.is_on() { "On" } else { "Off" };
            let target = format!("{SYSTEM}/Actions/ComputerSystem.Reset");
            let reset = json!({ "target": target, "ResetType@Redfish.AllowableValues": ["On", "ForceOff"] });
            let actions = json!({ "#ComputerSystem.Reset": reset });
            note(&format!("power is read: {state}"));
            (200, json!({ "@odata.id": SYSTEM, "Id": "1", "PowerState": state, "Actions": actions }))
        }
        ("POST", path) if path.strip_prefix(SYSTEM) == Some("/Actions/ComputerSystem.Reset") => {
            let on = match request.body["ResetType"].as_str() {
                Some("On") => true,
                Some("ForceOff") => false,
                _ => return refusal(400, "ResetType is On or ForceOff."),
            };
            match mains.switch(on) {
                Ok(()) => (204, Value::Null),
                Err(error) => refusal(500, &error.to_string()),
            }
        }
        _ => refusal(404, "There is no such resource."),
    }
}

#[cfg(test)]
mod tests {
    use super::{Bmc, Mains, PASSWORD, USER};
    use crate::{Result, Timeline};
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use twinpost_fencing::{Power, PowerOff, PowerSwitch, Redfish, RedfishSettings};

    struct Lamp(AtomicBool);
    impl Mains for Lamp {
        fn is_on(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
        fn switch(&self, on: bool) -> Result<()> {
            self.0.store(on, Ordering::Relaxed);
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_product_s_own_driver_switches_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let timeline = Timeline::begin(folder.path()).quiet();
        let lamp = Arc::new(Lamp(AtomicBool::new(true)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bmc = Bmc::serve(listener, "a", lamp.clone(), &timeline).unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let switch = Redfish::new(RedfishSettings::new(format!("http://{}", bmc.at()), None, USER, file.clone())).unwrap();
        assert_eq!(switch.read().await.unwrap(), Power::On);
        assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
        assert!(!lamp.is_on());
        switch.on().await.unwrap();
        assert!(lamp.is_on());

        std::fs::write(&file, "guessed\n").unwrap();
        assert!(switch.off().await.is_err());
        assert!(lamp.is_on(), "a wrong password switches nothing");
        bmc.unplug(true);
        assert!(switch.read().await.is_err());
        bmc.end();
    }
}
