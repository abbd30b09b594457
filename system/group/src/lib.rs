//! The service group: what serves while this node is active.
//!
//! Contract: services start in the order of the list, each when the one before it answers; they stop in reverse. A service is
//! well when it *answers from outside* (its banner is read over the network), not when its process is there. A stop ends with
//! the proof that nothing of the service is left, or with an error: a node that cannot prove it must not give the data to its peer.
//!
//! Failure classes: [`Error::Settings`] is the administrator's; [`Error::Spawn`], [`Error::Ended`] and [`Error::NotReady`] are a
//! start that failed (everything begun was stopped again); [`Error::NotGone`], [`Error::Proc`] and [`Error::Systemctl`] leave open whether
//! something still runs ([`Error::unverified`]: the caller cuts its own power). Between starts, [`GroupEvent::Died`] and
//! [`GroupEvent::Checked`] tell what goes wrong; the group restarts nothing that is essential by itself, the pair decides.

mod ahead;
mod any_certificate;
mod check;
mod group;
mod life;
mod process;
mod rounds;
mod spawn;
mod systemd;
mod waiting;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

pub use check::{Check, Failure};
pub use group::Group;
pub use process::fuzz;
pub use waiting::{Door, Waits, Word, fuzz as fuzz_word};

/// What a group is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Started in this order, stopped in reverse.
    pub services: Vec<Service>,
    /// Names this group among all on the machine and over restarts of the daemon (the path of the node's folder will do). Each child
    /// carries it in its environment as [`MARKER`], which is how processes that left their process group are found.
    pub marker: String,
    /// Between two rounds of checks.
    pub check_every: Duration,
    /// A failed check is tried once more after this, before it counts.
    pub check_again_after: Duration,
    /// While every failed check is only late, a service counts as hung when none was good for so long. Whoever refuses a connection, closes it or answers
    /// wrongly fails at once.
    pub hung_after: Duration,
    /// After SIGKILL, how long until a process that is still there is an error.
    pub kill_limit: Duration,
    /// The program that speaks to systemd.
    pub systemctl: PathBuf,
}

impl Settings {
    /// The defaults: a check every second, again after 50 ms, hung after 15 s, 3 s for SIGKILL.
    #[must_use]
    pub fn new(marker: impl Into<String>, services: Vec<Service>) -> Self {
        Self {
            services,
            marker: marker.into(),
            check_every: Duration::from_secs(1),
            check_again_after: Duration::from_millis(50),
            hung_after: Duration::from_secs(15),
            kill_limit: Duration::from_secs(3),
            systemctl: PathBuf::from("systemctl"),
        }
    }
}

/// The environment variable that every child of a group carries: `<marker>:<service>`.
pub const MARKER: &str = "TWINPOST_GROUP";

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Unique in the group; in logs and events.
    pub name: String,
    /// What runs.
    pub run: Run,
    /// All must answer. Without any, a service is well when it was started.
    pub check: Vec<Check>,
    /// Its failure is the group's. One that is not essential is restarted by the group itself (after 1 s, then longer up to
    /// 30 s), is not waited for, and its checks are told in the status only.
    pub essential: bool,
    /// From the start of the process to the first good check.
    pub start_limit: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Duration,
}

impl Service {
    /// An essential child process: `command[0]` with the rest as its arguments; 30 s to start, 5 s of grace.
    #[must_use]
    pub fn child(name: impl Into<String>, command: Vec<String>) -> Self {
        Self::new(name, Run::Child { command, env: Vec::new(), dir: None })
    }

    /// An essential systemd unit; 30 s to start, 5 s of grace.
    #[must_use]
    pub fn unit(name: impl Into<String>, unit: impl Into<String>) -> Self {
        Self::new(name, Run::Unit { unit: unit.into(), waits: None })
    }

    /// The same; the unit's process waits at its door ([`Door`]) for the word, and on a standby it is started ahead ([`Group::ready`]).
    #[must_use]
    pub fn waiting_unit(name: impl Into<String>, unit: impl Into<String>, waits: Waits) -> Self {
        Self::new(name, Run::Unit { unit: unit.into(), waits: Some(waits) })
    }

