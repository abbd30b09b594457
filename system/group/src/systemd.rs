//! A service that systemd runs (the image).
//!
//! Contract: `systemctl` is run by an argument list with a time limit; a job's result is its exit status. A unit is gone when
//! systemd says `inactive` or `failed` *and* its cgroup holds no process. Its main process is watched by a pidfd, so its end is told
//! at once. The lock descriptor of the storage cannot be inherited through systemd: on the image the storage is DRBD or an
//! array's own reservation, which do not need it. Units of the group have `Restart=no`: the pair decides.
//!
//! Failure classes: a refused or unanswered order is [`Error::Systemctl`]; a unit that goes on is [`Error::NotGone`].

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    io::unix::AsyncFd,
    process::Command,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{Error, process};

/// For orders that do not wait for a job.
const ASK_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where a unit is; the words of systemd.unit(5) and `systemctl show`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    active: String,
    sub: String,
    result: String,
    main_pid: u32,
    cgroup: String,
}

impl Shown {
    fn parse(text: &str) -> Self {
        let mut shown = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "ActiveState" => value.clone_into(&mut shown.active),
                "SubState" => value.clone_into(&mut shown.sub),
                "Result" => value.clone_into(&mut shown.result),
                "MainPID" => shown.main_pid = value.parse().unwrap_or(0),
                "ControlGroup" => value.clone_into(&mut shown.cgroup),
                _ => {}
            }
        }
        shown
    }

    fn ended(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }

    fn in_words(&self) -> String {
        format!("{} ({}), result {}", self.active, self.sub, self.result)
    }
}

/// A unit that was started.
#[derive(Debug)]
pub(crate) struct Unit {
    control: Control,
    pub(crate) pid: u32,
    cgroup: String,
    ended: watch::Receiver<Option<String>>,
    asked: Arc<AtomicBool>,
}

/// How to speak of one unit to systemd.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) systemctl: PathBuf,
    /// `/sys/fs/cgroup`; tests have their own.
    pub(crate) cgroups: PathBuf,
}

impl Control {
    async fn order(&self, args: &[&str], limit: Duration) -> Result<String, Error> {
        let mut command = Command::new(&self.systemctl);
        command.args(args).arg(&self.unit).stdin(Stdio::null()).kill_on_drop(true);
        let failed =
            |why: String| Error::Systemctl { name: self.name.clone(), args: format!("{} {}", args.join(" "), self.unit), why };
        let output = match timeout(limit, command.output()).await {
            Err(_) => return Err(failed(format!("no answer within {} ms", limit.as_millis()))),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Ok(Ok(output)) => output,
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("{}: {}", output.status, said.trim().chars().take(400).collect::<String>())))
    }

    async fn show(&self) -> Result<Shown, Error> {
        let args = ["show", "--property=ActiveState,SubState,Result,MainPID,ControlGroup"];
        Ok(Shown::parse(&self.order(&args, ASK_LIMIT).await?))
    }

    /// cgroup v2: `cgroup.events` says `populated 1` while any process is in it or below; the folder goes with the unit.
    fn populated(&self, cgroup: &str) -> io::Result<bool> {
        // The root cgroup is nobody's.
        let path = Path::new(cgroup.trim_start_matches('/'));
        if path.as_os_str().is_empty() {
            return Ok(false);
        }
        match fs::read_to_string(self.cgroups.join(path).join("cgroup.events")) {
            Ok(text) => Ok(text.lines().any(|line| line == "populated 1")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Unit {
    /// Starts a unit and waits for its job. `died` is called when its main process ends unasked.
    pub(crate) async fn begin(
        control: Control,
        limit: Duration,
        died: impl FnOnce(String) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Result<Self, Error> {
        control.order(&["start"], limit).await?;
        let shown = control.show().await?;
        if shown.ended() {
            return Err(Error::Ended { name: control.name, how: shown.in_words() });
        }
        let (tell, ended) = watch::channel(None);
        let asked = Arc::new(AtomicBool::new(false));
        // The new way to register is `unsafe`, because some other type might change its descriptor; OwnedFd never does.
        #[allow(deprecated)]
        let handle = i32::try_from(shown.main_pid).ok().and_then(process::handle).and_then(|fd| AsyncFd::new(fd).ok());
        if let Some(handle) = handle {
            let (quiet, control) = (Arc::clone(&asked), control.clone());
            tokio::spawn(async move {
                let _ = handle.readable().await;
                let how = control.show().await.map_or_else(|e| e.to_string(), |shown| shown.in_words());
                tell.send_replace(Some(how.clone()));
                if !quiet.load(Ordering::Acquire) {
                    died(how).await;
                }
            });
        } else {
            // Without a main process (a oneshot that remains) only the checks tell; the channel must stay open.
            tokio::spawn(async move { tell.closed().await });
        }
        Ok(Self { control, pid: shown.main_pid, cgroup: shown.cgroup, ended, asked })
    }

    pub(crate) fn how(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    pub(crate) async fn over(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "the runtime is going down".to_owned(),
        }
    }

    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    pub(crate) async fn end(&mut self, grace: Duration, limit: Duration) -> Result<(), Error> {
        self.ask();
        stop(&self.control, &self.cgroup, grace, limit).await
    }
}

/// Stops a unit and proves it. `cgroup` as it was while it ran; empty when unknown.
pub(crate) async fn stop(control: &Control, cgroup: &str, grace: Duration, limit: Duration) -> Result<(), Error> {
    // A refused or slow stop is not the end: what counts is what is left.
    if let Err(error) = control.order(&["stop"], grace.max(Duration::from_millis(1))).await {
        tracing::warn!(service = control.name, %error, "stop by systemd failed: killed");
        let _ = control.order(&["kill", "--signal=KILL"], ASK_LIMIT).await;
    }
    let until = Instant::now() + limit;
    let mut killed = false;
    loop {
        let shown = control.show().await?;
        let cgroup = if cgroup.is_empty() { shown.cgroup.as_str() } else { cgroup };
        let populated = control.populated(cgroup).map_err(|source| Error::Proc { name: control.name.clone(), source })?;
        if shown.ended() && !populated {
            return Ok(());
        }
        if Instant::now() >= until {
            let left = if populated { format!("processes in {cgroup}") } else { shown.in_words() };
            return Err(Error::NotGone { name: control.name.clone(), left });
        }
        if !killed {
            killed = true;
            let _ = control.order(&["kill", "--signal=KILL"], ASK_LIMIT).await;
        }
        sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_of_a_unit() {
        let shown = Shown::parse(
            "MainPID=812\nResult=success\nActiveState=active\nSubState=running\nControlGroup=/system.slice/x.service\n",
        );
        assert_eq!((shown.main_pid, shown.cgroup.as_str(), shown.ended()), (812, "/system.slice/x.service", false));
        let failed = Shown::parse("ActiveState=failed\nSubState=failed\nResult=signal\nMainPID=0\nControlGroup=\n");
        assert!(failed.ended());
        assert_eq!(failed.in_words(), "failed (failed), result signal");
        assert!(!Shown::parse("").ended(), "nothing said is nothing proven");
    }
}
