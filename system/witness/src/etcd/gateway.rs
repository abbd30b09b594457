//! The few calls of etcd's JSON gateway that a witness needs.
//!
//! Contract: 64-bit numbers travel as strings, keys and values as base64. Members are tried in turn, beginning with the one that
//! answered last; every call may be sent twice (a transaction compares, a lease that is granted twice expires).

use super::{EtcdSettings, Lease, Record};
use crate::error::{Error, Refusal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use twinpost_https::{Client, Method, Request, header};

/// Why a question came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// No member could be asked.
    Unreachable(String),
    /// A member answered with an error or nonsense.
    Said(String),
    /// The lease is not known any more.
    NoLease,
    /// etcd has no space left.
    Full,
    /// The register's value is not ours.
    Damaged,
    /// The peer wrote each time in between.
    Busy,
    /// The password file.
    Password(PathBuf, std::io::Error),
}

/// Register and leases at one revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub register: Option<Vec<u8>>,
    /// Of the register; 0: there is none.
    mod_revision: i64,
    /// Lease that each node's key is bound to.
    pub leases: [Option<i64>; 2],
}

pub(super) struct Gateway {
    members: Vec<Client>,
    current: AtomicUsize,
    limit: Duration,
    credentials: Option<super::Credentials>,
    /// Token of the authentication, and the last thing that went wrong.
    notes: Mutex<Notes>,
    register: String,
    leases: [String; 2],
}

#[derive(Default)]
struct Notes {
    token: Option<String>,
    last: Option<String>,
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

impl Gateway {
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, Error> {
        if settings.endpoints.is_empty() || settings.endpoints.len() > 16 {
            return Err(Error::Setting("etcd as witness: name one to sixteen endpoints".to_owned()));
        }
        let client = |base: &String| Client::new(base, settings.trust.as_ref(), settings.identity.as_ref());
        let members = settings.endpoints.iter().map(client).collect::<Result<_, _>>();
        let members = members.map_err(|e| Error::Setting(format!("etcd as witness: {e}")))?;
        let key = |name: &str| BASE64.encode(format!("{}{:08x}/{name}", settings.prefix, settings.cluster));
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            limit: settings.limit,
            credentials: settings.credentials.clone(),
            notes: Mutex::default(),
            register: key("reign"),
            leases: [key("lease/0"), key("lease/1")],
        })
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member(&self) -> &Client {
        &self.members[self.current.load(Ordering::Relaxed)]
    }

    pub(super) fn address(&self) -> String {
        self.member().origin().to_string()
    }

    pub(super) fn last(&self) -> Option<String> {
        self.notes().last.clone()
    }

    pub(super) fn error(&self, failure: Failure) -> Error {
        let address = self.address();
        let limit_ms = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
        match failure {
            Failure::Unreachable(last) => Error::Silent { address, limit_ms, last: Some(last) },
            Failure::Said(what) => Error::Etcd { address, what },
            Failure::NoLease => Error::Etcd { address, what: "that it does not know the lease it just gave".to_owned() },
            Failure::Full => Error::Refused { address, why: Refusal::Disk },
            Failure::Damaged => Error::Refused { address, why: Refusal::Damaged },
            Failure::Busy => Error::Etcd { address, what: "each time that the peer had written meanwhile".to_owned() },
            Failure::Password(path, why) => Error::File { doing: "read the password of etcd in", path, why },
        }
    }

    /// One call; the members in turn, and once more with a new token if the old one is not taken.
    async fn call(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        match self.call_once(path, body).await {
            Err(Failure::Said(what)) if self.credentials.is_some() && what.contains("auth token") => {
                self.notes().token = None;
                self.call_once(path, body).await
            }
            other => other,
        }
    }

    async fn call_once(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let known = self.notes().token.clone();
        let token = match (&self.credentials, known) {
            (None, _) => None,
            (Some(_), Some(token)) => Some(token),
            (Some(credentials), None) => Some(self.authenticate(credentials).await?),
        };
        self.send(path, body, token.as_deref()).await
    }

    async fn authenticate(&self, credentials: &super::Credentials) -> Result<String, Failure> {
        let text = tokio::fs::read_to_string(&credentials.password).await;
        let text = text.map_err(|why| Failure::Password(credentials.password.clone(), why))?;
        let password = text.lines().next().unwrap_or_default();
        let body = json!({ "name": credentials.user, "password": password });
        let answer = self.send("/v3/auth/authenticate", &body, None).await?;
        let token = answer["token"].as_str().ok_or_else(|| Failure::Said("a login without a token".to_owned()))?;
        self.notes().token = Some(token.to_owned());
        Ok(token.to_owned())
    }

