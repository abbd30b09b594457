//! The command line. Control commands are sent to the node as they are parsed, so one definition serves both ends.

// The tests of the manual take this file in alone: its parts are named from here.
#[path = "cli/pair.rs"]
mod pair;
#[path = "cli/system.rs"]
mod system;

pub use system::{
    BoardOrder, DisksOrder, NodeOrder, PowerOrder, ResetOrder, SetupOrder, SetupWish, SlotName, SupportOrder, UpdateOrder,
};

#[cfg(test)]
pub use system::Erase;

pub use pair::{ConflictOrder, CopyOrder, FailBackTo, MaintenanceOrder, PairOrder, PairingOrder, PreviewOf, Sure, Whose};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Twinpost: mail that stays, on two nodes.
#[derive(Debug, Parser)]
#[command(name = "twinpost", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a node here, in the foreground, without root; Ctrl-C stops it
    Up(Up),
    /// The mail process of a node (started by `up` or by systemd)
    Mail(Mail),
    /// The process of a node's modem (started by `up` or by systemd)
    Sms(Mail),
    /// One node of a pair with all its parts (started by `up`)
    #[command(hide = true)]
    Node(NodeInit),
    /// The pair daemon of a node: heartbeat, takeover, the services (started by `up` or by systemd)
    Pair(Pair),
    /// A witness for any number of pairs: a third machine that knows who may serve
    Witness(Witness),
    /// What DRBD's kernel part runs to ask the pair daemon
    #[command(hide = true)]
    PairHandler {
        /// Socket of the storage driver
        socket: PathBuf,
        /// DRBD's word for what it asks
        ask: String,
    },
    /// What a node of the image does before its network and its services (started by systemd)
    Boot(Boot),
    /// The machine of a node of the image: disks, updates, setup, power (started by systemd)
    System(System),
    /// The menu on a screen or a serial line (started by systemd)
    Console(Console),
    /// Look at a node and change it
    Ctl(Ctl),
}

/// The parts of the image have one folder.
#[derive(Debug, Args)]
pub struct Boot {
    /// Root of the running system, for tests
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
}

#[derive(Debug, Args)]
pub struct System {
    /// Folder of the node
    #[arg(long, value_name = "DIR", default_value = "/state/node")]
    pub node: PathBuf,
}

#[derive(Debug, Args)]
pub struct Console {
    /// The terminal, as /dev/ttyS0
    #[arg(long, value_name = "DEVICE")]
    pub tty: PathBuf,
    /// Folder of the node
    #[arg(long, value_name = "DIR", default_value = "/state/node")]
    pub node: PathBuf,
}

/// What stands in for the modem of a node off the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModemKind {
    /// A simulated one that takes its time as a real one does
    Radio,
    /// A simulated one that answers at once
    Instant,
    /// None is started
    None,
}

/// What `up` makes when the folder is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Demo {
    /// A domain school.example with an operator, a domain admin and some users
    School,
    /// Nothing
    None,
}

#[derive(Debug, Args)]
pub struct Up {
    /// Folder that holds everything of the node; made when absent
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// What to make when the folder is new
    #[arg(long, value_enum, default_value = "school")]
    pub demo: Demo,
    /// One node, or two that are a pair; without it the folder decides, and a new one gets two
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub nodes: Option<u8>,
    /// Run only this node of the pair here
    #[arg(long, value_name = "NODE", value_parser = ["a", "b"])]
    pub only: Option<String>,
    /// Address to listen on, when the folder is new; by default 127.0.0.1 for one node and 127.0.0.10 for a pair
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// The simulated modem, while the document names a port in the node's own folder
    #[arg(long, value_enum, default_value = "radio")]
    pub modem: ModemKind,
}