    fn new(name: impl Into<String>, run: Run) -> Self {
        Self {
            name: name.into(),
            run,
            check: Vec::new(),
            essential: true,
            start_limit: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        }
    }
}

/// What a service is.
#[derive(Clone, Debug)]
pub enum Run {
    /// A child process in a process group of its own. It inherits the group's lock descriptor, standard output and error; its
    /// standard input is empty. It should ask for a signal when its parent dies (`--with-parent`); it is spawned from a thread that
    /// lives as long as the group, since that signal is sent when the *thread* ends.
    Child {
        /// Program and arguments.
        command: Vec<String>,
        /// Added to this process's environment.
        env: Vec<(String, String)>,
        /// Working directory.
        dir: Option<PathBuf>,
    },
    /// A systemd unit (the image). Its cgroup is what must be empty after a stop.
    Unit {
        /// Its name.
        unit: String,
        /// It is told to serve, whether it was started ahead or just now.
        waits: Option<Waits>,
    },
}

/// What happened in the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupEvent {
    /// A process started (it may not answer yet).
    Up {
        /// Service.
        name: String,
        /// Main process.
        pid: u32,
    },
    /// A service ended unasked.
    Died {
        /// Service.
        name: String,
        /// Exit status or signal, in words.
        how: String,
        /// See [`Service::essential`]; when false the group restarts it by itself.
        essential: bool,
    },
    /// One round of checks of the essential services, while [`Group::check_on`]. A round in which checks were only late is not told, until the
    /// service counts as hung.
    Checked {
        /// All answered.
        ok: bool,
        /// Which service failed and what was read.
        why: String,
    },
}

/// Where a service is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Not running, as asked.
    Stopped,
    /// Started ahead: it serves nobody and touches no data until it is told to.
    Waiting,
    /// Started, does not answer yet.
    Starting,
    /// Answers.
    Up,
    /// Runs, but its last check failed.
    Failing,
    /// Ended unasked.
    Died,
    /// Being stopped.
    Stopping,
    /// Its stop could not be verified.
    Unverified,
}

/// For people.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct ServiceStatus {
    /// Service.
    pub name: String,
    /// Where it is.
    pub state: ServiceState,
    /// Main process, while there is one.
    pub pid: Option<u32>,
    /// Unasked ends since the group was made.
    pub deaths: u32,
    /// What went wrong last.
    pub why: String,
    /// When the state changed.
    #[serde(skip)]
    pub since: Instant,
}

/// What was tried on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The list of services makes no sense.
    #[error("service group: {0}")]
    Settings(String),
    /// The process could not be made.
    #[error("service {name}: starting {program} failed: {source}")]
    Spawn {
        /// Service.
        name: String,
        /// Program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended before it answered.
    #[error("service {name} ended while it was being started: {how}")]
    Ended {
        /// Service.
        name: String,
        /// Exit status or signal.
        how: String,
    },
    /// It never answered.
    #[error("service {name} did not answer within {limit_ms} ms: {why}")]
    NotReady {
        /// Service.
        name: String,
        /// Its limit.
        limit_ms: u128,
        /// The last failed check.
        why: String,
    },
    /// A stop came while it was being started; what had begun is the stop's to end.
    #[error("the start was cut short by a stop")]
    Stopped,
    /// Something is left although it was killed.
    #[error("service {name}: still there after SIGKILL: {left}")]
    NotGone {
        /// Service.
        name: String,
        /// Processes, with their state.
        left: String,
    },
    /// The table of processes could not be read, so that nothing can be said about what is left.
    #[error("service {name}: reading the processes failed: {source}")]
    Proc {
        /// Service.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// systemd refused, or did not answer.
    #[error("service {name}: systemctl {args}: {why}")]
    Systemctl {
        /// Service.
        name: String,
        /// Arguments.
        args: String,
        /// Its result, with what it wrote.
        why: String,
    },
    /// The task of the operation ended (the runtime is going down).
    #[error("the service group's task ended: {0}")]
    Task(String),
}

impl Error {
    /// Something of the service may still run: the data must not be given away, the node cuts its own power.
    #[must_use]
    pub const fn unverified(&self) -> bool {
        matches!(self, Self::NotGone { .. } | Self::Proc { .. } | Self::Systemctl { .. } | Self::Task(_))
    }
}
