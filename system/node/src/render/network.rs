//! The network of a node: names, addresses and routes of its ports, by rtnetlink.
//!
//! Contract: [`plan`] is pure. [`apply`] brings the kernel to the plan and can be repeated: what is right stays, also the service addresses and
//! what the kernel and router advertisements made; what an earlier plan of ours made and this one does not want goes. A port is renamed while it
//! is down. Every fault is told, and the other ports are set up all the same.
//!
//! Why not systemd-networkd: it would be one more program that may wait for something, and a second place where an address is written.

use super::Fault;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{Handle, LinkUnspec, LinkVlan, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use twinpost_board::{NicRole, Roles};
use twinpost_config::NodeDocument;

/// IFA_PROTO (Linux 5.18) and rtm_protocol of what we made: 'N'. What has it and is not in the plan is removed.
const PROTOCOL: u8 = 0x4e;
/// Before the default route of a router advertisement, which has 1024.
const METRIC6: u32 = 512;
/// The card itself, when the LAN is a VLAN on it.
const TAGGED_PORT: &str = "lan-port";

/// What the ports should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each port that has a role and is there.
    pub ports: Vec<Port>,
}

/// What one port should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Its name now.
    pub now: String,
    /// Its name by its role; what carries the addresses.
    pub name: String,
    /// Largest packet; none: as it is.
    pub mtu: Option<u32>,
    /// The addresses are in this VLAN.
    pub vlan: Option<u16>,
    /// Router advertisements are heard.
    pub slaac: bool,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default routes, one a family at most.
    pub gateways: Vec<IpAddr>,
}

impl Port {
    /// Name of the card.
    fn card(&self) -> &str {
        if self.vlan.is_some() { TAGGED_PORT } else { &self.name }
    }
}

/// From the documents and the roles.
#[must_use]
pub fn plan(node: &NodeDocument, roles: &Roles) -> Plan {
    let port = |role: NicRole| {
        let now = roles.interface(role)?.name.clone()?;
        let port = Port { now, name: role.as_str().to_owned(), ..Port::default() };
        Some(match role {
            NicRole::Lan => Port {
                mtu: node.lan.mtu,
                vlan: node.lan.vlan.and_then(|id| u16::try_from(id).ok()),
                // A machine that nobody has set up takes nothing from strangers.
                slaac: node.lan.slaac && !node.lan.addresses.is_empty(),
                addresses: node.lan.addresses.clone(),
                gateways: node.lan.gateways.clone(),
                ..port
            },
            NicRole::Pair => Port { mtu: node.pair.cable.mtu, addresses: node.cable_address().into_iter().collect(), ..port },
        })
    };
    Plan { ports: NicRole::ALL.iter().copied().filter_map(port).collect() }
}

/// Names and switches the ports on, before anything else is known of them: a link needs seconds to come up.
#[must_use]
pub fn bare(roles: &Roles) -> Plan {
    plan(&NodeDocument::default(), roles)
}

/// What was tried and did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket to the kernel.
    #[error("cannot speak with the kernel's network: {0}")]
    Socket(std::io::Error),
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's word.
        source: rtnetlink::Error,
    },
    /// There is no such interface.
    #[error("there is no interface {0}")]
    Gone(String),
    /// A switch of the kernel cannot be set.
    #[error("cannot set {path} to {value}: {source}")]
    Switch {
        /// Under /proc/sys/net.
        path: String,
        /// What it should be.
        value: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// Brings the kernel to the plan; `net` stands for /proc/sys/net.
pub async fn apply(plan: &Plan, net: &Path) -> Vec<Fault> {
    let told = |error: &Error| Fault::new("network", None, format!("network: {error}"), format!("网络：{error}"));
    let (connection, handle, _) = match rtnetlink::new_connection() {
        Ok(parts) => parts,
        Err(error) => return vec![told(&Error::Socket(error))],
    };
    let connection = tokio::spawn(connection);
    let worker = Worker { handle, net };
    let mut faults = Vec::new();
    if let Err(error) = worker.rename(plan).await {
        faults.push(told(&error));
    }
    for port in &plan.ports {
        for error in worker.set_up(port).await {
            let (en, zh) = (format!("network port {}: {error}", port.name), format!("网口 {}：{error}", port.name));
            faults.push(Fault::new("network", Some(&format!("nic.{}", port.name)), en, zh));
        }
    }
    connection.abort();
    faults
}

/// Switches ports on by their names now, so that their links come up.
///
/// # Errors
/// The first that could not be.
pub async fn raise(names: &[String]) -> Result<(), Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
    let connection = tokio::spawn(connection);
    let mut outcome = Ok(());
    for name in names {
        let raised = handle.link().set(LinkUnspec::new_with_name(name).up().build()).execute().await;
        outcome = outcome.and(raised.map_err(kernel(|| format!("switching {name} on"))));
    }
    connection.abort();
    outcome
}

