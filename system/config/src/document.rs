//! The document's tables. Each line is type, default and limits; the comment above it is what the reference prints.

use crate::pair::{self, PairRules};
use crate::schema::{Faults, section};
use crate::sms::{self, Sms};
use crate::value::{BareLineEnds, BytesSize, DatabaseAddress, HostPort, LogForm, OverQuota, SmartHostTls, Span};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

type Net = (IpAddr, u8);

section! {
    /// The whole document.
    Document {
        /// Version of this document's form. A program refuses a document of a later form.
        version: u32 = "1", in "1" ..= "1";
        tables {
        /// Who this node is.
        [node]: Node;
        /// Where it listens.
        [network]: Network;
        /// Certificates.
        [tls]: Tls;
        /// Receiving mail.
        [smtp]: Smtp;
        /// Sending mail on.
        [queue]: Queue;
        /// Reading mail by IMAP.
        [imap]: Imap;
        /// Reading mail by POP3.
        [pop3]: Pop3;
        /// Against robots and guessing.
        [limits]: Limits;
        /// Where mail is kept.
        [store]: Store;
        /// People and domains.
        [directory]: Directory;
        /// Text messages.
        [sms]: Sms;
        /// What both nodes of a pair agree on.
        [pair]: PairRules;
        /// What is written about it.
        [log]: Log;
        }
    }
}

section! {
    /// Who this node is.
    Node {
        /// Name of the node inside the pair.
        name: String = "\"a\"";
        /// Full host name, as other mail servers see it in the greeting and in Received headers.
        host_name: String = "\"mail.school.example\"";
    }
}

section! {
    /// Addresses on which the services listen. An empty list switches a service off.
    Network {
        /// Mail from other servers (port 25).
        smtp: Vec<SocketAddr> = "[\"0.0.0.0:25\", \"[::]:25\"]";
        /// Mail from people, STARTTLS (port 587).
        submission: Vec<SocketAddr> = "[\"0.0.0.0:587\", \"[::]:587\"]";
        /// Mail from people, TLS from the first byte (port 465).
        submissions: Vec<SocketAddr> = "[\"0.0.0.0:465\", \"[::]:465\"]";
        /// Mail from a filter or another server of the site by LMTP. It asks for no sign-in: bind it to trusted addresses only.
        lmtp: Vec<SocketAddr> = "[\"127.0.0.1:24\"]";
        /// IMAP, STARTTLS (port 143).
        imap: Vec<SocketAddr> = "[\"0.0.0.0:143\", \"[::]:143\"]";
        /// IMAP, TLS from the first byte (port 993).
        imaps: Vec<SocketAddr> = "[\"0.0.0.0:993\", \"[::]:993\"]";
        /// POP3, STARTTLS (port 110).
        pop3: Vec<SocketAddr> = "[\"0.0.0.0:110\", \"[::]:110\"]";
        /// POP3, TLS from the first byte (port 995).
        pop3s: Vec<SocketAddr> = "[\"0.0.0.0:995\", \"[::]:995\"]";
    }
}

section! {
    /// Certificates. Without them the node makes a certificate authority and a certificate of its own.
    Tls {
        /// PEM file with the certificate chain.
        certificate: Option<PathBuf> = "\"\"";
        /// PEM file with the private key.
        key: Option<PathBuf> = "\"\"";
        /// Let people sign in without TLS by submission, IMAP and POP3, from anywhere. Off except on a closed test network: it shows
        /// passwords to the wire.
        allow_plain_sign_in: bool = "false";
    }
}

section! {
    /// Receiving mail.
    Smtp {
        /// Largest message taken.
        max_message: BytesSize = "\"50 MiB\"", in "64 KiB" ..= "1 GiB";
        /// Most recipients of one message (RFC 5321 asks for at least 100).
        max_recipients: u32 = "2000", in "100" ..= "100000";
        /// Most Received headers before a message is taken for a loop.
        max_hops: u32 = "50", in "10" ..= "200";
        /// Largest header of a message.
        max_header: BytesSize = "\"512 KiB\"", in "16 KiB" ..= "16 MiB";
        /// Bare CR or LF in a message: repair it to CRLF, or refuse the message. Neither ever ends a message.
        bare_line_ends: BareLineEnds = "\"repair\"";
        /// The answer to mail for a full mailbox.
        over_quota: OverQuota = "\"defer\"";
        /// How long a client may be silent between commands.
        command_timeout: Span = "\"5 min\"", in "10 s" ..= "1 h";
        /// Mail that is not on stable storage after so long (a disk that hangs, a pair that lost its peer without a proof) is answered
        /// 451: the sender keeps it and tries again. It is never answered 250 before.
        commit_timeout: Span = "\"2 min\"", in "1 s" ..= "9 min";
        /// How long a client may be silent inside a message.
        data_timeout: Span = "\"3 min\"", in "10 s" ..= "1 h";
    }
}

