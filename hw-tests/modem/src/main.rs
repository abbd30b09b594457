//! `twinpost-modem`: the simulated modem by hand. It prints what phones received, and ends with Ctrl-C or `quit`.

use clap::{Parser, ValueEnum};
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use twinpost_hw_modem::{Card, FAMILIES, Family, Handle, Line, Options, Received, Simulator, Timing};

/// A simulated GSM modem. Plug a program into the link; what it sends to phones is decoded and printed.
///
/// Example: `twinpost-modem --link modem --record phones.jsonl --control modem.sock`, then let a program open `modem` as its serial
/// port. Orders go to the control socket, one a line: `echo help | nc -U -q1 modem.sock` lists them.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Make a pseudo-terminal and this symbolic link to it.
    #[arg(long, value_name = "PATH", required_unless_present_any = ["unix", "tcp", "families"])]
    link: Option<PathBuf>,
    /// Listen on this Unix socket instead of a pseudo-terminal.
    #[arg(long, value_name = "PATH", conflicts_with = "link")]
    unix: Option<PathBuf>,
    /// Listen on this TCP address instead.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["link", "unix"])]
    tcp: Option<SocketAddr>,
    /// Append a JSON line for each received message to this file.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Take orders on this Unix socket.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// The modem to be; --families lists them.
    #[arg(long, default_value = "plain", value_parser = family)]
    family: &'static Family,
    /// List the families and end.
    #[arg(long)]
    families: bool,
    /// instant, radio (seconds for each message), or milliseconds for each message.
    #[arg(long, default_value = "instant", value_parser = timing)]
    timing: Timing,
    /// The SIM asks for this PIN.
    #[arg(long)]
    pin: Option<String>,
    /// The SIM card.
    #[arg(long, value_enum, default_value_t = CardWord::In)]
    sim: CardWord,
    /// Fixed speed of the modem; without it any speed does.
    #[arg(long)]
    baud: Option<u32>,
    /// Number of the modem's own SIM.
    #[arg(long, default_value = "+8613800100500")]
    number: String,
    /// Places of the SIM's message memory; the family's own without it.
    #[arg(long)]
    capacity: Option<usize>,
    /// Signal, 0..31 or 99.
    #[arg(long, default_value_t = 21)]
    signal: u8,
    /// Milliseconds from a message to its status report.
    #[arg(long, default_value_t = 500, value_name = "MS")]
    report_delay: u64,
    /// Probability for each byte to be changed on the way.
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    garble: f64,
    /// Probability for an unsolicited line at each place inside an answer.
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    unsolicited: f64,
    /// Milliseconds that the echo takes.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    echo_delay: u64,
    /// Orders to carry out at the start, as on the control socket; may be given several times.
    #[arg(long = "order", value_name = "ORDER")]
    orders: Vec<String>,
    /// Seed of all chance; a random one without it. It is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Begin with the boot of the family instead of ready.
    #[arg(long)]
    cold: bool,
    /// Print messages as JSON lines.
    #[arg(long)]
    json: bool,
    /// Print nothing.
    #[arg(long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CardWord {
    In,
    Out,
    Locked,
}

fn family(name: &str) -> Result<&'static Family, String> {
    Family::named(name).ok_or_else(|| {
        let names: Vec<&str> = FAMILIES.iter().map(|f| f.name).collect();
        format!("there are {}", names.join(", "))
    })
}

fn timing(word: &str) -> Result<Timing, String> {
    match word {
        "instant" => Ok(Timing::Instant),
        "radio" => Ok(Timing::Radio),
        ms => ms.parse().map(Timing::SendMs).map_err(|_| "instant, radio or milliseconds".to_owned()),
    }
}

fn random_seed() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    time ^ u64::from(std::process::id()) << 32
}

fn fail(sentence: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "twinpost-modem: {sentence}");
    ExitCode::FAILURE
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let out = std::io::stdout();
    if arguments.families {
        for f in FAMILIES {
            let _ = writeln!(out.lock(), "{:<10}{} {}", f.name, f.manufacturer, f.model);
        }
        return ExitCode::SUCCESS;
    }
    match start(&arguments) {
        Ok(handle) => match show(&arguments, &handle).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => fail(&format!("signals and output: {e}")),
        },
        Err(sentence) => fail(&sentence),
    }
}

