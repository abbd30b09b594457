//! The driver of the appliance: the service addresses on a network interface, by rtnetlink.
//!
//! Contract: as [`Address`]. The lease is set before an address, and ends before it: an address on the interface without a lease is
//! out of reach, never the other way round. A renewal is one message to the kernel and runs no program. What somebody else takes
//! away meanwhile (an address, our tables) is put back at the next renewal, and told.

use std::{
    net::IpAddr,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{TryStreamExt as _, future::BoxFuture};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

use crate::{
    Address, AddressStatus, Error, Notice, kernel,
    loopback::lease_end,
    packet::{self, Claim, Form, Mac, mac_text},
    raw::{Hear, Port},
    rule::{LEASE_MIN, RuleError, Rules},
};

/// IFA_PROTO (Linux 5.18) of our addresses: 'T'. By it leftovers of a predecessor with other settings are found, too.
const PROTOCOL: u8 = 0x54;
/// HA.md "(5, again after 1 s and 5 s)": so many times at each announcement, so far apart.
const ANNOUNCE_TIMES: u32 = 5;
const ANNOUNCE_GAP: Duration = Duration::from_millis(40);
/// RFC 5227 1.1: PROBE_NUM.
const PROBES: u32 = 3;
/// Notices wait here; those that find no room are dropped (they are in the log).
const NOTICES: usize = 64;

/// An address with the length of its prefix: `192.0.2.10/24`; alone it is `/32` or `/128`, which no route depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServiceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bits.
    pub prefix: u8,
}

impl FromStr for ServiceAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Settings(format!("\"{}\" is no address", text.escape_default()));
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv6() { 128 } else { 32 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if ip.is_unspecified() || ip.is_multicast() || prefix == 0 || prefix > most {
            return Err(wrong());
        }
        Ok(Self { ip, prefix })
    }
}

/// What the driver needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// LAN interface.
    pub interface: String,
    /// The addresses, at least one.
    pub addresses: Vec<ServiceAddress>,
    /// Before the addresses come here, ask the link for so long whether somebody has them (RFC 5227, RFC 4862); 150 ms is enough on a
    /// LAN. `None` asks nobody. An answer of the peer is told as a [`Notice`] and changes nothing (the proof of the pair
    /// counts, the kernel of a stalled peer may still answer); any other host's is [`Error::Taken`].
    pub probe: Option<Duration>,
    /// Hardware address of the peer's LAN interface, when it is known.
    pub peer_mac: Option<[u8; 6]>,
    /// The program nft(8).
    pub nft: PathBuf,
}

impl Settings {
    /// Without a probe.
    #[must_use]
    pub fn new(interface: impl Into<String>, addresses: Vec<ServiceAddress>) -> Self {
        Self { interface: interface.into(), addresses, probe: None, peer_mac: None, nft: PathBuf::from("nft") }
    }

    pub(crate) fn is_service(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| address.ip == ip)
    }

    fn ips(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|address| address.ip).collect()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Interface {
    shared: Arc<Shared>,
    handle: rtnetlink::Handle,
    /// Answers of the kernel to `handle`.
    connection: JoinHandle<()>,
    work: tokio::sync::Mutex<Work>,
}

/// What one operation at a time works on.
#[derive(Debug)]
struct Work {
    rules: Rules,
    /// [`Shared::missing`] when the addresses were last put on the interface.
    placed: u64,
}

/// What the watching thread shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    carrier: watch::Sender<bool>,
    notices: mpsc::Sender<Notice>,
    /// Since when the addresses are here, and until when.
    here: Mutex<Here>,
    /// Counts the moments after which an address may be missing although it should be here.
    missing: AtomicU64,
    /// Our tables are not what they were.
    broken: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Here {
    No,
    Until(Option<Instant>),
}

impl Shared {
    fn here(&self) -> MutexGuard<'_, Here> {
        // A plain value: a panic leaves nothing half done.
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Here, and the lease lives.
    pub(crate) fn is_here(&self) -> bool {
        match *self.here() {
            Here::No => false,
            Here::Until(end) => end.is_none_or(|end| Instant::now() < end),
        }
    }