section! {
    /// Sending mail on.
    Queue {
        /// Waiting times before each further try; the last one repeats until the message expires.
        retry: Vec<Span> = "[\"2 min\", \"5 min\", \"15 min\", \"30 min\", \"1 h\", \"2 h\", \"4 h\"]", in "1 s" ..= "1 d";
        /// A message that could not be delivered for so long goes back to its sender.
        expire: Span = "\"5 d\"", in "1 min" ..= "30 d";
        /// The sender is told of a delay after this time.
        warn: Span = "\"4 h\"", in "1 min" ..= "30 d";
        /// Connections at once to one destination.
        per_destination: u32 = "5", in "1" ..= "100";
        /// Connections at once to all destinations.
        connections: u32 = "100", in "1" ..= "5000";
        /// Port of other mail servers. 25 except in tests.
        port: u32 = "25", in "1" ..= "65535";
        /// Name servers to ask, instead of those of the system.
        dns: Vec<SocketAddr> = "[]";
        /// Addresses that mail is sent from, one of IPv4 and one of IPv6 at most.
        source: Vec<String> = "[]";
        tables {
        /// Mail for other sites goes through this server instead of straight to them.
        [smart_host]: SmartHost;
        }
    }
}

section! {
    /// A server that takes all mail for other sites.
    SmartHost {
        /// Where it is.
        server: Option<HostPort> = "\"\"";
        /// TLS toward it.
        tls: SmartHostTls = "\"starttls\"";
        /// Name to sign in with.
        user: Option<String> = "\"\"";
        /// File that holds the password, readable by this program only.
        password_file: Option<PathBuf> = "\"\"";
        /// PEM file of the authority that its certificate is checked against, instead of the system's list.
        ca: Option<PathBuf> = "\"\"";
    }
}

section! {
    /// Reading mail by IMAP.
    Imap {
        /// How long a signed-in client may be silent (RFC 9051 5.4 asks for at least 30 minutes).
        idle_timeout: Span = "\"31 min\"", in "30 min" ..= "1 d";
        /// Largest message a client may append.
        max_append: BytesSize = "\"50 MiB\"", in "64 KiB" ..= "1 GiB";
        /// Connections of one account at once.
        per_account: u32 = "50", in "1" ..= "10000";
    }
}

section! {
    /// Reading mail by POP3.
    Pop3 {
        /// How long a client may be silent (RFC 1939 3 asks for at least 10 minutes).
        idle_timeout: Span = "\"10 min\"", in "10 min" ..= "1 d";
    }
}

section! {
    /// Against robots and guessing. One count for all protocols.
    Limits {
        /// Connections at once from one address (IPv6: one /64), for each protocol. A school behind one address needs many.
        connections: u32 = "1000", in "1" ..= "100000";
        /// New connections a minute from one address, for each protocol.
        connects_per_minute: u32 = "3000", in "1" ..= "1000000";
        /// Commands a minute from one address.
        commands_per_minute: u32 = "30000", in "60" ..= "10000000";
        /// Messages a minute from one account or, without sign-in, from one address.
        messages_per_minute: u32 = "600", in "1" ..= "1000000";
        /// Recipients an hour of one account.
        recipients_per_hour: u32 = "5000", in "1" ..= "10000000";
        /// Networks that are not limited.
        exempt: Vec<Net> = "[]";
    }
}

section! {
    /// Where mail is kept.
    Store {
        /// The index: SQLite files in the data folder, or a PostgreSQL server.
        database: DatabaseAddress = "\"sqlite\"";
        /// Deleted mail can be brought back for so long.
        undelete: Span = "\"14 d\"", in "1 h" ..= "365 d";
        /// Size at which a pack file is closed and a new one begun.
        pack_size: BytesSize = "\"256 MiB\"", in "1 MiB" ..= "64 GiB";
        /// Memory for message bodies that were read lately.
        body_cache: BytesSize = "\"64 MiB\"", in "1 MiB" ..= "64 GiB";
        /// Keep a full-text index, so that searching is fast.
        search: bool = "true";
        /// Waiting time added to every fsync. For measurements of slow disks only.
        slow_fsync: Span = "\"0 ms\"", in "0 ms" ..= "1 s";
    }
}

section! {
    /// People and domains.
    Directory {
        /// A deleted account can be brought back for so long; then its mail goes.
        grace: Span = "\"30 d\"", in "1 h" ..= "365 d";
        /// Fewest characters of a password.
        min_password: u32 = "10", in "6" ..= "128";
    }
}

section! {
    /// What is written about it.
    Log {
        /// For people or for machines.
        form: LogForm = "\"text\"";
        /// Which lines: error, warn, info, debug, trace, or targets (`info,twinpost_smtp=debug`).
        level: String = "\"info\"";
    }
}

impl Document {
    /// Rules between keys.
    pub(crate) fn check_whole(&self, faults: &mut Faults) {
        sms::check(&self.sms, faults);
        pair::check_rules(&self.pair, faults);
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            faults.add(None, "tls", "certificate and key go together: one of them is missing");
        }
        if self.queue.smart_host.user.is_some() != self.queue.smart_host.password_file.is_some() {
            faults.add(None, "queue.smart_host", "user and password_file go together: one of them is missing");
        }
        if self.queue.retry.is_empty() {
            faults.add(None, "queue.retry", "at least one waiting time is needed");
        }
        if self.queue.warn >= self.queue.expire {
            let text = format!("warn ({}) must be shorter than expire ({})", self.queue.warn, self.queue.expire);
            faults.add(None, "queue.warn", text);
        }
        for source in &self.queue.source {
            if source.parse::<IpAddr>().is_err() {
                faults.add(None, "queue.source", format!("{source:?} is not an address"));
            }
        }
        if self.node.name.is_empty() || !self.node.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            faults.add(None, "node.name", "letters, digits and - only");
        }
        if self.node.host_name.is_empty() || self.node.host_name.contains(char::is_whitespace) {
            faults.add(None, "node.host_name", "a full host name is needed, for example mail.school.example");
        }
    }
}
