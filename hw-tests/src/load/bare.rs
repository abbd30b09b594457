//! The bare limit: the same bytes, the same number of syncs, and nothing else.

use super::message::Maker;
use super::ms;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub struct Bare {
    /// File to write; it is removed afterwards
    #[arg(long)]
    file: std::path::PathBuf,
    /// How many messages
    #[arg(long, default_value_t = 5000)]
    messages: u64,
    /// Bytes of each
    #[arg(long, default_value_t = 10_240)]
    size: usize,
    /// How many times fdatasync is called in all, at even distances
    #[arg(long, default_value_t = 250)]
    syncs: u64,
}

impl Bare {
    /// Writes and syncs.
    pub async fn run(self) -> Result<Value, String> {
        tokio::task::spawn_blocking(move || self.write()).await.map_err(|e| e.to_string())?
    }

    fn write(&self) -> Result<Value, String> {
        let fault = |e: std::io::Error| format!("{}: {e}", self.file.display());
        let maker = Maker::new(self.size, 1);
        let mut file = std::fs::File::create(&self.file).map_err(fault)?;
        let (mut batch, mut written) = (Vec::new(), 0u64);
        let start = Instant::now();
        for sync in 0..self.syncs {
            let until = self.messages * (sync + 1) / self.syncs;
            batch.clear();
            while written < until {
                maker.make(written, &mut batch);
                written += 1;
            }
            file.write_all(&batch).and_then(|()| file.sync_data()).map_err(fault)?;
        }
        let elapsed = start.elapsed();
        std::fs::remove_file(&self.file).map_err(fault)?;
        Ok(
            json!({ "messages": written, "syncs": self.syncs, "per_second": written as f64 / elapsed.as_secs_f64(), "ms": ms(elapsed) }),
        )
    }
}
