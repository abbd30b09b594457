//! Destinations: how many connections each may have, which rest after a failure, which connections are kept for the next
//! message.

use crate::client::{Connection, TlsUse, Trouble};
use crate::dns::Dns;
use crate::route::{self, HostAnswer, NoRoute};
use crate::{Settings, SmartHostTls};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use twinpost_wire::{ClientTls, connect};

/// First rest of a destination that cannot be reached, in seconds.
const REST_FIRST_S: i64 = 15;
/// Pause of mail for a destination that has as much as it can take.
const BUSY_S: i64 = 20;
/// Longest rest.
const REST_MAX_S: i64 = 1800;
/// Hosts and addresses tried for one delivery.
const TRIES_MAX: usize = 10;
/// Destinations remembered; the oldest that do nothing are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// A destination for people to look at.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its domain, or the smart host.
    pub name: String,
    /// Connections in use.
    pub active: usize,
    /// It rests for so many seconds.
    pub rests_s: i64,
    /// Why.
    pub reason: String,
}

/// A destination that rests.
pub struct Rest {
    /// Until then, seconds since 1970 UTC.
    pub until_s: i64,
    /// The failure.
    pub reason: String,
}

struct Destination {
    places: Arc<Semaphore>,
    kept: Vec<(Connection, Instant)>,
    /// Entries that wait for a place.
    waiting: usize,
    failures: u32,
    rest_until_s: i64,
    reason: String,
}

/// All destinations.
pub struct Destinations<D> {
    dns: D,
    settings: Settings,
    connections: Arc<Semaphore>,
    list: Mutex<HashMap<String, Destination>>,
    opportunistic: ClientTls,
    smart_host_tls: Option<TlsUse>,
}

/// Counts an entry that waits for a place, also when its task is dropped.
struct Waiting<'a, D> {
    owner: &'a Destinations<D>,
    key: &'a str,
}

impl<D> Drop for Waiting<'_, D> {
    fn drop(&mut self) {
        if let Some(destination) = self.owner.list.lock().get_mut(self.key) {
            destination.waiting = destination.waiting.saturating_sub(1);
        }
    }
}

