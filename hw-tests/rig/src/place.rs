//! Where a serial line is: a socket, a device of this machine, or the telnet port of a console server.

use crate::{Error, Result};
use nix::fcntl::OFlag;
use nix::sys::termios::{BaudRate, ControlFlags, SetArg, cfmakeraw, cfsetspeed, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket on which QEMU waits.
    Unix(PathBuf),
    /// A serial device at this speed, 8N1.
    Device(PathBuf, u32),
    /// A console server (RFC 854; options are refused).
    Telnet(SocketAddr),
}

type Ends = (Box<dyn Read + Send>, Box<dyn Write + Send>);

impl Place {
    /// Reads `/dev/ttyUSB0@115200`, `telnet:192.0.2.7:4001` or `unix:/path`.
    ///
    /// # Errors
    /// It is none of them.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::Setting { what: format!("{text:?}: write /dev/NAME@SPEED, telnet:ADDRESS:PORT or unix:PATH") };
        if let Some(at) = text.strip_prefix("telnet:") {
            return at.parse().map(Self::Telnet).map_err(|_| wrong());
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let (path, speed) = text.split_once('@').unwrap_or((text, "115200"));
        let speed = speed.parse().ok().filter(|speed| baud(*speed).is_some()).ok_or_else(wrong)?;
        if path.starts_with('/') { Ok(Self::Device(path.into(), speed)) } else { Err(wrong()) }
    }

    /// Opens it.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn open(&self) -> io::Result<Ends> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(Duration::from_secs(10)))?;
                Ok((Box::new(stream.try_clone()?), Box::new(stream)))
            }
            Self::Device(path, speed) => {
                let file = File::options().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(path)?;
                let mut settings = tcgetattr(&file)?;
                cfmakeraw(&mut settings);
                settings.control_flags |= ControlFlags::CLOCAL | ControlFlags::CREAD;
                settings.control_flags -= ControlFlags::CRTSCTS | ControlFlags::CSTOPB;
                cfsetspeed(&mut settings, baud(*speed).ok_or(io::ErrorKind::InvalidInput)?)?;
                tcsetattr(&file, SetArg::TCSANOW, &settings)?;
                Ok((Box::new(file.try_clone()?), Box::new(file)))
            }
            Self::Telnet(at) => {
                let stream = TcpStream::connect_timeout(at, Duration::from_secs(5))?;
                stream.set_nodelay(true)?;
                let reader = Telnet { reader: stream.try_clone()?, writer: stream.try_clone()?, state: Seen::Data };
                Ok((Box::new(reader), Box::new(stream)))
            }
        }
    }
}

fn baud(speed: u32) -> Option<BaudRate> {
    Some(match speed {
        9600 => BaudRate::B9600,
        19200 => BaudRate::B19200,
        38400 => BaudRate::B38400,
        57600 => BaudRate::B57600,
        115_200 => BaudRate::B115200,
        _ => return None,
    })
}

/// RFC 854: where in a command the stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Data,
    Iac,
    /// WILL, WONT, DO or DONT, whose option follows.
    Verb(u8),
    Sub,
    SubIac,
}

const IAC: u8 = 255;

/// Takes telnet's commands out, and refuses every option but the server's echo and binary way, which change nothing here.
struct Telnet<R, W> {
    reader: R,
    writer: W,
    state: Seen,
}

impl<R: Read, W: Write> Read for Telnet<R, W> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.reader.read(out)?;
            if count == 0 {
                return Ok(0);
            }
            let mut kept = 0;
            for at in 0..count {
                let byte = out[at];
                self.state = match (self.state, byte) {
                    (Seen::Data, IAC) => Seen::Iac,
                    (Seen::Data, _) | (Seen::Iac, IAC) => {
                        out[kept] = byte;
                        kept += 1;
                        Seen::Data
                    }
                    (Seen::Iac, 251..=254) => Seen::Verb(byte),
                    (Seen::Iac, 250) => Seen::Sub,
                    (Seen::Iac, _) => Seen::Data,
                    (Seen::Verb(verb), option) => {
                        // WILL is answered by DONT, DO by WONT; the other two need no answer.
                        let answer = match verb {
                            251 => Some(254),
                            253 => Some(252),
                            _ => None,
                        };
                        if let Some(answer) = answer {
                            let _ = self.writer.write_all(&[IAC, answer, option]);
                        }
                        Seen::Data
                    }
                    (Seen::Sub, IAC) => Seen::SubIac,
                    (Seen::SubIac, 240) => Seen::Data,
                    (Seen::Sub | Seen::SubIac, _) => Seen::Sub,
                };
            }
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Seen, Telnet};
    use std::io::Read;

    #[test]
    fn places_are_read() {
        assert_eq!(Place::parse("/dev/ttyUSB0@19200").unwrap(), Place::Device("/dev/ttyUSB0".into(), 19200));
        assert_eq!(Place::parse("/dev/ttyS1").unwrap(), Place::Device("/dev/ttyS1".into(), 115_200));
        assert_eq!(Place::parse("telnet:127.0.0.1:23").unwrap(), Place::Telnet("127.0.0.1:23".parse().unwrap()));
        for wrong in ["ttyS0", "/dev/ttyS0@12", "telnet:host", ""] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn telnet_commands_are_taken_out_and_options_refused() {
        let bytes: &[u8] = &[b'a', 255, 251, 1, b'b', 255, 255, 255, 253, 3, 255, 250, 1, 2, 255, 240, b'c', 255, 241, b'd'];
        let mut answered = Vec::new();
        let mut read = Vec::new();
        Telnet { reader: bytes, writer: &mut answered, state: Seen::Data }.read_to_end(&mut read).unwrap();
        assert_eq!(read, [b'a', b'b', 255, b'c', b'd']);
        assert_eq!(answered, [255, 254, 1, 255, 252, 3]);
    }
}
