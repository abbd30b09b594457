//! The image of a slot on the partitions of all system disks.
//!
//! Contract: [`Writer`] takes verified chunks in order and puts each on every disk; [`Writer::finish`] answers when all of it is on stable storage and was read back with the
//! right hashes past the cache. A disk that is not there is left out and told of; one that fails while it is written fails the whole, because a
//! disk that boots into half an image is worse than an update that waits for a new disk.
//!
//! Failure classes: [`Error::Io`], [`Error::ReadBack`], [`Error::Refused`] (no disk, or a partition that is too small).

use crate::bundle::{CHUNK_BYTES, Part};
use crate::error::{Error, io_error};
use crate::platform::{Medium, SlotDevice};
use crate::text::{Progress, Step, Text};
use std::path::Path;

/// See the module.
pub struct Writer {
    devices: Vec<(String, Box<dyn SlotDevice>)>,
    missing: Vec<(String, Text)>,
}

impl Writer {
    /// On these partitions, for an image of this size.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Io`]
    pub fn new(media: Vec<Medium<Box<dyn SlotDevice>>>, bytes: u64) -> Result<Self, Error> {
        let (mut devices, mut missing, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for Medium { bay, medium } in media {
            match medium {
                Err(why) => missing.push((bay, why)),
                Ok(device) => {
                    let room = device.bytes().map_err(io_error("measure", Path::new(&device.name())))?;
                    if room < bytes {
                        let name = device.name();
                        reasons.push(Text::new(
                            format!("the image has {bytes} bytes, its partition {name} in bay {bay} only {room}: this disk needs a new installation"),
                            format!("映像有 {bytes} 字节，而 {bay} 号槽位的分区 {name} 只有 {room} 字节：该磁盘需要重新安装"),
                        ));
                    }
                    devices.push((bay, device));
                }
            }
        }
        if devices.is_empty() {
            let mut why = Text::new("no system disk can be written", "没有可写入的系统磁盘");
            for (bay, text) in &missing {
                why.en.push_str(&format!("; bay {bay}: {}", text.en));
                why.zh.push_str(&format!("；{bay} 号槽位：{}", text.zh));
            }
            reasons.push(why);
        }
        if reasons.is_empty() { Ok(Self { devices, missing }) } else { Err(Error::Refused { reasons }) }
    }

    /// The disks that are not there, and why.
    #[must_use]
    pub fn missing(&self) -> &[(String, Text)] {
        &self.missing
    }

    /// The bays of the disks that are written.
    #[must_use]
    pub fn bays(&self) -> Vec<&str> {
        self.devices.iter().map(|(bay, _)| bay.as_str()).collect()
    }

    /// Puts a verified chunk on every disk.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        for (_, device) in &mut self.devices {
            device.write(offset, bytes).map_err(io_error("write", Path::new(&device.name())))?;
        }
        Ok(())
    }

    /// Syncs every disk and reads it back.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::ReadBack`]
    pub fn finish(&mut self, part: &Part, progress: Progress<'_>) -> Result<(), Error> {
        for (_, device) in &mut self.devices {
            device.sync().map_err(io_error("sync", Path::new(&device.name())))?;
        }
        let (of, mut done) = (part.bytes * self.devices.len() as u64, 0);
        let mut buffer = vec![0; CHUNK_BYTES];
        for (_, device) in &self.devices {
            let mut offset = 0;
            for chunk in 0..part.chunks.len() {
                let bytes = &mut buffer[..part.chunk_bytes(chunk)];
                device.read(offset, bytes).map_err(io_error("read back", Path::new(&device.name())))?;
                if part.hash(chunk) != Some(blake3::hash(bytes)) {
                    return Err(Error::ReadBack { device: device.name(), offset });
                }
                offset += bytes.len() as u64;
                done += bytes.len() as u64;
                progress(Step { what: Text::new("reading back what was written", "回读校验已写入的内容"), done, of });
            }
        }
        Ok(())
    }
}

/// Makes one partition the same as another: what differs is written, synced and read back. Answers how many bytes differed.
///
/// # Errors
/// [`Error::Io`], [`Error::ReadBack`], [`Error::Refused`] (the target is smaller).
pub fn copy(from: &dyn SlotDevice, to: &mut dyn SlotDevice, progress: Progress<'_>) -> Result<u64, Error> {
    let measure = |device: &dyn SlotDevice| device.bytes().map_err(io_error("measure", Path::new(&device.name())));
    let (of, room) = (measure(from)?, measure(to)?);
    if room < of {
        let (from, to) = (from.name(), to.name());
        return Err(Error::refused(Text::new(
            format!("the partition {to} is smaller than {from}: this disk needs a new installation"),
            format!("分区 {to} 小于 {from}：该磁盘需要重新安装"),
        )));
    }
    let (mut source, mut target) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut differed = 0;
    for check in [false, true] {
        let mut offset = 0;
        while offset < of {
            let n = usize::try_from(of - offset).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let (source, target) = (&mut source[..n], &mut target[..n]);
            from.read(offset, source).map_err(io_error("read", Path::new(&from.name())))?;
            to.read(offset, target).map_err(io_error("read", Path::new(&to.name())))?;
            if source != target {
                if check {
                    return Err(Error::ReadBack { device: to.name(), offset });
                }
                to.write(offset, source).map_err(io_error("write", Path::new(&to.name())))?;
                differed += n as u64;
            }
            offset += n as u64;
            progress(Step {
                what: Text::new("copying the system to the other disk", "将系统复制到另一块磁盘"),
                done: offset,
                of,
            });
        }
        if differed == 0 {
            return Ok(0);
        }
        if !check {
            to.sync().map_err(io_error("sync", Path::new(&to.name())))?;
        }
    }
    Ok(differed)
}