/// One node of a pair.
#[derive(Debug, Args)]
pub struct NodeInit {
    /// Folder given to `twinpost up`
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Which node
    #[arg(long, value_name = "NODE", value_parser = ["a", "b"])]
    pub node: String,
    /// The simulated modem
    #[arg(long, value_enum, default_value = "radio")]
    pub modem: ModemKind,
    /// Stop when the process that started this one, which has this number, ends
    #[arg(long, hide = true, value_name = "PID", require_equals = true)]
    pub with_parent: Option<u32>,
}

/// A part of a node.
#[derive(Debug, Args)]
pub struct Pair {
    /// Folder of the node
    #[arg(long, value_name = "DIR")]
    pub node: PathBuf,
    /// Stop when the process that started this one, which has this number, ends; 0: any number
    #[arg(long, hide = true, value_name = "PID", num_args = 0..=1, default_missing_value = "0", require_equals = true)]
    pub with_parent: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Witness {
    /// Folder of the witness: its register and the keys of the pairs it knows
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Address and port to answer on (UDP)
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "enrol")]
    pub listen: Option<SocketAddr>,
    /// Make a pair known to this witness and end: its number, as `twinpost ctl pair pairing witness-key` shows it
    #[arg(long, value_name = "NUMBER", requires = "key_file")]
    pub enrol: Option<u32>,
    /// File with the key of that pair
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Stop when the process that started this one, which has this number, ends; 0: any number
    #[arg(long, hide = true, value_name = "PID", num_args = 0..=1, default_missing_value = "0", require_equals = true)]
    pub with_parent: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Mail {
    /// Folder of the node
    #[arg(long, value_name = "DIR")]
    pub node: PathBuf,
    /// Stop when the process that started this one, which has this number, ends; 0: any number
    #[arg(long, hide = true, value_name = "PID", num_args = 0..=1, default_missing_value = "0", require_equals = true)]
    pub with_parent: Option<u32>,
    /// Open nothing until the pair daemon tells this process to serve (the standby of a pair)
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Args)]
pub struct Ctl {
    /// Folder given to `twinpost up` (or the folder of one node); on the image the node's own, elsewhere twinpost-data
    #[arg(long, env = "TWINPOST_DIR", value_name = "DIR", global = true)]
    pub dir: Option<PathBuf>,
    /// Print JSON for machines
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub order: Order,
}

