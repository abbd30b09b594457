//! Redfish (DMTF DSP0266): the peer's BMC over HTTP(S).
//!
//! Contract: off is `ComputerSystem.Reset` with `ForceOff`, read back is `PowerState` of the same resource (DSP0268 ComputerSystem). The
//! address of the action is taken from the resource, and only if it lies on the same service. With several systems behind one
//! BMC the settings must name one: switching the wrong one off would be worse than none. Certificates are pinned or signed by the named authority.
//!
//! Login is per request (Basic, which leaves nothing behind in a BMC's small table of sessions) or a session; a session that the BMC has forgotten is
//! opened again once. A service that wants `If-Match` gets the resource's ETag.

use crate::password;
use crate::readback::{Device, Times, Verified};
use crate::{Error, Power};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Mutex;
use twinpost_https::{Answer, Client, Error as HttpError, HeaderName, Method, Request, Trust, header};

const ROOT: &str = "/redfish/v1/";
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// How to log in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RedfishAuth {
    /// HTTP Basic with every request (DSP0266, HTTP Basic authentication).
    #[default]
    Basic,
    /// A session (DSP0266, Redfish session login authentication).
    Session,
}

/// Settings of a Redfish service.
#[derive(Clone, Debug)]
pub struct RedfishSettings {
    /// `https://host[:port]`; `http` only where nobody listens.
    pub base: String,
    /// Needed for `https`.
    pub trust: Option<Trust>,
    /// User with the privilege `ConfigureComponents`.
    pub user: String,
    /// File whose first line is the password; readable by its owner only.
    pub password: PathBuf,
    /// How to log in.
    pub auth: RedfishAuth,
    /// `Id` of the system in `/redfish/v1/Systems`; needed if there are several.
    pub system: Option<String>,
    /// Time limits.
    pub times: Times,
}

impl RedfishSettings {
    /// Basic login, the only system.
    #[must_use]
    pub fn new(base: impl Into<String>, trust: Option<Trust>, user: impl Into<String>, password: PathBuf) -> Self {
        let (auth, system, times) = (RedfishAuth::Basic, None, Times::default());
        Self { base: base.into(), trust, user: user.into(), password, auth, system, times }
    }
}

/// A Redfish service as a power switch.
pub type Redfish = Verified<Service>;

impl Redfish {
    /// Nothing is sent before the first order.
    ///
    /// # Errors
    /// The address or the trust cannot be used.
    pub fn new(settings: RedfishSettings) -> Result<Self, Error> {
        let name = format!("redfish {}", settings.base);
        let wrong = |what: String| Error::Setting { switch: name.clone(), what };
        let http = Client::new(&settings.base, settings.trust.as_ref(), None).map_err(|e| wrong(e.to_string()))?;
        let plain = |id: &String| {
            !id.is_empty() && id.len() <= 128 && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c))
        };
        if !settings.system.as_ref().is_none_or(plain) {
            return Err(wrong("the system's id may have letters, digits and -_.~ only".to_owned()));
        }
        Ok(Self::of(Service { settings, name, http, known: Mutex::default() }))
    }
}

/// What was learned and may be forgotten.
#[derive(Debug, Default)]
struct Known {
    token: Option<String>,
    system: Option<String>,
}

/// The device behind [`Redfish`].
#[derive(Debug)]
pub struct Service {
    settings: RedfishSettings,
    name: String,
    http: Client,
    known: Mutex<Known>,
}

/// A path of this service, not another host.
fn local(value: &Value) -> Option<&str> {
    value.as_str().filter(|path| {
        path.starts_with('/')
            && !path.starts_with("//")
            && path.len() <= 512
            && path.is_ascii()
            && !path.contains(char::is_whitespace)
    })
}

/// DSP0268 Resource.PowerState: what is between or paused proves nothing.
fn power(system: &Value) -> Option<Power> {
    Some(match system["PowerState"].as_str()? {
        "On" => Power::On,
        "Off" => Power::Off,
        "PoweringOn" | "PoweringOff" | "Paused" => Power::Unknown,
        _ => return None,
    })
}

/// The service's own words (DSP0266, error responses), or the begin of what it said.
fn words(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let error = &body["error"];
    let said = error["@Message.ExtendedInfo"][0]["Message"].as_str().or_else(|| error["message"].as_str());
    let said = said.map_or_else(|| answer.excerpt(), |said| twinpost_https::excerpt(said.as_bytes()));
    format!("status {}: {said}", answer.status.as_u16())
}

