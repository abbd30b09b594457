//! Titles and states of the RFCs that the code cites, in order. A state is what a reader of the code would confirm.

/// How much of an RFC is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All that it asks of a program in our place.
    Whole,
    /// The note says what is missing.
    Part,
    /// Understood when it comes in, never written.
    Read,
    /// A rule, a form or a word is taken from it.
    Used,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Part => "part",
            Self::Read => "read",
            Self::Used => "used",
        }
    }
}

/// One line of the page.
pub struct Rfc {
    pub number: u32,
    pub title: &'static str,
    pub state: State,
    /// What is left out, or what is used; may be empty for `Whole`.
    pub note: &'static str,
}

const fn rfc(number: u32, state: State, title: &'static str, note: &'static str) -> Rfc {
    Rfc { number, title, state, note }
}

use State::{Part, Read, Used, Whole};

pub const TABLE: &[Rfc] = &[
    rfc(1035, Used, "Domain Names - Implementation and Specification", "answers that do not fit UDP are asked for again by TCP"),
    rfc(1047, Used, "Duplicate Messages and SMTP", "why a message may go out twice when the reply to its end is lost"),
    rfc(1428, Used, "Transition of Internet Mail from Just-Send-8 to 8bit-SMTP/MIME", "the name of a charset that nobody named"),
    rfc(1870, Whole, "SMTP Service Extension for Message Size Declaration", "server and queue"),
    rfc(
        1939,
        Whole,
        "Post Office Protocol - Version 3",
        "without the optional APOP, which needs passwords in plain text on the server",
    ),
    rfc(1951, Used, "DEFLATE Compressed Data Format Specification version 1.3", "inside COMPRESS=DEFLATE"),
    rfc(1985, Used, "SMTP Service Extension for Remote Message Queue Starting", "ETRN is known and answered 502"),
    rfc(2033, Whole, "Local Mail Transfer Protocol", ""),
    rfc(2034, Whole, "SMTP Service Extension for Returning Enhanced Error Codes", ""),
    rfc(2045, Whole, "MIME Part One: Format of Internet Message Bodies", "as a reader; broken forms are read kindly"),
    rfc(2046, Part, "MIME Part Two: Media Types", "as a reader; message/partial and message/external-body are shown as files"),
    rfc(
        2047,
        Read,
        "MIME Part Three: Message Header Extensions for Non-ASCII Text",
        "decoded for search, sorting and previews; written in mail made of text messages",
    ),
    rfc(2104, Used, "HMAC: Keyed-Hashing for Message Authentication", "inside SCRAM and for keyed digests"),
    rfc(2152, Read, "UTF-7: A Mail-Safe Transformation Format of Unicode", "texts in UTF-7 are decoded for search and previews"),
    rfc(2177, Whole, "IMAP4 IDLE command", ""),
    rfc(
        2180,
        Used,
        "IMAP4 Multi-Accessed Mailbox Practice",
        "which of its ways are taken when another session removes messages or the mailbox",
    ),
    rfc(
        2183,
        Read,
        "Communicating Presentation Information in Internet Messages: The Content-Disposition Header Field",
        "shown in BODYSTRUCTURE",
    ),
    rfc(
        2231,
        Read,
        "MIME Parameter Value and Encoded Word Extensions: Character Sets, Languages, and Continuations",
        "names of attached files in BODYSTRUCTURE and search",
    ),
    rfc(
        2369,
        Used,
        "The Use of URLs as Meta-Syntax for Core Mail List Commands and their Transport through Message Header Fields",
        "mail of lists is no text message",
    ),
    rfc(2449, Whole, "POP3 Extension Mechanism", "LOGIN-DELAY is not announced: there is none"),
    rfc(
        2554,
        Used,
        "SMTP Service Extension for Authentication",
        "how servers before it wrote AUTH, which the queue understands too",
    ),
    rfc(2595, Part, "Using TLS with IMAP, POP3 and ACAP", "STLS of POP3; ACAP is not spoken"),
    rfc(
        2919,
        Used,
        "List-Id: A Structured Field and Namespace for the Identification of Mailing Lists",
        "mail of lists is no text message",
    ),
    rfc(2920, Whole, "SMTP Service Extension for Command Pipelining", "server and queue"),
    rfc(2971, Whole, "IMAP4 ID extension", ""),
    rfc(
        3030,
        Part,
        "SMTP Service Extensions for Transmission of Large and Binary MIME Messages",
        "whole in the server; the queue sends by DATA only and converts binary bodies",
    ),
    rfc(3206, Whole, "The SYS and AUTH POP Response Codes", ""),
    rfc(3207, Whole, "SMTP Service Extension for Secure SMTP over Transport Layer Security", "server and queue"),
    rfc(3339, Used, "Date and Time on the Internet: Timestamps", "form of times in the answers of twinpost ctl"),
    rfc(
        3461,
        Part,
        "Simple Mail Transfer Protocol (SMTP) Service Extension for Delivery Status Notifications (DSNs)",
        "all parameters, reports of failure, delay and success; a group is reported as delivered, not as expanded",
    ),
    rfc(3463, Whole, "Enhanced Mail System Status Codes", ""),
    rfc(
        3464,
        Whole,
        "An Extensible Message Format for Delivery Status Notifications",
        "written, never read: a report from elsewhere is mail as any other",
    ),
    rfc(3501, Whole, "Internet Message Access Protocol - Version 4rev1", "beside IMAP4rev2"),
    rfc(3502, Whole, "Internet Message Access Protocol (IMAP) - MULTIAPPEND Extension", ""),
    rfc(3516, Whole, "IMAP4 Binary Content Extension", ""),
    rfc(
        3676,
        Read,
        "The Text/Plain Format and DelSp Parameters",
        "broken lines are joined for text messages; the signature line is left out of them and of previews",
    ),
    rfc(
        3834,
        Used,
        "Recommendations for Automatic Responses to Electronic Mail",
        "automatic mail is told by Auto-Submitted and the null sender",
    ),
    rfc(3848, Whole, "ESMTP and LMTP Transmission Types Registration", "the word behind `with` in Received"),
    rfc(4013, Whole, "SASLprep: Stringprep Profile for User Names and Passwords", ""),
    rfc(4315, Whole, "Internet Message Access Protocol (IMAP) - UIDPLUS extension", ""),
    rfc(
        4422,
        Part,
        "Simple Authentication and Security Layer (SASL)",
        "PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS; no security layers: TLS is one",
    ),
    rfc(
        4469,
        Used,
        "Internet Message Access Protocol (IMAP) CATENATE Extension",
        "only its answer code TOOBIG; CATENATE is not offered",
    ),
    rfc(4616, Whole, "The PLAIN Simple Authentication and Security Layer (SASL) Mechanism", "nobody may act as somebody else"),
    rfc(4648, Used, "The Base16, Base32, and Base64 Data Encodings", "Base64 of converted bodies"),
    rfc(4731, Whole, "IMAP4 Extension to SEARCH Command for Controlling What Kind of Information Is Returned", ""),
    rfc(4954, Whole, "SMTP Service Extension for Authentication", "on the submission ports; the queue signs in at a smart host"),
    rfc(4959, Whole, "IMAP Extension for Simple Authentication and Security Layer (SASL) Initial Client Response", ""),
    rfc(4978, Whole, "The IMAP COMPRESS Extension", ""),
    rfc(5032, Whole, "WITHIN Search Extension to the IMAP Protocol", ""),
    rfc(
        5034,
        Whole,
        "The Post Office Protocol (POP3) Simple Authentication and Security Layer (SASL) Authentication Mechanism",
        "",
    ),
    rfc(
        5051,
        Used,
        "i;unicode-casemap - Simple Unicode Collation Algorithm",
        "search and sorting fold further than it, so they find more",
    ),
    rfc(5056, Used, "On the Use of Channel Bindings to Secure Channels", "terms of SCRAM-SHA-256-PLUS"),
    rfc(
        5077,
        Used,
        "Transport Layer Security (TLS) Session Resumption without Server-Side State",
        "TLS 1.2 sessions are resumed by tickets only",
    ),
    rfc(5161, Whole, "The IMAP ENABLE Extension", ""),
    rfc(5182, Whole, "IMAP Extension for Referencing the Last SEARCH Result", ""),
    rfc(5198, Used, "Unicode Format for Network Interchange", "characters that no mailbox name may hold"),
    rfc(5248, Used, "A Registry for SMTP Enhanced Mail System Status Codes", "codes of refused sign-ins"),
    rfc(5256, Whole, "Internet Message Access Protocol - SORT and THREAD Extensions", "ORDEREDSUBJECT and REFERENCES"),
    rfc(
        5258,
        Whole,
        "Internet Message Access Protocol version 4 - LIST Command Extensions",
        "without REMOTE mailboxes: there are none",
    ),
    rfc(
        5267,
        Part,
        "Contexts for IMAP4",
        "only the result of SORT with RETURN; no CONTEXT, so no UPDATE; not announced as a capability",
    ),
    rfc(
        5280,
        Used,
        "Internet X.509 Public Key Infrastructure Certificate and Certificate Revocation List (CRL) Profile",
        "the end of a certificate and its signature are read from it; the chain is checked by rustls",
    ),
    rfc(5321, Whole, "Simple Mail Transfer Protocol", "VRFY is answered 252, EXPN 502, as it allows"),
    rfc(
        5322,
        Whole,
        "Internet Message Format",
        "as a reader, obsolete forms too; of what people send only missing Date, Message-ID and From are written",
    ),
    rfc(5464, Whole, "The IMAP METADATA Extension", ""),
    rfc(5465, Part, "The IMAP NOTIFY Extension", "the annotation events are answered NO [BADEVENT]"),
    rfc(5530, Whole, "IMAP Response Codes", ""),
    rfc(
        5802,
        Part,
        "Salted Challenge Response Authentication Mechanism (SCRAM) SASL and GSS-API Mechanisms",
        "with SHA-256 only, not SHA-1; no GSS-API",
    ),
    rfc(
        5804,
        Used,
        "A Protocol for Remotely Managing Sieve Scripts",
        "an account has a right of this name; the protocol is not spoken yet",
    ),
    rfc(5819, Whole, "IMAP4 Extension for Returning STATUS Information in Extended LIST", ""),
    rfc(
        5890,
        Used,
        "Internationalized Domain Names for Applications (IDNA): Definitions and Document Framework",
        "domains are kept in their Unicode form",
    ),
    rfc(5891, Used, "Internationalized Domain Names in Applications (IDNA): Protocol", "which domain names are possible"),
    rfc(5929, Part, "Channel Bindings for TLS", "tls-server-end-point; no tls-unique"),
    rfc(5957, Whole, "Display-Based Address Sorting for the IMAP4 SORT Extension", ""),
    rfc(
        6066,
        Used,
        "Transport Layer Security (TLS) Extensions: Extension Definitions",
        "server names: which certificate is shown, what the queue sends",
    ),
    rfc(
        6152,
        Whole,
        "SMTP Service Extension for 8-bit MIME Transport",
        "server and queue; the queue converts for servers without it, but for multipart/signed, which goes back",
    ),
    rfc(6154, Whole, "IMAP LIST Extension for Special-Use Mailboxes", "with CREATE-SPECIAL-USE"),
    rfc(6409, Whole, "Message Submission for Mail", ""),
    rfc(6531, Whole, "SMTP Extension for Internationalized Email", "server and queue"),
    rfc(6532, Whole, "Internationalized Email Headers", ""),
    rfc(
        6533,
        Part,
        "Internationalized Delivery Status and Disposition Notifications",
        "status notices; disposition notices are not made here",
    ),
    rfc(
        6851,
        Whole,
        "Internet Message Access Protocol (IMAP) - MOVE Extension",
        "a move into the same mailbox is refused, as it allows",
    ),
    rfc(6855, Whole, "IMAP Support for UTF-8", ""),
    rfc(6856, Part, "Post Office Protocol Version 3 (POP3) Support for UTF-8", "UTF8 with USER; no LANG"),
    rfc(
        7162,
        Whole,
        "IMAP Extensions: Quick Flag Changes Resynchronization (CONDSTORE) and Quick Mailbox Resynchronization (QRESYNC)",
        "",
    ),
    rfc(7435, Used, "Opportunistic Security: Some Protection Most of the Time", "TLS of the queue toward other servers"),
    rfc(7505, Whole, "A \"Null MX\" No Service Resource Record for Domains That Accept No Mail", "for mail that goes out"),
    rfc(7677, Whole, "SCRAM-SHA-256 and SCRAM-SHA-256-PLUS Simple Authentication and Security Layer (SASL) Mechanisms", ""),
    rfc(
        7817,
        Used,
        "Updated Transport Layer Security (TLS) Server Identity Check Procedure for Email-Related Protocols",
        "an unknown server name is not refused",
    ),
    rfc(7888, Whole, "IMAP4 Non-synchronizing Literals", "LITERAL+"),
    rfc(7889, Whole, "The IMAP APPENDLIMIT Extension", ""),
    rfc(8018, Used, "PKCS #5: Password-Based Cryptography Specification Version 2.1", "PBKDF2 inside SCRAM"),
    rfc(8098, Used, "Message Disposition Notification", "receipts come with the null sender, which every account may use"),
    rfc(
        8305,
        Used,
        "Happy Eyeballs Version 2: Better Connectivity Using Concurrency",
        "IPv6 and IPv4 by turns, one after the other, not at once",
    ),
    rfc(
        8314,
        Part,
        "Cleartext Considered Obsolete: Use of Transport Layer Security (TLS) for Email Submission and Access",
        "ports with TLS from the first byte; no SRV records, no statistics of TLS use",
    ),
    rfc(8438, Whole, "IMAP Extension for STATUS=SIZE", ""),
    rfc(8446, Used, "The Transport Layer Security (TLS) Protocol Version 1.3", "spoken by rustls; tickets are set up here"),
    rfc(
        8457,
        Part,
        "IMAP \"$Important\" Keyword and \"\\Important\" Special-Use Attribute",
        "the attribute; nothing sets the keyword by itself",
    ),
    rfc(
        8461,
        Used,
        "SMTP MTA Strict Transport Security (MTA-STS)",
        "only what it asks of a server about names; policies are not fetched and not published",
    ),
    rfc(8474, Whole, "IMAP Extension for Object Identifiers", ""),
    rfc(8508, Whole, "IMAP REPLACE Extension", ""),
    rfc(8514, Whole, "Internet Message Access Protocol (IMAP) - SAVEDATE Extension", ""),
    rfc(
        8601,
        Used,
        "Message Header Field for Indicating Message Authentication Status",
        "the place where a later filter writes it",
    ),
    rfc(8689, Used, "SMTP Require TLS Option", "the queue has a place for it; REQUIRETLS is not offered"),
    rfc(8970, Whole, "IMAP4 Extension: Message Preview Generation", ""),
    rfc(9051, Whole, "Internet Message Access Protocol (IMAP) - Version 4rev2", ""),
    rfc(
        9208,
        Whole,
        "IMAP QUOTA Extension",
        "STORAGE and MESSAGE are limited; QUOTASET is not offered: the administrator sets quotas",
    ),
    rfc(9266, Whole, "Channel Bindings for TLS 1.3", ""),
    rfc(
        9325,
        Used,
        "Recommendations for Secure Use of Transport Layer Security (TLS) and Datagram Transport Layer Security (DTLS)",
        "TLS 1.2 and 1.3 only",
    ),
    rfc(9394, Whole, "IMAP PARTIAL Extension for Paged SEARCH and FETCH", ""),
    rfc(9422, Whole, "The LIMITS SMTP Service Extension", "RCPTMAX and MAILMAX are announced"),
    rfc(9525, Used, "Service Identity in TLS", "which certificate answers for a name"),
    rfc(
        9590,
        Used,
        "IMAP Extension for Returning Mailbox METADATA in Extended LIST",
        "named where the return options of LIST are; RETURN (METADATA) is not offered",
    ),
];
