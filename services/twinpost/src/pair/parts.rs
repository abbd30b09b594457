//! The drivers that the documents name.

use super::{Halt, Plan, failed, hopeless};
use crate::node::on_image;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use twinpost_address::{Address, Interface, Loopback, Notice, ServiceAddress};
use twinpost_config::{Span, StorageDriver, SwitchDriver, TakeoverRule, WitnessEngine};
use twinpost_fencing::{
    Ipmi, IpmiPassword, IpmiSettings, PowerSwitch, Qmp, QmpSettings, Redfish, RedfishSettings, Relay, RelaySettings, Trust,
};
use twinpost_group::{Check, Group, GroupEvent, Service, Waits};
use twinpost_heartbeat::Keys;
use twinpost_pair::api::{FailBack, Severity, Text};
use twinpost_pair::{Handle, SerialLink, Settings, UdpLink};
use twinpost_storage::Storage;
use twinpost_witness::Witness;

/// From SIGTERM to SIGKILL of the mail process: a planned switch takes less than a second. What is cut off was not acknowledged, and its
/// sender tries again.
const MAIL_GRACE: Duration = Duration::from_millis(700);
/// The unit of the mail process on the image, and its user.
const MAIL_UNIT: &str = "twinpost-mail.service";
const MAIL_USER: &str = "twinpost";
/// Opening a large store after a crash may take its time.
const MAIL_START_LIMIT: Duration = Duration::from_secs(120);

fn ms(span: Span) -> u32 {
    u32::try_from(span.0.as_millis()).unwrap_or(u32::MAX)
}

/// The keys of frames as the heart wants them.
pub fn keys(keys: &twinpost_peer::FrameKeys) -> Keys {
    Keys { current: keys.current.0, next: keys.other.as_ref().map(|other| other.key.0) }
}

/// Settings of the daemon.
pub fn settings(plan: &Plan) -> Settings {
    let (rules, pair) = (&plan.document.pair, &plan.node.pair);
    let link = |link: &twinpost_config::PairLink| {
        link.bind.zip(link.peer).map(|(bind, peer)| UdpLink { bind, peer, interface: link.interface.clone() })
    };
    let shared = pair.storage.driver == StorageDriver::Shared;
    let mut settings = Settings::new(
        plan.pair.node.number(),
        plan.pair.cluster,
        keys(&plan.pair.keys),
        plan.folder.pair(),
        plan.folder.pair_socket(),
    );
    settings.heart = twinpost_heartbeat::Settings {
        keepalive_ms: ms(rules.keepalive),
        serial_keepalive_ms: ms(rules.serial_keepalive),
        warn_ms: ms(rules.warn),
        lease_ms: ms(rules.lease),
        margin_ms: ms(rules.margin),
        first_contact_ms: ms(rules.first_contact),
        prefer_after_ms: ms(rules.prefer_after),
        evidence: rules.takeover == TakeoverRule::Evidence,
        reservation: pair.storage.driver != StorageDriver::Drbd,
        reservation_excludes: shared,
        ..settings.heart
    };
    settings.eth1 = link(&pair.eth1);
    settings.lan = link(&pair.lan);
    settings.serial = pair.serial.port.as_ref().map(|port| SerialLink { port: plan.folder.within(port), baud: pair.serial.baud });
    settings.gateway = pair.gateway.as_ref().and_then(|text| text.parse().ok());
    settings.watchdog = pair.watchdog.device.as_ref().map(|device| plan.folder.within(device));
    settings.watchdog_ms = ms(pair.watchdog.timeout);
    settings.fail_back = match &rules.fail_back {
        None => FailBack::Never,
        Some(node) => {
            let after_s = u32::try_from(rules.fail_back_after.0.as_secs()).unwrap_or(u32::MAX);
            FailBack::Node { node: node.clone(), after_s }
        }
    };
    settings.power_on_after_ms = ms(pair.power.on_after);
    settings.version = crate::node::version();
    settings
}

/// Where the trusted channel listens and connects; none when it is not set up.
pub fn channel_settings(plan: &Plan) -> Option<twinpost_peer::Settings> {
    let channel = &plan.node.pair.channel;
    let (bind, peer) = channel.bind.zip(channel.peer)?;
    Some(twinpost_peer::Settings {
        listen: vec![bind],
        partner: vec![peer],
        from: Some(bind.ip()),
        about: twinpost_peer::About {
            name: plan.document.node.name.clone(),
            board: crate::node::board(),
            program: crate::node::version(),
        },
    })
}

