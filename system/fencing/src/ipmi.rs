//! IPMI 2.0: the baseboard controller (BMC) of the peer over RMCP+, by `ipmitool -I lanplus`.
//!
//! Contract: `chassis power off` is the hard power-off of IPMI 2.0 28.3 (Chassis Control, 0h power down), `chassis power status` reads
//! 28.2 (Get Chassis Status). The password never stands in an argument list: it goes by a file (`-f`) or the child's environment
//! (`-E`). Answers are taken by their exact words; anything else is [`Error::Garbage`].
//!
//! A BMC that shares its power with the node falls silent with it: then nothing is read back, and nothing is proven. That is what HA.md wants.

use crate::readback::{Device, Times, Verified};
use crate::{Error, Power};
use crate::{password, program};
use std::path::PathBuf;

/// How ipmitool gets the password.
#[derive(Clone, PartialEq, Eq)]
pub enum IpmiPassword {
    /// First line of a file that only its owner can read.
    File(PathBuf),
    /// Given to the child in `IPMI_PASSWORD`.
    Text(String),
}

impl std::fmt::Debug for IpmiPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text(_) => f.write_str("Text(..)"),
        }
    }
}

/// Settings of a BMC.
#[derive(Clone, Debug)]
pub struct IpmiSettings {
    /// Name or address.
    pub host: String,
    /// UDP port, 623.
    pub port: u16,
    /// User with at least the level OPERATOR.
    pub user: String,
    /// Its password.
    pub password: IpmiPassword,
    /// `OPERATOR` is enough for power; some BMCs want `ADMINISTRATOR`.
    pub level: String,
    /// Cipher suite (IPMI 2.0 table 22-20): 17 is HMAC-SHA256 with AES, 3 the older HMAC-SHA1 with AES; none: ipmitool's choice.
    pub cipher: Option<u8>,
    /// Program, `ipmitool` on the path.
    pub program: PathBuf,
    /// Time limits.
    pub times: Times,
}

impl IpmiSettings {
    /// Port 623, level OPERATOR, ipmitool's cipher.
    #[must_use]
    pub fn new(host: impl Into<String>, user: impl Into<String>, password: IpmiPassword) -> Self {
        Self {
            host: host.into(),
            port: 623,
            user: user.into(),
            password,
            level: "OPERATOR".to_owned(),
            cipher: None,
            program: "ipmitool".into(),
            times: Times::default(),
        }
    }
}

/// A BMC as a power switch.
pub type Ipmi = Verified<Bmc>;

impl Ipmi {
    /// Nothing is sent before the first order.
    #[must_use]
    pub fn new(settings: IpmiSettings) -> Self {
        let name = format!("ipmi {}:{}", settings.host, settings.port);
        Self::of(Bmc { settings, name })
    }
}

/// The device behind [`Ipmi`].
#[derive(Debug)]
pub struct Bmc {
    settings: IpmiSettings,
    name: String,
}

impl Bmc {
    fn arguments(&self, order: &str) -> Vec<String> {
        let set = &self.settings;
        let mut arguments: Vec<String> = ["-v", "-I", "lanplus", "-N", "1", "-R", "2"].map(str::to_owned).into();
        let port = set.port.to_string();
        for (flag, value) in [("-H", &set.host), ("-p", &port), ("-U", &set.user), ("-L", &set.level)] {
            arguments.extend([flag.to_owned(), value.clone()]);
        }
        if let Some(cipher) = set.cipher {
            arguments.extend(["-C".to_owned(), cipher.to_string()]);
        }
        match &set.password {
            IpmiPassword::File(path) => arguments.extend(["-f".to_owned(), path.to_string_lossy().into_owned()]),
            IpmiPassword::Text(_) => arguments.push("-E".to_owned()),
        }
        arguments.extend(["chassis", "power", order].map(str::to_owned));
        arguments
    }

    async fn run(&self, order: &str, doing: &'static str) -> Result<String, Error> {
        let secret = match &self.settings.password {
            IpmiPassword::Text(text) => Some(("IPMI_PASSWORD", text.as_str())),
            IpmiPassword::File(path) => {
                password::check(&self.name, path)?;
                None
            }
        };
        let ended = program::run(&self.name, &self.settings.program, &self.arguments(order), secret).await?;
        if ended.status.success() { Ok(ended.stdout) } else { Err(self.failure(&ended.stderr, doing)) }
    }

    fn failure(&self, stderr: &str, doing: &'static str) -> Error {
        // With -v, the only way to hear why a session failed, there is much noise of things that a BMC need not have.
        let telling = |line: &&str| ["RAKP", "Error", "failed:", "Address"].iter().any(|word| line.contains(word));
        let telling: Vec<_> = stderr.lines().filter(telling).collect();
        let why = program::line(&if telling.is_empty() { stderr.to_owned() } else { telling.join("; ") });
        let switch = self.name.clone();
        if why.contains("RAKP") || why.contains("failed: Insufficient privilege") {
            Error::Login { switch, why }
        } else if why.contains("Unable to establish") || why.contains("Address lookup") || why.is_empty() {
            Error::Unreachable { switch, doing, why }
        } else {
            Error::Refused { switch, doing, why }
        }
    }
}

/// The words of `ipmitool chassis power status`.
fn power(stdout: &str) -> Option<Power> {
    match stdout.trim() {
        "Chassis Power is on" => Some(Power::On),
        "Chassis Power is off" => Some(Power::Off),
        _ => None,
    }
}

impl Device for Bmc {
    fn name(&self) -> &str {
        &self.name
    }

    fn times(&self) -> Times {
        self.settings.times
    }

    async fn order(&self, on: bool) -> Result<(), Error> {
        let (order, doing, want) = match on {
            true => ("on", "switch on", "Chassis Power Control: Up/On"),
            false => ("off", "switch off", "Chassis Power Control: Down/Off"),
        };
        let said = self.run(order, doing).await?;
        if said.trim() == want {
            Ok(())
        } else {
            Err(Error::Garbage { switch: self.name.clone(), doing, what: program::line(&said) })
        }
    }

    async fn read(&self) -> Result<Power, Error> {
        let doing = "read the power";
        let said = self.run("status", doing).await?;
        power(&said).ok_or_else(|| Error::Garbage { switch: self.name.clone(), doing, what: program::line(&said) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_password_is_in_no_argument() {
        let settings = IpmiSettings::new("192.0.2.7", "fence", IpmiPassword::Text("s3cret".to_owned()));
        assert!(!format!("{settings:?}").contains("s3cret"));
        let switch = Ipmi::new(IpmiSettings { cipher: Some(17), ..settings });
        let arguments = switch.device.arguments("off").join(" ");
        assert_eq!(arguments, "-v -I lanplus -N 1 -R 2 -H 192.0.2.7 -p 623 -U fence -L OPERATOR -C 17 -E chassis power off");
    }

    proptest! {
        #[test]
        fn only_exact_words_are_off(text in ".{0,60}") {
            prop_assert_eq!(power(&text) == Some(Power::Off), text.trim() == "Chassis Power is off");
            drop(program::line(&text));
        }
    }

    #[test]
    fn words_that_contain_off_are_not_off() {
        for text in ["", "off", "Chassis Power is offline", "Chassis Power is on\nChassis Power is off", "chassis power is off"] {
            assert_eq!(power(text), None, "{text}");
        }
    }
}
