//! Listening sockets, and who holds the port when it is taken.

use crate::error::ListenError;
use socket2::{Domain, Protocol, Socket, Type};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use tokio::net::TcpListener;

/// Connections that wait for accept at most (the system caps it at net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// A listening socket.
#[derive(Debug)]
pub struct Endpoint {
    pub(crate) listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Where it listens; the port is the one the system chose where 0 was asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Listens on one address. `[::]` takes IPv6 only, so that `0.0.0.0` can stand beside it.
///
/// # Errors
/// [`ListenError`] says who holds the port, or which right is missing.
pub fn listen(address: SocketAddr) -> Result<Endpoint, ListenError> {
    open(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address, holder: holder(address) },
        io::ErrorKind::PermissionDenied => ListenError::Forbidden { address },
        io::ErrorKind::AddrNotAvailable => ListenError::NotLocal { address },
        _ => ListenError::Io { address, source },
    })
}

fn open(address: SocketAddr) -> io::Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok(Endpoint { listener, address })
}

/// Takes a listening socket that somebody else opened (systemd's LISTEN_FDS).
///
/// # Errors
/// [`ListenError::Handed`] when it is something else.
pub fn take(fd: OwnedFd) -> Result<Endpoint, ListenError> {
    let socket = Socket::from(fd);
    let check = || {
        if !socket.is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
        }
        socket.set_nonblocking(true)
    };
    check().map_err(ListenError::Handed)?;
    let listener = TcpListener::from_std(socket.into()).map_err(ListenError::Handed)?;
    let address = listener.local_addr().map_err(ListenError::Handed)?;
    Ok(Endpoint { listener, address })
}

/// The program that listens on this port, as far as /proc tells us: `postfix (pid 712)`.
fn holder(address: SocketAddr) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (ip, port) = fields.get(1)?.rsplit_once(':')?;
            let (ip, port) = (table_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
            let here = ip.is_unspecified() || address.ip().is_unspecified() || ip == address.ip().to_canonical();
            // State 0A: LISTEN
            (here && port == address.port() && fields.get(3) == Some(&"0A"))
                .then(|| fields.get(9).map(|i| format!("socket:[{i}]")))?
        })
    })?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        descriptors.find(|d| fs::read_link(d.path()).is_ok_and(|l| l.as_os_str() == inode.as_str()))?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(format!("{} (pid {pid})", name.trim()))
    })
}

/// An address as the tables of /proc/net write it: words of 32 bits in hexadecimal, each in the byte order of the machine.
fn table_ip(text: &str) -> Option<IpAddr> {
    let mut bytes = [0; 16];
    let words = text.len() / 8;
    for (at, word) in bytes.chunks_mut(4).zip(0..words) {
        at.copy_from_slice(&u32::from_str_radix(text.get(word * 8..word * 8 + 8)?, 16).ok()?.to_ne_bytes());
    }
    match words {
        1 => <[u8; 4]>::try_from(&bytes[..4]).ok().map(IpAddr::from),
        4 => Some(IpAddr::from(bytes).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_tables_are_read() {
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        assert_eq!(table_ip(&word([127, 0, 0, 1])), "127.0.0.1".parse().ok());
        let mapped = [word([0; 4]), word([0; 4]), word([0, 0, 255, 255]), word([10, 1, 2, 3])].concat();
        assert_eq!(table_ip(&mapped), "10.1.2.3".parse().ok());
        assert_eq!([table_ip(""), table_ip("0100007"), table_ip("é00007F0")], [None; 3]);
    }

    #[tokio::test]
    async fn a_taken_port_names_its_holder() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = listen(first.address()).unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        let error = listen("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert!(matches!(error, ListenError::NotLocal { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_socket_is_handed_in() {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(take(first.into()).unwrap().address(), address);
        let (one, _two) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(take(one.into()), Err(ListenError::Handed(_))));
    }
}
