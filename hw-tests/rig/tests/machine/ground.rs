//! What the scenarios stand on: one pair that lives on, clients, observers, figures.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use twinpost_rig::pair::{Sending, TAKEOVER};
use twinpost_rig::qemu::{Disks, Settings};
use twinpost_rig::wait::until;
use twinpost_rig::{
    Bench, Cable, Capabilities, Capability, Fault, Founded, Image, NODES, Observers, Pair, Qemu, Rig, Stand, Timeline, desk,
    found, other,
};

/// What a scenario came to.
pub type Outcome = Result<(), Box<dyn Error>>;

/// One scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name, as a sentence.
    pub name: &'static str,
    /// What it needs of the rig.
    pub needs: &'static [Capability],
    /// Only with `TWINPOST_SOAK`: it takes long, or was not seen to pass often enough yet to stop others by it.
    pub long: bool,
    /// What it does.
    pub run: fn(&mut Ground) -> Outcome,
}

/// Ends a scenario with a sentence unless it holds.
pub fn check(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(what().into()) }
}

/// Where pairs come from.
enum Source {
    /// Machines in QEMU over a founded base.
    Machines { settings: Box<Settings>, base: PathBuf },
    /// The one pair on a bench.
    Bench,
}

/// See the module.
pub struct Ground {
    source: Source,
    capabilities: Capabilities,
    folder: PathBuf,
    timeline: Timeline,
    pair: Option<Pair<Stand>>,
    round: u32,
    figures: BTreeMap<String, Vec<Value>>,
}

impl Ground {
    /// Founds the base pair, if this image has none yet.
    pub fn prepare(image: &Path) -> Result<Self, Box<dyn Error>> {
        let image = Image::open(image)?;
        let folder = image.folder.join("rig");
        let log = folder.join("log");
        // The last run's timelines are not this one's.
        let _ = std::fs::remove_dir_all(&log);
        let timeline = Timeline::begin(&log);
        let settings = Settings::new(image, desk::program(), folder.join("run"));
        let base =
            found::base(&settings, &folder, &timeline).inspect_err(|_| println!("{}", timeline.last(Duration::ZERO, 60)))?;
        Ok(Self::new(Source::Machines { settings: Box::new(settings), base }, Qemu::declared(), folder, timeline))
    }

    /// The bench of this file; what happens stands beside it.
    pub fn on_bench(file: &Path) -> Result<Self, Box<dyn Error>> {
        let folder = file.with_extension("log");
        let timeline = Timeline::begin(&folder);
        let bench = Bench::open(file, timeline.clone())?;
        let (capabilities, passwords) = (bench.capabilities().clone(), bench.passwords().clone());
        let mut ground = Self::new(Source::Bench, capabilities, folder, timeline);
        ground.pair = Some(Pair::of(bench.into(), Founded { passwords, ..Founded::default() }));
        Ok(ground)
    }

    fn new(source: Source, capabilities: Capabilities, folder: PathBuf, timeline: Timeline) -> Self {
        Self { source, capabilities, folder, timeline, pair: None, round: 0, figures: BTreeMap::new() }
    }

