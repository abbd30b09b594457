//! The control socket's server.
//!
//! Contract: see [`crate::api`]. Clients and lines are bounded. The socket belongs to its owner (mode 0600); in a folder that gives its group on
//! (set-group-ID: the image's, where each part has a user of its own) the group may connect too, and asks what
//! [`Request::for_every_part`] allows. A client that does not read stops its own connection only.
//!
//! Failure classes: [`Error::Socket`], [`Error::AlreadyServed`]; whatever a client does concerns that client.

use crate::api::{Answer, LINE_MAX_BYTES, Request, Text};
use crate::clerk::Clerk;
use crate::door::Origin;
use crate::error::Error;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A client that takes nothing for so long is gone.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// Between two lines of a watch: what changes meanwhile is seen together.
const WATCH_PAUSE: Duration = Duration::from_millis(100);

/// Binds the socket. A dead one in its place is removed.
pub(crate) async fn bind(path: &Path) -> Result<UnixListener, Error> {
    let fail = |source| Error::Socket { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(Error::AlreadyServed(path.to_owned()));
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    // sys_stat.h(0): S_ISGID.
    let shared = path.parent().and_then(|folder| std::fs::metadata(folder).ok()).is_some_and(|about| about.mode() & 0o2000 != 0);
    let mode = if shared { 0o660 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(fail)?;
    Ok(listener)
}

/// Serves for ever.
pub(crate) async fn serve(listener: UnixListener, clerk: Arc<Clerk>) {
    let room = Arc::new(Semaphore::new(clerk.set.clients_max.max(1) as usize));
    // They end with this future: nothing of a daemon outlives it.
    let mut sessions = JoinSet::new();
    loop {
        while sessions.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of descriptors or memory: others' connections end some time.
                tracing::warn!(error = %e, "cannot accept a client of the control socket");
                tokio::time::sleep(WATCH_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!("too many clients of the control socket");
            continue;
        };
        let clerk = Arc::clone(&clerk);
        sessions.spawn(async move {
            let _place = place;
            let own = rustix::process::geteuid().as_raw();
            let trusted = stream.peer_cred().is_ok_and(|who| who.uid() == 0 || who.uid() == own);
            let (read, write) = stream.into_split();
            let mut session = Session { clerk, trusted, read: BufReader::new(read), begun: Vec::new(), write };
            if let Err(e) = session.run().await {
                tracing::debug!(error = %e, "a client of the control socket has gone");
            }
        });
    }
}

struct Session {
    clerk: Arc<Clerk>,
    /// Of this daemon's user, or root.
    trusted: bool,
    read: BufReader<OwnedReadHalf>,
    begun: Vec<u8>,
    write: OwnedWriteHalf,
}

impl Session {
    async fn run(&mut self) -> std::io::Result<()> {
        let mut next = self.line().await?;
        while let Some(line) = next {
            next = match serde_json::from_slice::<Request>(&line) {
                Ok(Request::Watch) => self.watch().await?,
                Ok(request) if !self.trusted && !request.for_every_part() => {
                    let text = Text::new("only the administrator's programs may ask this", "只有管理程序可以执行此操作");
                    self.say(&Answer::Error { text }).await?;
                    self.line().await?
                }
                Ok(request) => {
                    let answer = self.clerk.answer(request, Origin::Here).await;
                    self.say(&answer).await?;
                    self.line().await?
                }
                Err(e) => {
                    let text = Text::new(format!("this is no request: {e}"), format!("无法识别的请求：{e}"));
                    self.say(&Answer::Error { text }).await?;
                    self.line().await?
                }
            };
        }
        Ok(())
    }

    /// The next line; `None` at the end. May be dropped and called again.
    async fn line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let room = (LINE_MAX_BYTES + 1).saturating_sub(self.begun.len()) as u64;
        (&mut self.read).take(room).read_until(b'\n', &mut self.begun).await?;
        if self.begun.last() == Some(&b'\n') {
            return Ok(Some(std::mem::take(&mut self.begun)));
        }
        if self.begun.len() > LINE_MAX_BYTES {
            let text =
                Text::new(format!("a line is at most {LINE_MAX_BYTES} bytes long"), format!("每行最长 {LINE_MAX_BYTES} 字节"));
            self.say(&Answer::Error { text }).await?;
        }
        Ok(None)
    }

    async fn say(&mut self, answer: &Answer) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(answer).map_err(std::io::Error::other)?;
        line.push(b'\n');
        match tokio::time::timeout(WRITE_MAX, self.write.write_all(&line)).await {
            Ok(written) => written,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }

    /// The client's next line, or `None` when it has gone.
    async fn watch(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut changes = self.clerk.changes();
        loop {
            changes.borrow_and_update();
            let status = self.clerk.status().await;
            self.say(&Answer::Status(Box::new(status))).await?;
            tokio::select! {
                line = self.line() => return line,
                () = async {
                    tokio::time::sleep(WATCH_PAUSE).await;
                    if changes.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                } => {}
            }
        }
    }
}