/// The right to use one connection to a destination.
pub struct Place<'a, D> {
    owner: &'a Destinations<D>,
    key: String,
    _one: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl<D: Dns> Destinations<D> {
    pub fn new(dns: D, settings: Settings) -> Result<Self, String> {
        let opportunistic = ClientTls::opportunistic().map_err(|e| e.to_string())?;
        let smart_host_tls = match &settings.smart_host {
            None => None,
            Some(host) => Some(match host.tls {
                SmartHostTls::Opportunistic => TlsUse::Opportunistic(opportunistic.clone()),
                SmartHostTls::Required => TlsUse::Required(ClientTls::verified(&host.ca_file).map_err(|e| e.to_string())?),
                SmartHostTls::Implicit => TlsUse::Implicit(ClientTls::verified(&host.ca_file).map_err(|e| e.to_string())?),
            }),
        };
        let connections = Arc::new(Semaphore::new(settings.connections));
        Ok(Self { dns, settings, connections, list: Mutex::default(), opportunistic, smart_host_tls })
    }

    /// The destination of a domain.
    pub fn key(&self, domain: &str) -> String {
        self.settings.smart_host.as_ref().map_or_else(|| domain.to_owned(), |host| format!("{}:{}", host.host, host.port))
    }

    /// Waits for a place at a destination.
    pub async fn enter(&self, key: &str, now_s: i64) -> Result<Place<'_, D>, Rest> {
        let places = {
            let mut list = self.list.lock();
            if list.len() >= REMEMBERED_MAX {
                let all = self.settings.per_destination;
                list.retain(|_, d| {
                    d.waiting > 0 || d.rest_until_s > now_s || d.places.available_permits() < all || !d.kept.is_empty()
                });
            }
            let destination = list.entry(key.to_owned()).or_insert_with(|| Destination {
                places: Arc::new(Semaphore::new(self.settings.per_destination)),
                kept: Vec::new(),
                waiting: 0,
                failures: 0,
                rest_until_s: 0,
                reason: String::new(),
            });
            if destination.rest_until_s > now_s {
                return Err(Rest { until_s: destination.rest_until_s, reason: destination.reason.clone() });
            }
            // One slow destination must not take all places of the queue.
            if destination.waiting >= (self.settings.claims / 4).max(1) {
                return Err(Rest { until_s: now_s + BUSY_S, reason: "as much as it can take is on its way".to_owned() });
            }
            destination.waiting += 1;
            destination.places.clone()
        };
        let _waiting = Waiting { owner: self, key };
        let one = places.acquire_owned().await.expect("the semaphore of a destination is never closed");
        // What waited here behind a failing try must not try the same again.
        if let Some(destination) = self.list.lock().get(key)
            && destination.rest_until_s > now_s
        {
            return Err(Rest { until_s: destination.rest_until_s, reason: destination.reason.clone() });
        }
        let of_all = self.connections.clone().acquire_owned().await.expect("the semaphore of all connections is never closed");
        Ok(Place { owner: self, key: key.to_owned(), _one: one, _of_all: of_all })
    }

    pub fn forget_rests(&self) {
        for destination in self.list.lock().values_mut() {
            destination.rest_until_s = 0;
        }
    }

    pub fn status(&self, now_s: i64) -> Vec<Status> {
        let list = self.list.lock();
        let mut all: Vec<Status> = list
            .iter()
            .map(|(name, d)| Status {
                name: name.clone(),
                active: self.settings.per_destination - d.places.available_permits(),
                rests_s: (d.rest_until_s - now_s).max(0),
                reason: d.reason.clone(),
            })
            .filter(|s| s.active > 0 || s.rests_s > 0)
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub async fn close(&self) {
        let kept: Vec<Connection> = self.list.lock().values_mut().flat_map(|d| d.kept.drain(..).map(|(c, _)| c)).collect();
        futures_util::future::join_all(kept.into_iter().map(Connection::quit)).await;
    }

    /// Connects to the first host of the destination that answers.
    async fn open(&self, key: &str) -> Result<Connection, NoRoute> {
        if let (Some(host), Some(tls)) = (&self.settings.smart_host, &self.smart_host_tls) {
            let addresses = match host.host.parse::<IpAddr>() {
                Ok(ip) => vec![ip],
                Err(_) => self.addresses(&host.host).await?,
            };
            return self.first_of(&host.host, &addresses, host.port, tls, host.credentials.as_ref()).await;
        }
        let tls = TlsUse::Opportunistic(self.opportunistic.clone());
        if let Some(ip) = route::literal(key) {
            return self.first_of(key, &[ip], self.settings.port, &tls, None).await;
        }
        let mx = self.dns.mx(key).await;
        let hosts = route::hosts(key, mx, &self.settings.host_name, |records| {
            for i in (1..records.len()).rev() {
                records.swap(i, rand::random_range(0..=i));
            }
        })?;
        let mut last = None;
        for host in hosts.iter().take(TRIES_MAX) {
            let tried = match self.addresses(host).await {
                Ok(addresses) => self.first_of(host, &addresses, self.settings.port, &tls, None).await,
                Err(no_route) => Err(no_route),
            };
            match tried {
                Ok(connection) => return Ok(connection),
                // One host that says no for good does not speak for the others (RFC 5321 5.1): the next one is asked, and a
                // temporary failure of any of them keeps the mail.
                Err(no_route) => {
                    if last.as_ref().is_none_or(|l: &NoRoute| l.permanent) {
                        last = Some(no_route);
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| NoRoute { permanent: false, code: 451, text: format!("4.4.4 no host for {key}") }))
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NoRoute> {
        match self.dns.addresses(host).await {
            HostAnswer::Addresses(list) => Ok(route::interleave(&list)),
            HostAnswer::None => {
                Err(NoRoute { permanent: true, code: 550, text: format!("5.4.4 the host {host} has no address") })
            }
            HostAnswer::Unknown(why) => {
                Err(NoRoute { permanent: false, code: 451, text: format!("4.4.3 no answer from DNS about {host}: {why}") })
            }
        }
    }

    async fn first_of(
        &self,
        host: &str,
        addresses: &[IpAddr],
        port: u16,
        tls: &TlsUse,
        credentials: Option<&(String, String)>,
    ) -> Result<Connection, NoRoute> {
        let mut last = NoRoute { permanent: true, code: 550, text: format!("5.4.4 the host {host} has no address") };
        for ip in addresses.iter().take(TRIES_MAX) {
            let to = SocketAddr::new(*ip, port);
            // RFC 5321 5.1, 6.3: mail for others that leads back to ourselves would turn in a circle.
            if self.settings.own_addresses.contains(&to) {
                return Err(NoRoute {
                    permanent: true,
                    code: 550,
                    text: format!("5.4.6 {host} ({to}) is this server itself: the mail would loop"),
                });
            }
            match self.connect(host, to, tls, credentials).await {
                Ok(connection) => return Ok(connection),
                Err(trouble) => last = super::from_trouble(&trouble),
            }
        }
        Err(last)
    }

    async fn connect(
        &self,
        host: &str,
        to: SocketAddr,
        tls: &TlsUse,
        credentials: Option<&(String, String)>,
    ) -> Result<Connection, Trouble> {
        match self.connect_once(host, to, tls, credentials).await {
            // RFC 7435: TLS that cannot be had is no reason to keep the mail, unless it was demanded.
            Err(Trouble::Tls(why)) if matches!(tls, TlsUse::Opportunistic(_)) => {
                tracing::warn!(host, %to, why, "TLS failed; the mail goes without it");
                self.connect_once(host, to, &TlsUse::Never, credentials).await
            }
            other => other,
        }
    }

    async fn connect_once(
        &self,
        host: &str,
        to: SocketAddr,
        tls: &TlsUse,
        credentials: Option<&(String, String)>,
    ) -> Result<Connection, Trouble> {
        let from = self.settings.source.iter().find(|ip| ip.is_ipv4() == to.is_ipv4()).copied();
        let stream = match timeout(self.settings.connect_timeout, connect(to, from)).await {
            Err(_) => {
                return Err(Trouble::Broken(format!(
                    "no connection to {host} ({to}) within {} s",
                    self.settings.connect_timeout.as_secs()
                )));
            }
            Ok(Err(error)) => return Err(Trouble::Broken(format!("no connection to {host} ({to}): {error}"))),
            Ok(Ok(stream)) => stream,
        };
        Connection::greet(stream, host, tls, credentials, &self.settings).await
    }
}

impl<D: Dns> Place<'_, D> {
    /// A connection to the destination: a kept one unless it must be `fresh`.
    pub async fn connection(&mut self, fresh: bool) -> Result<Connection, NoRoute> {
        if !fresh {
            while let Some((connection, since)) = self.kept() {
                if since.elapsed() < self.owner.settings.keep_idle {
                    return Ok(connection);
                }
                tokio::spawn(connection.quit());
            }
        }
        self.owner.open(&self.key).await
    }

    fn kept(&self) -> Option<(Connection, Instant)> {
        self.owner.list.lock().get_mut(&self.key)?.kept.pop()
    }

    /// Keeps a connection for the next message.
    pub async fn give_back(&self, connection: Connection) {
        if connection.used >= self.owner.settings.per_connection {
            return connection.quit().await;
        }
        if let Some(destination) = self.owner.list.lock().get_mut(&self.key) {
            destination.kept.push((connection, Instant::now()));
        }
    }

    /// The destination answered.
    pub fn worked(&self) {
        if let Some(destination) = self.owner.list.lock().get_mut(&self.key) {
            destination.failures = 0;
            destination.rest_until_s = 0;
            destination.reason.clear();
        }
    }

    /// The destination could not be reached; gives the end of its rest in seconds since 1970 UTC.
    pub fn failed(&self, reason: &str, now_s: i64) -> i64 {
        let mut list = self.owner.list.lock();
        let Some(destination) = list.get_mut(&self.key) else { return now_s };
        destination.failures = destination.failures.saturating_add(1);
        let rest_s = REST_FIRST_S.saturating_mul(1 << (destination.failures - 1).min(10)).min(REST_MAX_S);
        destination.rest_until_s = now_s + rest_s;
        destination.reason = reason.chars().take(300).collect();
        destination.rest_until_s
    }
}
