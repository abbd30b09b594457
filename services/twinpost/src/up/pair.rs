//! `twinpost up` of a pair: both nodes, or one of them, and the rack between them.
//!
//! Contract: founds the pair when the folder is new ([`super::found`]); runs the rack, or waits to take it over from the `up` that
//! runs it; runs its nodes, each a `twinpost node` ([`super::place`]). A node that is killed stays down, the rest goes on. On Ctrl-C
//! or SIGTERM it ends its nodes, the standby first, and then gives the rack to whoever waits for it.
//!
//! Failure classes: the folder cannot be made a pair's, or a node runs already: one sentence, exit 1. When no node of this `up` can run
//! any more and it was asked for one only, it ends with exit 1.

use super::book::Book;
use super::endpoints::DemoAccount;
use super::found::{self, Founded};
use super::part::{News as PartNews, Part};
use super::place::{self, Claim, End, News, Place, Start};
use super::{demo, lock, parts};
use crate::cli::{Demo, Up};
use crate::node::Folder;
use crate::node_init::Report;
use crate::rack::{self, NODES, Rack, Right, Wiring};
use crate::{complain, logs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use twinpost_config::load_node;

/// How long another `up` may take to found the pair.
const FOUNDING: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The service answers; what the demo is, if it was made now.
type Opened = Result<Option<(String, Vec<DemoAccount>)>, String>;

/// Runs the pair, or one node of it.
///
/// # Errors
/// A sentence.
pub async fn up(dir: &Path, arguments: &Up) -> Result<(), String> {
    let names: Vec<&'static str> =
        NODES.into_iter().filter(|name| arguments.only.as_deref().is_none_or(|only| only == *name)).collect();
    found::private(&dir.join("rack"))?;
    let claims = names.iter().map(|name| place::claim(dir, name)).collect::<Result<Vec<Claim>, String>>()?;
    let founding = {
        let _lock = founding_lock(dir).await?;
        found::pair(dir, arguments.address, arguments.demo == Demo::School).await?
    };
    let first = Folder::new(dir.join(names[0]));
    let document = twinpost_config::load(&first.document()).map_err(|e| e.to_string())?;
    let read = |name: &str| load_node(&dir.join(name)).map_err(|e| e.to_string());
    let nodes = [read(NODES[0])?, read(NODES[1])?];
    logs::open(&document.log)?;
    let wiring = Wiring::of(dir, &nodes);
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let start = Start { dir: dir.to_owned(), program, modem: arguments.modem };
    let mut house = House {
        book: Book::new(dir, document, nodes, wiring.clone()),
        wiring,
        start,
        names,
        reports: BTreeMap::new(),
        places: BTreeMap::new(),
        rack: None,
        hurried: arguments.only.is_some(),
        silent: founding.new && arguments.only.is_none(),
        opened: false,
        announced: false,
    };
    house.live(claims, founding).await
}

/// The lock of the folder, which a node alone holds as long as it runs and a pair only while it is founded.
async fn founding_lock(dir: &Path) -> Result<nix::fcntl::Flock<std::fs::File>, String> {
    let end = Instant::now() + FOUNDING;
    loop {
        match lock(dir) {
            Ok(lock) => return Ok(lock),
            Err(refused) if Instant::now() > end => return Err(refused),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// What runs here.
struct House {
    book: Book,
    wiring: Wiring,
    start: Start,
    names: Vec<&'static str>,
    reports: BTreeMap<&'static str, Report>,
    places: BTreeMap<&'static str, Place>,
    rack: Option<(Rack, Option<Part>)>,
    /// One node was asked for.
    hurried: bool,
    /// `endpoints.json` is not written before the service answers: a new pair is of no use earlier.
    silent: bool,
    /// The service answers.
    opened: bool,
    /// It was said how to use it.
    announced: bool,
}

/// The ways by which this house hears.
struct Ears {
    places: (mpsc::UnboundedSender<News>, mpsc::UnboundedReceiver<News>),
    parts: (mpsc::UnboundedSender<PartNews>, mpsc::UnboundedReceiver<PartNews>),
    wakes: (mpsc::UnboundedSender<&'static str>, mpsc::UnboundedReceiver<&'static str>),
}

impl House {
    async fn live(&mut self, claims: Vec<Claim>, founded: Founded) -> Result<(), String> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
        let mut ears =
            Ears { places: mpsc::unbounded_channel(), parts: mpsc::unbounded_channel(), wakes: mpsc::unbounded_channel() };
        let dir = self.start.dir.clone();
        let mut right = match rack::lock(&dir)? {
            Some(right) => {
                self.run_rack(right, Some(founded), &ears).await?;
                mpsc::channel(1).1
            }
            None => rack::wait_for_right(&dir),
        };
        for claim in claims {
            self.put(claim, &ears);
        }
        let (opens, mut opened) = mpsc::channel(1);
        let opening = tokio::spawn(open(dir, opens));
        let outcome = loop {
            tokio::select! {
                Some(news) = ears.places.1.recv() => match self.hear(news) {
                    Ok(()) => {}
                    Err(why) => break Err(why),
                },
                Some(news) = ears.parts.1.recv() => match news {
                    PartNews::Up(_, pid) => self.book.witness(Some(pid)),
                    PartNews::Down(_) => self.book.witness(None),
                    PartNews::Hopeless(why) => tracing::error!(why, "the witness cannot run"),
                    PartNews::Fenced => tracing::error!("the witness ended with an exit code that is not its own"),
                },
                Some(name) = ears.wakes.1.recv() => self.wake(name, &ears),
                Some(got) = right.recv() => {
                    tracing::info!("the `up` that ran the rack has ended: this one runs it from now on");
                    if let Err(why) = self.run_rack(got, None, &ears).await {
                        break Err(why);
                    }
                }
                Some(made) = opened.recv() => match made {
                    Ok(made) => {
                        (self.silent, self.opened) = (false, true);
                        self.book.demo(made);
                    }
                    Err(why) => break Err(why),
                },
                _ = interrupt.recv() => break Ok(()),
                _ = terminate.recv() => break Ok(()),
            }
            if !self.silent {
                self.write()?;
            }
            if self.opened && !self.announced && self.places.keys().all(|name| self.reports.contains_key(name)) {
                self.book.announce()?;
                self.announced = true;
            }
        };
        opening.abort();
        tracing::info!("stopping");
        self.end(&mut ears).await;
        outcome.and(self.write())
    }

    fn write(&self) -> Result<(), String> {
        self.book.write()
    }

    /// The node that serves, as far as the nodes say.
    fn active(&self) -> Option<&str> {
        let serves = self.reports.iter().find(|(_, report)| report.life.pids.contains_key("mail")).map(|(name, _)| *name);
        serves.or_else(|| self.reports.values().find_map(|report| report.active.as_deref()))
    }

    async fn run_rack(&mut self, right: Right, founded: Option<Founded>, ears: &Ears) -> Result<(), String> {
        let bound = founded.and_then(|founded| founded.bound);
        let rack = Rack::start(&self.start.dir, right, &self.wiring, bound, ears.wakes.0.clone()).await?;
        let witness = self.wiring.witness.map(|at| {
            let recipe = parts::witness(&self.start.program, &self.start.dir.join("witness"), at);
            Part::start(recipe, ears.parts.0.clone())
        });
        self.rack = Some((rack, witness));
        self.book.rack(true);
        Ok(())
    }

    fn put(&mut self, claim: Claim, ears: &Ears) {
        let name = claim.name();
        let place = Place::start(self.start.clone(), claim, ears.places.0.clone());
        self.places.insert(name, place);
    }

    /// A node may start that is down: its power was switched on, or its watchdog had reset what was left of it.
    fn wake(&mut self, name: &'static str, ears: &Ears) {
        if self.places.contains_key(name) || !self.names.contains(&name) {
            return;
        }
        match place::claim(&self.start.dir, name) {
            Ok(claim) => self.put(claim, ears),
            Err(why) => tracing::info!(why, "the node is started by another"),
        }
    }

    fn hear(&mut self, news: News) -> Result<(), String> {
        match news {
            News::Changed(name, report) => drop(self.reports.insert(name, report)),
            News::Dark(name) => drop(self.reports.remove(name)),
            News::Over(name, end) => {
                self.reports.remove(name);
                self.places.remove(name);
                match end {
                    End::Stopped => {}
                    End::Hopeless(why) => {
                        if self.places.is_empty() {
                            return Err(why);
                        }
                        complain(&why);
                    }
                    End::Down(how) => {
                        let said = format!(
                            "node {name} is down ({how}), as after a power cut; start it again with `twinpost up --dir {} --only {name}`",
                            self.start.dir.display()
                        );
                        if self.hurried {
                            return Err(said);
                        }
                        complain(&said);
                    }
                }
            }
        }
        Ok(())
    }

    /// Standby first, then active, then witness and cables.
    async fn end(&mut self, ears: &mut Ears) {
        let active = self.active().map(str::to_owned);
        let mut order: Vec<&'static str> = self.places.keys().copied().collect();
        order.sort_by_key(|name| active.as_deref() == Some(*name));
        for name in order {
            if let Some(place) = self.places.remove(name) {
                place.stop().await;
            }
        }
        ears.places.1.close();
        if let Some((rack, witness)) = self.rack.take() {
            if let Some(witness) = witness {
                witness.stop().await;
            }
            self.book.witness(None);
            rack.end().await;
            self.book.rack(false);
        }
    }
}

/// Waits until one of the nodes serves; makes the demo when one is wanted.
async fn open(dir: PathBuf, opens: mpsc::Sender<Opened>) {
    let folders = NODES.map(|node| Folder::new(dir.join(node)));
    let wish = found::demo_wish(&dir);
    let made = loop {
        let mut serving = None;
        for folder in &folders {
            if parts::serves(folder).await {
                serving = Some(folder);
            }
        }
        let Some(folder) = serving else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        if !wish.exists() {
            break Ok(None);
        }
        // From here on it is not begun a second time: half a demo is found with `ctl account list`.
        if let Err(error) = std::fs::remove_file(&wish) {
            break Err(format!("cannot remove {}: {error}", wish.display()));
        }
        break demo::make(folder).await.map(Some);
    };
    // `up` is ending when nobody listens.
    let _ = opens.send(made).await;
}
