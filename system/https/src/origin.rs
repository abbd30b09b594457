//! Where a device is: scheme, host and port.

use crate::Error;
use rustls_pki_types::ServerName;
use std::fmt;

/// `http://host[:port]` or `https://host[:port]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// TLS.
    pub secure: bool,
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Origin {
    /// Reads an origin; a single `/` behind it is allowed, a path is not.
    ///
    /// # Errors
    /// [`Error::Setting`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Setting(format!("{text:?} is no address of a device: {what}"));
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(wrong("it must begin with https:// or http://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (host, port) = inner.split_once(']').ok_or_else(|| wrong("the bracket is not closed"))?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong("no IPv6 address in the brackets"))?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(|| wrong("no port behind the bracket"))?)
        } else {
            rest.split_once(':').unwrap_or((rest, ""))
        };
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        if host.is_empty() || host.len() > 253 || !host.chars().all(good) {
            return Err(wrong("the host is no name and no address"));
        }
        let port = match port {
            "" => {
                if secure {
                    443
                } else {
                    80
                }
            }
            digits => {
                digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong("the port is no number from 1 to 65535"))?
            }
        };
        Ok(Self { secure, host: host.to_owned(), port })
    }

    /// `host:port` as in the `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, Error> {
        ServerName::try_from(self.host.clone())
            .map_err(|_| Error::Setting(format!("{self} has no name that a certificate could bear")))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        for (text, want) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("https://bmc.example/", "https://bmc.example:443"),
            ("http://[2001:db8::7]", "http://[2001:db8::7]:80"),
            ("https://[::1]:8443", "https://[::1]:8443"),
        ] {
            assert_eq!(Origin::parse(text).unwrap().to_string(), want);
        }
    }

    #[test]
    fn refuses_what_is_no_origin() {
        for text in [
            "",
            "bmc",
            "ftp://bmc",
            "https://",
            "https://bmc/redfish",
            "https://bmc:0",
            "https://bmc:x",
            "https://u@bmc",
            "https://[::1",
            "https://[bmc]",
            "https://[::1]x",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