impl Service {
    fn failed(&self, doing: &'static str) -> impl Fn(HttpError) -> Error {
        let switch = self.name.clone();
        move |error| match error {
            HttpError::TimedOut { limit_ms, .. } => Error::TimedOut { switch: switch.clone(), doing, limit_ms },
            HttpError::Exchange { why, .. } => Error::Garbage { switch: switch.clone(), doing, what: why },
            HttpError::Setting(what) => Error::Setting { switch: switch.clone(), what },
            other => Error::Unreachable { switch: switch.clone(), doing, why: other.to_string() },
        }
    }

    fn garbage(&self, doing: &'static str, what: impl Into<String>) -> Error {
        Error::Garbage { switch: self.name.clone(), doing, what: what.into() }
    }

    /// One request with the login; a forgotten session is opened again once.
    async fn send(&self, known: &mut Known, request: Request, doing: &'static str) -> Result<Answer, Error> {
        for round in 0..2 {
            let request = request.clone();
            let request = match self.settings.auth {
                RedfishAuth::Basic => {
                    let pair = format!("{}:{}", self.settings.user, password::read(&self.name, &self.settings.password)?);
                    request.header(header::AUTHORIZATION, &format!("Basic {}", base64(pair.as_bytes())))
                }
                RedfishAuth::Session => {
                    let token = match &known.token {
                        Some(token) => token.clone(),
                        None => self.open_session(known).await?,
                    };
                    request.header(TOKEN, &token)
                }
            };
            let request = request.map_err(self.failed(doing))?;
            let answer = self.http.send(&request, self.step()).await.map_err(self.failed(doing))?;
            match answer.status.as_u16() {
                401 if round == 0 && known.token.take().is_some() => {}
                401 => return Err(Error::Login { switch: self.name.clone(), why: words(&answer) }),
                _ => return Ok(answer),
            }
        }
        Err(Error::Login { switch: self.name.clone(), why: "a new session is not accepted either".to_owned() })
    }

    fn step(&self) -> Duration {
        self.settings.times.step
    }

    /// DSP0266, session login: POST to the sessions; the token comes in a header.
    async fn open_session(&self, known: &mut Known) -> Result<String, Error> {
        let doing = "log in";
        let root = self.http.send(&Request::new(Method::GET, ROOT), self.step()).await.map_err(self.failed(doing))?;
        let root: Value = serde_json::from_slice(&root.body).unwrap_or_default();
        let path = local(&root["Links"]["Sessions"]["@odata.id"]).unwrap_or("/redfish/v1/SessionService/Sessions");
        let body = json!({ "UserName": self.settings.user, "Password": password::read(&self.name, &self.settings.password)? });
        let request = Request::new(Method::POST, path).json(body.to_string());
        let answer = self.http.send(&request, self.step()).await.map_err(self.failed(doing))?;
        match (answer.status.as_u16(), answer.header(&TOKEN)) {
            (200 | 201, Some(token)) => {
                known.token = Some(token.to_owned());
                Ok(token.to_owned())
            }
            (400 | 401 | 403, _) => Err(Error::Login { switch: self.name.clone(), why: words(&answer) }),
            _ => Err(self.garbage(doing, words(&answer))),
        }
    }

    async fn get(&self, known: &mut Known, path: &str, doing: &'static str) -> Result<(Value, Option<String>), Error> {
        let answer = self.send(known, Request::new(Method::GET, path), doing).await?;
        if answer.status.as_u16() != 200 {
            return Err(Error::Refused { switch: self.name.clone(), doing, why: words(&answer) });
        }
        let value: Value = serde_json::from_slice(&answer.body).map_err(|_| self.garbage(doing, answer.excerpt()))?;
        let tag = answer.header(&header::ETAG).or_else(|| value["@odata.etag"].as_str()).map(str::to_owned);
        Ok((value, tag))
    }

    /// Path of the system's resource.
    async fn find(&self, known: &mut Known) -> Result<String, Error> {
        let doing = "find the system";
        if let Some(path) = &known.system {
            return Ok(path.clone());
        }
        let (root, _) = self.get(known, ROOT, doing).await?;
        let systems =
            local(&root["Systems"]["@odata.id"]).ok_or_else(|| self.garbage(doing, "no Systems in the service root"))?;
        let (list, _) = self.get(known, systems, doing).await?;
        let members: Vec<_> =
            list["Members"].as_array().into_iter().flatten().filter_map(|member| local(&member["@odata.id"])).collect();
        let ids: Vec<_> = members.iter().map(|path| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()).collect();
        let wrong = |what: String| Error::Setting { switch: self.name.clone(), what };
        let index = match &self.settings.system {
            Some(id) => ids
                .iter()
                .position(|found| found == id)
                .ok_or_else(|| wrong(format!("there is no system {id:?}, but {}", ids.join(", "))))?,
            None if members.len() == 1 => 0,
            None => return Err(wrong(format!("there are {} systems, name one: {}", ids.len(), ids.join(", ")))),
        };
        known.system = Some(members[index].to_owned());
        Ok(members[index].to_owned())
    }