/// One order to a node.
#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum Order {
    /// One look at the node: what runs, since when, how much it holds
    Status,
    /// Domains and their aliases
    #[command(subcommand)]
    Domain(DomainOrder),
    /// People: accounts, passwords, roles, services
    #[command(subcommand)]
    Account(AccountOrder),
    /// Addresses that lead to other addresses
    #[command(subcommand)]
    Alias(AliasOrder),
    /// Groups of people under one address
    #[command(subcommand)]
    Group(GroupOrder),
    /// How much domains and accounts may hold, and hold
    #[command(subcommand)]
    Quota(QuotaOrder),
    /// Accounts in bulk from a CSV file; prints what became of each line
    Import {
        /// CSV with a header line; see docs/manual/directory.md for its columns
        file: PathBuf,
        /// Say what would happen, change nothing
        #[arg(long)]
        dry_run: bool,
        /// Take the good lines and leave the faulty ones out (without it one faulty line refuses the file)
        #[arg(long)]
        skip_faulty: bool,
        /// Add domains that are not here yet
        #[arg(long)]
        create_domains: bool,
        /// Add groups that are not here yet
        #[arg(long)]
        create_groups: bool,
    },
    /// All accounts as CSV on standard output (with password hashes)
    Export {
        /// Only this domain
        #[arg(long)]
        domain: Option<String>,
    },
    /// Mail on its way out
    #[command(subcommand)]
    Queue(QueueOrder),
    /// Mail that is kept
    #[command(subcommand)]
    Store(StoreOrder),
    /// Text messages: the modem, what waits, sending, rules
    #[command(subcommand)]
    Sms(SmsOrder),
    /// The appliance document
    #[command(subcommand)]
    Config(ConfigOrder),
    /// Faults for tests and play, off the image: cables, power, watchdog (`rack help` lists the words)
    Rack {
        /// The words, such as `cut eth1` or `power b off`
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// The two nodes: who serves, switching, maintenance, pairing
    #[command(subcommand)]
    Pair(PairOrder),
    /// Who this node is and where: letter, addresses, domain (on the image)
    Setup(Box<SetupOrder>),
    /// The disks, by bay (on the image)
    #[command(subcommand)]
    Disks(DisksOrder),
    /// Versions of the system (on the image)
    #[command(subcommand)]
    Update(UpdateOrder),
    /// Which port of the machine is which (on the image)
    #[command(subcommand)]
    Board(BoardOrder),
    /// What the people who help need to see (on the image)
    #[command(subcommand)]
    Support(SupportOrder),
    /// Off, on, and which version (on the image)
    #[command(subcommand)]
    Power(PowerOrder),
    /// Back to a new machine (on the image)
    #[command(subcommand)]
    Reset(ResetOrder),
    /// The machine of this node (on the image)
    #[command(subcommand)]
    Node(NodeOrder),
    /// What the operators are told by mail; given by other parts of the node, not by people
    #[command(skip)]
    Notice(crate::operators::Notice),
    /// Who changed what, newest first
    Audit {
        /// How many lines
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum DomainOrder {
    /// All domains
    List,
    /// One domain
    Show { name: String },
    /// A new domain
    Add {
        name: String,
        #[command(flatten)]
        set: DomainSet,
    },
    /// Change a domain
    Set {
        name: String,
        #[command(flatten)]
        set: DomainSet,
    },
    /// Take no mail for it and let nobody sign in
    Suspend { name: String },
    /// End a suspension
    Resume { name: String },
    /// Remove a domain; one that has accounts only with --with-accounts. It can be restored until the grace time is over
    Remove {
        name: String,
        /// Its accounts and their mail go too when the grace time is over
        #[arg(long)]
        with_accounts: bool,
    },
    /// Bring a removed domain back with its accounts
    Restore { name: String },
    /// Give it another name; the old one stays as its alias
    Rename { name: String, to: String },
    /// Another name for the same domain
    AddAlias { name: String, alias: String },
    /// Remove another name
    RemoveAlias { alias: String },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, Args)]
pub struct DomainSet {
    /// Bytes that all its accounts may hold together, as `20 GiB`; `none` for no limit
    #[arg(long)]
    pub quota: Option<String>,
    /// Messages that all its accounts may hold together; `none` for no limit
    #[arg(long)]
    pub quota_messages: Option<String>,
    /// Bytes that an account holds unless it says otherwise; `none` for no limit
    #[arg(long)]
    pub account_quota: Option<String>,
    /// Largest message for its people; `none` for the node's limit
    #[arg(long)]
    pub max_message: Option<String>,
    /// Most accounts; `none` for no limit
    #[arg(long)]
    pub max_accounts: Option<String>,
    /// Address that takes mail for unknown names; `none` to refuse such mail
    #[arg(long)]
    pub catch_all: Option<String>,
    /// Plus-addressing: name+anything reaches name
    #[arg(long)]
    pub plus: Option<bool>,
    /// Language of messages to its people, for accounts made from now on: en or zh-CN
    #[arg(long)]
    pub language: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum AccountOrder {
    /// Accounts, of one domain or of all
    List {
        /// Only this domain
        #[arg(long)]
        domain: Option<String>,
    },
    /// One account
    Show { address: String },
    /// A new account; without a password one is made and printed once
    Add {
        address: String,
        #[command(flatten)]
        set: Box<AccountSet>,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// Filled in from standard input, never from the command line, which others can see
        #[arg(skip)]
        password: Option<String>,
    },
    /// Change an account
    Set {
        address: String,
        #[command(flatten)]
        set: Box<AccountSet>,
    },
    /// Refuse sign-in and mail until it is resumed
    Suspend { address: String },
    /// End a suspension
    Resume { address: String },
    /// Delete: can be restored until the grace time is over
    Delete { address: String },
    /// Bring a deleted account back
    Restore { address: String },
    /// Another address; mail to the old one still arrives unless --no-alias
    Rename {
        address: String,
        to: String,
        /// Do not keep the old address as an alias
        #[arg(long)]
        no_alias: bool,
    },
    /// A new password; without --password-stdin one is made and printed once
    Password {
        address: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// Filled in from standard input
        #[arg(skip)]
        password: Option<String>,
    },
    /// A password for one program, printed once
    AddAppPassword {
        address: String,
        name: String,
        /// Only for these services: submission, imap, pop3
        #[arg(long, value_delimiter = ',')]
        services: Vec<String>,
    },
    /// Passwords of programs
    AppPasswords { address: String },
    /// Revoke the password of a program
    RemoveAppPassword { address: String, name: String },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, Args)]
pub struct AccountSet {
    /// Name shown to people
    #[arg(long)]
    pub name: Option<String>,
    /// operator, admin (of the domain) or user
    #[arg(long)]
    pub role: Option<String>,
    /// Bytes it may hold, as `5 GiB`; `none` for no limit, `default` for the domain's
    #[arg(long)]
    pub quota: Option<String>,
    /// Messages it may hold; `none` for no limit
    #[arg(long)]
    pub quota_messages: Option<String>,
    /// Largest message; `none` for the domain's limit
    #[arg(long)]
    pub max_message: Option<String>,
    /// Services it may use: submission, imap, pop3, sms, web
    #[arg(long, value_delimiter = ',')]
    pub services: Option<Vec<String>>,
    /// Language of messages to this person: en or zh-CN
    #[arg(long)]
    pub language: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum AliasOrder {
    /// Aliases, of one domain or of all
    List {
        /// Only this domain
        #[arg(long)]
        domain: Option<String>,
    },
    /// Mail to ADDRESS goes to all TARGETS
    Add {
        address: String,
        #[arg(required = true)]
        targets: Vec<String>,
    },
    /// Mail to ADDRESS goes to these TARGETS instead of the old ones
    Set {
        address: String,
        #[arg(required = true)]
        targets: Vec<String>,
    },
    /// Remove an alias
    Remove { address: String },
}

#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum GroupOrder {
    /// Groups, of one domain or of all
    List {
        /// Only this domain
        #[arg(long)]
        domain: Option<String>,
    },
    /// One group and its members
    Show { address: String },
    /// A new group
    Add {
        address: String,
        /// Name shown to people
        #[arg(long)]
        name: Option<String>,
        /// Who may send to it: anyone, domain, members or listed
        #[arg(long)]
        senders: Option<String>,
        members: Vec<String>,
    },
    /// Change a group
    Set {
        address: String,
        /// Name shown to people
        #[arg(long)]
        name: Option<String>,
        /// Who may send to it: anyone, domain, members, or addresses with commas between them
        #[arg(long)]
        senders: Option<String>,
        /// Its members may send with the group's address
        #[arg(long)]
        members_send_as: Option<bool>,
    },
    /// Remove a group
    Remove { address: String },
    /// Add members
    AddMember {
        address: String,
        #[arg(required = true)]
        members: Vec<String>,
    },
    /// Remove members
    RemoveMember {
        address: String,
        #[arg(required = true)]
        members: Vec<String>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum QuotaOrder {
    /// Limits and use of an account (address) or a domain (name)
    Show { name: String },
    /// Set the limits of an account (address) or a domain (name)
    Set {
        name: String,
        /// Bytes, as `5 GiB`; `none` for no limit
        #[arg(long)]
        bytes: Option<String>,
        /// Messages; `none` for no limit
        #[arg(long)]
        messages: Option<String>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum QueueOrder {
    /// What waits, oldest first
    List {
        /// Only messages with this text in sender or recipients
        #[arg(long)]
        match_text: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// One message: recipients, tries, last answers
    Show { id: i64 },
    /// Try again now: one message, or all
    Retry { id: Option<i64> },
    /// Keep a message from being sent
    Hold { id: i64 },
    /// End a hold
    Release { id: i64 },
    /// Take a message out of the queue
    Drop {
        id: i64,
        /// Tell the sender with a delivery status notice
        #[arg(long)]
        notify: bool,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum StoreOrder {
    /// Check every record against its checksum and every row against its record
    Verify,
    /// Make the index again from the packs (the node must be stopped)
    Rebuild,
    /// Give back the room of deleted mail
    Compact,
    /// Deleted mail of an account that can be brought back
    Deleted { address: String },
    /// Bring deleted mail back
    Undelete {
        address: String,
        /// Identifiers from `deleted`; without any: all
        ids: Vec<i64>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum SmsOrder {
    /// The modem and the queue of texts at one look
    Status,
    /// Signal strength and network
    Signal,
    /// What waits, in the order in which it will go
    Queue {
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Send a text; as an alarm, before everything else, unless --person
    Send {
        /// Telephone number, as 13800138000 or +8613800138000
        number: String,
        #[arg(required = true)]
        text: Vec<String>,
        /// As a person's message: in its turn, within the rate
        #[arg(long)]
        person: bool,
        /// Show it on the phone at once
        #[arg(long)]
        flash: bool,
        /// Ask the network for a delivery report, and wait for it
        #[arg(long)]
        report: bool,
        /// Do not wait until the network has it
        #[arg(long)]
        no_wait: bool,
    },
    /// What became of a text
    Show { key: String },
    /// Take a text back; parts that went are gone
    Cancel { key: String },
    /// Reset the modem
    Reset {
        /// Where to begin: attention, restart, dtr or power
        #[arg(long)]
        step: Option<String>,
    },
    /// Send a short test text and wait until the network has it
    Test { number: String },
    /// Texts by day, account and domain
    Statistics {
        /// How many days back
        #[arg(long, default_value_t = 31)]
        days: u32,
        /// Only this account or domain
        #[arg(long)]
        of: Option<String>,
    },
    /// What became of each text of the gateway, newest first
    Log {
        /// How many lines
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Only this sender
        #[arg(long)]
        of: Option<String>,
    },
    /// What an account has used of its quota today
    Usage { address: String },
    /// Notices of new mail by text
    #[command(subcommand)]
    Rules(SmsRules),
}

#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum SmsRules {
    /// The rules of an account
    List { address: String },
    /// A new rule, or other words for the rule of this name: without a condition it tells of all mail that people wrote
    Add {
        address: String,
        /// Numbers that are told
        #[arg(required = true)]
        number: Vec<String>,
        /// Its name
        #[arg(long, default_value = "rule")]
        name: String,
        /// Only mail that is marked urgent
        #[arg(long)]
        urgent: bool,
        /// Only mail from these addresses and domains
        #[arg(long, value_delimiter = ',')]
        from: Vec<String>,
        /// Only within these hours, as 08:00-18:00
        #[arg(long)]
        hours: Option<String>,
        /// Most notices a day
        #[arg(long)]
        per_day: Option<u16>,
        /// Mail of lists and programs too
        #[arg(long)]
        automatic: bool,
    },
    /// Remove a rule by its name
    Remove { address: String, name: String },
}

#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
pub enum ConfigOrder {
    /// Read the document and print every fault
    Check {
        /// Another file than the node's own
        file: Option<PathBuf>,
    },
    /// Let the running node take the document; with a fault it keeps the old one
    Reload,
    /// Print the reference of all keys
    Reference,
    /// Print the document
    Show,
    /// Change keys of the document, all or none: sms.enabled=true 'sms.domains=["sms.school.example"]'
    Set {
        /// Keys with their new values, as TOML; what is no TOML is a text
        #[arg(required = true, value_name = "KEY=VALUE")]
        keys: Vec<String>,
    },
}
