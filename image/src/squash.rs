//! The tree as a squashfs file: one sorted archive through mksquashfs.
//!
//! Contract: the bytes depend on the tree, the time and the settings here, not on the number of processors. Failure class: mksquashfs.
//! (Not sqfstar: that of squashfs-tools 4.5.1 refuses every compression level.)

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result, io};
use crate::program;
use crate::tree::Tree;

/// Bytes compressed together. Larger ones compress better and cost more memory at each read of a small file.
pub const BLOCK_BYTES: u32 = 256 * 1024;

/// What mksquashfs says of its version: another one may write other bytes.
pub fn version() -> Result<Vec<u8>> {
    program::run(Command::new("mksquashfs").arg("-version"))
}

/// Writes `tree` to `out`. `level` is zstd's; `processors` only for the test that it does not matter; `None` takes all.
pub fn write(tree: &Tree, out: &Path, epoch_s: u64, level: u32, processors: Option<usize>) -> Result<()> {
    let partial = out.with_extension("partial");
    // mksquashfs adds to a file that exists.
    if partial.exists() {
        std::fs::remove_file(&partial).map_err(io("cannot remove", &partial))?;
    }
    let mut command = Command::new("mksquashfs");
    let time = epoch_s.to_string();
    command.arg("-").arg(&partial).args([
        "-tar",
        "-comp",
        "zstd",
        "-Xcompression-level",
        &level.to_string(),
        "-b",
        &BLOCK_BYTES.to_string(),
    ]);
    command.args([
        "-mkfs-time",
        &time,
        "-all-time",
        &time,
        "-root-time",
        &time,
        "-root-mode",
        "755",
        "-root-uid",
        "0",
        "-root-gid",
        "0",
        "-no-xattrs",
        "-no-progress",
        "-quiet",
        "-exit-on-error",
    ]);
    command.args(processors.map(|count| ["-processors".to_owned(), count.to_string()]).into_iter().flatten());
    // It refuses to run with both times given.
    command.env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| program::missing(&command, &error))?;
    let pipe = child.stdin.take().expect("stdin was asked for");
    let mut pipe = BufWriter::with_capacity(1 << 20, pipe);
    let written = tree.write_tar(&mut pipe, epoch_s).and_then(|()| pipe.flush());
    drop(pipe);
    let output = child.wait_with_output().map_err(io("cannot wait for mksquashfs writing", &partial))?;
    program::check(&command, output)?;
    written.map_err(io("cannot give the tree to mksquashfs for", &partial))?;
    std::fs::rename(&partial, out).map_err(io("cannot rename to", out))?;
    let bytes = std::fs::metadata(out).map_err(io("cannot read", out))?.len();
    if bytes % 4096 != 0 {
        return Err(Error::Format { what: "squashfs".into(), why: format!("its {bytes} bytes are no multiple of 4096") });
    }
    Ok(())
}
