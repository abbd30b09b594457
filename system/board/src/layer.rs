//! One board file as it stands: a layer that may rest on another board's and be changed by a revision or by the administrator.
//!
//! Contract: a role that a layer names replaces the lower layer's whole; `fitted = false` takes it away; what a layer does not name
//! stays. Reading notes every fault with file, line and key and stops at none.

use crate::board::{
    Bay, Board, Careful, Controller, Led, Nic, NicRole, Sensor, Serial, SerialPlace, SerialRole, Source, Supply, TpmVersion,
    Unit, Watchdog, WatchdogDriver,
};
use crate::dmi::{FIELDS, Match};
use crate::place::PciPath;
use std::collections::BTreeMap;
use std::path::Path;
use toml_edit::{Item, TableLike};
use twinpost_config::{Faults, join, refuse_unknown};

/// Longest file, and most of anything in it: a board has tens of parts, not thousands.
pub(crate) const FILE_MAX_BYTES: u64 = 256 * 1024;
const PARTS_MAX: usize = 256;
const TEXT_MAX: usize = 200;
/// SATA ports of one AHCI controller (AHCI 1.3.1, 3.1.1 CAP.NP: 32); phys and slots of a SAS one are at most as many as here.
const AHCI_PORTS: u32 = 32;
const SAS_PORTS: u32 = 256;

/// A part that is there, or that the layer below has and this one has not.
pub(crate) type Fitted<T> = Option<T>;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layer {
    pub title: Option<String>,
    pub base: Option<String>,
    pub matches: Vec<Match>,
    pub nics: BTreeMap<NicRole, Fitted<Nic>>,
    pub serials: BTreeMap<SerialRole, Fitted<Serial>>,
    pub bays: BTreeMap<u32, Fitted<Bay>>,
    pub boot: Option<Vec<u32>>,
    pub watchdog: Option<Fitted<Watchdog>>,
    pub sensors: BTreeMap<String, Fitted<Sensor>>,
    pub supplies: BTreeMap<String, Fitted<Supply>>,
    pub tpm: Option<Fitted<TpmVersion>>,
    pub buzzer: Option<Fitted<String>>,
    pub careful: Option<Careful>,
    pub unknown: Vec<String>,
    pub revisions: Vec<Revision>,
    /// Line of each part, by its full key.
    pub lines: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Revision {
    pub name: String,
    pub pattern: Match,
    pub layer: Layer,
}

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// board/<name>/board.toml.
    Board,
    /// The administrator's changes on a node: neither match nor revisions.
    Changes,
}

/// Reads a file's text.
pub(crate) fn read(text: &str, kind: Kind, faults: &mut Faults) -> Layer {
    match text.parse::<toml_edit::Document<String>>() {
        Ok(file) => Reader { faults }.layer(file.as_table(), "", kind),
        Err(error) => {
            // The library's own words name neither the key nor what is wrong with it.
            let twice = error.span().filter(|_| error.message().contains("duplicate key"));
            match twice.as_ref().and_then(|span| text.get(span.clone())) {
                Some(key) => faults.add(twice.clone(), key, "this stands above already: a role, and any other key, stands once"),
                None => faults.syntax(&error),
            }
            Layer::default()
        }
    }
}

impl Layer {
    /// Lays this on a board.
    pub(crate) fn onto(&self, board: &mut Board) {
        fn each<K: Ord + Clone, T: Clone>(from: &BTreeMap<K, Fitted<T>>, onto: &mut BTreeMap<K, T>) {
            for (key, part) in from {
                match part {
                    Some(part) => drop(onto.insert(key.clone(), part.clone())),
                    None => drop(onto.remove(key)),
                }
            }
        }
        if let Some(title) = &self.title {
            board.title.clone_from(title);
        }
        each(&self.nics, &mut board.nics);
        each(&self.serials, &mut board.serials);
        let mut bays: BTreeMap<u32, Bay> = board.bays.drain(..).map(|bay| (bay.number, bay)).collect();
        each(&self.bays, &mut bays);
        board.bays = bays.into_values().collect();
        for (name, sensor) in &self.sensors {
            board.sensors.retain(|s| s.name != *name);
            board.sensors.extend(sensor.clone());
        }
        for (name, supply) in &self.supplies {
            board.supplies.retain(|s| s.name != *name);
            board.supplies.extend(supply.clone());
        }
        if let Some(boot) = &self.boot {
            board.boot.clone_from(boot);
        }
        if let Some(watchdog) = &self.watchdog {
            board.watchdog.clone_from(watchdog);
        }
        if let Some(tpm) = self.tpm {
            board.tpm = tpm;
        }
        if let Some(buzzer) = &self.buzzer {
            board.buzzer.clone_from(buzzer);
        }
        if let Some(careful) = self.careful {
            board.careful = careful;
        }
        board.unknown.extend(self.unknown.iter().cloned());
    }
}

