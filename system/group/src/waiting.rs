//! A process that is started ahead on the standby, and the word that lets it serve.
//!
//! Contract: the process opens a [`Door`] when everything that needs no data is done, and touches no data before the word. The word comes from the
//! pair daemon alone (root, or the process's own user) and names the device of the data as the daemon sees it: a process to which the volume's mount
//! did not come sees another one and refuses, so nobody ever makes a new store below the mount point. It is answered when the process listens, or
//! with the reason why it does not. One word; the door is gone afterwards.
//!
//! Wire: a line `serve DEVICE`, answered by a line `serving` or `refused WHY`; at most [`LINE_MAX_BYTES`].
//!
//! Failure classes: [`std::io::Error`] of the socket at the door; a sentence at the daemon's end, which then starts the process afresh.

use std::{
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};

/// A line on the wire.
pub const LINE_MAX_BYTES: u64 = 1024;
/// Whoever knocks says its word at once.
const WORD_LIMIT: Duration = Duration::from_secs(2);
/// A process that was just started has no door yet.
const KNOCK_AGAIN: Duration = Duration::from_millis(20);

/// How a service that can wait is told to serve.
#[derive(Clone, Debug)]
pub struct Waits {
    /// Where its door is.
    pub door: PathBuf,
    /// The mount point of its data.
    pub data: PathBuf,
}

/// The process's end.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Door {
    /// Opens the door; one that a dead process left is removed.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let door = Self { listener: UnixListener::bind(path)?, path: path.to_owned() };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(door)
    }

    /// Waits for the word. Others, and what is no word, are refused.
    ///
    /// # Errors
    /// The door cannot be listened at.
    pub async fn word(self) -> io::Result<Word> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let mut stream = BufReader::new(stream);
            match timeout(WORD_LIMIT, heard(&mut stream)).await {
                Ok(Ok(device)) => return Ok(Word { stream, device }),
                Ok(Err(why)) => {
                    tracing::warn!(why, "somebody at the door of the waiting process");
                    let _ = stream.write_all(format!("refused {why}\n").as_bytes()).await;
                }
                Err(_) => tracing::warn!("somebody at the door of the waiting process says nothing"),
            }
        }
    }
}

async fn heard(stream: &mut BufReader<UnixStream>) -> Result<u64, String> {
    let from = stream.get_ref().peer_cred().map_err(|e| e.to_string())?.uid();
    if from != 0 && from != rustix::process::getuid().as_raw() {
        return Err(format!("user {from} may not say this"));
    }
    word(&line(stream).await?)
}

/// The device in a word.
fn word(line: &str) -> Result<u64, String> {
    let device = line.strip_prefix("serve ").and_then(|rest| rest.parse().ok());
    device.ok_or_else(|| format!("no word: {}", line.chars().take(40).flat_map(char::escape_default).collect::<String>()))
}

async fn line(stream: &mut BufReader<UnixStream>) -> Result<String, String> {
    let mut line = Vec::new();
    let read = (&mut *stream).take(LINE_MAX_BYTES).read_until(b'\n', &mut line).await;
    read.map_err(|e| e.to_string())?;
    match line.strip_suffix(b"\n") {
        Some(whole) => Ok(String::from_utf8_lossy(whole).into_owned()),
        None if line.is_empty() => Err("closed without a word".to_owned()),
        None => Err("a line that does not end".to_owned()),
    }
}

/// The word was said; it waits for its answer.
#[derive(Debug)]
pub struct Word {
    stream: BufReader<UnixStream>,
    device: u64,
}

impl Word {
    /// Whether `data` here is what the pair daemon sees there.
    ///
    /// # Errors
    /// In words.
    pub fn sees(&self, data: &Path) -> Result<(), String> {
        let here = device_of(data)?;
        if here == self.device {
            return Ok(());
        }
        Err(format!("{} is device {here} in this process and {} outside: the mount did not come in", data.display(), self.device))
    }

    /// The process listens.
    pub async fn serving(self) {
        self.answer("serving\n").await;
    }