/// The mail volume.
///
/// # Errors
/// What the driver cannot work with.
pub fn storage(plan: &Plan) -> Result<Arc<dyn Storage>, Halt> {
    // A full disk may have room again; a folder that cannot lock never will.
    let halt = |error: twinpost_storage::Error| if error.needs_a_person() { hopeless(error) } else { failed(error) };
    let wished = &plan.node.pair.storage;
    match wished.driver {
        StorageDriver::Shared => {
            let root = plan.folder.within(&wished.root);
            twinpost_storage::shared::prepare(&root).map_err(halt)?;
            let settings = twinpost_storage::shared::Settings::new(plan.document.node.name.clone(), root, plan.folder.data());
            Ok(Arc::new(twinpost_storage::shared::Shared::new(settings).map_err(halt)?))
        }
        StorageDriver::Array => {
            let (node, number) = (plan.document.node.name.clone(), plan.pair.node.number());
            let mut settings = twinpost_storage::array::Settings::new(node, number, wished.device.clone(), plan.folder.data());
            settings.owner = mail_user().map_err(hopeless)?;
            Ok(Arc::new(twinpost_storage::array::Array::new(settings).map_err(halt)?))
        }
        StorageDriver::Drbd => Ok(Arc::new(twinpost_storage::drbd::Drbd::new(drbd(plan).map_err(hopeless)?).map_err(halt)?)),
    }
}

/// The mirrored volume.
fn drbd(plan: &Plan) -> Result<twinpost_storage::drbd::Settings, String> {
    let wished = &plan.node.pair.storage;
    let (bind, peer) = wished.bind.zip(wished.peer).ok_or("[pair.storage] drbd needs bind and peer")?;
    // DRBD finds its own section by the name of the machine; the peer's is only told apart by it.
    let machine = nix::unistd::gethostname().map_err(|e| format!("this machine has no name: {e}"))?;
    let host = |name: String, address| twinpost_storage::drbd::Host { name, address, disk: wished.disk.clone() };
    // Both nodes know the witness key; DRBD's own check of its peer gets a key made from it.
    let secret =
        blake3::Hash::from_bytes(blake3::derive_key("twinpost drbd shared secret v1", &plan.pair.witness_key.0)).to_hex();
    // The kernel takes one character less than the hash has; 128 bits are left.
    let secret = secret[..32].to_owned();
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let program = program.to_str().ok_or_else(|| format!("{} is not UTF-8", program.display()))?.to_owned();
    let this = host(machine.to_string_lossy().into_owned(), bind);
    let other = host(format!("peer-{}", plan.pair.node.other()), peer);
    let mut settings = twinpost_storage::drbd::Settings::new(this, other, secret, plan.folder.data(), plan.folder.pair());
    settings.resource = wished.resource.clone();
    settings.device = wished.device.clone();
    let digits = |path: &Path| path.to_str().and_then(|text| text.rsplit_once("drbd")?.1.parse().ok());
    settings.minor = digits(&wished.device).ok_or_else(|| format!("{}: write /dev/drbdN", wished.device.display()))?;
    settings.handler = vec![program, "pair-handler".to_owned()];
    settings.owner = mail_user()?;
    Ok(settings)
}

/// The user of the mail process, where it has one of its own.
///
/// # Errors
/// The image lacks it.
pub fn mail_user() -> Result<Option<(u32, u32)>, String> {
    if !on_image() {
        return Ok(None);
    }
    let user = nix::unistd::User::from_name(MAIL_USER).map_err(|e| format!("cannot look up the user {MAIL_USER}: {e}"))?;
    let user = user.ok_or_else(|| format!("this image has no user {MAIL_USER}"))?;
    Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
}

/// The address that moves.
///
/// # Errors
/// What the driver cannot work with.
pub async fn address(plan: &Plan, handle: Handle) -> Result<Arc<dyn Address>, String> {
    let wished = &plan.node.pair.address;
    match &wished.interface {
        None => {
            let mut addresses: Vec<IpAddr> = wished.addresses.iter().map(|(ip, _)| *ip).collect();
            if addresses.is_empty() {
                addresses.extend(services(plan).first().map(|(at, _)| at.ip()));
            }
            Ok(Arc::new(Loopback::new(addresses).map_err(|e| e.to_string())?))
        }
        Some(interface) => {
            let carried = wished.addresses.iter().map(|(ip, prefix)| ServiceAddress { ip: *ip, prefix: *prefix }).collect();
            let settings = twinpost_address::Settings::new(interface.clone(), carried);
            let (driver, mut notices) = Interface::new(settings).await.map_err(|e| e.to_string())?;
            tokio::spawn(async move {
                while let Some(notice) = notices.recv().await {
                    let (severity, text) = words(&notice);
                    handle.alarm(severity, "address", text).await;
                }
            });
            Ok(Arc::new(driver))
        }
    }
}

fn words(notice: &Notice) -> (Severity, Text) {
    match notice {
        Notice::Conflict { address, mac, peer } => {
            let (who, who_zh) = if *peer { ("the peer", "对方节点") } else { ("another machine", "另一台机器") };
            (
                Severity::Serious,
                Text::new(
                    format!(
                        "{who} ({mac}) answers on the service address {address}. Look for a second machine with this address."
                    ),
                    format!("{who_zh}（{mac}）也在应答服务地址 {address}。请查找使用相同地址的设备。"),
                ),
            )
        }
        Notice::Restored { what } => (
            Severity::Warning,
            Text::new(
                format!("{what} was changed by somebody else and was put back."),
                format!("{what} 被其他程序修改，已恢复。"),
            ),
        ),
        Notice::Leftover { what } => (
            Severity::Info,
            Text::new(format!("An earlier run had left {what}; it was removed."), format!("已清除上次运行遗留的地址：{what}。")),
        ),
    }
}