    /// Runs what is wanted; prints the counts as cargo's harness does.
    pub fn run(&mut self, all: &[Scenario], wanted: impl Fn(&Scenario) -> bool) -> ExitCode {
        let soak = std::env::var_os("TWINPOST_SOAK").is_some();
        let (mut passed, mut failed, mut left_out) = (0, Vec::new(), 0);
        let begun = Instant::now();
        for scenario in all.iter().filter(|scenario| wanted(scenario)) {
            if scenario.long && !soak {
                println!("test {} ... ignored: `make soak` runs it", scenario.name);
                left_out += 1;
                continue;
            }
            if let Some(missing) = scenario.needs.iter().find(|need| !self.capabilities.contains(need)) {
                println!("test {} ... ignored: this rig has no {missing}", scenario.name);
                left_out += 1;
                continue;
            }
            let from = self.timeline.now();
            self.timeline.say(&format!("=== {}", scenario.name));
            let one = Instant::now();
            // A panic of a client or of an expectation ends the scenario and not the suite.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (scenario.run)(self)));
            let error = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(panic) => Some(panic_text(&*panic)),
            };
            let took = one.elapsed().as_secs_f64();
            match error {
                None => {
                    println!("test {} ... ok ({took:.1} s)", scenario.name);
                    passed += 1;
                }
                Some(error) => {
                    println!("test {} ... FAILED ({took:.1} s)\n{error}", scenario.name);
                    self.autopsy(scenario.name, from);
                    failed.push(format!("{}: {error}", scenario.name));
                }
            }
            self.keep_figures();
        }
        self.pair = None;
        for line in &failed {
            println!("failed: {line}");
        }
        let word = if failed.is_empty() { "ok" } else { "FAILED" };
        println!(
            "test result: {word}. {passed} passed; {} failed; {left_out} ignored; finished in {:.0} s",
            failed.len(),
            begun.elapsed().as_secs_f64()
        );
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// What a person needs who looks for the cause; the pair is not used again.
    fn autopsy(&mut self, name: &str, from: Duration) {
        println!("{}", self.timeline.last(from, 40));
        let Some(pair) = self.pair.take() else { return };
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pair.keep_journals(name)));
        // There is only one bench.
        if matches!(self.source, Source::Bench) {
            self.pair = Some(pair);
        }
    }

    /// A pair of which one node serves and the other is its eligible standby: the one that lives, or a new one; and who serves.
    pub fn pair(&mut self) -> Result<(&Pair<Stand>, &'static str), Box<dyn Error>> {
        self.pair_with(|_| Ok(()))
    }

    /// The same; a new one gets this before its nodes have power.
    pub fn pair_with(
        &mut self,
        prepare: impl FnOnce(&Pair<Stand>) -> Outcome,
    ) -> Result<(&Pair<Stand>, &'static str), Box<dyn Error>> {
        if let (Source::Machines { settings, base }, None) = (&self.source, &self.pair) {
            self.round += 1;
            let folder = self.folder.join("run");
            let _ = std::fs::remove_dir_all(&folder);
            let settings = Settings { folder, ..(**settings).clone() };
            let begun = Instant::now();
            let pair = found::over(settings, base, self.timeline.clone())?;
            prepare(&pair)?;
            // One that does not come up is asked for its journals.
            let banner = found::start(self.pair.insert(pair))?;
            let figure = json!({ "banner_ms": ms(banner), "settled_ms": ms(begun.elapsed()) });
            self.figure("power on of both to greeting and to eligible standby", figure);
        }
        let pair = self.pair.as_ref().ok_or("there is no pair")?;
        if matches!(self.source, Source::Bench) && pair.rig.can(Capability::CutPower) {
            // A scenario that failed may have left a node without power.
            for node in NODES {
                if !pair.rig.has_power(node)? {
                    pair.rig.power(node, true)?;
                }
            }
        }
        let active = pair.settled()?;
        Ok((pair, active))
    }

    /// The founded pair that all others lie over; none on a bench.
    pub fn base(&self) -> Option<&Path> {
        match &self.source {
            Source::Machines { base, .. } => Some(base),
            Source::Bench => None,
        }
    }

    /// Where a scenario may put files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The pair that lives, however it is.
    pub fn living(&self) -> Option<&Pair<Stand>> {
        self.pair.as_ref()
    }

    /// Every cable of a node as it should be.
    pub fn mend(&self, node: &str) -> Outcome {
        self.pair.as_ref().map_or(Ok(()), |pair| mend(pair, node))
    }

    /// The next scenario gets a new pair, where there are more than one.
    pub fn used_up(&mut self) {
        if matches!(self.source, Source::Machines { .. }) {
            self.pair = None;
        }
    }

    /// Machines of their own, with the image on the first disk of each; none has power. The pair that lived ends: a rig has its addresses.
    pub fn apart(&mut self, name: &str) -> Result<Qemu, Box<dyn Error>> {
        self.used_up();
        let folder = self.folder.join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let Source::Machines { settings, .. } = &self.source else {
            return Err("a bench has no further machines".into());
        };
        Ok(Qemu::prepare(Settings { folder, ..(**settings).clone() }, &Disks::Fresh, self.timeline.clone())?)
    }

    /// Remembers a figure for docs/benchmarks.md.
    pub fn figure(&mut self, name: &str, value: Value) {
        self.timeline.say(&format!("figure: {name}: {value}"));
        self.figures.entry(name.to_owned()).or_default().push(value);
    }

    fn keep_figures(&self) {
        let text = serde_json::to_vec_pretty(&self.figures).unwrap_or_default();
        self.timeline.keep("figures.json", &text);
    }

    /// A fault under load: clients send, observers look on; `fault` does its work and says what it saw; afterwards more mail goes, nobody
    /// served beside another, and every acknowledged message is there.
    pub fn under_load<T>(
        &mut self,
        name: &str,
        fault: impl FnOnce(&Scene<'_>) -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        let timeline = self.timeline.clone();
        let (pair, active) = self.pair()?;
        let begun = Instant::now();
        let observers = Observers::start(&pair.rig, &timeline)?;
        let sending = pair.load(name)?;
        let scene = Scene { pair, active, standby: other(active), sending, observers };
        scene.sending.more(12, Duration::from_secs(60))?;
        let seen = fault(&scene)?;
        scene.sending.more(12, Duration::from_secs(120))?;
        let load = scene.sending.end();
        let breaches = scene.observers.breaches(begun);
        scene.observers.end();
        check(breaches.is_empty(), || format!("two nodes served at once:\n{}", breaches.join("\n")))?;
        pair.find_all(&load)?;
        Ok(seen)
    }

    /// [`Ground::under_load`] with a fault after which the peer must serve; the time to its banner is a figure, with the daemon's own shares.
    pub fn taken_over(&mut self, name: &str, fault: impl FnOnce(&Scene<'_>) -> Outcome) -> Outcome {
        let figure = self.under_load(name, |scene| {
            let struck = Instant::now();
            fault(scene)?;
            scene.served_by_peer(struck)
        })?;
        self.figure(&format!("takeover: {name}"), figure);
        Ok(())
    }
}

/// A pair under load, and who served when the scenario began.
pub struct Scene<'a> {
    /// The pair.
    pub pair: &'a Pair<Stand>,
    /// Served at the begin.
    pub active: &'static str,
    /// Its eligible standby.
    pub standby: &'static str,
    /// The clients.
    pub sending: Sending<'a, Stand>,
    /// The observers.
    pub observers: Observers,
}