    async fn send(&self, path: &str, body: &Value, token: Option<&str>) -> Result<Value, Failure> {
        let mut request = Request::new(Method::POST, path).json(body.to_string());
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token).map_err(|e| Failure::Said(e.to_string()))?;
        }
        let mut why = String::new();
        // A member that accepts and stays mute must leave time for another.
        let share = self.limit / u32::try_from(self.members.len().min(2)).unwrap_or(1);
        let first = self.current.load(Ordering::Relaxed);
        for step in 0..self.members.len() {
            let index = (first + step) % self.members.len();
            match self.members[index].send(&request, share).await {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return read(answer.status.as_u16(), &answer.body, &answer.excerpt());
                }
                Err(error) => why = error.to_string(),
            }
            self.notes().last = Some(why.clone());
        }
        Err(Failure::Unreachable(why))
    }

    /// Reads register and lease keys at one revision. Linearizable: the answer is not older than the question.
    pub(super) async fn see(&self) -> Result<Seen, Failure> {
        let range = |key: &String| json!({ "request_range": { "key": key } });
        let body = json!({ "success": [range(&self.register), range(&self.leases[0]), range(&self.leases[1])] });
        let answer = self.call("/v3/kv/txn", &body).await?;
        let odd = || {
            Failure::Said(format!("something else than three ranges: {}", twinpost_https::excerpt(answer.to_string().as_bytes())))
        };
        if answer["succeeded"] != json!(true) || answer["responses"].as_array().map(Vec::len) != Some(3) {
            return Err(odd());
        }
        let found = |index: usize| -> Option<&Value> { answer["responses"][index]["response_range"]["kvs"].get(0) };
        let (register, mod_revision) = match found(0) {
            None => (None, 0),
            Some(kv) => {
                let value = BASE64.decode(kv["value"].as_str().unwrap_or_default()).map_err(|_| odd())?;
                (Some(value), number(&kv["mod_revision"]).filter(|revision| *revision > 0).ok_or_else(odd)?)
            }
        };
        let lease = |index: usize| -> Result<Option<i64>, Failure> {
            // A key without a lease would hold the register for ever: it is not one of ours.
            found(index).map(|kv| number(&kv["lease"]).filter(|id| *id != 0).ok_or(Failure::Damaged)).transpose()
        };
        Ok(Seen { register, mod_revision, leases: [lease(1)?, lease(2)?] })
    }

    /// Writes the register if it still is as seen and, where `gone` says so, that node's lease key is not there; with `lease`, this node's key is
    /// bound to it in the same step. False: somebody wrote meanwhile.
    pub(super) async fn write(
        &self,
        seen: &Seen,
        gone: Option<usize>,
        record: &Record,
        lease: Option<i64>,
    ) -> Result<bool, Failure> {
        let revision = seen.mod_revision.to_string();
        let mut compare = vec![json!({ "key": self.register, "target": "MOD", "result": "EQUAL", "mod_revision": revision })];
        if let Some(node) = gone {
            compare.push(json!({ "key": self.leases[node], "target": "VERSION", "result": "EQUAL", "version": "0" }));
        }
        let value = serde_json::to_vec(record).map_err(|e| Failure::Said(e.to_string()))?;
        let mut success = vec![json!({ "request_put": { "key": self.register, "value": BASE64.encode(value) } })];
        if let Some(id) = lease {
            let key = &self.leases[usize::from(record.holder)];
            success.push(json!({ "request_put": { "key": key, "value": BASE64.encode("lease"), "lease": id.to_string() } }));
        }
        let answer = self.call("/v3/kv/txn", &json!({ "compare": compare, "success": success })).await?;
        // The gateway leaves out what is false.
        Ok(answer["succeeded"].as_bool().unwrap_or(false))
    }

    pub(super) async fn grant(&self, ttl_s: u32) -> Result<Lease, Failure> {
        let answer = self.call("/v3/lease/grant", &json!({ "TTL": ttl_s.to_string() })).await?;
        let ttl = number(&answer["TTL"]).and_then(|ttl| u32::try_from(ttl).ok());
        match (number(&answer["ID"]), ttl) {
            (Some(id), Some(ttl_s)) if ttl_s > 0 => Ok(Lease { id, ttl_s }),
            _ => Err(Failure::Said("a lease without a number or time to live".to_owned())),
        }
    }

    /// Whether the lease is still there, now with its full time.
    pub(super) async fn keep_alive(&self, id: i64) -> Result<bool, Failure> {
        let answer = self.call("/v3/lease/keepalive", &json!({ "ID": id.to_string() })).await?;
        Ok(number(&answer["result"]["TTL"]).is_some_and(|ttl| ttl > 0))
    }

    /// Seconds left; 0 for one that is gone.
    pub(super) async fn time_to_live(&self, id: i64) -> Result<u32, Failure> {
        let answer = self.call("/v3/lease/timetolive", &json!({ "ID": id.to_string() })).await?;
        Ok(number(&answer["TTL"]).and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or(0))
    }
}

/// Status and body of the gateway; errors are gRPC codes with a sentence.
fn read(status: u16, body: &[u8], excerpt: &str) -> Result<Value, Failure> {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    if status == 200 {
        return value.filter(Value::is_object).ok_or_else(|| Failure::Said(format!("no JSON object: {excerpt}")));
    }
    let said = value.as_ref().and_then(|value| value["message"].as_str().or_else(|| value["error"].as_str())).unwrap_or(excerpt);
    if said.contains("requested lease not found") {
        return Err(Failure::NoLease);
    }
    // gRPC RESOURCE_EXHAUSTED: the space alarm is raised.
    if said.contains("database space exceeded") {
        return Err(Failure::Full);
    }
    Err(Failure::Said(format!("status {status}: {said}")))
}

/// Reads any bytes as an answer of the gateway. Entry point of property tests.
#[cfg(test)]
pub(super) fn fuzz(status: u16, body: &[u8]) {
    if let Ok(value) = read(status, body, "") {
        assert!(value.is_object());
        let _ = number(&value["TTL"]);
    }
}