/// What is wrong with a whole board: key of the part, and a sentence.
pub(crate) fn check(board: &Board) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let mut take = |place: String, key: String| {
        if let Some(other) = taken.insert(place.clone(), key.clone()) {
            faults.push((key, format!("{place} has the role {other} already: a place has one role")));
        }
    };
    for (role, nic) in &board.nics {
        take(format!("the network port {} port {}", nic.pci, nic.port), format!("nic.{role}"));
    }
    for (role, serial) in &board.serials {
        take(format!("the serial port at {}", serial.at), format!("serial.{role}"));
    }
    for bay in &board.bays {
        take(format!("the connector {}", bay.connector()), format!("bay.{}", bay.number));
    }
    for bay in &board.bays {
        take(format!("the label {:?}", bay.label), format!("bay.{}", bay.number));
    }
    for number in board.boot.iter().filter(|number| !board.bays.iter().any(|bay| bay.number == **number)) {
        let known: Vec<String> = board.bays.iter().map(|bay| bay.number.to_string()).collect();
        let known = if known.is_empty() { "there is no bay".to_owned() } else { format!("bays are {}", known.join(", ")) };
        faults.push(("boot".to_owned(), format!("there is no bay {number}; {known}")));
    }
    if board.careful != Careful::default() && !board.matches.is_empty() {
        faults.push((
            "careful".to_owned(),
            "a board that is recognised knows its parts: only one without match may look for them".to_owned(),
        ));
    }
    if board.careful.lan_first_with_link && board.nics.contains_key(&NicRole::Lan) {
        faults.push(("careful.lan".to_owned(), "nic.lan says already which port it is".to_owned()));
    }
    faults
}

/// The line of this part, or of the nearest table above it that the file has; 0 when it has none.
pub(crate) fn line_of(lines: &BTreeMap<String, usize>, key: &str) -> usize {
    let mut key = key;
    loop {
        if let Some(line) = lines.get(key) {
            return *line;
        }
        match key.rsplit_once('.') {
            Some((above, _)) => key = above,
            None => return 0,
        }
    }
}

struct Reader<'f> {
    faults: &'f mut Faults,
}

type Table<'t> = &'t dyn TableLike;
/// Where a table stands in the file.
type Here = Option<std::ops::Range<usize>>;

const PARTS: [&str; 15] = [
    "title", "base", "match", "nic", "serial", "bay", "boot", "watchdog", "sensor", "supply", "tpm", "buzzer", "careful",
    "unknown", "revision",
];

