//! The disks of a test machine on real md: each order is one run, its answer one line of JSON. Bays are slots of the PCI bus (5 and 6), the
//! programs are those of the machine. `hw-tests/qemu/disks` runs it.
//!
//! Orders: `image FILE BYTES` (on the host: the disk that an image leaves), `list`, `assemble`, `state`, `arrays`, `init`, `replace BAY`,
//! `install SOURCE`, `watch FILE`; options `--go`, `--erase SERIAL`, `--stop-after N`, `--no-wait`, `--single`.

use std::io::Write;
use std::path::Path;
use twinpost_disks::layout::{Layout, entries};
use twinpost_disks::table::{self, Table};
use twinpost_disks::{Machine, Options, Order, Port};

/// The disk behind a slot of the PCI bus.
fn disk_at(slot: u32) -> Option<std::path::PathBuf> {
    let at = format!("/sys/bus/pci/devices/0000:00:{slot:02x}.0");
    let virtio = std::fs::read_dir(at).ok()?.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with("virtio"))?;
    let block = std::fs::read_dir(virtio.path().join("block")).ok()?.flatten().next()?;
    Some(Path::new("/dev").join(block.file_name()))
}

fn ports() -> Vec<Port> {
    let port =
        |(bay, slot): (&str, u32)| Port { bay: bay.into(), label: format!("DISK {bay}"), led: None, device: disk_at(slot) };
    [("1", 5), ("2", 6)].map(port).to_vec()
}

fn image(path: &str, bytes: u64) -> Result<(), Box<dyn std::error::Error>> {
    use std::os::unix::fs::FileExt;
    let places = Layout::default().system();
    table::write(Path::new(path), 512, &Table { guid: uuid::Uuid::new_v4(), partitions: entries(&places) })?;
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    for place in &places {
        // Something to compare, in the beginning and in the last bytes.
        for at in [place.start_bytes, place.start_bytes + place.bytes - 4096] {
            file.write_all_at(format!("{} {at}", place.name).as_bytes(), at)?;
        }
    }
    // Old data where the other partitions will be.
    let behind = places.last().map_or(0, |last| last.start_bytes + last.bytes);
    for at in (behind..bytes - (1 << 20)).step_by(16 << 20) {
        file.write_all_at(&[0x5a; 8192], at)?;
    }
    Ok(())
}

/// Options behind the words of an order.
#[derive(Default)]
struct Flags {
    go: bool,
    stop_after: Option<usize>,
    wait: bool,
    options: Options,
}

fn flags(words: &[&str]) -> Result<Flags, Box<dyn std::error::Error>> {
    let mut out = Flags { wait: true, ..Flags::default() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().ok_or(format!("{word} needs a value"));
        match *word {
            "--go" => out.go = true,
            "--no-wait" => out.wait = false,
            "--single" => out.options.single = true,
            "--erase" => out.options.erase.push(value()?.into()),
            "--bay" => out.options.bays.push(value()?.into()),
            "--stop-after" => out.stop_after = Some(value()?.parse()?),
            _ => return Err(format!("no such option: {word}").into()),
        }
    }
    Ok(out)
}

async fn order(machine: &Machine, order: Order, flags: &Flags) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let plan = machine.plan(&order).await;
    if flags.go && plan.possible() {
        let tell = |progress: twinpost_disks::Progress| {
            let line = serde_json::json!({"progress": progress});
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        };
        machine.carry_out_some(&plan, flags.stop_after.unwrap_or(usize::MAX), &tell).await?;
    }
    Ok(serde_json::to_value(plan)?)
}

async fn watch(machine: &Machine, path: &str) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let mut events = machine.watch()?;
    let mut file = std::fs::File::create(path)?;
    while let Some(event) = events.recv().await {
        writeln!(file, "{}", serde_json::to_string(&event)?)?;
    }
    Ok(serde_json::json!("ended"))
}

async fn run(args: &[&str]) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let machine = Machine::new(ports());
    Ok(match args {
        ["image", path, bytes] => {
            image(path, bytes.parse()?)?;
            serde_json::json!("ok")
        }
        ["list"] => serde_json::to_value(machine.list(false).await)?,
        ["assemble"] => serde_json::to_value(machine.assemble().await)?,
        ["state"] => serde_json::to_value(machine.open_state().await)?,
        ["arrays"] => serde_json::to_value(machine.arrays())?,
        ["watch", path] => watch(&machine, path).await?,
        ["init", rest @ ..] => {
            let flags = flags(rest)?;
            order(&machine, Order::Init(flags.options.clone()), &flags).await?
        }
        ["replace", bay, rest @ ..] => {
            let flags = flags(rest)?;
            let erase = flags.options.erase.clone();
            order(&machine, Order::Replace { bay: (*bay).into(), erase, wait: flags.wait }, &flags).await?
        }
        ["install", source, rest @ ..] => {
            let flags = flags(rest)?;
            order(&machine, Order::Install { source: source.into(), options: flags.options.clone() }, &flags).await?
        }
        other => return Err(format!("no such order: {other:?}").into()),
    })
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be built");
    let answer = runtime.block_on(run(&args)).unwrap_or_else(|error| serde_json::json!({"error": error.to_string()}));
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{answer}");
}