    pub(crate) fn look_again(&self) {
        self.missing.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn set_carrier(&self, carrier: bool) {
        self.carrier.send_if_modified(|now| std::mem::replace(now, carrier) != carrier);
    }

    pub(crate) fn conflict(&self, address: IpAddr, mac: Mac) {
        let peer = self.settings.peer_mac == Some(mac);
        self.tell(Notice::Conflict { address, mac: mac_text(mac), peer });
    }

    fn tell(&self, notice: Notice) {
        let _ = self.notices.try_send(notice);
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn kernel_error(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |error| Error::Kernel { what: what.into(), why: error.to_string() }
}

fn rule_error(what: &str) -> impl FnOnce(RuleError) -> Error + '_ {
    move |error| Error::Kernel { what: what.to_owned(), why: error.to_string() }
}

impl Interface {
    /// Removes what a predecessor left, installs the rules without a lease, and begins to watch the carrier. Root; inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`Error::Settings`]; no such interface; the kernel or nft(8) refuses.
    pub async fn new(settings: Settings) -> Result<(Self, mpsc::Receiver<Notice>), Error> {
        if settings.addresses.is_empty() {
            return Err(Error::Settings("no service address is given".to_owned()));
        }
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| Error::Kernel { what, why: error.to_string() }
        };
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed("rtnetlink socket"))?;
        let (notices, receiver) = mpsc::channel(NOTICES);
        let rules = Rules::new(settings.ips(), settings.nft.clone()).map_err(failed("nftables socket"))?;
        let shared = Arc::new(Shared {
            settings,
            carrier: watch::channel(false).0,
            notices,
            here: Mutex::new(Here::No),
            missing: AtomicU64::new(1),
            broken: AtomicBool::new(false),
        });
        let this = Self {
            shared: Arc::clone(&shared),
            handle,
            connection: tokio::spawn(connection),
            work: tokio::sync::Mutex::new(Work { rules, placed: 0 }),
        };
        this.index().await?;
        // First the rules: from here on nothing answers on an address that is left.
        this.work.lock().await.rules.install().await.map_err(rule_error("installing the rules of the service address"))?;
        for message in this.ours().await? {
            let what = this.describe(&message);
            tracing::warn!(what, "left by a predecessor: removed");
            this.remove(message).await?;
            shared.tell(Notice::Leftover { what });
        }
        let mut carrier = shared.carrier.subscribe();
        kernel::watch(&shared).map_err(failed("watching the interface"))?;
        // The first answer comes at once; an interface without carrier says nothing new.
        let _ = tokio::time::timeout(Duration::from_millis(200), carrier.changed()).await;
        Ok((this, receiver))
    }

    /// Takes addresses and rules away, for a node that leaves the pair.
    ///
    /// # Errors
    /// As [`Address::down`], or nft(8) refuses.
    pub async fn uninstall(&self) -> Result<(), Error> {
        self.down().await?;
        self.work.lock().await.rules.remove().await.map_err(rule_error("removing the rules of the service address"))
    }

    async fn index(&self) -> Result<u32, Error> {
        let name = &self.shared.settings.interface;
        let what = format!("interface {name}");
        let mut links = Box::pin(self.handle.link().get().match_name(name.clone()).execute());
        match links.try_next().await.map_err(kernel_error(what.clone()))? {
            Some(link) => Ok(link.header.index),
            None => Err(Error::Kernel { what, why: "there is none".to_owned() }),
        }
    }

    /// Every address on this machine that is a service address or carries our mark.
    async fn ours(&self) -> Result<Vec<AddressMessage>, Error> {
        let all = self.handle.address().get().execute().try_collect::<Vec<_>>().await;
        let all = all.map_err(kernel_error("listing the addresses"))?;
        Ok(all.into_iter().filter(|message| self.is_ours(message)).collect())
    }

    fn is_ours(&self, message: &AddressMessage) -> bool {
        message.attributes.iter().any(|attribute| match attribute {
            AddressAttribute::Protocol(protocol) => *protocol == AddressProtocol::Other(PROTOCOL),
            AddressAttribute::Address(_) | AddressAttribute::Local(_) => {
                ip_of(message).is_some_and(|ip| self.shared.settings.is_service(ip))
            }
            _ => false,
        })
    }

    fn describe(&self, message: &AddressMessage) -> String {
        let ip = ip_of(message).map_or_else(|| "an address".to_owned(), |ip| ip.to_string());
        format!("{ip}/{} on interface {}", message.header.prefix_len, message.header.index)
    }

    async fn remove(&self, message: AddressMessage) -> Result<(), Error> {
        let what = format!("removing {}", self.describe(&message));
        self.handle.address().del(message).execute().await.map_err(kernel_error(what))
    }

    /// Puts the addresses on the interface; those that are there stay as they are.
    async fn add(&self) -> Result<(), Error> {
        let index = self.index().await?;
        for ServiceAddress { ip, prefix } in self.shared.settings.addresses.iter().copied() {
            let mut request = self.handle.address().add(index, ip, prefix).replace();
            let attributes = &mut request.message_mut().attributes;
            attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
            if ip.is_ipv6() {
                // The kernel's own detection (RFC 4862) would take a second and give up for ever if the peer still answers.
                attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
                // Deprecated: it is here to be reached. What this node itself sends must not stop when the lease ends.
                let mut life = CacheInfo::default();
                (life.ifa_preferred, life.ifa_valid) = (0, u32::MAX);
                attributes.push(AddressAttribute::CacheInfo(life));
            }
            let what = format!("adding {ip}/{prefix} to {}", self.shared.settings.interface);
            request.execute().await.map_err(kernel_error(what))?;
        }
        Ok(())
    }