/// Where each service answers, and what it says first.
fn services(plan: &Plan) -> Vec<(SocketAddr, Check)> {
    let net = &plan.document.network;
    let smtp = net.smtp.first().map(|at| (*at, Check::smtp(*at)));
    let imap = net.imap.first().map(|at| (*at, Check::imap(*at)));
    let pop3 = net.pop3.first().map(|at| (*at, Check::pop3(*at)));
    [smtp, imap, pop3].into_iter().flatten().collect()
}

/// The service group: mail.
///
/// # Errors
/// What makes no sense.
pub fn group(plan: &Plan) -> Result<(Group, mpsc::Receiver<GroupEvent>), String> {
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is not UTF-8", path.display()));
    let words = [
        text(&program)?,
        "mail".to_owned(),
        format!("--with-parent={}", std::process::id()),
        "--node".to_owned(),
        text(plan.folder.path())?,
    ];
    // On the image systemd gives the mail process its user and its bounds.
    let waits = Waits { door: plan.folder.mail_door(), data: plan.folder.data() };
    let mut mail =
        if on_image() { Service::waiting_unit("mail", MAIL_UNIT, waits) } else { Service::child("mail", words.to_vec()) };
    if let twinpost_group::Run::Child { env, .. } = &mut mail.run {
        env.push(crate::mail::memory_for_passwords());
    }
    let rules = &plan.document.pair;
    mail.check = services(plan).into_iter().map(|(_, check)| check.within(rules.check_limit.0)).collect();
    mail.start_limit = MAIL_START_LIMIT;
    mail.stop_grace = MAIL_GRACE;
    let mut settings = twinpost_group::Settings::new(text(plan.folder.path())?, vec![mail]);
    settings.hung_after = rules.hung_after.0;
    Group::new(settings).map_err(|e| e.to_string())
}

/// The peer's power switch, if there is one.
///
/// # Errors
/// What the driver cannot work with.
pub fn power(plan: &Plan) -> Result<Option<Arc<dyn PowerSwitch>>, String> {
    let wished = &plan.node.pair.power;
    let at = || wished.at.clone().unwrap_or_default();
    let user = || wished.user.clone().unwrap_or_default();
    let password = || {
        let file = wished.password_file.as_ref().ok_or("[pair.power] needs a password_file")?;
        Ok::<_, String>(plan.folder.within(file))
    };
    Ok(Some(match wished.driver {
        SwitchDriver::None => return Ok(None),
        SwitchDriver::Ipmi => Arc::new(Ipmi::new(IpmiSettings::new(at(), user(), IpmiPassword::File(password()?)))),
        SwitchDriver::Redfish => {
            let trust = wished.ca_file.as_ref().map(|file| Trust::Authorities(plan.folder.within(file)));
            let settings = RedfishSettings::new(at(), trust, user(), password()?);
            Arc::new(Redfish::new(settings).map_err(|e| e.to_string())?)
        }
        SwitchDriver::Relay => {
            let outlet = u8::try_from(wished.outlet).map_err(|_| "[pair.power] outlet is above 255")?;
            Arc::new(Relay::new(RelaySettings::new(plan.folder.within(Path::new(&at())), outlet)))
        }
        SwitchDriver::Qmp => Arc::new(Qmp::new(QmpSettings::new(plan.folder.within(Path::new(&at()))))),
    }))
}

/// The third party, if there is one.
///
/// # Errors
/// What the engine cannot work with.
pub fn witness(plan: &Plan) -> Result<Option<Arc<dyn Witness>>, String> {
    let wished = &plan.node.pair.witness;
    let lease_ms = ms(plan.document.pair.lease);
    match (wished.engine, wished.address) {
        (WitnessEngine::None, _) | (WitnessEngine::Twinpost, None) => Ok(None),
        (WitnessEngine::Twinpost, Some(address)) => {
            let key = twinpost_witness::Key::from(plan.pair.witness_key.0);
            let number = plan.pair.node.number();
            let mut settings = twinpost_witness::ClientSettings::new(address.to_string(), plan.pair.cluster, number, key);
            settings.lease_ms = lease_ms;
            Ok(Some(Arc::new(twinpost_witness::Client::new(settings))))
        }
        (WitnessEngine::Etcd, _) => {
            let number = plan.pair.node.number();
            let mut settings = twinpost_witness::EtcdSettings::new(wished.etcd.clone(), plan.pair.cluster, number);
            settings.lease_ms = lease_ms;
            settings.trust = wished.ca_file.as_ref().map(|file| Trust::Authorities(plan.folder.within(file)));
            Ok(Some(Arc::new(twinpost_witness::Etcd::new(settings).map_err(|e| e.to_string())?)))
        }
    }
}