    /// Which ResetType switches; services list what they can do, in the resource or behind `@Redfish.ActionInfo`.
    async fn reset_type(&self, known: &mut Known, action: &Value, on: bool, doing: &'static str) -> Result<&'static str, Error> {
        let wanted: &[&str] = if on { &["On", "ForceOn"] } else { &["ForceOff"] };
        let mut allowed = action["ResetType@Redfish.AllowableValues"].clone();
        if allowed.is_null()
            && let Some(info) = local(&action["@Redfish.ActionInfo"])
        {
            let (info, _) = self.get(known, info, doing).await?;
            let parameters = info["Parameters"].as_array().into_iter().flatten();
            let found = parameters.into_iter().find(|parameter| parameter["Name"] == json!("ResetType"));
            allowed = found.map_or(Value::Null, |parameter| parameter["AllowableValues"].clone());
        }
        let Some(allowed) = allowed.as_array() else { return Ok(if on { "On" } else { "ForceOff" }) };
        let can = |wanted: &str| allowed.iter().any(|value| value.as_str() == Some(wanted));
        match wanted.iter().find(|wanted| can(wanted)) {
            Some(&"On") => Ok("On"),
            Some(&"ForceOn") => Ok("ForceOn"),
            Some(_) => Ok("ForceOff"),
            None => {
                let list = twinpost_https::excerpt(Value::from(allowed.clone()).to_string().as_bytes());
                Err(Error::Refused { switch: self.name.clone(), doing, why: format!("it only knows {list}") })
            }
        }
    }

    async fn reset(&self, on: bool) -> Result<(), Error> {
        let doing = if on { "switch on" } else { "switch off" };
        let mut known = self.known.lock().await;
        let path = self.find(&mut known).await?;
        let (system, tag) = self.get(&mut known, &path, doing).await?;
        let action = &system["Actions"]["#ComputerSystem.Reset"];
        let target = local(&action["target"]).ok_or_else(|| self.garbage(doing, "the system has no ComputerSystem.Reset"))?;
        let kind = self.reset_type(&mut known, action, on, doing).await?;
        let request = Request::new(Method::POST, target).json(json!({ "ResetType": kind }).to_string());
        let mut answer = self.send(&mut known, request.clone(), doing).await?;
        // 412 and 428: this service wants to see that the resource is known as it is.
        if let (412 | 428, Some(tag)) = (answer.status.as_u16(), &tag) {
            let request = request.header(header::IF_MATCH, tag).map_err(self.failed(doing))?;
            answer = self.send(&mut known, request, doing).await?;
        }
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(Error::Refused { switch: self.name.clone(), doing, why: words(&answer) })
        }
    }
}

impl Device for Service {
    fn name(&self) -> &str {
        &self.name
    }

    fn times(&self) -> Times {
        self.settings.times
    }

    async fn order(&self, on: bool) -> Result<(), Error> {
        self.reset(on).await
    }

    async fn read(&self) -> Result<Power, Error> {
        let doing = "read the power";
        let mut known = self.known.lock().await;
        let path = self.find(&mut known).await?;
        let (system, _) = self.get(&mut known, &path, doing).await?;
        power(&system).ok_or_else(|| {
            self.garbage(doing, format!("PowerState {}", twinpost_https::excerpt(system["PowerState"].to_string().as_bytes())))
        })
    }
}

/// For the one header that needs it.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_of_other_hosts_are_not_followed() {
        for path in ["https://elsewhere/redfish", "//elsewhere/x", "redfish/v1", "", "/a b", "/ä"] {
            assert_eq!(local(&json!(path)), None, "{path}");
        }
        assert_eq!(local(&json!("/redfish/v1/Systems/1")), Some("/redfish/v1/Systems/1"));
        assert_eq!(local(&json!(7)), None);
    }

    #[test]
    fn ids_and_addresses_are_checked_before_anything_is_sent() {
        let good = RedfishSettings::new("http://127.0.0.1:1", None, "u", "password".into());
        assert!(Redfish::new(good.clone()).is_ok());
        for bad in [
            RedfishSettings { system: Some("1/../2".to_owned()), ..good.clone() },
            RedfishSettings { system: Some(String::new()), ..good.clone() },
            RedfishSettings { base: "https://127.0.0.1".to_owned(), ..good.clone() },
            RedfishSettings { base: "127.0.0.1".to_owned(), ..good },
        ] {
            assert!(matches!(Redfish::new(bad), Err(Error::Setting { .. })));
        }
    }

    proptest! {
        #[test]
        fn only_off_is_off(state in ".{0,12}") {
            prop_assert_eq!(power(&json!({ "PowerState": state })) == Some(Power::Off), state == "Off");
        }
    }
}
