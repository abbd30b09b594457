//! The appliance document as the settings of each part.

pub mod sms;

use crate::node::Folder;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use twinpost_config::{BareLineEnds, DatabaseAddress, Document, SmartHostTls};
use twinpost_limits::{Network, ProtocolSettings};
use twinpost_sql::Location;
use twinpost_store::files::{Files, RealFiles, SlowFiles};

/// How long work on its way may go on when the process stops: below what `mail` gives its listeners, so that a message in
/// the middle of its data is finished or refused, not cut off.
const STOP_GRACE: Duration = Duration::from_secs(6);

/// Authorities of the system, when none is named.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The store.
pub fn store(document: &Document, folder: &Folder) -> twinpost_store::Options {
    let store = &document.store;
    let real = RealFiles;
    let files: Arc<dyn Files> =
        if store.slow_fsync.0.is_zero() { Arc::new(real) } else { Arc::new(SlowFiles::new(Arc::new(real), store.slow_fsync.0)) };
    twinpost_store::Options {
        index: location(&store.database, "twinpost_store"),
        files,
        commit_delay: store.slow_fsync.0,
        pack_bytes: store.pack_size.0,
        undelete_s: seconds(store.undelete.0),
        body_cache_bytes: store.body_cache.0,
        room_for_a_start: true,
        ..twinpost_store::Options::new(&folder.store())
    }
}

fn location(database: &DatabaseAddress, schema: &str) -> Option<Location> {
    match database {
        DatabaseAddress::Sqlite => None,
        DatabaseAddress::Postgres(url) => Some(Location::Postgres { url: url.clone(), schema: schema.to_owned() }),
    }
}

/// Where the directory's tables are.
pub fn directory_location(document: &Document, folder: &Folder) -> Location {
    location(&document.store.database, "twinpost_directory").unwrap_or_else(|| Location::Sqlite(folder.directory()))
}

/// Where the gateway's ledger is: with the mail, so that it moves with it.
pub fn sms_ledger_location(document: &Document, folder: &Folder) -> Location {
    location(&document.store.database, "twinpost_sms").unwrap_or_else(|| Location::Sqlite(folder.sms_ledger()))
}

/// The directory.
pub fn directory(document: &Document) -> twinpost_directory::Settings {
    twinpost_directory::Settings {
        grace_s: seconds(document.directory.grace.0),
        password_min_chars: document.directory.min_password as usize,
        ..twinpost_directory::Settings::default()
    }
}

/// The limiter.
pub fn limits(document: &Document) -> twinpost_limits::Settings {
    let wished = &document.limits;
    let defaults = twinpost_limits::Settings::default();
    let narrowed = |of: ProtocolSettings| ProtocolSettings {
        connections_per_address: wished.connections,
        connections_per_minute: wished.connects_per_minute,
        ..of
    };
    let exempt = wished.exempt.iter().filter_map(|(ip, bits)| format!("{ip}/{bits}").parse::<Network>().ok()).collect();
    twinpost_limits::Settings {
        smtp: narrowed(defaults.smtp),
        submission: narrowed(defaults.submission),
        imap: narrowed(defaults.imap),
        pop3: narrowed(defaults.pop3),
        commands_per_minute: wished.commands_per_minute,
        recipients_per_hour: wished.recipients_per_hour,
        messages_per_minute_account: wished.messages_per_minute,
        messages_per_minute_address: wished.messages_per_minute,
        exempt,
        exempt_loopback: false,
        ..defaults
    }
}

/// One SMTP listener.
pub fn smtp(document: &Document, role: twinpost_smtp::Role) -> twinpost_smtp::Settings {
    let host = &document.node.host_name;
    let base = match role {
        twinpost_smtp::Role::Mx => twinpost_smtp::Settings::mx(host),
        twinpost_smtp::Role::Submission => twinpost_smtp::Settings::submission(host),
        twinpost_smtp::Role::Lmtp => twinpost_smtp::Settings::lmtp(host),
    };
    let wished = &document.smtp;
    let plain = document.tls.allow_plain_sign_in && role == twinpost_smtp::Role::Submission;
    twinpost_smtp::Settings {
        postmaster_domain: host.split_once('.').map_or_else(|| host.clone(), |(_, domain)| domain.to_owned()),
        size_max_bytes: wished.max_message.0,
        recipients_max: wished.max_recipients as usize,
        received_max: wished.max_hops as usize,
        header_max_bytes: usize::try_from(wished.max_header.0).unwrap_or(usize::MAX),
        bare_line_ends: match wished.bare_line_ends {
            BareLineEnds::Refuse => twinpost_smtp::BareLineEnds::Refuse,
            BareLineEnds::Repair => twinpost_smtp::BareLineEnds::Repair,
        },
        command_timeout_s: wished.command_timeout.as_secs(),
        data_block_timeout_s: wished.data_timeout.as_secs(),
        shutdown_grace_s: STOP_GRACE.as_secs(),
        auth: if plain { twinpost_smtp::AuthOffer::Always } else { base.auth },
        tls_required: base.tls_required && !plain,
        ..base
    }
}

/// IMAP.
pub fn imap(document: &Document) -> twinpost_imap::Settings {
    twinpost_imap::Settings {
        host: document.node.host_name.clone(),
        plain_text_sign_in: document.tls.allow_plain_sign_in,
        idle_timeout: document.imap.idle_timeout.0,
        connections_per_account: document.imap.per_account,
        ..twinpost_imap::Settings::default()
    }
}

/// POP3.
pub fn pop3(document: &Document) -> twinpost_pop3::Settings {
    twinpost_pop3::Settings {
        host: document.node.host_name.clone(),
        plain_text_sign_in: document.tls.allow_plain_sign_in,
        idle: document.pop3.idle_timeout.0,
        ..twinpost_pop3::Settings::default()
    }
}

/// The queue.
///
/// # Errors
/// The password of the smart host cannot be read.
pub fn queue(document: &Document) -> Result<twinpost_queue::Settings, String> {
    let wished = &document.queue;
    let host = &wished.smart_host;
    let credentials = match (&host.user, &host.password_file) {
        (Some(user), Some(file)) => {
            let password = std::fs::read_to_string(file)
                .map_err(|e| format!("queue.smart_host.password_file: cannot read {}: {e}", file.display()))?;
            Some((user.clone(), password.trim_end_matches(['\r', '\n']).to_owned()))
        }
        _ => None,
    };
    let own: Vec<SocketAddr> = document.network.smtp.iter().chain(&document.network.lmtp).copied().collect();
    Ok(twinpost_queue::Settings {
        host_name: document.node.host_name.clone(),
        retry: wished.retry.iter().map(|span| span.0).collect(),
        warn_after: wished.warn.0,
        per_destination: wished.per_destination as usize,
        connections: wished.connections as usize,
        port: u16::try_from(wished.port).unwrap_or(25),
        smart_host: host.server.as_ref().map(|server| twinpost_queue::SmartHost {
            host: server.host.clone(),
            port: server.port,
            tls: match host.tls {
                SmartHostTls::Implicit => twinpost_queue::SmartHostTls::Implicit,
                SmartHostTls::Starttls => twinpost_queue::SmartHostTls::Required,
                SmartHostTls::Opportunistic => twinpost_queue::SmartHostTls::Opportunistic,
            },
            credentials,
            ca_file: host.ca.clone().unwrap_or_else(|| SYSTEM_AUTHORITIES.into()),
        }),
        stop_grace: STOP_GRACE,
        source: wished.source.iter().filter_map(|s| s.parse().ok()).collect(),
        own_addresses: own,
        ..twinpost_queue::Settings::default()
    })
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}
