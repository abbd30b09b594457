//! The control socket of the rack: a line in, an answer out, as often as the caller likes.
//!
//! Contract: each line is answered by `ok` with what was done, or by `error:` with the reason; `show` answers with one line of JSON and
//! `help` with its lines; an empty line ends each answer. Orders of several callers are carried out as they come.
//!
//! Failure classes: what is not understood changes nothing; the socket cannot be made (said by [`listen`]).

use super::Desk;
use super::order::{HELP, Link, Order, Switch};
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Longest line.
const LINE_MAX: u64 = 1024;

/// Makes the socket; one that a dead rack left is replaced.
///
/// # Errors
/// A sentence that names the socket.
pub fn listen(path: &Path) -> Result<UnixListener, String> {
    let _ = std::fs::remove_file(path);
    let made = UnixListener::bind(path)
        .and_then(|listener| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map(|()| listener));
    made.map_err(|e| format!("cannot listen on {}: {e}", path.display()))
}

/// Takes orders until it is stopped.
pub async fn serve(listener: UnixListener, desk: Arc<Desk>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a caller of the rack could not be taken");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (desk, stop) = (desk.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = converse(stream, &desk) => {}
            }
        });
    }
}

async fn converse(stream: UnixStream, desk: &Arc<Desk>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        if (&mut reader).take(LINE_MAX).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = match Order::parse(&line) {
            Ok(order) => carry_out(order, desk).await,
            Err(refused) => Err(refused),
        };
        let text = match answer {
            Ok(text) => text,
            Err(reason) => format!("error: {reason}"),
        };
        writer.write_all(format!("{text}\n\n").as_bytes()).await?;
    }
}

async fn carry_out(order: Order, desk: &Arc<Desk>) -> Result<String, String> {
    let done = match order {
        Order::Help => return Ok(HELP.to_owned()),
        Order::Show => return Ok(desk.show().to_string()),
        Order::Cut(link, ways) => {
            desk.cable(link).cut(&ways);
            format!("{} is cut", named(link))
        }
        Order::Mend(Some(link), ways) => {
            desk.cable(link).mend(&ways);
            format!("{} is sound", named(link))
        }
        Order::Mend(None, ways) => {
            [Link::Eth1, Link::Lan, Link::Serial].iter().for_each(|link| desk.cable(*link).mend(&ways));
            "all cables are sound".to_owned()
        }
        Order::Loss(link, share, ways) => {
            desk.cable(link).lose(share, &ways);
            format!("{} loses {} %", named(link), share * 100.0)
        }
        Order::Garble(probability, ways) => {
            desk.cable(Link::Serial).garble(probability, &ways);
            format!("serial garbles with probability {probability}")
        }
        Order::Seed(seed) => {
            [Link::Eth1, Link::Lan, Link::Serial].iter().for_each(|link| desk.cable(*link).seed(seed));
            format!("chance begins from {seed}")
        }
        Order::Power(node, Switch::Read) => return Ok(format!("ok {}", desk.mains.read(node).name())),
        Order::Power(node, Switch::Off) => {
            desk.mains.off(node).await?;
            format!("node {node} is off, and none of its processes is left")
        }
        Order::Power(node, Switch::Reset) => {
            desk.mains.reset(node).await?;
            desk.wake(node);
            format!("node {node} was reset and starts again")
        }
        Order::Power(node, Switch::On) => {
            desk.mains.on(node).await?;
            desk.wake(node);
            format!("node {node} has power")
        }
        Order::Pause(node, time) => {
            let count = desk.pause(node, time)?;
            format!("{count} processes of node {node} stand still")
        }
        Order::Resume(node) => format!("{} processes of node {node} go on", desk.life(node)?.signal(Signal::SIGCONT)),
    };
    tracing::info!(%done, "rack");
    Ok(format!("ok {done}"))
}

fn named(link: Link) -> &'static str {
    match link {
        Link::Eth1 => "eth1",
        Link::Lan => "lan",
        Link::Serial => "serial",
    }
}

/// Sends one line to a rack; its answer.
///
/// # Errors
/// A sentence; `None` for the exit code means that nobody answers.
pub async fn ask(path: &Path, line: &str) -> Result<String, String> {
    let broken = |e: std::io::Error| format!("the rack's control socket {}: {e}", path.display());
    let stream = UnixStream::connect(path)
        .await
        .map_err(|e| format!("no rack answers on {} ({e}): it runs with `twinpost up` of a pair", path.display()))?;
    let (reader, mut writer) = stream.into_split();
    writer.write_all(format!("{}\n", line.replace('\n', " ")).as_bytes()).await.map_err(broken)?;
    let mut reader = BufReader::new(reader);
    let mut answer = String::new();
    loop {
        let mut next = String::new();
        if reader.read_line(&mut next).await.map_err(broken)? == 0 {
            return Err(format!("the rack's control socket {}: closed before the answer", path.display()));
        }
        if next.trim().is_empty() {
            return Ok(answer.trim_end().to_owned());
        }
        answer.push_str(&next);
    }
}
