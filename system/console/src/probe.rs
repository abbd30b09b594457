//! Tests of the network, for a person who has no other machine at hand.
//!
//! Contract: a few lines, the last one says what it means. Ping needs no privilege beyond `net.ipv4.ping_group_range` (icmp(7)). The
//! name test asks every server of `resolv.conf` by itself: one that is dead behind one that answers is found.
//!
//! Failure classes: no permission for ICMP, no name server set, no answer: each is a line.

use crate::Tongue;
use crate::child::Event;
use crate::look;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Does this host answer?
    Ping(String),
    /// What do the name servers say of this name?
    Name(String),
}

const PINGS: u16 = 4;
const PING_WAIT: Duration = Duration::from_secs(1);
const NAME_WAIT: Duration = Duration::from_secs(3);
/// `resolv.conf` names three at most (resolv.conf(5)).
const SERVERS_MAX: usize = 3;

/// Where a test tells its lines.
#[derive(Debug)]
pub(crate) struct Lines(pub(crate) mpsc::Sender<Event>);

impl Lines {
    async fn say(&self, text: String) {
        // Nobody listens any more when the console ends.
        let _ = self.0.send(Event::Output(look::lines(&format!("{text}\n")))).await;
    }
}

/// Runs a test; `lines` gets each line as it is known. True: all answered.
pub(crate) async fn run(probe: &Probe, resolv_conf: &Path, tongue: Tongue, lines: &Lines) -> bool {
    match probe {
        Probe::Ping(host) => ping(host, resolv_conf, tongue, lines).await,
        Probe::Name(name) => names(name, resolv_conf, tongue, lines).await,
    }
}

async fn ping(host: &str, resolv_conf: &Path, tongue: Tongue, lines: &Lines) -> bool {
    let address = match host.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => match resolve(host, resolv_conf).await {
            Ok(address) => address,
            Err(why) => {
                lines.say(format!("{host}: {why}")).await;
                return false;
            }
        },
    };
    let socket = match open(address) {
        Ok(socket) => socket,
        Err(error) => {
            lines.say(format!("{address}: {error}")).await;
            return false;
        }
    };
    let mut answered = 0;
    for sequence in 1..=PINGS {
        let begun = Instant::now();
        let text = match tokio::time::timeout(PING_WAIT, echo(&socket, address, sequence)).await {
            Ok(Ok(())) => {
                answered += 1;
                format!("{address}: {:.1} ms", begun.elapsed().as_secs_f64() * 1000.0)
            }
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: {}", tongue.say("no answer within 1 s", "1 秒内无应答")),
        };
        lines.say(text).await;
        if sequence < PINGS {
            tokio::time::sleep(PING_WAIT.saturating_sub(begun.elapsed())).await;
        }
    }
    let verdict = match tongue {
        Tongue::English => format!("{answered} of {PINGS} answered"),
        Tongue::Chinese => format!("{PINGS} 次中有 {answered} 次应答"),
    };
    lines.say(verdict).await;
    answered == PINGS
}

fn open(address: IpAddr) -> io::Result<UdpSocket> {
    let (domain, protocol) = if address.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.connect(&SocketAddr::new(address, 0).into())?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}

/// An echo request and its reply; the kernel fills in identifier and checksum. RFC 792, RFC 4443 4.1.
async fn echo(socket: &UdpSocket, address: IpAddr, sequence: u16) -> io::Result<()> {
    let mut packet = [0; 8];
    packet[0] = if address.is_ipv4() { 8 } else { 128 };
    packet[6..].copy_from_slice(&sequence.to_be_bytes());
    socket.send(&packet).await?;
    let mut buffer = [0; 64];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if length >= 8 && matches!(buffer[0], 0 | 129) && buffer[6..8] == sequence.to_be_bytes() {
            return Ok(());
        }
    }
}

/// The name servers of `resolv.conf`.
fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| line.trim().strip_prefix("nameserver")?.trim().parse().ok();
    text.lines().filter_map(server).take(SERVERS_MAX).collect()
}

async fn configured(resolv_conf: &Path) -> Result<Vec<IpAddr>, String> {
    let text = tokio::fs::read_to_string(resolv_conf).await.map_err(|error| format!("{}: {error}", resolv_conf.display()))?;
    match servers(&text) {
        servers if servers.is_empty() => Err("no name server is set".to_owned()),
        servers => Ok(servers),
    }
}

fn resolver(server: IpAddr) -> Result<TokioResolver, String> {
    let connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![NameServerConfig::new(server, true, connections)]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().timeout = NAME_WAIT;
    builder.options_mut().attempts = 1;
    builder.build().map_err(|error| error.to_string())
}

/// Fully qualified: no search list is tried.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

async fn resolve(name: &str, resolv_conf: &Path) -> Result<IpAddr, String> {
    let mut why = String::new();
    for server in configured(resolv_conf).await? {
        match resolver(server)?.lookup_ip(absolute(name)).await {
            Ok(lookup) if lookup.iter().next().is_some() => return Ok(lookup.iter().next().unwrap_or(server)),
            Ok(_) => "no address".clone_into(&mut why),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

async fn names(name: &str, resolv_conf: &Path, tongue: Tongue, lines: &Lines) -> bool {
    let servers = match configured(resolv_conf).await {
        Ok(servers) => servers,
        Err(why) => {
            lines.say(why).await;
            return false;
        }
    };
    let mut all = true;
    for server in servers {
        let resolver = match resolver(server) {
            Ok(resolver) => resolver,
            Err(why) => {
                lines.say(format!("{server}: {why}")).await;
                all = false;
                continue;
            }
        };
        for kind in [RecordType::A, RecordType::AAAA, RecordType::MX] {
            let begun = Instant::now();
            let found = match resolver.lookup(absolute(name), kind).await {
                Ok(lookup) => {
                    let records: Vec<_> = lookup.answers().iter().take(8).map(|record| record.data.to_string()).collect();
                    records.join(", ")
                }
                Err(error) if error.is_nx_domain() => tongue.say("no such name", "域名不存在").to_owned(),
                Err(error) if error.is_no_records_found() => tongue.say("none", "无记录").to_owned(),
                Err(error) => {
                    all = false;
                    error.to_string()
                }
            };
            lines.say(format!("{server}: {kind} {found} ({} ms)", begun.elapsed().as_millis())).await;
            if !all {
                // A server that is silent for one kind is silent for all.
                break;
            }
        }
    }
    lines
        .say(if all {
            tongue.say("Every name server answers.", "所有域名服务器均有应答。").to_owned()
        } else {
            tongue.say("A name server does not answer.", "有域名服务器没有应答。").to_owned()
        })
        .await;
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_a_file() {
        let text = "# x\nsearch a.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\nnameserver junk\n";
        assert_eq!(servers(text), ["192.0.2.53".parse::<IpAddr>().unwrap(), "2001:db8::53".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_node_without_name_servers_says_so() {
        let (sender, mut said) = mpsc::channel(8);
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!run(&Probe::Name("school.example".into()), file.path(), Tongue::English, &Lines(sender)).await);
        let Some(Event::Output(line)) = said.recv().await else { panic!("no line") };
        assert_eq!(line, b"no name server is set\r\n");
    }
}
