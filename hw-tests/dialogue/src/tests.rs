use crate::pattern::{Variables, matches, parse};
use crate::{Dialogue, Peer, Script};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// Answers every line with `you said LINE`, closes on `quit`.
fn echo(io: DuplexStream) {
    tokio::spawn(async move {
        let mut io = BufReader::new(io);
        io.write_all(b"hello\r\n").await.unwrap();
        let mut line = String::new();
        while io.read_line(&mut line).await.is_ok_and(|n| n > 0) {
            if line.trim_end() == "quit" {
                break;
            }
            if line.trim_end() == "bare" {
                io.write_all(b"bare\n").await.unwrap();
            } else if line.trim_end() != "hush" {
                io.write_all(format!("you said {}\r\n", line.trim_end()).as_bytes()).await.unwrap();
            }
            line.clear();
        }
    });
}

async fn connect(_: u32) -> io::Result<DuplexStream> {
    let (here, there) = tokio::io::duplex(1024);
    echo(there);
    Ok(here)
}

#[tokio::test]
async fn a_dialogue_passes() {
    let captured = Dialogue::new()
        .with("user", "eve")
        .assert(
            "ok",
            r"
# first connection
S: hello
C: one {user}
S: you said <all>
C: two {all}
S: you * eve
C~ three\r\nfour
C~ \r\n
S*
S: you said four
C: {base64:\x00eve\x00pw} {12}
S: you said AGV2ZQBwdw== {12}
2S: hello
2C: x\\y
2S: you said x\\y
C<< END
a block
{not}
END
S<< END
you said a block
you said {not}
END
2C: quit
2S: [closed]
C: quit
S: [closed]
",
            &mut connect,
        )
        .await;
    assert_eq!(captured["all"], b"one eve");
}

async fn failure(text: &str) -> String {
    let script = Script::parse("bad.txt", text).unwrap();
    let result = Dialogue::new().within(Duration::from_millis(100)).run(&script, &mut connect).await;
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn a_failure_tells_everything() {
    let told = failure("S: hello\nC: one\nS: you said two\n").await;
    for part in ["bad.txt:3", "expected  S: you said two", "got       you said one", "C: one\n", "S: hello\n"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(failure("S: hello\nC: hush\nS: *\n").await.contains("nothing in 100ms"));
    assert!(failure("S: hello\nS: [closed]\n").await.contains("open after"));
    assert!(failure("S: hello\nC: quit\nS: bye\n").await.contains("[closed]"));
    assert!(failure("S: hello\nC: bare\nS: bare\n").await.contains("bare\\n"));
    assert!(failure("S: hello\nC: {nobody}\n").await.contains("not captured"));
    assert!(failure("S: hello\n+ TLS\n").await.contains("no TLS"));
    assert!(failure("S: hello\n+ dance\n").await.contains("does not know"));
    assert!(failure("S: hello\nS*\nS: never\n").await.contains("nothing in"));
}

#[test]
fn a_wrong_file_names_the_line() {
    let wrong = |text: &str| Script::parse("w", text).unwrap_err().to_string();
    assert!(wrong("S: a\nB: c\n").starts_with("w:2: neither"));
    assert!(wrong("C<< END\nx\n").contains("no end"));
    assert!(wrong("C: \\xg0\n").contains("hexadecimal"));
}

#[test]
fn patterns() {
    let fits = |pattern: &str, line: &str| {
        let mut variables = Variables::from([("v".to_owned(), b"val".to_vec())]);
        let fits = matches(&parse(pattern, true).unwrap(), line.as_bytes(), &mut variables).unwrap();
        fits.then(|| variables.get("n").map(|n| String::from_utf8(n.clone()).unwrap()).unwrap_or_default())
    };
    assert!(fits("* OK *", "* OK done").is_some());
    assert!(fits("* OK *", "x OK done").is_none());
    assert!(fits("a*b*c", "axxbyyc").is_some());
    assert!(fits("a*b*c", "axxbyy").is_none());
    assert!(fits(r"FLAGS (\Seen \\*)", r"FLAGS (\Seen \*)").is_some());
    assert_eq!(fits("r=<n>,s={v}", "r=12,3,s=val").as_deref(), Some("12,3"));
    assert!(fits("x<n>y", "xy").is_none());
    assert_eq!(fits("<n> {n}", "ab ab").as_deref(), Some("ab"));
    assert!(fits("<n> {n}", "ab ac").is_none());
    assert!(fits("<A@b>", "<A@b>").is_some());
    assert!(fits("", "").is_some());
}

struct Upgrading(u32);

impl Peer for Upgrading {
    async fn connect(&mut self, connection: u32) -> io::Result<Box<dyn crate::Duplex>> {
        Ok(Box::new(connect(connection).await?))
    }
    async fn upgrade(&mut self, _: u32, plain: Box<dyn crate::Duplex>) -> io::Result<Box<dyn crate::Duplex>> {
        self.0 += 1;
        Ok(plain)
    }
    async fn call(&mut self, text: &str) -> io::Result<()> {
        self.0 += u32::try_from(text.len()).unwrap();
        Ok(())
    }
}

#[tokio::test]
async fn callbacks_are_called() {
    let mut peer = Upgrading(0);
    Dialogue::new().assert("calls", "S: hello\n+ TLS\nC: a\nS: you said a\n+ four\n+ CLOSE\nS: hello\n", &mut peer).await;
    assert_eq!(peer.0, 5);
}
