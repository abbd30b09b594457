//! Where a recipient's mail goes: rules of RFC 5321 5.1 and RFC 7505 over what DNS said. Pure.

use std::net::IpAddr;

/// What DNS says of the MX records of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxAnswer {
    /// These records: preference and host name (lower case, without final dot; empty for the root).
    Records(Vec<(u16, String)>),
    /// The domain exists and has none.
    None,
    /// The domain does not exist (NXDOMAIN).
    NoDomain,
    /// No answer now: a time-out, SERVFAIL, a bogus signature.
    Unknown(String),
}

/// What DNS says of the addresses of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAnswer {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// None.
    None,
    /// No answer now.
    Unknown(String),
}

/// Why mail cannot go anywhere, now or ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoute {
    /// Never; otherwise it is tried again.
    pub permanent: bool,
    /// Code, enhanced code and sentence, as the reply would have read.
    pub code: u16,
    /// Enhanced code and sentence.
    pub text: String,
    /// The host that said so; none when it is our own finding.
    pub host: Option<String>,
}

impl NoRoute {
    /// Never.
    pub fn never(text: impl Into<String>) -> Self {
        Self { permanent: true, code: 550, text: text.into(), host: None }
    }
    /// Not now.
    pub fn later(text: impl Into<String>) -> Self {
        Self { permanent: false, code: 451, text: text.into(), host: None }
    }
}

/// The hosts to try for a domain, best first: groups of equal preference, each in the order given by `shuffle`.
///
/// # Errors
/// [`NoRoute`]: null MX, no such domain, no answer.
pub fn hosts(
    domain: &str,
    answer: MxAnswer,
    own_name: &str,
    mut shuffle: impl FnMut(&mut [(u16, String)]),
) -> Result<Vec<String>, NoRoute> {
    let mut records = match answer {
        MxAnswer::NoDomain => return Err(NoRoute::never(format!("5.1.2 the domain {domain} does not exist"))),
        MxAnswer::Unknown(why) => return Err(NoRoute::later(format!("4.4.3 no answer from DNS about {domain}: {why}"))),
        // RFC 5321 5.1: without MX the domain itself is the host.
        MxAnswer::None if domain.eq_ignore_ascii_case(own_name) => {
            return Err(NoRoute::never(format!("5.4.6 mail for {domain} loops back to this server (it is its name)")));
        }
        MxAnswer::None => return Ok(vec![domain.to_owned()]),
        MxAnswer::Records(records) => records,
    };
    // RFC 7505 3: one record, preference 0, the root as host.
    if let [(_, host)] = records.as_slice()
        && host.is_empty()
    {
        return Err(NoRoute::never(format!("5.1.10 the domain {domain} accepts no mail (null MX)")));
    }
    records.retain(|(_, host)| !host.is_empty());
    shuffle(&mut records);
    records.sort_by_key(|(preference, _)| *preference);
    // RFC 5321 5.1: if we are listed ourselves, we and all behind us are left out.
    if let Some(own) = records.iter().find(|(_, host)| host.eq_ignore_ascii_case(own_name)).map(|(p, _)| *p) {
        records.retain(|(preference, _)| *preference < own);
        if records.is_empty() {
            return Err(NoRoute::never(format!("5.4.6 mail for {domain} loops back to this server ({own_name} is its best MX)")));
        }
    }
    if records.is_empty() {
        return Err(NoRoute::never(format!("5.4.4 the MX records of {domain} name no host")));
    }
    Ok(records.into_iter().map(|(_, host)| host).collect())
}

/// Addresses in the order to try: IPv6 and IPv4 by turns, IPv6 first (RFC 5321 5.1 leaves it open; RFC 8305 4).
#[must_use]
pub fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut six = addresses.iter().filter(|a| a.is_ipv6());
    let mut four = addresses.iter().filter(|a| a.is_ipv4());
    let mut out = Vec::with_capacity(addresses.len());
    loop {
        let (a, b) = (six.next(), four.next());
        if a.is_none() && b.is_none() {
            return out;
        }
        out.extend(a.into_iter().chain(b).copied());
    }
}

/// `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 4.1.3).
#[must_use]
pub fn literal(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => inner[5..].parse().ok().map(IpAddr::V6),
        _ => inner.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mx(list: &[(u16, &str)]) -> MxAnswer {
        MxAnswer::Records(list.iter().map(|(p, h)| (*p, (*h).to_owned())).collect())
    }
    fn run(answer: MxAnswer) -> Result<Vec<String>, NoRoute> {
        hosts("x.example", answer, "mail.us.example", |_| {})
    }

    #[test]
    fn preference_orders_and_absence_falls_through() {
        assert_eq!(run(mx(&[(20, "b"), (10, "a"), (20, "c")])), Ok(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(run(MxAnswer::None), Ok(vec!["x.example".into()]));
        assert!(hosts("Mail.us.example", MxAnswer::None, "mail.us.example", |_| {}).is_err_and(|e| e.permanent));
    }

    #[test]
    fn null_mx_and_no_domain_are_final_and_silence_is_not() {
        assert!(matches!(run(mx(&[(0, "")])), Err(NoRoute { permanent: true, text, .. }) if text.starts_with("5.1.10")));
        assert!(matches!(run(MxAnswer::NoDomain), Err(NoRoute { permanent: true, text, .. }) if text.starts_with("5.1.2")));
        assert!(matches!(run(MxAnswer::Unknown("timed out".into())), Err(NoRoute { permanent: false, .. })));
        // A root host beside real ones is no null MX (RFC 7505 3): it is passed over.
        assert_eq!(run(mx(&[(0, ""), (5, "a")])), Ok(vec!["a".into()]));
    }

    #[test]
    fn we_are_never_our_own_next_hop() {
        assert_eq!(run(mx(&[(10, "a"), (20, "MAIL.us.example"), (30, "c"), (20, "d")])), Ok(vec!["a".into()]));
        assert!(
            matches!(run(mx(&[(10, "mail.us.example"), (20, "b")])), Err(NoRoute { permanent: true, text, .. }) if text.starts_with("5.4.6"))
        );
    }

    #[test]
    fn families_alternate() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        let list = interleave(&[ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")]);
        assert_eq!(list, [ip("2001:db8::1"), ip("192.0.2.1"), ip("192.0.2.2")]);
        assert_eq!(literal("[IPv6:2001:db8::1]"), Some(ip("2001:db8::1")));
        assert_eq!(literal("[192.0.2.1]"), Some(ip("192.0.2.1")));
        assert_eq!(literal("x.example"), None);
    }
}
