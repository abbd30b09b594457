//! The answering end of `twinpost system`: the socket, who may ask, lines.
//!
//! Contract: root may ask everything; the group of the node's programs what changes nothing ([`crate::api::Request::harmless`]). A request that was
//! begun is carried to its end even if its caller goes away. Connections, lines and their times are bounded.
//!
//! Failure classes: the socket cannot be had: the caller of [`listen`] hears it. Everything of one connection ends with that connection.

use crate::api::{Asked, Done, LINE_MAX_BYTES, Line, Refused, Request, Step, Text};
use futures_util::future::BoxFuture;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Connections at once.
const CONNECTIONS_MAX: usize = 16;
/// From the connection to the end of its request line.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// Who carries requests out.
pub trait Office: Send + Sync + 'static {
    /// Carries one out; `step` hears how far it is.
    fn carry_out(
        self: Arc<Self>,
        by: String,
        request: Request,
        step: mpsc::UnboundedSender<Step>,
    ) -> BoxFuture<'static, Result<Done, Refused>>;
}

/// Makes the socket; `group` may connect too.
///
/// # Errors
/// The folder is not there, or the name is taken by something that is no dead socket.
pub fn listen(path: &Path, group: Option<nix::unistd::Gid>) -> io::Result<UnixListener> {
    // A socket that a former run left; somebody who still listens there would lose it, but only one unit may run this.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    if let Some(group) = group {
        nix::unistd::chown(path, None, Some(group)).map_err(io::Error::from)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(if group.is_some() { 0o660 } else { 0o600 }))?;
    Ok(listener)
}

/// Answers until `stop`.
pub async fn serve(listener: UnixListener, office: Arc<impl Office>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let office = office.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, office).await {
                        tracing::debug!(%error, "a caller went away");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a caller could not be let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, office: Arc<impl Office>) -> io::Result<()> {
    let caller = stream.peer_cred()?;
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader).take(LINE_MAX_BYTES);
    let asked = tokio::time::timeout(ASK_LIMIT, reader.read_until(b'\n', &mut line)).await;
    match asked {
        Ok(Ok(read)) if read > 0 => {}
        Ok(Err(error)) => return Err(error),
        _ => return Ok(()),
    }
    let asked: Asked = match serde_json::from_slice(&line) {
        Ok(asked) => asked,
        Err(error) => {
            let text = Text::new(format!("this is no request: {error}"), format!("请求无法识别：{error}"));
            return say(&mut writer, &Line::Error(Refused::one(text))).await;
        }
    };
    if caller.uid() != 0 && caller.uid() != nix::unistd::geteuid().as_raw() && !asked.request.harmless() {
        tracing::warn!(uid = caller.uid(), request = ?asked.request, "refused: only root may ask this");
        let text = Text::new("only root may ask this", "只有 root 可以执行此操作");
        return say(&mut writer, &Line::Error(Refused::one(text))).await;
    }
    if asked.request.harmless() {
        tracing::debug!(by = asked.by, request = ?asked.request, "asked");
    } else {
        tracing::info!(by = asked.by, request = ?asked.request, "ordered");
    }
    let (steps, mut heard) = mpsc::unbounded_channel();
    // A task of its own: what was begun goes on when the caller is gone.
    let mut work = tokio::spawn(office.carry_out(asked.by, asked.request, steps));
    let outcome = loop {
        tokio::select! {
            biased;
            Some(step) = heard.recv() => say(&mut writer, &Line::Progress(step)).await?,
            outcome = &mut work => break outcome,
        }
    };
    while let Ok(step) = heard.try_recv() {
        say(&mut writer, &Line::Progress(step)).await?;
    }
    let last = match outcome {
        Ok(Ok(done)) => Line::Done(done),
        Ok(Err(refused)) => {
            tracing::info!(reasons = ?refused.reasons.iter().map(|r| r.en.as_str()).collect::<Vec<_>>(), "refused or failed");
            Line::Error(refused)
        }
        Err(error) => {
            tracing::error!(%error, "a request ended in a fault of this program");
            Line::Error(Refused::one(Text::new(format!("a fault of this program: {error}"), format!("程序内部错误：{error}"))))
        }
    };
    say(&mut writer, &last).await
}

async fn say(writer: &mut (impl AsyncWriteExt + Unpin), line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line).map_err(io::Error::other)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{CallError, call};

    struct Echo;

    impl Office for Echo {
        fn carry_out(
            self: Arc<Self>,
            by: String,
            request: Request,
            step: mpsc::UnboundedSender<Step>,
        ) -> BoxFuture<'static, Result<Done, Refused>> {
            Box::pin(async move {
                match request {
                    Request::UpdateCommit => Err(Refused::one(Text::new("nothing to commit", "没有可提交的更新"))),
                    Request::DisksList => panic!("a fault on purpose"),
                    other => {
                        for done in 0..3 {
                            let _ = step.send(Step { what: Text::same("work"), done, of: 3 });
                        }
                        Ok(Done { text: Text::same(format!("{by}: {other:?}")), ..Done::default() })
                    }
                }
            })
        }
    }

    #[tokio::test]
    async fn progress_comes_in_order_and_then_one_end() {
        let dir = std::env::temp_dir().join(format!("twinpost-system-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let socket = dir.join("system.sock");
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listen(&socket, None).unwrap(), Arc::new(Echo), stop.clone()));
        let mut steps = Vec::new();
        let done = call(&socket, "test", Request::Status, |step| steps.push(step.done)).await.unwrap();
        assert_eq!((done.text.en.as_str(), steps), ("test: Status", vec![0, 1, 2]));
        let refused = call(&socket, "test", Request::UpdateCommit, |_| {}).await.unwrap_err();
        assert!(matches!(&refused, CallError::Refused(_)) && refused.to_string() == "nothing to commit", "{refused}");
        let fault = call(&socket, "test", Request::DisksList, |_| {}).await.unwrap_err();
        assert!(matches!(fault, CallError::Refused(_)), "{fault}");
        stop.cancel();
        server.await.unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(matches!(call(&socket, "test", Request::Status, |_| {}).await, Err(CallError::NotRunning(_))));
    }
}
