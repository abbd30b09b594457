//! What one listener does: limits, time-outs and rules, with the defaults of each role.

/// Which of the four doors a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Port 25: mail from other servers.
    Mx,
    /// Ports 587 and 465: mail from people who sign in (RFC 6409, 8314).
    Submission,
    /// LMTP from a trusted host (RFC 2033).
    Lmtp,
}

/// What becomes of a message with a CR or an LF that is not part of a CRLF. Neither ever ends the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BareLineEnds {
    /// 554 5.6.0 after the data.
    Refuse,
    /// Each becomes CRLF.
    Repair,
}

/// When a client may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthOffer {
    /// Never: AUTH is an unknown command.
    Never,
    /// Only inside TLS (RFC 4954 4).
    UnderTls,
    /// Also in the clear. For tests on the loopback and for a proxy that ends TLS.
    Always,
}

/// Rules of one listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which door.
    pub role: Role,
    /// Our host name: greeting, EHLO reply, `by` of Received.
    pub host: String,
    /// Domain of the mailbox that answers `RCPT TO:<Postmaster>` (RFC 5321 4.5.1).
    pub postmaster_domain: String,
    /// Who may sign in.
    pub auth: AuthOffer,
    /// MAIL only after AUTH (RFC 6409 4.3).
    pub auth_required: bool,
    /// MAIL only under TLS (530, RFC 3207 4).
    pub tls_required: bool,
    /// Largest message as received, before our own header fields.
    pub size_max_bytes: u64,
    /// Most recipients of one transaction, LIMITS RCPTMAX. RFC 5321 4.5.3.1.8 asks for 100.
    pub recipients_max: usize,
    /// Most transactions of one session, LIMITS MAILMAX (RFC 9422).
    pub messages_max: usize,
    /// Bare CR and LF in a message. The default is to repair: the end of data is decided before, by CRLF.CRLF alone, and
    /// what is stored and sent on has CRLF only, so a smuggled message stays text of its carrier either way; refusing
    /// would only lose the mail of copiers and scripts.
    pub bare_line_ends: BareLineEnds,
    /// Longest command line with CRLF. RFC 5321 4.5.3.1.4 asks for 512, its extensions add up to about 1,700.
    pub command_line_max_bytes: usize,
    /// Longest line of an AUTH exchange (RFC 4954 4: 12,288).
    pub auth_line_max_bytes: usize,
    /// Longest line of a message with CRLF. None takes any: RFC 5321 4.5.3.1.6 obliges us to take 1,000, and HTML in one
    /// line is everyday mail that its readers expect to get.
    pub text_line_max_bytes: Option<usize>,
    /// Largest header.
    pub header_max_bytes: usize,
    /// Most header fields.
    pub header_fields_max: usize,
    /// More Received fields than this are a loop (RFC 5321 6.3).
    pub received_max: usize,
    /// After so many bad commands the session ends with 421.
    pub errors_max: u32,
    /// After so many refused recipients the session ends with 421: harvesting of addresses.
    pub refused_recipients_max: u32,
    /// Add missing Date, Message-ID and From (RFC 6409 8.2, 8.3).
    pub complete_header: bool,
    /// Take Bcc fields out. On submission: a client that leaves one in (RFC 5322 3.6.3 lets it) would show the secret
    /// recipients to all others.
    pub drop_bcc: bool,
    /// The account signed in must own every address in From and Sender, not only the envelope sender.
    pub check_author: bool,
    /// RFC 5321 4.5.3.2.7: at least 5 minutes for the next command.
    pub command_timeout_s: u64,
    /// RFC 5321 4.5.3.2.5: at least 3 minutes for the next block of data.
    pub data_block_timeout_s: u64,
    /// For one whole message, so that a drop a minute does not hold a session for ever.
    pub data_total_timeout_s: u64,
    /// How long a session in the middle of DATA may go on after the shutdown began.
    pub shutdown_grace_s: u64,
    /// Memory of all messages in transit through this server; one more is answered 452 4.3.1.
    pub transit_max_bytes: usize,
}

impl Settings {
    /// Port 25.
    #[must_use]
    pub fn mx(host: &str) -> Self {
        Self {
            role: Role::Mx,
            host: host.to_owned(),
            postmaster_domain: host.to_owned(),
            // People sign in on 587 and 465; a door without passwords is not worth guessing at.
            auth: AuthOffer::Never,
            auth_required: false,
            tls_required: false,
            size_max_bytes: 50 << 20,
            recipients_max: 1000,
            messages_max: 10_000,
            bare_line_ends: BareLineEnds::Repair,
            command_line_max_bytes: 4096,
            auth_line_max_bytes: 12_288,
            text_line_max_bytes: None,
            header_max_bytes: 256 << 10,
            header_fields_max: 1000,
            received_max: 50,
            errors_max: 20,
            refused_recipients_max: 100,
            complete_header: false,
            drop_bcc: false,
            check_author: false,
            command_timeout_s: 300,
            data_block_timeout_s: 180,
            data_total_timeout_s: 3600,
            shutdown_grace_s: 30,
            transit_max_bytes: 512 << 20,
        }
    }
    /// Ports 587 and 465.
    #[must_use]
    pub fn submission(host: &str) -> Self {
        Self {
            role: Role::Submission,
            auth: AuthOffer::UnderTls,
            auth_required: true,
            tls_required: true,
            complete_header: true,
            drop_bcc: true,
            check_author: true,
            ..Self::mx(host)
        }
    }
    /// LMTP. Its client is a mail server of the same house: no counting of refused recipients.
    #[must_use]
    pub fn lmtp(host: &str) -> Self {
        Self { role: Role::Lmtp, refused_recipients_max: u32::MAX, ..Self::mx(host) }
    }
}
