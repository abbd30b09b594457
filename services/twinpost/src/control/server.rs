//! The node's end of the control socket.
//!
//! On the image the parts of a node have users of their own and one group, which may connect: the pair daemon is root, and the modem's process asks how
//! mail is, for an administrator's telephone. Whoever connects is known by the kernel's word (unix(7), SO_PEERCRED); what changes or shows
//! anything is done for root and for this process's own user alone.

use super::{ATTACHMENT_MAX, Answer, Failure, LINE_MAX, Office, Request};
use crate::cli::Order;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Answers orders until the token is cancelled.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(socket: &Path, office: Arc<Office>, stop: CancellationToken) -> std::io::Result<()> {
    // A socket left by a process that was killed is in the way of bind; the store's lock says that no other node runs here.
    match std::fs::remove_file(socket) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = UnixListener::bind(socket)?;
    // On the image each part has a user of its own, and the folder gives its group on (set-group-ID).
    let shared = socket.parent().and_then(|dir| std::fs::metadata(dir).ok()).is_some_and(|about| about.mode() & 0o2000 != 0);
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(if shared { 0o660 } else { 0o600 }))?;
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a control connection could not be taken");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let office = office.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &office).await {
                tracing::debug!(%error, "a control connection ended early");
            }
        });
    }
    let _ = std::fs::remove_file(socket);
    Ok(())
}

/// Whether this user may give this order.
fn may(uid: u32, own: u32, order: &Order) -> bool {
    uid == 0 || uid == own || matches!(order, Order::Status)
}

async fn answer(stream: UnixStream, office: &Office) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).await?;
    let request: Request = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(error) => {
            return send(&mut writer, &Answer::Failed(Failure::because(format!("this is not an order: {error}")))).await;
        }
    };
    if !may(uid, nix::unistd::geteuid().as_raw(), &request.order) {
        tracing::warn!(uid, actor = request.actor, "an order of a user who may not give it");
        let why = "this order is for the administrator of the node: give it as root, or as the user of the mail process";
        return send(&mut writer, &Answer::Failed(Failure::because(why))).await;
    }
    if request.attachment_bytes > ATTACHMENT_MAX {
        let failure = Failure::because(format!("the file is larger than {} MiB", ATTACHMENT_MAX >> 20));
        return send(&mut writer, &Answer::Failed(failure)).await;
    }
    let mut attachment = Vec::new();
    reader.take(request.attachment_bytes).read_to_end(&mut attachment).await?;
    let (progress, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let mut work = Box::pin(office.execute(request.order, &attachment, &request.actor, progress));
    let result = loop {
        tokio::select! {
            Some(step) = steps.recv() => send(&mut writer, &Answer::Progress(step)).await?,
            result = &mut work => break result,
        }
    };
    send(&mut writer, &result.map_or_else(Answer::Failed, Answer::Done)).await
}

async fn send(writer: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_part_may_ask_how_mail_is_and_nothing_else() {
        let reset = Order::Account(crate::cli::AccountOrder::List { domain: None });
        for (uid, order, allowed) in
            [(0, &reset, true), (4001, &reset, true), (4002, &reset, false), (4002, &Order::Status, true)]
        {
            assert_eq!(may(uid, 4001, order), allowed, "{uid} {order:?}");
        }
    }
}
