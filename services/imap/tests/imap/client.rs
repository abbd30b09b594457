//! A client that speaks over any stream, compressed by its own flate2 where COMPRESS is on. Every wait ends: a server that says
//! nothing for 20 seconds fails the test.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(20);

pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub struct Client {
    wire: Box<dyn Wire>,
    plain: Vec<u8>,
    deflate: Option<(Decompress, Compress)>,
    tag: u32,
    /// Bytes as they came over the wire.
    pub received_bytes: usize,
}

impl Client {
    pub fn new(wire: impl Wire + 'static) -> Self {
        Self { wire: Box::new(wire), plain: Vec::new(), deflate: None, tag: 0, received_bytes: 0 }
    }

    /// Reads the greeting and signs in as Eve.
    pub async fn eve(wire: impl Wire + 'static) -> Self {
        let mut client = Self::new(wire);
        assert!(client.line().await.unwrap().starts_with(b"* OK "));
        client.ok("LOGIN eve@x.example secret").await;
        client
    }

    /// From here on both directions are compressed, with what came behind the OK.
    pub fn start_deflate(&mut self) {
        self.deflate = Some((Decompress::new(false), Compress::new(Compression::default(), false)));
        let came = std::mem::take(&mut self.plain);
        self.take_in(&came);
    }

    /// Bytes as they are to stand on the wire.
    pub fn packed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some((_, compress)) = &mut self.deflate else { return bytes.to_vec() };
        let mut out = Vec::with_capacity(bytes.len() + 1024);
        compress.compress_vec(bytes, &mut out, FlushCompress::Sync).unwrap();
        assert!(out.len() < out.capacity(), "a sync flush needs room");
        out
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let packed = self.packed(bytes.as_ref());
        self.send_raw(&packed).await.unwrap();
    }

    /// Past the compression.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let write = async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        };
        tokio::time::timeout(PATIENCE, write).await.expect("the server reads")
    }

    /// One read; false at the end of the stream.
    async fn more(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        let n = tokio::time::timeout(PATIENCE, self.wire.read(&mut chunk)).await.expect("the server answers");
        let n = n.unwrap_or(0);
        self.received_bytes += n;
        self.take_in(&chunk[..n]);
        n > 0
    }

    fn take_in(&mut self, chunk: &[u8]) {
        let Some((inflate, _)) = &mut self.deflate else { return self.plain.extend_from_slice(chunk) };
        let begin = inflate.total_in();
        let mut room = vec![0; 256 * 1024];
        loop {
            let taken = usize::try_from(inflate.total_in() - begin).unwrap();
            let before = inflate.total_out();
            inflate.decompress(&chunk[taken..], &mut room, FlushDecompress::Sync).unwrap();
            let got = usize::try_from(inflate.total_out() - before).unwrap();
            self.plain.extend_from_slice(&room[..got]);
            let all = usize::try_from(inflate.total_in() - begin).unwrap() == chunk.len();
            if all && got < room.len() {
                break;
            }
        }
    }

    /// The length of the first response with its literals, without and with its last line end.
    fn response(&self) -> Option<(usize, usize)> {
        let mut at = 0;
        loop {
            let end = at + self.plain.get(at..)?.windows(2).position(|w| w == b"\r\n")?;
            let literal = self.plain[at..end].strip_suffix(b"}").and_then(|head| {
                let open = head.iter().rposition(|b| *b == b'{')?;
                std::str::from_utf8(&head[open + 1..]).ok()?.parse::<usize>().ok()
            });
            match literal {
                None => return Some((end, end + 2)),
                Some(size) => at = end + 2 + size,
            }
        }
    }

    /// One response with its literals, without its line end; none when the server has closed.
    pub async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((text, all)) = self.response() {
                let mut line: Vec<u8> = self.plain.drain(..all).collect();
                line.truncate(text);
                return Some(line);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The same as text.
    pub async fn text(&mut self) -> String {
        String::from_utf8(self.line().await.expect("the server is there")).unwrap()
    }

    /// Runs a command: what was told, and the tagged answer without its tag.
    pub async fn run(&mut self, command: &str) -> (Vec<Vec<u8>>, String) {
        self.tag += 1;
        let tag = format!("t{} ", self.tag);
        self.send(format!("{tag}{command}\r\n")).await;
        self.answer(&tag).await
    }

    /// Everything up to the answer with this tag (`"a1 "`).
    pub async fn answer(&mut self, tag: &str) -> (Vec<Vec<u8>>, String) {
        let mut told = Vec::new();
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("closed before the answer {tag}"));
            match line.strip_prefix(tag.as_bytes()) {
                Some(answer) => return (told, String::from_utf8(answer.to_vec()).unwrap()),
                None => told.push(line),
            }
        }
    }

    /// A command that must succeed; what was told.
    pub async fn ok(&mut self, command: &str) -> Vec<Vec<u8>> {
        let (told, answer) = self.run(command).await;
        assert!(answer.starts_with("OK"), "{command}: {answer}");
        told
    }

    /// Everything that comes before the server closes, as text.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.plain)).unwrap()
    }
}
