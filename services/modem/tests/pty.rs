//! The driver on a pseudo-terminal whose other end is no modem, or a strange one: scripted here, byte for byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_serial::{SerialPort as _, SerialStream};
use twinpost_modem::{Event, Modem, Outcome, Phase, Settings};

const LONG: Duration = Duration::from_secs(60);

/// A terminal and the settings of a driver on it.
fn line() -> (SerialStream, std::fs::File, Settings) {
    let (master, slave) = SerialStream::pair().unwrap();
    let path = slave.name().expect("a pseudo-terminal has a path");
    // Held open without a lock, so that the other end does not see a hang-up before the driver comes.
    let mut open = std::fs::OpenOptions::new();
    open.read(true).write(true);
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut open, nix::libc::O_NOCTTY);
    let slave = open.open(&path).unwrap();
    let mut settings = Settings::new(path);
    settings.lock_dir = None;
    let t = &mut settings.timing;
    t.port_retry_min = Duration::from_millis(10);
    t.port_retry_max = Duration::from_millis(50);
    t.probe = Duration::from_millis(60);
    t.watch = Duration::from_millis(500);
    t.wait_network = Duration::from_millis(50);
    t.answer_max = Some(Duration::from_millis(1_000));
    t.send_max = Some(Duration::from_millis(1_000));
    t.boot_max = Some(Duration::from_secs(1));
    t.ladder_min = Duration::from_millis(20);
    t.ladder_max = Duration::from_millis(100);
    t.drop = Duration::from_millis(5);
    (master, slave, settings)
}

async fn phase(modem: &Modem, phase: Phase) {
    let mut states = modem.state();
    let got = tokio::time::timeout(LONG, states.wait_for(|s| s.phase == phase)).await;
    assert!(got.is_ok(), "never {phase:?}: {:?}", modem.state().borrow());
}

/// Answers what the driver writes, line by line (or ESC by ESC), with what `answer` says, until the driver goes.
async fn peer(mut master: SerialStream, mut answer: impl FnMut(&str) -> Vec<u8>) {
    let mut line = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(n) = master.read(&mut buffer).await {
        for &byte in &buffer[..n] {
            match byte {
                b'\r' | 0x1A => {
                    let said = answer(&String::from_utf8_lossy(&line));
                    line.clear();
                    if master.write_all(&said).await.is_err() {
                        return;
                    }
                }
                0x1B => line.clear(),
                _ => line.push(byte),
            }
        }
    }
}

#[tokio::test]
async fn a_login_prompt_is_not_a_modem() {
    let (master, _slave, settings) = line();
    let other = tokio::spawn(peer(master, |_| b"\r\nPassword: \r\nLogin incorrect\r\nnode2 login: ".to_vec()));
    let (modem, _events) = Modem::start(settings);
    phase(&modem, Phase::NotAModem).await;
    modem.stop().await;
    other.abort();
}

#[tokio::test]
async fn a_plug_that_gives_everything_back_is_not_a_modem() {
    let (master, _slave, settings) = line();
    let other = tokio::spawn(peer(master, |line| format!("{line}\r").into_bytes()));
    let (modem, _events) = Modem::start(settings);
    phase(&modem, Phase::NotAModem).await;
    modem.stop().await;
    other.abort();
}

#[tokio::test]
async fn nothing_there_is_silent_and_climbs_only_what_exists() {
    let (_master, _slave, settings) = line();
    let (modem, mut events) = Modem::start(settings);
    phase(&modem, Phase::Silent).await;
    let step = tokio::time::timeout(LONG, async {
        loop {
            if let Some(Event::Reset { step, .. }) = events.recv().await {
                return step;
            }
        }
    });
    assert_eq!(step.await.unwrap(), twinpost_modem::ResetStep::Dtr, "a pseudo-terminal has no DTR; trying it is no fault");
    let sent = modem.send(&[1, 0, 0], None, false).await.unwrap_err();
    assert_eq!(sent.outcome(), Outcome::NotSent);
    modem.stop().await;
}

