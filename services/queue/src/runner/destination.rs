//! Destinations: how many connections each may have, which rest after a failure, which connections are kept for the next
//! message.

use super::now_s;
use crate::client::{Connection, TlsUse, Trouble};
use crate::dns::Dns;
use crate::route::{self, HostAnswer, NoRoute};
use crate::{Settings, SmartHostTls};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use twinpost_wire::{ClientTls, connect};

/// First rest of a destination that cannot be reached, in seconds.
const REST_FIRST_S: i64 = 15;
/// Longest rest.
const REST_MAX_S: i64 = 1800;
/// Messages in a row that break a connection before the destination, and not the message, is held to be the cause.
const BREAKS_MAX: u32 = 3;
/// Longest time that mail is put off because a destination is busy, in seconds.
const PUT_OFF_MAX_S: f64 = 900.0;
/// A transaction is held to take so long until it is known better, in seconds.
const SERVICE_FIRST_S: f64 = 0.01;
/// Addresses tried for one connection.
const TRIES_MAX: usize = 10;
/// Destinations remembered; those that do nothing are forgotten.
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

/// No place at a destination.
pub enum NoPlace {
    /// It rests after a failure.
    Rests {
        /// Until then, seconds since 1970 UTC.
        until_s: i64,
        /// The failure.
        reason: String,
    },
    /// As much as it can take is on its way.
    Busy {
        /// Its turn comes then, seconds since 1970 UTC.
        until_s: i64,
    },
}

struct Destination {
    places: Arc<Semaphore>,
    kept: Vec<(Connection, Instant)>,
    /// Entries that wait for a place.
    waiting: usize,
    failures: u32,
    breaks: u32,
    rest_until_s: i64,
    reason: String,
    /// How long a transaction takes, smoothed, in seconds.
    service_s: f64,
    /// The turn of the last entry that was put off, seconds since 1970 UTC.
    put_off_until_s: f64,
}

impl Destination {
    fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            kept: Vec::new(),
            waiting: 0,
            failures: 0,
            breaks: 0,
            rest_until_s: 0,
            reason: String::new(),
            service_s: SERVICE_FIRST_S,
            put_off_until_s: 0.0,
        }
    }

    fn rests(&self) -> Option<NoPlace> {
        (self.rest_until_s > now_s()).then(|| NoPlace::Rests { until_s: self.rest_until_s, reason: self.reason.clone() })
    }

    /// A turn behind all that wait, at twice the pace at which the destination takes mail: an entry that is put off comes
    /// back before there is room for all rather than after it, so that the destination is never idle while mail for it
    /// waits, and it is put off a few times at most, not again and again.
    fn turn_s(&mut self, places: usize) -> i64 {
        let now = now_s() as f64;
        let each_s = self.service_s / places as f64 / 2.0;
        let behind_waiting = now + self.waiting as f64 * each_s;
        self.put_off_until_s = (self.put_off_until_s.max(behind_waiting) + each_s).min(now + PUT_OFF_MAX_S);
        self.put_off_until_s.ceil().max(now + 1.0) as i64
    }
}

/// All destinations.
pub struct Destinations<D> {
    dns: D,
    rules: RwLock<Arc<Rules>>,
    connections: Arc<Semaphore>,
    list: Mutex<HashMap<String, Destination>>,
    opportunistic: ClientTls,
}

/// The settings as they are now, and what follows from them.
pub struct Rules {
    pub settings: Settings,
    smart_host_tls: Option<TlsUse>,
}

impl Rules {
    fn new(settings: Settings, opportunistic: &ClientTls) -> Result<Self, String> {
        let smart_host_tls = match &settings.smart_host {
            None => None,
            Some(host) => Some(match host.tls {
                SmartHostTls::Opportunistic => TlsUse::Opportunistic(opportunistic.clone()),
                SmartHostTls::Required => TlsUse::Required(ClientTls::verified(&host.ca_file).map_err(|e| e.to_string())?),
                SmartHostTls::Implicit => TlsUse::Implicit(ClientTls::verified(&host.ca_file).map_err(|e| e.to_string())?),
            }),
        };
        Ok(Self { settings, smart_host_tls })
    }
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
}

/// Why no connection could be made to one host.
enum NoHost {
    /// It is ourselves.
    Own(NoRoute),
    Other(NoRoute),
}

