//! DNS, made up.

use std::collections::HashMap;
use std::net::IpAddr;
use twinpost_queue::dns::Dns;
use twinpost_queue::route::{HostAnswer, MxAnswer};

#[derive(Clone, Default)]
pub struct Names {
    mx: HashMap<String, MxAnswer>,
    hosts: HashMap<String, HostAnswer>,
}

impl Names {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn mx(self, domain: &str, list: &[(u16, &str)]) -> Self {
        self.mx_answer(domain, MxAnswer::Records(list.iter().map(|(p, h)| (*p, (*h).to_owned())).collect()))
    }
    pub fn mx_answer(mut self, domain: &str, answer: MxAnswer) -> Self {
        self.mx.insert(domain.to_owned(), answer);
        self
    }
    pub fn host(self, host: &str, list: &[IpAddr]) -> Self {
        self.host_answer(host, HostAnswer::Addresses(list.to_vec()))
    }
    pub fn host_answer(mut self, host: &str, answer: HostAnswer) -> Self {
        self.hosts.insert(host.to_owned(), answer);
        self
    }
}

impl Dns for Names {
    async fn mx(&self, domain: &str) -> MxAnswer {
        self.mx.get(domain).cloned().unwrap_or(MxAnswer::NoDomain)
    }
    async fn addresses(&self, host: &str) -> HostAnswer {
        self.hosts.get(host).cloned().unwrap_or(HostAnswer::None)
    }
}
