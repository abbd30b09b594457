//! One child process from its start to the proof that nothing of it is left.
//!
//! Contract: [`Life::end`] returns only when no process of the child runs, or with an error; it may be called again after an error.
//! A child that ends unasked is told at once.

use std::{
    io,
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::Command,
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    Error, MARKER,
    process::{self, Process, Trace},
    spawn::Spawner,
};

/// Between two looks at /proc while something ends.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A child process, alive or not yet proven gone.
#[derive(Debug)]
pub(crate) struct Life {
    name: String,
    pub(crate) pid: u32,
    trace: Trace,
    /// `Some` how, once the main process ended.
    ended: watch::Receiver<Option<String>>,
    asked: Arc<AtomicBool>,
}

/// What is to be started.
pub(crate) struct Birth<'a> {
    pub(crate) name: &'a str,
    pub(crate) command: &'a [String],
    pub(crate) env: &'a [(String, String)],
    pub(crate) dir: Option<&'a std::path::Path>,
    pub(crate) marker: &'a str,
}

impl Life {
    /// Starts a child; `died` is called when it ends unasked.
    pub(crate) async fn begin(
        spawner: &Spawner,
        birth: Birth<'_>,
        inherit: Option<Arc<OwnedFd>>,
        died: impl FnOnce(String) -> futures_util::future::BoxFuture<'static, ()> + Send + 'static,
    ) -> Result<Self, Error> {
        let Birth { name, command: line, env, dir, marker } = birth;
        let (program, args) = line.split_first().ok_or_else(|| Error::Settings(format!("{name}: no command")))?;
        let value = format!("{marker}:{name}");
        let mut command = Command::new(program);
        command.args(args).envs(env.iter().map(|(key, value)| (key, value))).env(MARKER, &value);
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        if let Some(dir) = dir {
            command.current_dir(dir);
        }
        let failed = |source| Error::Spawn { name: name.to_owned(), program: program.clone(), source };
        let mut child = spawner.spawn(command, inherit).await.map_err(failed)?;
        let pid = child.id().ok_or_else(|| failed(io::Error::other("it ended before it had a number")))?;
        let group = i32::try_from(pid).map_err(|e| failed(io::Error::other(e)))?;

        let (tell, ended) = watch::channel(None);
        let asked = Arc::new(AtomicBool::new(false));
        let quiet = Arc::clone(&asked);
        tokio::spawn(async move {
            let how = child.wait().await.map_or_else(|e| format!("waiting for it failed: {e}"), in_words);
            tell.send_replace(Some(how.clone()));
            if !quiet.load(Ordering::Acquire) {
                died(how).await;
            }
        });
        Ok(Self { name: name.to_owned(), pid, trace: Trace::new(Some(group), format!("{MARKER}={value}")), ended, asked })
    }

    /// What a predecessor that was killed left of any service of this marker.
    pub(crate) fn left_by_a_predecessor(marker: &str) -> Self {
        Self {
            name: "of a predecessor".to_owned(),
            pid: 0,
            trace: Trace::new(None, format!("{MARKER}={marker}:")),
            ended: watch::channel(Some(String::new())).1,
            asked: Arc::new(AtomicBool::new(true)),
        }
    }

    /// How the main process ended, if it did.
    pub(crate) fn how(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Waits for the end of the main process.
    pub(crate) async fn over(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "the runtime is going down".to_owned(),
        }
    }

    /// Its end is wanted from now on and is not told.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// SIGTERM to all of it, SIGKILL after `grace`, and an error if anything runs `limit` after that.
    pub(crate) async fn end(&mut self, grace: Duration, limit: Duration) -> Result<(), Error> {
        self.ask();
        let mut killed = false;
        let mut until = Instant::now() + grace;
        let mut empty = 0;
        let mut told: Vec<i32> = Vec::new();
        loop {
            let living = self.living().await?;
            // A table read while processes are made may miss one: two empty readings count.
            if living.is_empty() {
                empty += 1;
                if empty == 2 {
                    return Ok(());
                }
                continue;
            }
            empty = 0;
            if Instant::now() >= until {
                if killed {
                    let left = living.iter().map(Process::shown).collect::<Vec<_>>().join(", ");
                    return Err(Error::NotGone { name: self.name.clone(), left });
                }
                tracing::warn!(service = self.name, left = living.len(), "still there after its grace: killed");
                (killed, until) = (true, Instant::now() + limit);
            }
            if killed {
                self.kill(&living);
            } else {
                for process in living.iter().filter(|p| !told.contains(&p.pid)) {
                    process::signal(process, Signal::TERM);
                    // One that was stopped must run to hear it.
                    process::signal(process, Signal::CONT);
                }
                told = living.iter().map(|p| p.pid).collect();
            }
            if self.how().is_none() {
                // The common case: the main process takes its time, then all is gone.
                let look = if killed { LOOK_AGAIN } else { Duration::from_millis(100) };
                let _ = timeout_at((Instant::now() + look).min(until), self.over()).await;
            } else {
                sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// The group in one stroke, so that nobody in it can outrun us by forking; then those outside of it one by one.
    fn kill(&self, living: &[Process]) {
        // While somebody of ours is in it the group's number cannot be another's.
        if let Some(group) = self.trace.group.and_then(Pid::from_raw)
            && living.iter().any(|p| p.is_in(group.as_raw_nonzero().get()))
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        for process in living {
            process::signal(process, Signal::KILL);
        }
    }

    async fn living(&mut self) -> Result<Vec<Process>, Error> {
        let mut trace = std::mem::take(&mut self.trace);
        // Should the task be lost the trace must not be: it goes in as a copy.
        self.trace = trace.clone();
        let (trace, living) = spawn_blocking(move || {
            let living = trace.living();
            (trace, living)
        })
        .await
        .map_err(|e| Error::Task(e.to_string()))?;
        self.trace = trace;
        living.map_err(|source| Error::Proc { name: self.name.clone(), source })
    }
}

fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}