impl<D: Dns> Destinations<D> {
    pub fn new(dns: D, settings: Settings) -> Result<Self, String> {
        let opportunistic = ClientTls::opportunistic().map_err(|e| e.to_string())?;
        let connections = Arc::new(Semaphore::new(settings.connections.max(1)));
        let rules = RwLock::new(Arc::new(Rules::new(settings, &opportunistic)?));
        Ok(Self { dns, rules, connections, list: Mutex::default(), opportunistic })
    }

    /// As for [`Destinations::new`]; then the old settings stay. Connections that are open go on; where a destination takes more
    /// or fewer at once now, those under way are not counted any more.
    pub fn set_settings(&self, settings: Settings) -> Result<(), String> {
        let new = Rules::new(settings, &self.opportunistic)?;
        let before = self.places();
        *self.rules.write() = Arc::new(new);
        let now = self.places();
        if now != before {
            for destination in self.list.lock().values_mut() {
                destination.places = Arc::new(Semaphore::new(now));
            }
        }
        Ok(())
    }

    /// The settings as they are now.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    fn places(&self) -> usize {
        self.rules.read().settings.per_destination.max(1)
    }

    /// The destination of a domain.
    pub fn key(&self, domain: &str) -> String {
        self.rules
            .read()
            .settings
            .smart_host
            .as_ref()
            .map_or_else(|| domain.to_owned(), |host| format!("{}:{}", host.host, host.port))
    }

    /// Waits for a place at a destination; `free` is how many more entries could be claimed now. What waits here may be as
    /// many as what is free: a busy destination takes half of the queue's room at most, several share it, and some room is
    /// always left for the others.
    pub async fn enter(&self, key: &str, free: usize) -> Result<Place<'_, D>, NoPlace> {
        let places = {
            let mut list = self.list.lock();
            if list.len() >= REMEMBERED_MAX && !list.contains_key(key) {
                let (all, now) = (self.places(), now_s());
                list.retain(|_, d| {
                    d.waiting > 0 || d.rest_until_s > now || d.places.available_permits() < all || !d.kept.is_empty()
                });
            }
            let destination = list.entry(key.to_owned()).or_insert_with(|| Destination::new(self.places()));
            if let Some(rests) = destination.rests() {
                return Err(rests);
            }
            if destination.waiting >= free.max(self.places()) {
                return Err(NoPlace::Busy { until_s: destination.turn_s(self.places()) });
            }
            destination.waiting += 1;
            destination.places.clone()
        };
        let _waiting = Waiting { owner: self, key };
        let one = places.acquire_owned().await.expect("the semaphore of a destination is never closed");
        // What waited here behind a failing try must not try the same again.
        match self.list.lock().get(key).and_then(Destination::rests) {
            Some(rests) => Err(rests),
            None => Ok(Place { owner: self, key: key.to_owned(), _one: one }),
        }
    }

    pub fn forget_rests(&self) {
        for destination in self.list.lock().values_mut() {
            destination.rest_until_s = 0;
        }
    }

    pub fn status(&self) -> Vec<Status> {
        let places = self.places();
        let (list, now) = (self.list.lock(), now_s());
        let mut all: Vec<Status> = list
            .iter()
            .map(|(name, d)| Status {
                name: name.clone(),
                active: places.saturating_sub(d.places.available_permits()),
                rests_s: (d.rest_until_s - now).max(0),
                reason: d.reason.clone(),
            })
            .filter(|s| s.active > 0 || s.rests_s > 0)
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Ends connections that were kept for longer than is polite.
    pub fn sweep(&self) {
        let keep = self.rules.read().settings.keep_idle;
        let old: Vec<Connection> = {
            let mut list = self.list.lock();
            list.values_mut().flat_map(|d| d.kept.extract_if(.., |(_, since)| since.elapsed() >= keep).map(|(c, _)| c)).collect()
        };
        for connection in old {
            tokio::spawn(connection.quit());
        }
    }

    pub async fn close(&self) {
        let kept: Vec<Connection> = self.list.lock().values_mut().flat_map(|d| d.kept.drain(..).map(|(c, _)| c)).collect();
        futures_util::future::join_all(kept.into_iter().map(Connection::quit)).await;
    }

    /// The right to one more connection; an idle one of somebody else ends for it.
    async fn permit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = self.connections.clone().try_acquire_owned() {
            return permit;
        }
        let oldest = {
            let mut list = self.list.lock();
            let key = list.iter().filter_map(|(k, d)| Some((d.kept.first()?.1, k.clone()))).min().map(|(_, k)| k);
            key.and_then(|k| list.get_mut(&k)).filter(|d| !d.kept.is_empty()).map(|d| d.kept.remove(0).0)
        };
        if let Some(mut idle) = oldest
            && let Some(permit) = idle.permit.take()
        {
            tokio::spawn(idle.quit());
            return permit;
        }
        self.connections.clone().acquire_owned().await.expect("the semaphore of all connections is never closed")
    }

    /// Connects to the first host of the destination that answers.
    async fn open(&self, key: &str) -> Result<Connection, NoRoute> {
        let rules = self.rules();
        if let (Some(host), Some(tls)) = (&rules.settings.smart_host, &rules.smart_host_tls) {
            let opened = self.open_smart_host(&host.host, host.port, tls, host.credentials.as_ref()).await;
            // Whatever is wrong with the smart host is the operator's to mend: the mail waits meanwhile, it does not bounce.
            return opened.map_err(|no_route| NoRoute { permanent: false, ..no_route });
        }
        let tls = TlsUse::Opportunistic(self.opportunistic.clone());
        let mut tries = TRIES_MAX;
        if let Some(ip) = route::literal(key) {
            return self.first_of(key, &[ip], rules.settings.port, &tls, None, &mut tries).await.map_err(|e| match e {
                NoHost::Own(no_route) | NoHost::Other(no_route) => no_route,
            });
        }
        let mx = self.dns.mx(key).await;
        let hosts = route::hosts(key, mx, &rules.settings.host_name, |records| {
            for i in (1..records.len()).rev() {
                records.swap(i, rand::random_range(0..=i));
            }
        })?;
        let mut last: Option<NoRoute> = None;
        for host in hosts.iter().take(TRIES_MAX) {
            let tried = match self.addresses(host).await {
                Ok(addresses) => self.first_of(host, &addresses, rules.settings.port, &tls, None, &mut tries).await,
                Err(no_route) => Err(NoHost::Other(no_route)),
            };
            match tried {
                Ok(connection) => return Ok(connection),
                // RFC 5321 5.1: we are one of its hosts; those behind us would send the mail back to us.
                Err(NoHost::Own(no_route)) => {
                    last = last.or(Some(no_route));
                    break;
                }
                // One host that says no for good does not speak for the others (RFC 5321 5.1): the next one is asked, and a
                // temporary failure of any of them keeps the mail.
                Err(NoHost::Other(no_route)) => last = Some(worse(last, no_route)),
            }
            if tries == 0 {
                break;
            }
        }
        Err(last.unwrap_or_else(|| NoRoute::later(format!("4.4.4 no host for {key}"))))
    }

    async fn open_smart_host(
        &self,
        host: &str,
        port: u16,
        tls: &TlsUse,
        credentials: Option<&(String, String)>,
    ) -> Result<Connection, NoRoute> {
        let addresses = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => self.addresses(host).await?,
        };
        let opened = self.first_of(host, &addresses, port, tls, credentials, &mut TRIES_MAX.clone()).await;
        opened.map_err(|(NoHost::Own(no_route) | NoHost::Other(no_route))| no_route)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NoRoute> {
        match self.dns.addresses(host).await {
            HostAnswer::Addresses(list) => Ok(route::interleave(&list)),
            HostAnswer::None => Err(NoRoute::never(format!("5.4.4 the host {host} has no address"))),
            HostAnswer::Unknown(why) => Err(NoRoute::later(format!("4.4.3 no answer from DNS about {host}: {why}"))),
        }
    }

    async fn first_of(
        &self,
        host: &str,
        addresses: &[IpAddr],
        port: u16,
        tls: &TlsUse,
        credentials: Option<&(String, String)>,
        tries: &mut usize,
    ) -> Result<Connection, NoHost> {
        let own = |why: &str| NoHost::Own(NoRoute::never(format!("5.4.6 the mail would loop: {why}")));
        let mut last = None;
        // RFC 5321 5.1, 6.3: mail for others that leads back to ourselves would turn in a circle.
        let rules = self.rules();
        let is_own = |ip: &IpAddr| rules.settings.own_addresses.contains(&SocketAddr::new(ip.to_canonical(), port));
        if let Some(ip) = addresses.iter().find(|ip| is_own(ip)) {
            return Err(own(&format!("{host} ({ip}) is this server itself")));
        }
        for ip in addresses {
            if *tries == 0 {
                break;
            }
            *tries -= 1;
            let to = SocketAddr::new(ip.to_canonical(), port);
            match self.connect(host, to, tls, credentials).await {
                Ok(connection) => return Ok(connection),
                Err(Trouble::Loop(why)) => return Err(own(&why)),
                Err(trouble) => last = Some(worse(last, super::from_trouble(&trouble, Some(host)))),
            }
        }
        Err(NoHost::Other(last.unwrap_or_else(|| NoRoute::later(format!("4.4.4 the host {host} was not tried")))))
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
        let settings = &self.rules().settings;
        let from = settings.source.iter().find(|ip| ip.is_ipv4() == to.is_ipv4()).copied();
        let stream = match timeout(settings.connect_timeout, connect(to, from)).await {
            Err(_) => {
                return Err(Trouble::Broken(format!(
                    "no connection to {host} ({to}) within {} s",
                    settings.connect_timeout.as_secs()
                )));
            }
            Ok(Err(error)) => return Err(Trouble::Broken(format!("no connection to {host} ({to}): {error}"))),
            Ok(Ok(stream)) => stream,
        };
        // Where this site listens on all addresses of the machine (0.0.0.0, [::]), a connection to one of them comes from
        // that address.
        let everywhere = settings.own_addresses.iter().any(|own| own.ip().is_unspecified() && own.port() == to.port());
        if everywhere && stream.local_addr().ip() == stream.peer_addr().ip() {
            return Err(Trouble::Loop(format!("{host} ({to}) is this server itself")));
        }
        Connection::greet(stream, host, tls, credentials, settings).await
    }
}