fn start(arguments: &Arguments) -> Result<Handle, String> {
    let line = match (&arguments.link, &arguments.unix, arguments.tcp) {
        (Some(link), _, _) => Line::Pty(link.clone()),
        (_, Some(path), _) => Line::Unix(path.clone()),
        (_, _, Some(address)) => Line::Tcp(address),
        _ => Line::None,
    };
    let options = Options {
        line,
        control: arguments.control.clone(),
        record: arguments.record.clone(),
        family: arguments.family,
        timing: arguments.timing,
        seed: arguments.seed.unwrap_or_else(random_seed),
        pin: arguments.pin.clone(),
        card: match arguments.sim {
            CardWord::In => Card::In,
            CardWord::Out => Card::Out,
            CardWord::Locked => Card::Locked,
        },
        baud: arguments.baud,
        number: arguments.number.clone(),
        capacity: arguments.capacity,
        signal: arguments.signal,
        report_delay_ms: arguments.report_delay,
        garble: arguments.garble,
        unsolicited: arguments.unsolicited,
        echo_delay_ms: arguments.echo_delay,
        booted: !arguments.cold,
        ..Options::default()
    };
    let seed = options.seed;
    let place = match &options.line {
        Line::Pty(path) | Line::Unix(path) => path.display().to_string(),
        Line::Tcp(address) => address.to_string(),
        Line::None => String::new(),
    };
    let handle = Simulator::start_keeping(options, 10_000).map_err(|e| format!("{place}: {e}"))?;
    for order in &arguments.orders {
        handle.control(order).map_err(|e| format!("--order '{order}': {e}"))?;
    }
    if !arguments.quiet {
        let place = handle.address().map_or(place, |a| a.to_string());
        let said = if arguments.json {
            format!("{{\"line\":{},\"seed\":{seed}}}", serde_json::Value::from(place))
        } else {
            format!("{} {} on {place}, seed {seed}", arguments.family.manufacturer, arguments.family.model)
        };
        let _ = writeln!(std::io::stdout(), "{said}");
    }
    Ok(handle)
}

/// Prints what phones receive until somebody stops it: by `quit`, Ctrl-C or a signal. The link goes with it, so that it never leads to
/// another program's terminal.
async fn show(arguments: &Arguments, handle: &Handle) -> std::io::Result<()> {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut counters = handle.watch();
    let (mut shown, mut seen) = (!arguments.quiet, 0);
    loop {
        tokio::select! {
            () = handle.wait_stopped() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
            _ = counters.changed() => {}
        }
        let (messages, total) = handle.received_after(seen);
        seen = total;
        let mut out = std::io::stdout().lock();
        for message in messages {
            if !shown {
                break;
            }
            let line = if arguments.json { serde_json::to_string(&message)? } else { plain(&message, colour) };
            // When nobody reads any more, the modem itself stays.
            shown = writeln!(out, "{line}").and_then(|()| out.flush()).is_ok();
        }
    }
}

fn plain(message: &Received, colour: bool) -> String {
    let (bold, dim, warn, end) = if colour { ("\x1b[1;36m", "\x1b[2m", "\x1b[33m", "\x1b[0m") } else { ("", "", "", "") };
    let clock = message.time.get(11..19).unwrap_or_default();
    let mut notes = message.alphabet.to_owned();
    if message.parts > 1 {
        notes += &format!(", {} parts", message.parts);
    }
    if message.class == Some(0) {
        notes += ", flash";
    }
    let repeat = match (message.duplicate, message.possible_duplicate) {
        (_, true) => format!(" {warn}possible duplicate{end}"),
        (true, false) => format!(" {warn}came twice{end}"),
        _ => String::new(),
    };
    let text: String = message.text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    format!("{dim}{clock}{end} {bold}{}{end} {dim}({notes}){end}{repeat}\n  {}", message.number, text.replace('\n', "\n  "))
}
