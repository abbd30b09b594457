//! Power switches that read back what they did.
//!
//! Contract: [`PowerSwitch::off`] answers [`PowerOff::ReadBackOff`] only when the power was *read* as off, twice, after the order. An
//! order that was accepted but whose effect was not seen within the time limit is [`PowerOff::Unread`]; HA.md "a power switch counts only when
//! the power was read back as off". A refused order is no failure if the power is read as off anyway. Every driver serialises its own work, and every
//! wait has a limit.
//!
//! Drivers: [`Ipmi`] (BMC over RMCP+ by `ipmitool`), [`Redfish`] (BMC over HTTPS), [`Relay`] (the serial power switch of
//! docs/manual/power-switch.md) and [`Qmp`] (a virtual machine on the test bench).
//!
//! Failure classes: [`Error`] says which step failed on which device; whatever it says, the power of the peer is then unknown.

mod error;
mod ipmi;
mod password;
mod program;
mod qmp;
mod readback;
mod redfish;
pub mod relay;

pub use error::Error;
pub use ipmi::{Ipmi, IpmiPassword, IpmiSettings};
pub use qmp::{Qmp, QmpOrder, QmpSettings, fuzz as fuzz_qmp};
pub use readback::Times;
pub use redfish::{Redfish, RedfishAuth, RedfishSettings};
pub use relay::{Relay, RelaySettings};
pub use twinpost_https::Trust;

use futures_util::future::BoxFuture;

/// What a switch says about the peer's power.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// The peer has power.
    On,
    /// The peer has none.
    Off,
    /// The switch answers, but not with one of both: in between, or a state that proves nothing.
    Unknown,
}

/// What came of an order to switch off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerOff {
    /// The power was read as off: a proof.
    ReadBackOff,
    /// The order was taken, but off was not seen: no proof.
    Unread,
}

/// The peer's power. Used as `Arc<dyn PowerSwitch>`.
pub trait PowerSwitch: Send + Sync {
    /// Switches the peer off at once (no orderly shutdown) and reads back. Idempotent. Answers within the driver's time limit; once begun,
    /// the order may take effect even if the future is dropped.
    fn off(&self) -> BoxFuture<'_, Result<PowerOff, Error>>;
    /// Switches the peer on; returns when it was read as on, an error if not.
    fn on(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// Reads the power and changes nothing. Also the check that the switch is reachable and the password is right.
    fn read(&self) -> BoxFuture<'_, Result<Power, Error>>;
    /// For people: driver and device, such as `ipmi 192.0.2.7`.
    fn name(&self) -> &str;
}
