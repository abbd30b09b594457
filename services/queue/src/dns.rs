//! DNS as the queue asks it: MX and addresses, and nothing more.

use crate::route::{HostAnswer, MxAnswer};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

/// Answers of DNS.
pub trait Dns: Send + Sync + 'static {
    /// MX records of a domain (U-labels).
    fn mx(&self, domain: &str) -> impl Future<Output = MxAnswer> + Send;
    /// Addresses of a host.
    fn addresses(&self, host: &str) -> impl Future<Output = HostAnswer> + Send;
}

/// The resolver of hickory, with its cache.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("DNS cannot be asked: {0}")]
pub struct DnsFault(String);

impl Resolver {
    /// Asks these name servers; without any, those of the system. A system that names none has one on its own machine (resolv.conf(5)): if there is
    /// none either, every question fails for now and mail to others waits, while mail is taken.
    ///
    /// # Errors
    /// [`DnsFault`] when a resolver cannot be made.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, DnsFault> {
        Self::within(servers, Duration::from_secs(5))
    }

    /// The same, with the time that one name server has for one answer.
    ///
    /// # Errors
    /// As for [`Resolver::new`].
    pub fn within(servers: &[SocketAddr], timeout: Duration) -> Result<Self, DnsFault> {
        if !servers.is_empty() {
            return Self::asking(servers, timeout);
        }
        let of_system = TokioResolver::builder_tokio().map_err(|e| DnsFault(e.to_string()));
        of_system.and_then(|builder| Self::made(builder, timeout)).or_else(|why| {
            tracing::warn!(%why, "the system names no name server: only one on this machine is asked");
            Self::asking(&[SocketAddr::from(([127, 0, 0, 1], 53))], timeout)
        })
    }

    fn asking(servers: &[SocketAddr], timeout: Duration) -> Result<Self, DnsFault> {
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.to_vec())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Self::made(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()), timeout)
    }

    fn made(mut builder: ResolverBuilder<TokioRuntimeProvider>, timeout: Duration) -> Result<Self, DnsFault> {
        // RFC 1035 4.2.1: what does not fit UDP, or is damaged there, is asked by TCP.
        builder.options_mut().try_tcp_on_error = true;
        builder.options_mut().timeout = timeout;
        builder.build().map(Self).map_err(|e| DnsFault(e.to_string()))
    }
}

/// A fully qualified name in A-labels: no search list is applied.
fn absolute(name: &str) -> Option<String> {
    idna_ascii(name).map(|n| format!("{}.", n.trim_end_matches('.')))
}

fn idna_ascii(name: &str) -> Option<String> {
    // The domain of an Address is in U-labels and was checked when it was parsed.
    twinpost_message::Address::new("x", name).ok().and_then(|a| a.to_ascii_domain().rsplit_once('@').map(|(_, d)| d.to_owned()))
}

impl Dns for Resolver {
    async fn mx(&self, domain: &str) -> MxAnswer {
        let Some(name) = absolute(domain) else { return MxAnswer::NoDomain };
        match self.0.mx_lookup(name).await {
            Ok(lookup) => {
                let records = lookup.answers().iter().filter_map(|record| match &record.data {
                    RData::MX(mx) => Some((mx.preference, mx.exchange.to_ascii().trim_end_matches('.').to_ascii_lowercase())),
                    _ => None,
                });
                let records: Vec<_> = records.collect();
                if records.is_empty() { MxAnswer::None } else { MxAnswer::Records(records) }
            }
            Err(error) if error.is_nx_domain() => MxAnswer::NoDomain,
            Err(error) if error.is_no_records_found() => MxAnswer::None,
            Err(error) => MxAnswer::Unknown(error.to_string()),
        }
    }

    async fn addresses(&self, host: &str) -> HostAnswer {
        let Some(name) = absolute(host) else { return HostAnswer::None };
        // Each family is asked by itself: where one is empty and the other silent, the host is not "without address". The
        // hosts file comes first (lookup_ip reads it), for smart hosts that stand only there.
        let (both, four) = futures_util::join!(self.0.lookup_ip(name.clone()), self.0.ipv4_lookup(name.clone()));
        match both {
            Ok(lookup) if lookup.iter().next().is_some() => HostAnswer::Addresses(lookup.iter().collect()),
            Ok(_) => HostAnswer::None,
            // lookup_ip tells the AAAA's error when both fail; the A's stands beside it.
            Err(error) if !error.is_no_records_found() => HostAnswer::Unknown(error.to_string()),
            Err(_) => match four {
                Err(error) if !error.is_no_records_found() => HostAnswer::Unknown(error.to_string()),
                _ => HostAnswer::None,
            },
        }
    }
}