impl Scene<'_> {
    /// Waits until the peer greets; gives the time since the fault and the shares that its daemon measured.
    pub fn served_by_peer(&self, struck: Instant) -> Result<Value, Box<dyn Error>> {
        let peer = self.standby;
        let heard = until(self.pair.rig.timeline(), &format!("a greeting of node {peer}"), TAKEOVER, || {
            self.observers.first_banner(peer, struck)
        })?;
        let status = self.pair.until_status(peer, "it serves", TAKEOVER, |status| {
            status["active"] == peer && status["services"]["state"] == "up"
        })?;
        let switch = &status["last_switch"];
        Ok(
            json!({ "banner_ms": ms(heard.duration_since(struck)), "proof": switch["proof"], "took_ms": switch["took_ms"], "steps": switch["steps"] }),
        )
    }

    /// The same node serves all the time: after so many further messages nobody else has greeted.
    pub fn stays(&self, messages: usize) -> Outcome {
        let from = Instant::now();
        self.sending.more(messages, TAKEOVER)?;
        check(self.observers.first_banner(self.standby, from).is_none(), || format!("node {} served too", self.standby))
    }

    /// Every cable of a node as it should be.
    pub fn mend(&self, node: &str) -> Outcome {
        mend(self.pair, node)
    }

    /// Waits until the other node is an eligible standby again.
    pub fn whole_again(&self) -> Result<&'static str, Box<dyn Error>> {
        Ok(self.pair.settled()?)
    }
}

fn mend(pair: &Pair<Stand>, node: &str) -> Outcome {
    let rig = &pair.rig;
    for cable in [Cable::Eth1, Cable::Serial, Cable::Modem] {
        rig.cable(node, cable, Fault::None)?;
    }
    if rig.has_power(node)? {
        rig.cable(node, Cable::Lan, Fault::None)?;
    }
    Ok(())
}

/// Milliseconds.
pub fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").to_owned()
}