/// A modem that knows the least, answers in numbers until told otherwise, echoes, and takes no extras.
#[tokio::test]
async fn the_barest_modem_that_can_send() {
    let (master, _slave, settings) = line();
    let (told, mut writes) = tokio::sync::mpsc::unbounded_channel();
    let (mut numbers, mut echo, mut data) = (true, true, false);
    let other = tokio::spawn(peer(master, move |line| {
        let mut said = if echo { format!("{line}\r") } else { String::new() };
        if data {
            data = false;
            told.send(line.to_owned()).unwrap();
            return format!("{said}\r\n+CMGS: 77\r\n\r\nOK\r\n").into_bytes();
        }
        let answer = match line {
            "AT" => "OK",
            "ATE0Q0V1" | "ATQ0V1" => {
                (numbers, echo) = (false, !line.starts_with("ATE0") && echo);
                "OK"
            }
            "AT+CGMI" => "\r\nBARE\r\n\r\nOK",
            "AT+CPIN?" => "\r\n+CPIN: READY\r\n\r\nOK",
            "AT+CREG?" => "\r\n+CREG: 0,1\r\n\r\nOK",
            "AT+CMGF=0" => "OK",
            _ if line.starts_with("AT+CMGS=") => {
                data = true;
                said.push_str("\r\n>");
                return said.into_bytes();
            }
            _ => "ERROR",
        };
        said.push_str(&match (numbers, answer) {
            (true, "OK") => "0\r".to_owned(),
            (true, _) => "4\r".to_owned(),
            (false, answer) => format!("\r\n{answer}\r\n"),
        });
        said.into_bytes()
    }));
    let (modem, _events) = Modem::start(settings);
    phase(&modem, Phase::Ready).await;
    assert_eq!(modem.send(&[0x01, 0x00, 0xAB], Some(&[0x91, 0x68, 0x31]), true).await, Ok(77));
    assert_eq!(writes.recv().await.as_deref(), Some("039168310100AB"));
    let state = modem.state().borrow().clone();
    assert_eq!((state.family.as_deref(), state.maker.as_deref()), (Some("generic"), Some("BARE")));
    modem.stop().await;
    other.abort();
}

#[tokio::test]
async fn the_radio_link_is_kept_only_while_more_is_queued() {
    let (master, _slave, settings) = line();
    let (told, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let mut data = false;
    let other = tokio::spawn(peer(master, move |line| {
        let answer = match line {
            _ if std::mem::take(&mut data) => "\r\n+CMGS: 1\r\n\r\nOK\r\n",
            "AT+CREG?" => "\r\n+CREG: 1,1\r\n\r\nOK\r\n",
            "AT+CPIN?" => "\r\n+CPIN: READY\r\n\r\nOK\r\n",
            _ if line.starts_with("AT+CMGS=") => {
                data = true;
                "\r\n> "
            }
            _ => "\r\nOK\r\n",
        };
        if line.starts_with("AT+CMGS") || line.starts_with("AT+CMMS") {
            told.send(line.to_owned()).unwrap();
        }
        answer.as_bytes().to_vec()
    }));
    let (modem, _events) = Modem::start(settings);
    phase(&modem, Phase::Ready).await;
    assert_eq!(modem.send(&[1, 0], None, false).await, Ok(1));
    assert_eq!(lines.recv().await.as_deref(), Some("AT+CMGS=2"), "nothing before a single message");
    for more in [true, false] {
        assert_eq!(modem.send(&[1, 0, 3], None, more).await, Ok(1));
    }
    assert_eq!(lines.recv().await.as_deref(), Some("AT+CMMS=1"));
    assert_eq!(lines.recv().await.as_deref(), Some("AT+CMGS=3"));
    assert_eq!(lines.recv().await.as_deref(), Some("AT+CMGS=3"), "mode 1 ends by itself");
    modem.stop().await;
    other.abort();
}