fn kernel(what: impl FnOnce() -> String) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |source| Error::Kernel { what: what(), source }
}

struct Worker<'a> {
    handle: Handle,
    net: &'a Path,
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The VLAN that a link is: number, and the card below.
fn vlan_of(link: &LinkMessage) -> Option<(u16, Option<u32>)> {
    let infos = link.attributes.iter().find_map(|a| match a {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    })?;
    infos.iter().any(|i| matches!(i, LinkInfo::Kind(InfoKind::Vlan))).then_some(())?;
    let id = infos.iter().find_map(|i| match i {
        LinkInfo::Data(InfoData::Vlan(data)) => data.iter().find_map(|d| if let InfoVlan::Id(id) = d { Some(*id) } else { None }),
        _ => None,
    })?;
    let below = link.attributes.iter().find_map(|a| if let LinkAttribute::Link(index) = a { Some(*index) } else { None });
    Some((id, below))
}

impl Worker<'_> {
    async fn links(&self) -> Result<Vec<LinkMessage>, Error> {
        self.handle.link().get().execute().try_collect().await.map_err(kernel(|| "listing the interfaces".to_owned()))
    }

    /// Gives the cards their names. A name that another card or a VLAN of ours has is freed first.
    async fn rename(&self, plan: &Plan) -> Result<(), Error> {
        let links = self.links().await?;
        let at = |name: &str| links.iter().find(|link| name_of(link) == Some(name));
        let mut cards = Vec::new();
        for port in &plan.ports {
            let link = at(&port.now).ok_or_else(|| Error::Gone(port.now.clone()))?;
            cards.push((link.header.index, port.card()));
        }
        for port in plan.ports.iter().filter(|port| port.vlan.is_none()) {
            if let Some(vlan) = at(&port.name).filter(|link| vlan_of(link).is_some()) {
                self.handle
                    .link()
                    .del(vlan.header.index)
                    .execute()
                    .await
                    .map_err(kernel(|| format!("removing the VLAN {}", port.name)))?;
            }
        }
        let misnamed: Vec<_> = cards
            .iter()
            .filter(|(index, name)| !links.iter().any(|l| l.header.index == *index && name_of(l) == Some(name)))
            .collect();
        // A stranger that has one of the names, then ours out of each other's way, then to their names.
        for (_, name) in &misnamed {
            if let Some(link) =
                at(name).filter(|link| !cards.iter().any(|(index, _)| *index == link.header.index) && vlan_of(link).is_none())
            {
                self.name(link.header.index, &format!("other{}", link.header.index)).await?;
            }
        }
        for (index, _) in &misnamed {
            self.name(*index, &format!("port{index}")).await?;
        }
        for (index, name) in &misnamed {
            self.name(*index, name).await?;
        }
        Ok(())
    }

    /// netdevice(7), SIOCSIFNAME: only while the interface is down.
    async fn name(&self, index: u32, name: &str) -> Result<(), Error> {
        let down = LinkUnspec::new_with_index(index).down().build();
        self.handle
            .link()
            .set(down)
            .execute()
            .await
            .map_err(kernel(|| format!("switching interface {index} off to rename it")))?;
        let named = LinkUnspec::new_with_index(index).name(name.to_owned()).build();
        self.handle.link().set(named).execute().await.map_err(kernel(|| format!("giving interface {index} the name {name}")))
    }

    async fn set_up(&self, port: &Port) -> Vec<Error> {
        let mut errors = Vec::new();
        let index = match self.link_of(port, &mut errors).await {
            Ok(index) => index,
            Err(error) => {
                errors.push(error);
                return errors;
            }
        };
        if let Err(error) = self.addresses(port, index).await {
            errors.push(error);
        }
        if let Err(error) = self.routes(port, index).await {
            errors.push(error);
        }
        errors
    }

    /// The link that carries the addresses, switched on.
    async fn link_of(&self, port: &Port, errors: &mut Vec<Error>) -> Result<u32, Error> {
        let links = self.links().await?;
        let at = |name: &str| links.iter().find(|link| name_of(link) == Some(name));
        let card = at(port.card()).ok_or_else(|| Error::Gone(port.card().to_owned()))?.header.index;
        let woken = self.switches(port.card(), port.slaac && port.vlan.is_none(), errors);
        self.raise_one(card, port.card(), port.mtu).await?;
        if woken {
            self.solicit(card, port.card()).await?;
        }
        let Some(id) = port.vlan else { return Ok(card) };
        let there = at(&port.name).map(|link| (link.header.index, vlan_of(link)));
        match there {
            Some((index, Some(vlan))) if vlan == (id, Some(card)) => {
                let woken = self.switches(&port.name, port.slaac, errors);
                self.raise_one(index, &port.name, port.mtu).await?;
                if woken {
                    self.solicit(index, &port.name).await?;
                }
                return Ok(index);
            }
            Some((index, _)) => {
                self.handle.link().del(index).execute().await.map_err(kernel(|| format!("removing the old {}", port.name)))?;
            }
            None => {}
        }
        let vlan = LinkVlan::new(&port.name, card, id).build();
        self.handle.link().add(vlan).execute().await.map_err(kernel(|| format!("making VLAN {id} on {}", port.card())))?;
        let links = self.links().await?;
        let made =
            links.iter().find(|link| name_of(link) == Some(port.name.as_str())).ok_or_else(|| Error::Gone(port.name.clone()))?;
        self.switches(&port.name, port.slaac, errors);
        self.raise_one(made.header.index, &port.name, port.mtu).await?;
        Ok(made.header.index)
    }

    async fn raise_one(&self, index: u32, name: &str, mtu: Option<u32>) -> Result<(), Error> {
        let mut link = LinkUnspec::new_with_index(index);
        if let Some(mtu) = mtu {
            link = link.mtu(mtu);
        }
        self.handle.link().set(link.up().build()).execute().await.map_err(kernel(|| format!("switching {name} on")))
    }

    /// Lets the kernel ask for routers (RFC 4861 6.3.7), which it does only when IPv6 begins on a port: a port that begins to hear
    /// advertisements would else wait up to ten minutes for the next one. Where an address would be lost by it, it waits.
    async fn solicit(&self, index: u32, name: &str) -> Result<(), Error> {
        let listed = self.handle.address().get().set_link_index_filter(index).execute().try_collect::<Vec<_>>().await;
        let listed = listed.map_err(kernel(|| format!("listing the addresses of {name}")))?;
        let global = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if !ip.is_unicast_link_local());
        if !listed.iter().filter(|m| m.header.index == index).filter_map(ip_of).any(global) {
            let path = self.net.join("ipv6/conf").join(name).join("disable_ipv6");
            for value in ["1", "0"] {
                let failed = |source| Error::Switch { path: path.display().to_string(), value, source };
                std::fs::write(&path, value).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Before the link is on. True: from now on router advertisements are heard.
    fn switches(&self, name: &str, slaac: bool, errors: &mut Vec<Error>) -> bool {
        let heard = self.net.join("ipv6/conf").join(name).join("accept_ra");
        let woken = slaac && std::fs::read_to_string(heard).is_ok_and(|now| now.trim() == "0");
        let slaac = if slaac { "1" } else { "0" };
        // RFC 4862: whether router advertisements make addresses and routes. And ip-sysctl.rst: without promote_secondaries the service address
        // would go with the node's own address, when that is changed for another.
        for (family, switch, value) in
            [("ipv6", "accept_ra", slaac), ("ipv6", "autoconf", slaac), ("ipv4", "promote_secondaries", "1")]
        {
            let path = self.net.join(family).join("conf").join(name).join(switch);
            match std::fs::write(&path, value) {
                Ok(()) => {}
                // A kernel without IPv6 hears no advertisement either.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => errors.push(Error::Switch { path: path.display().to_string(), value, source }),
            }
        }
        woken
    }

    async fn addresses(&self, port: &Port, index: u32) -> Result<(), Error> {
        let listed = self.handle.address().get().set_link_index_filter(index).execute().try_collect::<Vec<_>>().await;
        let listed = listed.map_err(kernel(|| format!("listing the addresses of {}", port.name)))?;
        for message in listed.into_iter().filter(|m| m.header.index == index && is_ours(m)) {
            let there = ip_of(&message).map(|ip| (ip, message.header.prefix_len));
            if !there.is_some_and(|address| port.addresses.contains(&address)) {
                let what = format!("removing {there:?} from {}", port.name);
                self.handle.address().del(message).execute().await.map_err(kernel(|| what))?;
            }
        }
        for (ip, prefix) in &port.addresses {
            let mut request = self.handle.address().add(index, *ip, *prefix).replace();
            let attributes = &mut request.message_mut().attributes;
            attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
            if ip.is_ipv6() {
                // With the kernel's own detection (RFC 4862 5.4) nothing could be bound to it for the first second.
                attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            request.execute().await.map_err(kernel(|| format!("adding {ip}/{prefix} to {}", port.name)))?;
        }
        Ok(())
    }

    async fn routes(&self, port: &Port, index: u32) -> Result<(), Error> {
        let mut there: Vec<RouteMessage> = Vec::new();
        for family in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
            let routes = self.handle.route().get(family).execute().try_collect::<Vec<_>>().await;
            there.extend(routes.map_err(kernel(|| "listing the routes".to_owned()))?);
        }
        let on_this =
            |route: &RouteMessage| route.attributes.iter().any(|a| matches!(a, RouteAttribute::Oif(oif) if *oif == index));
        for route in there.into_iter().filter(|r| r.header.protocol == RouteProtocol::Other(PROTOCOL) && on_this(r)) {
            let gateway = gateway_of(&route);
            if !gateway.is_some_and(|gateway| port.gateways.contains(&gateway)) {
                let what = format!("removing the route by {gateway:?}");
                self.handle.route().del(route).execute().await.map_err(kernel(|| what))?;
            }
        }
        for gateway in &port.gateways {
            // What this node sends by itself comes from its own address, not from the service address, which may move.
            let own = port.addresses.iter().map(|(ip, _)| *ip).find(|ip| ip.is_ipv4() == gateway.is_ipv4());
            let route = match (gateway, own) {
                (IpAddr::V4(gateway), own) => {
                    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(*gateway).output_interface(index);
                    let route = if let Some(IpAddr::V4(own)) = own { route.pref_source(own) } else { route };
                    route.protocol(RouteProtocol::Other(PROTOCOL)).build()
                }
                (IpAddr::V6(gateway), own) => {
                    let route =
                        RouteMessageBuilder::<Ipv6Addr>::new().gateway(*gateway).output_interface(index).priority(METRIC6);
                    let route = if let Some(IpAddr::V6(own)) = own { route.pref_source(own) } else { route };
                    route.protocol(RouteProtocol::Other(PROTOCOL)).build()
                }
            };
            self.handle
                .route()
                .add(route)
                .replace()
                .execute()
                .await
                .map_err(kernel(|| format!("the default route by {gateway}")))?;
        }
        Ok(())
    }
}

fn is_ours(message: &AddressMessage) -> bool {
    message.attributes.iter().any(|a| matches!(a, AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL))))
}

fn ip_of(message: &AddressMessage) -> Option<IpAddr> {
    message
        .attributes
        .iter()
        .find_map(|a| match a {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        })
        .or_else(|| {
            message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            })
        })
}

fn gateway_of(route: &RouteMessage) -> Option<IpAddr> {
    use rtnetlink::packet_route::route::RouteAddress;
    route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })
}