    /// RFC 5227 2.1, RFC 4862 5.4: asks the link.
    async fn probe(&self, wait: Duration) -> Result<(), Error> {
        let settings = self.shared.settings.clone();
        let heard = spawn_blocking(move || ask_the_link(&settings, wait)).await;
        let heard = heard.map_err(|error| Error::Kernel { what: "probing".to_owned(), why: error.to_string() })?;
        let Claim { address, mac } = match heard {
            Ok(None) => return Ok(()),
            Ok(Some(claim)) => claim,
            Err(error) => {
                // Without carrier nobody can be asked, and nobody harmed.
                tracing::warn!(%error, "the link could not be asked for the service address");
                return Ok(());
            }
        };
        if self.shared.settings.peer_mac == Some(mac) {
            self.shared.conflict(address, mac);
            return Ok(());
        }
        self.shared.tell(Notice::Conflict { address, mac: mac_text(mac), peer: false });
        Err(Error::Taken { address, mac: mac_text(mac) })
    }

    async fn come(&self, expires: Option<Duration>, since: Instant) -> Result<(), Error> {
        let end = lease_end(expires, since)?;
        let mut work = self.work.lock().await;
        let was_here = *self.shared.here() != Here::No;
        if !was_here {
            self.shared.look_again();
            if let Some(wait) = self.shared.settings.probe {
                self.probe(wait).await?;
            }
        }
        if self.shared.broken.load(Ordering::Acquire) {
            self.restore(&mut work.rules).await?;
        }
        if let Err(error) = renew(&mut work.rules, end) {
            let RenewError::Missing = error else { return Err(error.into()) };
            self.restore(&mut work.rules).await?;
            renew(&mut work.rules, end)?;
        }
        self.guard(&mut work.rules);
        *self.shared.here() = Here::Until(end);
        // Noted before, so that one removed meanwhile is put back next time.
        let missing = self.shared.missing.load(Ordering::Acquire);
        if work.placed != missing {
            if let Err(error) = self.add().await {
                if !was_here {
                    // Not here after all: nothing may answer.
                    let _ = work.rules.end();
                    *self.shared.here() = Here::No;
                }
                return Err(error);
            }
            if was_here {
                self.shared.tell(Notice::Restored { what: "service addresses on the interface".to_owned() });
                self.tell_the_link()?;
            }
            work.placed = missing;
        }
        Ok(())
    }

    /// Has our tables looked at if somebody changed the rule set; the next renewal puts them back.
    fn guard(&self, rules: &mut Rules) {
        if let Some(look) = rules.look() {
            let shared = Arc::downgrade(&self.shared);
            tokio::spawn(async move {
                if !look.await
                    && let Some(shared) = shared.upgrade()
                {
                    shared.broken.store(true, Ordering::Release);
                }
            });
        }
    }

    async fn restore(&self, rules: &mut Rules) -> Result<(), Error> {
        tracing::warn!("the rules of the service address were changed by somebody: put back");
        rules.install().await.map_err(rule_error("installing the rules of the service address"))?;
        self.shared.broken.store(false, Ordering::Release);
        self.shared.tell(Notice::Restored { what: "rules of the service address".to_owned() });
        Ok(())
    }

    async fn leave(&self) -> Result<(), Error> {
        let mut work = self.work.lock().await;
        // A failure here is no failure of the whole: what counts is that the address is gone.
        if let Err(error) = work.rules.end() {
            tracing::warn!(%error, "the lease could not be ended");
        }
        for message in self.ours().await? {
            let gone = self.remove(message).await;
            if let Err(error) = gone {
                tracing::warn!(%error, "not removed");
            }
        }
        if let Some(left) = self.ours().await?.first() {
            let address = ip_of(left).unwrap_or(self.shared.settings.addresses[0].ip);
            return Err(Error::StillHere { address, interface: self.shared.settings.interface.clone() });
        }
        *self.shared.here() = Here::No;
        Ok(())
    }

    fn tell_the_link(&self) -> Result<(), Error> {
        if !self.shared.is_here() {
            return Ok(());
        }
        send_announcement(&self.shared.settings)?;
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            for _ in 1..ANNOUNCE_TIMES {
                sleep(ANNOUNCE_GAP).await;
                let Some(shared) = shared.upgrade().filter(|shared| shared.is_here()) else { return };
                if let Err(error) = send_announcement(&shared.settings) {
                    tracing::debug!(%error, "announcement not repeated");
                }
            }
        });
        Ok(())
    }
}