/// Of two failures the one that speaks for both: a temporary one keeps the mail.
fn worse(before: Option<NoRoute>, now: NoRoute) -> NoRoute {
    match before {
        Some(before) if !before.permanent => before,
        _ => now,
    }
}

impl<D: Dns> Place<'_, D> {
    /// A connection to the destination: a kept one unless it must be `fresh`.
    pub async fn connection(&mut self, fresh: bool) -> Result<Connection, NoRoute> {
        while let Some((connection, since)) = self.kept() {
            // One that was found dead speaks for those that were kept as long.
            if !fresh && since.elapsed() < self.owner.rules().settings.keep_idle {
                return Ok(connection);
            }
            tokio::spawn(connection.quit());
        }
        let permit = self.owner.permit().await;
        let mut connection = self.owner.open(&self.key).await?;
        connection.permit = Some(permit);
        Ok(connection)
    }

    fn kept(&self) -> Option<(Connection, Instant)> {
        self.owner.list.lock().get_mut(&self.key)?.kept.pop()
    }

    /// Keeps a connection for the next message.
    pub async fn give_back(&self, connection: Connection) {
        // Where connections are short, an idle one is worth less than somebody else's.
        let short = self.owner.connections.available_permits() == 0;
        if short || connection.is_spent() || connection.used >= self.owner.rules().settings.per_connection {
            // The place is held until it has ended: others count connections too.
            connection.quit().await;
        } else if let Some(destination) = self.owner.list.lock().get_mut(&self.key) {
            destination.kept.push((connection, Instant::now()));
        }
    }

    /// The destination answered a transaction that took so long.
    pub fn worked(&self, took_s: f64) {
        if let Some(destination) = self.owner.list.lock().get_mut(&self.key) {
            destination.failures = 0;
            destination.breaks = 0;
            destination.rest_until_s = 0;
            destination.reason.clear();
            destination.service_s = (0.8 * destination.service_s + 0.2 * took_s).max(0.0001);
        }
    }

    /// The destination could not be reached, or ended the session; gives the end of its rest in seconds since 1970 UTC.
    pub fn failed(&self, reason: &str) -> i64 {
        let (mut list, now) = (self.owner.list.lock(), now_s());
        let Some(destination) = list.get_mut(&self.key) else { return now };
        // Those who tried beside the first that failed have not found out anything new.
        if destination.rest_until_s <= now {
            destination.failures = destination.failures.saturating_add(1);
            let rest_s = REST_FIRST_S.saturating_mul(1 << (destination.failures - 1).min(10)).min(REST_MAX_S);
            destination.rest_until_s = now + rest_s;
            destination.reason = reason.chars().take(300).collect();
        }
        destination.rest_until_s
    }

    /// A connection broke in a transaction. That may be the message's fault (a filter that hangs, a path that loses large
    /// packets): the destination rests only when it happens again and again. Gives the end of its rest, if it rests.
    pub fn broke(&self, reason: &str) -> Option<i64> {
        let breaks = {
            let mut list = self.owner.list.lock();
            let destination = list.get_mut(&self.key)?;
            destination.breaks += 1;
            destination.breaks
        };
        (breaks >= BREAKS_MAX).then(|| self.failed(reason))
    }
}