impl Reader<'_> {
    fn layer(&mut self, table: Table<'_>, path: &str, kind: Kind) -> Layer {
        let revision = !path.is_empty();
        let known: Vec<&str> = PARTS
            .into_iter()
            .filter(|part| match *part {
                "match" => kind == Kind::Board,
                "revision" => kind == Kind::Board && !revision,
                "base" | "careful" => !revision,
                _ => true,
            })
            .chain(revision.then_some("name"))
            .collect();
        refuse_unknown(table, path, &known, self.faults);
        let mut layer = Layer {
            title: self.text(table, path, "title"),
            base: if revision { None } else { self.text(table, path, "base") },
            unknown: self.texts(table, path, "unknown"),
            boot: table.get("boot").map(|_| self.numbers(table, path, "boot")),
            ..Layer::default()
        };
        if kind == Kind::Board && !revision {
            for (at, one, here) in self.tables(table, path, "match") {
                let pattern = self.pattern(one, &at, &here);
                layer.matches.extend(pattern);
            }
            for (at, one, here) in self.tables(table, path, "revision") {
                let revision = self.revision(one, &at, &here);
                layer.revisions.extend(revision);
            }
        }
        self.note(table, path, "boot", &mut layer);
        self.named_parts(table, path, "nic", &mut layer, |reader, one, at, role: NicRole, layer| {
            let part = reader.fitted(one, at, |reader| reader.nic(one, at, role));
            layer.nics.extend(part.map(|part| (role, part)));
        });
        self.named_parts(table, path, "serial", &mut layer, |reader, one, at, role: SerialRole, layer| {
            let part = reader.fitted(one, at, |reader| reader.serial(one, at, role));
            layer.serials.extend(part.map(|part| (role, part)));
        });
        for (at, one, here) in self.tables(table, path, "bay") {
            self.bay_of(one, &at, &here, &mut layer);
        }
        for (at, one, here) in self.tables(table, path, "sensor") {
            let Some(name) = self.needed_text(one, &at, "name", &here) else { continue };
            let part = self.fitted(one, &at, |reader| reader.sensor(one, &at, &name, &here));
            if let Some(part) = part
                && layer.sensors.insert(name.clone(), part).is_some()
            {
                self.faults.add(here.clone(), &join(&at, "name"), format!("there is a sensor {name:?} above already"));
            }
        }
        for (at, one, here) in self.tables(table, path, "supply") {
            let Some(name) = self.needed_text(one, &at, "name", &here) else { continue };
            let part = self.fitted(one, &at, |reader| reader.supply(one, &at, &name));
            if let Some(part) = part
                && layer.supplies.insert(name.clone(), part).is_some()
            {
                self.faults.add(here.clone(), &join(&at, "name"), format!("there is a supply {name:?} above already"));
            }
        }
        if let Some((at, one)) = self.table(table, path, "watchdog") {
            self.note(table, path, "watchdog", &mut layer);
            layer.watchdog = self.fitted(one, &at, |reader| reader.watchdog(one, &at));
        }
        if let Some((at, one)) = self.table(table, path, "tpm") {
            layer.tpm = self.fitted(one, &at, |reader| {
                refuse_unknown(one, &at, &["version", "fitted"], reader.faults);
                reader.needed(one, &at, "version")
            });
        }
        if let Some((at, one)) = self.table(table, path, "buzzer") {
            layer.buzzer = self.fitted(one, &at, |reader| {
                refuse_unknown(one, &at, &["driver", "fitted"], reader.faults);
                reader.needed(one, &at, "driver").map(|Module(name)| name)
            });
        }
        if let Some((at, one)) = self.table(table, path, "careful") {
            self.note(table, path, "careful", &mut layer);
            refuse_unknown(one, &at, &["lan", "disks"], self.faults);
            let mut word = |key: &str, only: &str| match self.text(one, &at, key) {
                None => false,
                Some(text) if text == only => true,
                Some(text) => {
                    self.faults.add(
                        one.get(key).and_then(Item::span),
                        &join(&at, key),
                        format!("{text:?}: only {only:?} is possible"),
                    );
                    false
                }
            };
            layer.careful =
                Some(Careful { lan_first_with_link: word("lan", "first-with-link"), own_disks: word("disks", "own") });
        }
        layer
    }

    fn bay_of(&mut self, one: Table<'_>, at: &str, here: &Here, layer: &mut Layer) {
        let Some(number) = self.number(one, at, "number").or_else(|| self.lacks(here, at, "number")) else { return };
        if !(1..=99).contains(&number) {
            self.faults.add(one.get("number").and_then(Item::span), &join(at, "number"), "a bay has a number from 1 to 99");
            return;
        }
        let part = self.fitted(one, at, |reader| reader.bay(one, at, number, here));
        layer.lines.insert(format!("bay.{number}"), here.clone().map_or(0, |span| self.faults.line_of(span.start)));
        if let Some(part) = part
            && layer.bays.insert(number, part).is_some()
        {
            self.faults.add(here.clone(), &join(at, "number"), format!("there is a bay {number} above already"));
        }
    }

    fn revision(&mut self, table: Table<'_>, path: &str, here: &Here) -> Option<Revision> {
        let layer = self.layer_of_revision(table, path);
        let name = self.needed_text(table, path, "name", here);
        let pattern = match table.get("match").and_then(Item::as_table_like) {
            Some(inner) => self.pattern(inner, &join(path, "match"), here),
            None => self.lacks(here, path, "match"),
        };
        Some(Revision { name: name?, pattern: pattern?, layer })
    }

    fn layer_of_revision(&mut self, table: Table<'_>, path: &str) -> Layer {
        self.layer(table, path, Kind::Board)
    }

    fn pattern(&mut self, table: Table<'_>, path: &str, here: &Here) -> Option<Match> {
        refuse_unknown(table, path, &FIELDS, self.faults);
        let mut pattern = Match::default();
        for field in FIELDS {
            if let Some(text) = self.text(table, path, field) {
                if text.trim_end_matches('*').is_empty() {
                    self.faults.add(
                        table.get(field).and_then(Item::span),
                        &join(path, field),
                        "this fits every machine: leave it out",
                    );
                }
                pattern.0.insert(field.to_owned(), text);
            }
        }
        if pattern.0.is_empty() {
            self.faults.add(here.clone(), path, format!("nothing is compared: name one of {}", FIELDS.join(", ")));
            return None;
        }
        Some(pattern)
    }

    fn nic(&mut self, table: Table<'_>, path: &str, role: NicRole) -> Option<Nic> {
        refuse_unknown(table, path, &["pci", "port", "label", "fitted"], self.faults);
        let port = self.number(table, path, "port").unwrap_or(0);
        let label = self.text(table, path, "label").unwrap_or_else(|| role.to_string());
        Some(Nic { pci: self.needed(table, path, "pci")?, port, label })
    }

    fn serial(&mut self, table: Table<'_>, path: &str, role: SerialRole) -> Option<Serial> {
        refuse_unknown(
            table,
            path,
            &["io", "pci", "port", "acpi", "usb", "interface", "baud", "flow", "label", "fitted"],
            self.faults,
        );
        let baud = self.number(table, path, "baud").unwrap_or(if role == SerialRole::Modem { 9600 } else { 115_200 });
        if !(300..=4_000_000).contains(&baud) {
            self.faults.add(
                table.get("baud").and_then(Item::span),
                &join(path, "baud"),
                format!("{baud} bit/s is outside 300 to 4000000"),
            );
        }
        let flow = self.parsed(table, path, "flow").unwrap_or(crate::board::Flow::None);
        let label = self.text(table, path, "label").unwrap_or_else(|| role.to_string());
        let ways = [table.contains_key("io"), table.contains_key("acpi"), table.contains_key("pci")];
        let at = match ways.into_iter().filter(|way| *way).count() {
            1 => self.serial_place(table, path),
            n => {
                let said =
                    if n == 0 { "it is not said where the port is" } else { "the port's place is said in more than one way" };
                let message = format!(
                    "{said}: write one of io = 0x3f8; acpi = \"\\\\_SB_...\"; pci = \"00:16.3\" with port = 0; pci = \"00:14.0\" of a USB \
                     controller with usb = \"2\" and interface = 0"
                );
                self.faults.add(first_span(table), path, message);
                None
            }
        };
        Some(Serial { at: at?, baud, flow, label })
    }

    fn serial_place(&mut self, table: Table<'_>, path: &str) -> Option<SerialPlace> {
        let span = |key: &str| table.get(key).and_then(Item::span);
        if !table.contains_key("pci") {
            for key in ["port", "usb", "interface"].into_iter().filter(|key| table.contains_key(key)) {
                self.faults.add(span(key), &join(path, key), "this goes with pci only");
            }
        }
        if let Some(item) = table.get("io") {
            let address = item.as_integer().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
            if address.is_none() {
                self.faults.add(item.span(), &join(path, "io"), "expected an I/O address of the PC, as 0x3f8 (without quotes)");
            }
            return address.map(SerialPlace::Io);
        }
        if table.contains_key("acpi") {
            let name = self.text(table, path, "acpi")?;
            if !name.starts_with('\\') {
                self.faults.add(
                    span("acpi"),
                    &join(path, "acpi"),
                    "an ACPI name begins with \\ (see the device's firmware_node/path)",
                );
                return None;
            }
            return Some(SerialPlace::Acpi(name));
        }
        let pci: Option<PciPath> = self.needed(table, path, "pci");
        if !table.contains_key("usb") {
            if table.contains_key("interface") {
                self.faults.add(span("interface"), &join(path, "interface"), "this goes with usb only");
            }
            return Some(SerialPlace::Pci(pci?, self.number(table, path, "port").unwrap_or(0)));
        }
        let interface = self.number(table, path, "interface").unwrap_or(0);
        let Ok(interface) = u8::try_from(interface) else {
            self.faults.add(span("interface"), &join(path, "interface"), "the number of a USB interface is 0 to 255");
            return None;
        };
        Some(SerialPlace::Usb(pci?, self.needed(table, path, "usb")?, interface))
    }

    fn bay(&mut self, table: Table<'_>, path: &str, number: u32, here: &Here) -> Option<Bay> {
        refuse_unknown(table, path, &["number", "label", "controller", "pci", "port", "led", "fitted"], self.faults);
        let label = self.needed_text(table, path, "label", here);
        let controller: Option<Controller> = self.needed(table, path, "controller");
        let pci: Option<PciPath> = self.needed(table, path, "pci");
        let led = self.parsed(table, path, "led").map(|LedWord(led)| led);
        let port = self.number(table, path, "port");
        let controller = controller?;
        let most = match controller {
            Controller::VirtioBlk | Controller::Nvme => 0,
            Controller::Ahci => AHCI_PORTS,
            Controller::SasPhy | Controller::SasSlot => SAS_PORTS,
        };
        match port {
            Some(_) if most == 0 => {
                let message = format!("a drive on {controller} is a PCI function of its own and has no port");
                self.faults.add(table.get("port").and_then(Item::span), &join(path, "port"), message);
            }
            Some(port) if most > 0 && port >= most => {
                let message = format!("port {port} is outside 0 to {}", most - 1);
                self.faults.add(table.get("port").and_then(Item::span), &join(path, "port"), message);
            }
            None if most > 0 => drop(self.lacks::<()>(here, path, "port")),
            _ => {}
        }
        Some(Bay { number, label: label?, controller, pci: pci?, port: port.unwrap_or(0), led })
    }

    fn watchdog(&mut self, table: Table<'_>, path: &str) -> Option<Watchdog> {
        refuse_unknown(table, path, &["driver", "timeout", "parameters", "fitted"], self.faults);
        let driver: Option<WatchdogDriver> = self.needed(table, path, "driver");
        let timeout: Option<twinpost_config::Span> = self.needed(table, path, "timeout");
        let mut parameters = BTreeMap::new();
        if let Some((at, inner)) = self.table(table, path, "parameters") {
            for (name, item) in inner.iter().take(PARTS_MAX) {
                let value = item.as_str().map(str::to_owned).or_else(|| item.as_integer().map(|n| n.to_string()));
                let sound =
                    |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\=".contains(&b));
                match value.filter(|value| sound(value) && sound(name)) {
                    Some(value) => drop(parameters.insert(name.to_owned(), value)),
                    None => self.faults.add(
                        item.span(),
                        &join(&at, name),
                        "a parameter of a module is a number or a text without spaces",
                    ),
                }
            }
        }
        let (driver, timeout) = (driver?, timeout?);
        let (name, range) = driver.parameter();
        let timeout_s = timeout.as_secs();
        if !range.contains(&timeout_s) || timeout.0.subsec_millis() != 0 {
            let (low, high) = (range.start(), range.end());
            let message = format!("{timeout}: {driver} takes whole seconds from {low} to {high}");
            self.faults.add(table.get("timeout").and_then(Item::span), &join(path, "timeout"), message);
        }
        if parameters.contains_key(name) {
            let message = format!("{name} is made from timeout");
            self.faults.add(table.get("parameters").and_then(Item::span), &join(path, "parameters"), message);
        }
        Some(Watchdog { driver, timeout_s, parameters })
    }

    fn source(&mut self, table: Table<'_>, path: &str, needed: bool) -> Option<Source> {
        let chip = self.text(table, path, "chip");
        let channel = self.text(table, path, "channel");
        let ipmi = self.text(table, path, "ipmi");
        match (chip, channel, ipmi) {
            (Some(chip), Some(channel), None) => Some(Source::Hwmon(chip, channel)),
            (None, None, Some(name)) => Some(Source::Ipmi(name)),
            (None, None, None) if !needed => None,
            _ => {
                let message =
                    "where the reading comes from: chip and channel of /sys/class/hwmon, or ipmi with the sensor's name";
                self.faults.add(first_span(table), path, message);
                None
            }
        }
    }

    fn sensor(&mut self, table: Table<'_>, path: &str, name: &str, here: &Here) -> Option<Sensor> {
        refuse_unknown(
            table,
            path,
            &["name", "chip", "channel", "ipmi", "unit", "low", "high", "critical", "fitted"],
            self.faults,
        );
        let source = self.source(table, path, true);
        let unit: Option<Unit> = self.needed(table, path, "unit");
        let mut limit = |key: &str| {
            let item = table.get(key)?;
            let number = item.as_float().or_else(|| item.as_integer().and_then(|n| i32::try_from(n).ok()).map(f64::from));
            let number = number.filter(|n| n.is_finite());
            if number.is_none() {
                self.faults.add(item.span(), &join(path, key), "expected a number");
            }
            number
        };
        let (low, high, critical) = (limit("low"), limit("high"), limit("critical"));
        if let (Some(low), Some(high)) = (low, high)
            && low >= high
        {
            self.faults.add(here.clone(), path, format!("low ({low}) must be less than high ({high})"));
        }
        Some(Sensor { name: name.to_owned(), source: source?, unit: unit?, low, high, critical })
    }

    fn supply(&mut self, table: Table<'_>, path: &str, name: &str) -> Option<Supply> {
        refuse_unknown(table, path, &["name", "label", "chip", "channel", "ipmi", "fitted"], self.faults);
        let label = self.text(table, path, "label").unwrap_or_else(|| name.to_owned());
        Some(Supply { name: name.to_owned(), label, source: self.source(table, path, false) })
    }

    /// `fitted = false`: the part of the base is not there; and then nothing else may be said of it.
    fn fitted<T>(&mut self, table: Table<'_>, path: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Fitted<T>> {
        match table.get("fitted") {
            None => read(self).map(Some),
            Some(item) => match item.as_bool() {
                Some(true) => read(self).map(Some),
                Some(false) => {
                    for (key, item) in table.iter().filter(|(key, _)| !["fitted", "number", "name"].contains(key)) {
                        self.faults.add(item.span(), &join(path, key), "nothing else can be said of a part that is not fitted");
                    }
                    Some(None)
                }
                None => {
                    self.faults.add(item.span(), &join(path, "fitted"), "expected true or false");
                    None
                }
            },
        }
    }

    /// The tables `[what.role]`.
    fn named_parts<R: std::str::FromStr<Err = String>>(
        &mut self,
        table: Table<'_>,
        path: &str,
        what: &str,
        layer: &mut Layer,
        mut read: impl FnMut(&mut Self, Table<'_>, &str, R, &mut Layer),
    ) {
        let Some((at, parts)) = self.table(table, path, what) else { return };
        for (name, item) in parts.iter() {
            let key = join(&at, name);
            let span = parts.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
            match (name.parse::<R>(), item.as_table_like()) {
                (Err(message), _) => self.faults.add(span, &key, message),
                (Ok(_), None) => self.faults.add(span, &key, format!("this is a table: write [{key}]")),
                (Ok(role), Some(one)) => {
                    let line = span.map_or(0, |span| self.faults.line_of(span.start));
                    layer.lines.insert(format!("{what}.{name}"), line);
                    read(self, one, &key, role, layer);
                }
            }
        }
    }

    /// A table inside another.
    fn table<'t>(&mut self, table: Table<'t>, path: &str, key: &str) -> Option<(String, Table<'t>)> {
        let item = table.get(key)?;
        let full = join(path, key);
        let inner = item.as_table_like();
        if inner.is_none() {
            self.faults.add(item.span(), &full, format!("this is a table: write [{full}]"));
        }
        inner.map(|inner| (full, inner))
    }

    /// The tables `[[key]]`, each with a name for messages.
    fn tables<'t>(&mut self, table: Table<'t>, path: &str, key: &str) -> Vec<(String, Table<'t>, Here)> {
        let full = join(path, key);
        let Some(item) = table.get(key) else { return Vec::new() };
        let Some(list) = item.as_array_of_tables() else {
            self.faults.add(item.span(), &full, format!("these are tables: write [[{full}]]"));
            return Vec::new();
        };
        if list.len() > PARTS_MAX {
            self.faults.add(item.span(), &full, format!("at most {PARTS_MAX} are possible"));
        }
        list.iter()
            .take(PARTS_MAX)
            .enumerate()
            .map(|(i, one)| (format!("{full}[{}]", i + 1), one as Table<'t>, one.span()))
            .collect()
    }

    fn note(&mut self, table: Table<'_>, path: &str, key: &str, layer: &mut Layer) {
        let span = table.key(key).and_then(toml_edit::Key::span).or_else(|| table.get(key).and_then(Item::span));
        if let Some(span) = span.filter(|_| path.is_empty()) {
            layer.lines.insert(key.to_owned(), self.faults.line_of(span.start));
        }
    }

    fn lacks<T>(&mut self, here: &Here, path: &str, key: &str) -> Option<T> {
        self.faults.add(here.clone(), path, format!("{key} is missing"));
        None
    }

    fn text(&mut self, table: Table<'_>, path: &str, key: &str) -> Option<String> {
        let item = table.get(key)?;
        match item.as_str() {
            Some(text) if !text.trim().is_empty() && text.chars().count() <= TEXT_MAX && !text.contains(char::is_control) => {
                Some(text.to_owned())
            }
            Some(_) => {
                self.faults.add(
                    item.span(),
                    &join(path, key),
                    format!("a text of 1 to {TEXT_MAX} characters in one line is needed"),
                );
                None
            }
            None => {
                self.faults.add(item.span(), &join(path, key), format!("expected a text in quotes, found {}", item.type_name()));
                None
            }
        }
    }

    fn needed_text(&mut self, table: Table<'_>, path: &str, key: &str, here: &Here) -> Option<String> {
        if table.contains_key(key) { self.text(table, path, key) } else { self.lacks(here, path, key) }
    }

    fn texts(&mut self, table: Table<'_>, path: &str, key: &str) -> Vec<String> {
        let Some(item) = table.get(key) else { return Vec::new() };
        let list: Option<Vec<String>> =
            item.as_array().and_then(|list| list.iter().take(PARTS_MAX).map(|v| v.as_str().map(str::to_owned)).collect());
        if list.is_none() {
            self.faults.add(item.span(), &join(path, key), "expected a list of texts, as [\"...\"]");
        }
        list.unwrap_or_default()
    }

    fn numbers(&mut self, table: Table<'_>, path: &str, key: &str) -> Vec<u32> {
        let Some(item) = table.get(key) else { return Vec::new() };
        let number = |v: &toml_edit::Value| v.as_integer().and_then(|n| u32::try_from(n).ok());
        let list: Option<Vec<u32>> = item.as_array().and_then(|list| list.iter().take(PARTS_MAX).map(number).collect());
        if list.is_none() {
            self.faults.add(item.span(), &join(path, key), "expected a list of whole numbers, as [1, 2]");
        }
        list.unwrap_or_default()
    }

    fn number(&mut self, table: Table<'_>, path: &str, key: &str) -> Option<u32> {
        let item = table.get(key)?;
        let number = item.as_integer().and_then(|n| u32::try_from(n).ok());
        if number.is_none() {
            self.faults.add(item.span(), &join(path, key), "expected a whole number, not negative");
        }
        number
    }

    fn parsed<T: std::str::FromStr<Err = String>>(&mut self, table: Table<'_>, path: &str, key: &str) -> Option<T> {
        let text = self.text(table, path, key)?;
        text.parse()
            .map_err(|message: String| self.faults.add(table.get(key).and_then(Item::span), &join(path, key), message))
            .ok()
    }

    fn needed<T: std::str::FromStr<Err = String>>(&mut self, table: Table<'_>, path: &str, key: &str) -> Option<T> {
        if table.contains_key(key) {
            return self.parsed(table, path, key);
        }
        self.faults.add(first_span(table), path, format!("{key} is missing"));
        None
    }
}

/// A place in the file for what a table lacks.
fn first_span(table: Table<'_>) -> Option<std::ops::Range<usize>> {
    table.iter().find_map(|(key, item)| table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span()))
}

/// A kernel module's name.
struct Module(String);

impl std::str::FromStr for Module {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let sound = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if sound { Ok(Self(text.to_owned())) } else { Err(format!("{text:?} is no name of a kernel module")) }
    }
}

struct LedWord(Led);

impl std::str::FromStr for LedWord {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("class:") {
            _ if text == "enclosure" => Ok(Self(Led::Enclosure)),
            Some(name) if !name.is_empty() && !name.contains('/') && name != "." && name != ".." => {
                Ok(Self(Led::Class(name.to_owned())))
            }
            _ => Err(format!("{text:?}: write \"enclosure\", or \"class:NAME\" of a light in /sys/class/leds")),
        }
    }
}

/// Reads a file, of at most a sane length.
///
/// # Errors
/// What went wrong.
pub(crate) fn text_of(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("longer than {FILE_MAX_BYTES} bytes")));
    }
    Ok(text)
}