/// A lease that could not be set.
enum RenewError {
    Missing,
    Other(Error),
}

impl From<RenewError> for Error {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::Missing => rule_error("renewing the lease")(RuleError::Missing),
            RenewError::Other(error) => error,
        }
    }
}

/// What is left is counted here, as late as can be.
fn renew(rules: &mut Rules, end: Option<Instant>) -> Result<(), RenewError> {
    let left = match end {
        None => None,
        Some(end) => {
            let now = Instant::now();
            let left = end.saturating_duration_since(now);
            if left < LEASE_MIN {
                let late_ms = now.saturating_duration_since(end).as_millis();
                return Err(RenewError::Other(Error::LeaseOver { late_ms }));
            }
            Some(left)
        }
    };
    rules.renew(left).map_err(|error| match error {
        RuleError::Missing => RenewError::Missing,
        other => RenewError::Other(rule_error("renewing the lease")(other)),
    })
}

fn ip_of(message: &AddressMessage) -> Option<IpAddr> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // Of a point-to-point link "address" is the other end.
            AddressAttribute::Local(ip) => return Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    address
}

fn send_announcement(settings: &Settings) -> Result<(), Error> {
    let failed =
        |error: std::io::Error| Error::Kernel { what: format!("announcing on {}", settings.interface), why: error.to_string() };
    let port = Port::of(&settings.interface).map_err(failed)?;
    let mut frames = Vec::new();
    for ip in settings.ips() {
        match ip {
            IpAddr::V4(ip) => frames.extend([Form::Request, Form::Reply].map(|f| packet::arp_announcement(f, port.mac, ip))),
            IpAddr::V6(ip) => frames.push(packet::advertisement(port.mac, ip)),
        }
    }
    port.send(&frames).map_err(failed)
}

/// Probes for every address, spread over the first half of the time. Blocking.
fn ask_the_link(settings: &Settings, wait: Duration) -> std::io::Result<Option<Claim>> {
    let port = Port::of(&settings.interface)?;
    let (ips, end) = (settings.ips(), Instant::now() + wait);
    let ears = [
        ips.iter().any(IpAddr::is_ipv4).then(|| port.listen(Hear::Arp)).transpose()?,
        ips.iter().any(IpAddr::is_ipv6).then(|| port.listen(Hear::Ipv6)).transpose()?,
    ];
    let probes: Vec<_> = ips
        .iter()
        .map(|ip| match ip {
            IpAddr::V4(ip) => packet::arp_probe(port.mac, *ip),
            IpAddr::V6(ip) => packet::solicitation(port.mac, *ip),
        })
        .collect();
    let ears: Vec<_> = ears.into_iter().flatten().collect();
    let slice = wait / (PROBES * 2 * u32::try_from(ears.len().max(1)).unwrap_or(1));
    let mut sent = 0;
    while Instant::now() < end {
        if sent < PROBES {
            port.send(&probes)?;
            sent += 1;
        }
        for ear in &ears {
            let wanted = |claim: &Claim| claim.mac != port.mac && settings.is_service(claim.address);
            if let Some(claim) = ear.claims_until((Instant::now() + slice).min(end), wanted) {
                return Ok(Some(claim));
            }
        }
    }
    Ok(None)
}

impl Address for Interface {
    fn up(&self, expires: Option<Duration>, since: Instant) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.come(expires, since))
    }

    fn down(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.leave())
    }

    fn announce(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { self.tell_the_link() })
    }

    fn carrier(&self) -> watch::Receiver<bool> {
        self.shared.carrier.subscribe()
    }

    fn status(&self) -> AddressStatus {
        let here = *self.shared.here();
        let lease_left_ms = match here {
            Here::No | Here::Until(None) => None,
            Here::Until(Some(end)) => u64::try_from(end.saturating_duration_since(Instant::now()).as_millis()).ok(),
        };
        AddressStatus {
            driver: "interface",
            interface: self.shared.settings.interface.clone(),
            addresses: self.shared.settings.ips(),
            here: self.shared.is_here(),
            lease_left_ms,
            carrier: *self.shared.carrier.borrow(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        let parse = |text: &str| text.parse::<ServiceAddress>().map(|a| (a.ip.to_string(), a.prefix)).ok();
        assert_eq!(parse("192.0.2.10/24"), Some(("192.0.2.10".to_owned(), 24)));
        assert_eq!(parse("192.0.2.10"), Some(("192.0.2.10".to_owned(), 32)));
        assert_eq!(parse("2001:db8::10"), Some(("2001:db8::10".to_owned(), 128)));
        for wrong in ["", "/24", "192.0.2.10/33", "192.0.2.10/0", "0.0.0.0", "224.0.0.1", "2001:db8::10/129", "host", "1.2.3.4/x"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