    /// The process does not serve, and ends.
    pub async fn refused(self, why: &str) {
        let shown: String = why.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.answer(&format!("refused {shown}\n")).await;
    }

    async fn answer(mut self, line: &str) {
        // A daemon that does not listen any more ends this process by its signal.
        if let Err(error) = self.stream.write_all(line.as_bytes()).await {
            tracing::warn!(%error, "the pair daemon did not take the answer");
        }
    }
}

fn device_of(data: &Path) -> Result<u64, String> {
    std::fs::metadata(data).map(|about| about.dev()).map_err(|e| format!("{}: {e}", data.display()))
}

/// Says the word and waits until the process listens. The caller limits the time.
///
/// # Errors
/// It refused or is gone, in words.
pub(crate) async fn say(waits: &Waits) -> Result<(), String> {
    let device = device_of(&waits.data)?;
    let stream = loop {
        match UnixStream::connect(&waits.door).await {
            Ok(stream) => break stream,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => sleep(KNOCK_AGAIN).await,
            Err(e) => return Err(format!("{}: {e}", waits.door.display())),
        }
    };
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("serve {device}\n").as_bytes()).await.map_err(|e| format!("{}: {e}", waits.door.display()))?;
    let answer = line(&mut stream).await?;
    match answer.strip_prefix("refused ") {
        None if answer == "serving" => Ok(()),
        None => Err(format!("answered \"{}\"", answer.chars().take(80).flat_map(char::escape_default).collect::<String>())),
        Some(why) => Err(why.to_owned()),
    }
}

/// For tests: no line makes the parser of words panic.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(device) = word(&text) {
        assert!(text.starts_with("serve ") && text.trim_start_matches("serve ").trim_start_matches('+').parse() == Ok(device));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(dir: &Path) -> Waits {
        Waits { door: dir.join("wait.sock"), data: dir.to_owned() }
    }

    #[tokio::test]
    async fn the_word_is_answered_when_the_process_listens() {
        let dir = tempfile::tempdir().unwrap();
        let waits = place(dir.path());
        std::fs::write(&waits.door, "left by a dead process").unwrap();
        let door = Door::open(&waits.door).unwrap();
        let told = tokio::spawn({
            let waits = waits.clone();
            async move { say(&waits).await }
        });
        let word = door.word().await.unwrap();
        assert!(!waits.door.exists(), "one word");
        word.sees(dir.path()).unwrap();
        assert!(!told.is_finished());
        word.serving().await;
        told.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_sees_other_data_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let waits = place(dir.path());
        let door = Door::open(&waits.door).unwrap();
        let told = tokio::spawn(async move { say(&waits).await });
        let word = door.word().await.unwrap();
        let why = word.sees(Path::new("/proc")).unwrap_err();
        assert!(why.contains("did not come in"), "{why}");
        word.refused("line\nbreaks are\x1b[2J taken out").await;
        assert_eq!(told.await.unwrap().unwrap_err(), "line breaks are [2J taken out");
    }

    #[tokio::test]
    async fn what_is_no_word_is_refused_and_the_process_waits_on() {
        let dir = tempfile::tempdir().unwrap();
        let waits = place(dir.path());
        let door = Door::open(&waits.door).unwrap();
        let waiting = tokio::spawn(async move { door.word().await });
        let mut stranger = BufReader::new(UnixStream::connect(&waits.door).await.unwrap());
        stranger.write_all(b"serve you right\n").await.unwrap();
        assert_eq!(line(&mut stranger).await.unwrap(), "refused no word: serve you right");
        drop(UnixStream::connect(&waits.door).await.unwrap());
        let told = tokio::spawn(async move { say(&waits).await });
        let word = waiting.await.unwrap().unwrap();
        // A process that dies now closes its end.
        drop(word);
        assert!(told.await.unwrap().is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz(&data);
        }

        #[test]
        fn devices(device: u64) {
            prop_assert_eq!(word(&format!("serve {device}")), Ok(device));
        }
    }
}
