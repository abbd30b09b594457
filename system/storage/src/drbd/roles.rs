//! Promote and demote, the answers to DRBD's handlers, and the sentence for people.

use super::events::{Disk, View};
use super::handler::{Ask, FENCED, REFUSED};
use super::{Inner, Mode, SHORT};
use crate::volume::Header;
use crate::{Error, Event};
use std::time::{Duration, Instant};
use twinpost_heartbeat::Writes;

/// How long a peer that DRBD still sees as primary may take to give the role up, before the connection to it is cut: the core has a
/// proof, so it is either on its way or dead and not yet missed.
const HANDOVER: Duration = Duration::from_millis(300);
/// A loss that DRBD calls its handler for is in its events within this.
const SEEN: Duration = Duration::from_secs(2);
/// mkfs.
const MAKE: Duration = Duration::from_secs(600);

impl Inner {
    /// Waits until DRBD has said everything and the view is so.
    async fn until(&self, limit: Duration, wanted: impl FnMut(&View) -> bool) -> Option<View> {
        let mut view = self.view.subscribe();
        let found = tokio::time::timeout(limit, view.wait_for(wanted)).await;
        found.ok()?.ok().map(|view| view.clone())
    }

    pub(super) async fn make_blank(&self, even_so: bool) -> Result<(), Error> {
        if self.mode() != Mode::Standby {
            return Err(Error::Refused("an active node's copy cannot be made blank".into()));
        }
        if !even_so {
            let has = self.drbdadm(&["get-gi"]).await.is_ok_and(|said| !said.trim_start().starts_with("0000000000000004"));
            if has {
                return Err(Error::Refused("the disk holds a copy of the mail volume already; nothing was changed".into()));
            }
        }
        self.drbdadm(&["down"]).await?;
        self.drbdadm(&["create-md", "--force"]).await?;
        self.drbdadm(&["up"]).await?;
        (self.state().header, self.state().diverged) = (Header::default(), false);
        Ok(())
    }

    pub(super) async fn promote(&self, reign: u32) -> Result<(), Error> {
        if self.mode().active() && self.volume.mounted()? && self.state().header.reign == reign {
            return Ok(());
        }
        if self.state().diverged {
            return Err(Error::Refused("the copies have diverged: keep this one's data aside first".into()));
        }
        let view = match self.until(Duration::from_secs(3), |view| view.complete && view.exists && view.disk != Disk::Other).await
        {
            Some(view) => view,
            None => {
                self.drbdadm(&["up"]).await?;
                let found =
                    self.until(Duration::from_secs(3), |view| view.complete && view.exists && view.disk != Disk::Other).await;
                found.ok_or_else(|| self.unfit("DRBD does not say what state it is in"))?
            }
        };
        if self.mode() == Mode::Standby && (view.primary || self.volume.mounted()?) {
            // Left by an earlier run: begin from the beginning, so that the reign gets into the header.
            self.demote().await?;
        }
        let blank = self.blank().await?;
        if blank && !(view.connected() && view.disk == Disk::Inconsistent && view.peer_disk == Disk::Inconsistent) {
            return Err(Error::Refused("this copy is blank: it is filled from the peer's first, and never the source".into()));
        }
        if !blank && !matches!(view.disk, Disk::UpToDate | Disk::Consistent | Disk::Outdated) {
            return Err(Error::Refused(format!("this copy is {}: it cannot be used alone", view.disk_word)));
        }
        let header = if blank { Header::default() } else { self.read_header().await? };
        header.allows(&self.settings.this.name, reign)?;
        let known_old = view.disk == Disk::Outdated && self.told_outdated();
        let was = self.mode.send_replace(Mode::Promoting);
        let done = self.take_over(blank, known_old, Header { reign, by: self.settings.this.name.clone() }).await;
        match done {
            Ok(()) => {
                self.state().told = None;
                tracing::info!(reign, path = %self.settings.mount.display(), "this node has the mail volume");
                let position = self.state().position;
                self.tell(Event::Position(position)).await;
                Ok(())
            }
            Err(error) => {
                if was.active() {
                    self.mode.send_replace(was);
                } else {
                    // As far as it goes: the core hears that this node is not active.
                    let undone = self.demote().await;
                    if let Err(undone) = undone {
                        tracing::error!(error = %undone, "a promote that failed could not be undone");
                    }
                }
                Err(error)
            }
        }
    }

    fn unfit(&self, why: &str) -> Error {
        Error::Unfit { path: self.settings.device.clone(), why: why.into() }
    }

    async fn take_over(&self, blank: bool, known_old: bool, header: Header) -> Result<(), Error> {
        if blank {
            // Both copies are blank and connected: they agree on a generation instead of copying rubbish. drbdsetup(8) new-current-uuid.
            self.drbdadm(&["new-current-uuid", "--clear-bitmap"]).await?;
            let found = self.until(SHORT, |view| view.disk == Disk::UpToDate && view.peer_disk == Disk::UpToDate).await;
            found.ok_or_else(|| Error::Refused("the blank copies did not agree: is the peer's blank too?".into()))?;
        }
        self.become_primary(known_old).await?;
        if blank {
            self.volume.make(MAKE).await?;
        }
        // A volume that is mounted already keeps the header that it was mounted with.
        if !self.volume.mounted()? {
            let (device, written) = (self.settings.device.clone(), header.clone());
            tokio::task::spawn_blocking(move || written.write(&device)).await.map_err(|_| Error::Stopped)??;
            let mut state = self.state();
            (state.position, state.header) = (header.reign.into(), header);
        }
        self.volume.mount(false, self.settings.check, self.settings.promote).await
    }

    /// `known_old`: who chose this copy knew that it is outdated.
    pub(super) async fn become_primary(&self, known_old: bool) -> Result<(), Error> {
        let end = Instant::now() + self.settings.promote;
        loop {
            let view = self.view.borrow().clone();
            if view.primary {
                return Ok(());
            }
            if view.connected() && view.peer_primary {
                let given_up = self.until(HANDOVER, |view| !view.connected() || !view.peer_primary).await;
                if given_up.is_none() {
                    tracing::warn!("the peer still counts as primary; cutting the mirror");
                    self.drbdadm(&["disconnect", "--force"]).await?;
                }
            }
            if view.disk == Disk::Outdated && !known_old {
                // The core chose this copy before the two met.
                return Err(Error::Refused("the peer's copy became the newer one meanwhile".into()));
            }
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(2));
            // The core knows that it is old, and that nobody serves a newer one: the peer is off, or the administrator said so.
            let how: &[&str] = if view.disk == Disk::Outdated { &["primary", "--force"] } else { &["primary"] };
            match self.drbdadm_within(how, left).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(error) => tracing::warn!(%error, "not primary yet"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether the position that the core knows is that of an outdated copy.
    fn told_outdated(&self) -> bool {
        let state = self.state();
        state.position != u64::from(state.header.reign)
    }

    pub(super) async fn demote(&self) -> Result<(), Error> {
        self.mode.send_replace(Mode::Demoting);
        self.permit.send_replace(false);
        let done = self.give_up().await;
        if done.is_ok() {
            self.mode.send_replace(Mode::Standby);
            self.state().told = None;
            self.tell_mirror().await;
        }
        done
    }

    async fn give_up(&self) -> Result<(), Error> {
        let end = Instant::now() + self.settings.demote;
        let mut dropped = false;
        let mut pause = Duration::from_millis(20);
        loop {
            if self.view.borrow().frozen && !dropped {
                dropped = self.drop_held_writes().await;
            }
            let done = match self.volume.unmount(Duration::from_secs(3)).await {
                Ok(()) => self.secondary().await,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => break,
                // Without its programs, as when the system's own disks failed, waiting is only time in which nobody serves.
                Err(error) if Instant::now() >= end || error.lacks_program() => return Err(error),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
        if dropped || self.view.borrow().disk == Disk::Diskless {
            // The copy comes back as one that may lack the end: it is mended from the peer's.
            if let Err(error) = self.drbdadm(&["attach"]).await {
                // This node writes no more, which is what was asked; that its disk is gone stands in the status.
                tracing::error!(%error, "the disk of the mail volume could not be attached again");
            }
        }
        Ok(())
    }

    /// drbdsetup(8) disconnect: a secondary that leaves its primary marks its own copy as outdated first, and the primary knows that: it asks for no
    /// proof by its handler.
    pub(super) async fn leave(&self) -> Result<bool, Error> {
        if self.mode() != Mode::Standby {
            return Ok(false);
        }
        self.state().left = true;
        if self.view.borrow().stands_alone() {
            return Ok(false);
        }
        self.drbdadm(&["disconnect"]).await.map(|_| true)
    }

    async fn secondary(&self) -> Result<(), Error> {
        let view = self.view.borrow().clone();
        if view.complete && !view.exists {
            return Ok(());
        }
        let Err(error) = self.drbdadm(&["secondary"]).await else { return Ok(()) };
        let by = crate::program::holders_of_device(&self.settings.device);
        Err(if by.is_empty() { error } else { Error::Busy { what: self.settings.device.clone(), by } })
    }

    /// Lets every held write fail. None was answered.
    async fn drop_held_writes(&self) -> bool {
        tracing::warn!("writes are held without the peer: they fail now, none was ever answered");
        for step in [&["detach", "--force"][..], &["resume-io"]] {
            if let Err(error) = self.drbdadm(step).await {
                tracing::error!(%error, "held writes could not be dropped");
                return false;
            }
        }
        true
    }

    /// The answer to one of DRBD's handlers.
    pub(super) async fn answer(&self, ask: Ask) -> u8 {
        match ask {
            Ask::FencePeer => {
                self.state().waiting += 1;
                let code = self.fence_answer().await;
                self.state().waiting -= 1;
                code
            }
            Ask::ResyncSource => {
                let mut permit = self.permit.subscribe();
                let given = tokio::time::timeout(self.settings.resync_patience, permit.wait_for(|given| *given)).await;
                let allowed = matches!(given, Ok(Ok(_))) && self.mode().active();
                if !allowed {
                    tracing::info!("a resync of the peer has to wait for the core's word");
                }
                if allowed { 0 } else { REFUSED }
            }
            Ask::ResyncTarget => {
                let refused = self.mode() != Mode::Standby || self.state().diverged;
                if refused {
                    tracing::error!("this copy would have been overwritten; refused");
                }
                if refused { REFUSED } else { 0 }
            }
            Ask::SplitBrain => {
                self.split_brain().await;
                0
            }
        }
    }

    /// Waits until the core has decided. A connection that comes back needs no answer: DRBD then sends the held writes there and goes
    /// on, whatever is said here.
    async fn fence_answer(&self) -> u8 {
        let mut mode = self.mode.subscribe();
        let back = async {
            // The loss may not have been read yet, or may be over already.
            let lost = self.until(SEEN, |view| view.complete && !view.connected()).await;
            if lost.is_some() {
                while self.until(SHORT, |view| view.complete && view.connected()).await.is_none() {}
            }
        };
        let decided = mode.wait_for(|mode| match mode {
            Mode::Promoting | Mode::Active(Writes::Alone) | Mode::Standby | Mode::Demoting => true,
            Mode::Active(Writes::Held | Writes::Mirrored) => false,
        });
        tokio::select! {
            decided = decided => match decided.map(|mode| *mode) {
                Ok(Mode::Promoting | Mode::Active(Writes::Alone)) => FENCED,
                // Somebody made this node primary behind the driver's back, or it is giving up.
                _ => REFUSED,
            },
            () = back => REFUSED,
        }
    }
}

/// One sentence in English and in Chinese.
pub(super) fn sentence(view: &View, mode: Mode, diverged: bool, done: Option<f32>) -> (String, String) {
    let both = |en: &str, zh: &str| (en.to_owned(), zh.to_owned());
    if !view.complete {
        return both("DRBD has not said yet what state it is in.", "DRBD 尚未报告其状态。");
    }
    if !view.exists {
        return both("The mirror is not up.", "镜像尚未启动。");
    }
    if diverged {
        return both(
            "The two copies have diverged; neither is overwritten without the administrator's word.",
            "两份副本已出现分歧；未经管理员同意，任何一份都不会被覆盖。",
        );
    }
    if view.frozen && mode.active() {
        return both("The peer is gone without a proof: new mail waits.", "对端已失联且没有证明：新邮件在等待。");
    }
    if let Some(done) = done {
        let verify = view.replication.starts_with("Verify");
        return if verify {
            (format!("Both copies are being compared: {done:.0} %."), format!("正在比对两份副本：{done:.0} %。"))
        } else {
            (format!("A copy is being brought up to date: {done:.0} %."), format!("正在更新副本：{done:.0} %。"))
        };
    }
    if view.mirrored() && view.disk == Disk::UpToDate {
        return both("Both copies are equal.", "两份副本一致。");
    }
    if view.disk == Disk::Diskless {
        return both("This node has no disk for the mail volume.", "本节点没有邮件卷的磁盘。");
    }
    if view.connected() {
        return (
            format!("Connected; this copy is {}, the peer's is {}.", view.disk_word, view.peer_disk_word),
            format!("已连接；本副本为 {}，对端副本为 {}。", view.disk_word, view.peer_disk_word),
        );
    }
    (
        format!("The peer's copy is out of reach ({}); this copy is {}.", view.connection, view.disk_word),
        format!("无法访问对端副本（{}）；本副本为 {}。", view.connection, view.disk_word),
    )
}
