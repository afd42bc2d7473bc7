//! The layers of a configuration: defaults, the file, its drop-in folder, the environment, the flags; later ones win.
//! Each layer is read strictly by itself, so that a wrong value is an error even where another layer overrides it; only
//! then are they merged.
//! Read `rules.rs` next, which looks at the merged whole.

use super::errors::ConfigErrors;
use super::file::{Text, drop_ins, included, is_conf};
use super::keys::{Fallback, Key, SECTIONS, Section};
use super::kind::Given;
use super::mosquitto::{self, Finding, Include, Included, Outcome, Setting, Translation};
use super::unknown::{DUPLICATE, nearest, syntax, unknown_key, unknown_section};
use crate::log::Level;
use crate::notice::Outside;
use config::{Map, Source, Value, ValueKind};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where settings come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The configuration file; its drop-in folder has the same name with `.d` at the end.
    pub file: Option<PathBuf>,
    /// Variables with their values; those that do not begin with `WAYPOST__` are not looked at.
    pub environment: Vec<(OsString, OsString)>,
    pub flags: Flags,
}

/// Settings from the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The port of the default listener.
    pub port: Option<u16>,
    pub data_dir: Option<PathBuf>,
    pub level: Option<Level>,
}

/// What the variables of the environment begin with.
pub(super) const PREFIX: &str = "WAYPOST__";

/// Whether a variable of the environment is meant for the configuration.
pub fn is_setting(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Stands in for a place where a default holds.
pub(super) const DEFAULT: &str = "default";

/// What the layers said, and what was wrong with it.
#[derive(Default)]
pub(super) struct Layers {
    layers: Vec<Layer>,
    /// Where each table of each list stands.
    pub(super) lists: BTreeMap<&'static str, Vec<String>>,
    /// Keys that were set, but wrongly: as `limits.receive_maximum` or `listener[0].address`.
    pub(super) refused: BTreeSet<String>,
    /// The files that were read.
    pub(super) files: Vec<PathBuf>,
    /// What became of each option of a mosquitto.conf.
    pub(super) findings: Vec<Finding>,
    main_file: MainFile,
    pub(super) errors: ConfigErrors,
}

/// What decides about the flag `-p`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum MainFile {
    #[default]
    Ours,
    /// A mosquitto.conf that says where to listen: `-p` has no effect.
    Mosquitto,
    /// One that does not, so the first listener is for this machine only and at the port that `-p` says.
    MosquittoLocalOnly,
}

impl Layers {
    pub(super) fn read(sources: &Sources) -> Self {
        let mut layers = Self::default();
        if let Some(file) = &sources.file {
            layers.read_main_file(file);
            match drop_ins(file) {
                Ok(files) => files.iter().for_each(|file| layers.read_file(file)),
                Err(error) => layers.errors.push(error.place, error.message),
            }
        }
        layers.read_environment(&sources.environment);
        layers.read_flags(&sources.flags);
        layers
    }

    /// Defaults below, then each layer upon those before it. Every value remembers its place as its origin.
    pub(super) fn merged(&self) -> Map<String, Value> {
        let mut builder = config::Config::builder().add_source(self.defaults());
        for layer in &self.layers {
            builder = builder.add_source(layer.clone());
        }
        let merged = builder.build().and_then(|merged| merged.cache.into_table());
        merged.expect("layers of checked values always merge")
    }

    fn defaults(&self) -> Layer {
        let mut defaults = Layer::default();
        for section in SECTIONS {
            let tables = match section.list_max {
                None => vec![section.name.to_owned()],
                Some(_) => (0..self.count(section)).map(|index| format!("{}[{index}]", section.name)).collect(),
            };
            for table in tables {
                for key in section.keys {
                    if let Some(value) = key.default() {
                        defaults
                            .0
                            .insert(format!("{table}.{}", key.name), Value::new(Some(&DEFAULT.to_owned()), value));
                    }
                }
            }
        }
        defaults
    }

    fn count(&self, section: &Section) -> usize {
        self.lists.get(section.name).map_or(0, Vec::len)
    }

    // Files

    /// The file that `-c` names: ours, or a mosquitto.conf.
    fn read_main_file(&mut self, path: &Path) {
        match Text::read(path) {
            Ok(text) if is_mosquitto(path, &text) => {
                self.files.push(path.to_owned());
                self.read_translation(translated(&text));
            }
            Ok(text) => {
                self.read_text(&text);
                self.files.push(path.to_owned());
            }
            Err(error) => {
                self.errors.push(error.place, error.message);
                self.files.push(path.to_owned());
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        match Text::read(path) {
            Ok(text) => self.read_text(&text),
            Err(error) => self.errors.push(error.place, error.message),
        }
        self.files.push(path.to_owned());
    }

    fn read_translation(&mut self, translation: Translation) {
        let Translation { settings, mut listeners, is_local_only, findings, files, errors } = translation;
        self.main_file = if is_local_only { MainFile::MosquittoLocalOnly } else { MainFile::Mosquitto };
        self.files.extend(files);
        self.findings = findings;
        for error in errors {
            self.errors.push(error.place, error.message);
        }
        let listener = SECTIONS.iter().find(|section| section.name == "listener");
        let most = listener.and_then(|section| section.list_max).unwrap_or(usize::MAX);
        if let Some(place) = listeners.get(most) {
            self.errors.push(place, format!("there are too many listeners; allowed: up to {most}"));
        }
        listeners.truncate(most);
        let mut layer = Layer::default();
        let few = settings.into_iter().filter(|setting| setting.index.is_none_or(|index| index < most));
        for Setting { section, index, key: name, value, place } in few {
            let path = match index {
                Some(index) => format!("{section}[{index}].{name}"),
                None => format!("{section}.{name}"),
            };
            match key(&format!("{section}.{name}")).kind.read(&value) {
                Ok(kept) => {
                    layer.0.insert(path, Value::new(Some(&place), kept));
                }
                Err(message) => {
                    self.errors.push(place, format!("{section}.{name} {message}"));
                    self.refused.insert(path);
                }
            }
        }
        self.lists.insert("listener", listeners);
        self.layers.push(layer);
    }

    fn read_text(&mut self, text: &Text) {
        let (document, faults) = DeTable::parse_recoverable(&text.content);
        let mut reading = Reading { text, layer: Layer::default(), faults: Vec::new(), first_broken: usize::MAX };
        for fault in faults {
            let span = fault.span().unwrap_or_default();
            reading.fault(span.start, syntax(fault.message(), text.content.get(span.clone()).unwrap_or_default()));
            if fault.message() != DUPLICATE {
                reading.first_broken = reading.first_broken.min(text.line(span.start));
            }
        }
        self.read_document(document.get_ref(), &mut reading);
        let Reading { layer, mut faults, .. } = reading;
        faults.sort_by_key(|(offset, _)| *offset);
        for (offset, message) in faults {
            self.errors.push(text.place(offset), message);
        }
        self.layers.push(layer);
    }

    fn read_document(&mut self, document: &DeTable<'_>, reading: &mut Reading<'_>) {
        for (name, value) in in_order(document) {
            let Some(section) = SECTIONS.iter().find(|section| section.name == name.get_ref()) else {
                reading.semantic(name.span().start, unknown_section(name.get_ref(), value.get_ref()));
                continue;
            };
            match (section.list_max, value.get_ref()) {
                (None, DeValue::Table(table)) => self.read_table(section, section.name, table, reading),
                (Some(most), DeValue::Array(tables)) => {
                    for table in tables {
                        self.read_list_entry(section, most, table, reading);
                    }
                }
                (None, _) => {
                    let message = format!("{name} is a single table; write [{name}]", name = section.name);
                    reading.semantic(name.span().start, message);
                }
                (Some(_), _) => {
                    let message = format!("{name} is a list of tables; write [[{name}]]", name = section.name);
                    reading.semantic(name.span().start, message);
                }
            }
        }
    }

    fn read_list_entry(
        &mut self,
        section: &'static Section,
        most: usize,
        value: &Spanned<DeValue<'_>>,
        reading: &mut Reading<'_>,
    ) {
        let DeValue::Table(table) = value.get_ref() else {
            let message = format!("{name} is a list of tables; write [[{name}]]", name = section.name);
            return reading.semantic(value.span().start, message);
        };
        let index = self.count(section);
        if index >= most {
            let message = format!("there are too many [[{}]]; allowed: up to {most}", section.name);
            return reading.semantic(value.span().start, message);
        }
        self.lists.entry(section.name).or_default().push(reading.text.place(value.span().start));
        self.read_table(section, &format!("{}[{index}]", section.name), table, reading);
    }

    fn read_table(&mut self, section: &Section, path: &str, table: &DeTable<'_>, reading: &mut Reading<'_>) {
        for (name, value) in in_order(table) {
            let Some(key) = section.keys.iter().find(|key| key.name == name.get_ref()) else {
                reading.semantic(name.span().start, unknown_key(section, name.get_ref()));
                continue;
            };
            let path = format!("{path}.{}", key.name);
            let offset = value.span().start;
            match key.kind.read(&Given::from(value.get_ref())) {
                Ok(kept) => {
                    reading.layer.0.insert(path, Value::new(Some(&reading.text.place(offset)), kept));
                }
                Err(message) => {
                    reading.semantic(offset, format!("{}.{} {message}", section.name, key.name));
                    self.refused.insert(path);
                }
            }
        }
    }

    // Environment

    fn read_environment(&mut self, environment: &[(OsString, OsString)]) {
        let mut layer = Layer::default();
        let ours = environment.iter().filter(|(name, _)| is_setting(name));
        let mut settings = Vec::new();
        for (name, value) in ours {
            let place = Outside::of(name.as_encoded_bytes()).to_string();
            match name.to_str().map(|name| find_variable(&name[PREFIX.len()..])) {
                Some(Ok(variable)) => settings.push((variable, place, value)),
                Some(Err(message)) => self.errors.push(place, message),
                None => self.errors.push(place, "the name is not UTF-8"),
            }
        }
        // By number and name, so that new tables of a list come one after the other.
        settings
            .sort_by(|(one, one_place, _), (two, two_place, _)| (one.index, one_place).cmp(&(two.index, two_place)));
        for (variable, place, value) in settings {
            let Variable { section, index, key } = variable;
            let Some(path) = self.variable_path(section, index, &place) else { continue };
            let path = format!("{path}.{}", key.name);
            let Some(value) = value.to_str() else {
                self.errors.push(place, format!("{}.{} is not UTF-8", section.name, key.name));
                self.refused.insert(path);
                continue;
            };
            match key.kind.read(&Given::Bare(value.to_owned())) {
                Ok(kept) => {
                    if layer.0.insert(path, Value::new(Some(&place), kept)).is_some() {
                        self.errors.push(place, "the variable is there twice");
                    }
                }
                Err(message) => {
                    self.errors.push(place, format!("{}.{} {message}", section.name, key.name));
                    self.refused.insert(path);
                }
            }
        }
        self.layers.push(layer);
    }

    /// The table that a variable belongs to; makes a new one when the number is the next in the list.
    fn variable_path(&mut self, section: &'static Section, index: Option<usize>, place: &str) -> Option<String> {
        let Some((index, most)) = index.zip(section.list_max) else { return Some(section.name.to_owned()) };
        let count = self.count(section);
        if index > count || index >= most {
            let name = section.name;
            let message = match (index >= most, count) {
                (true, _) => format!("there are too many [[{name}]]; allowed: up to {most}, numbered from 0"),
                (false, 0) => format!("there is no [[{name}]] yet; the first one has the number 0"),
                (false, _) => format!("there is no [[{name}]] number {index}; the next new one has the number {count}"),
            };
            self.errors.push(place, message);
            return None;
        }
        if index == count {
            self.lists.entry(section.name).or_default().push(place.to_owned());
        }
        Some(format!("{}[{index}]", section.name))
    }

    // Flags

    fn read_flags(&mut self, flags: &Flags) {
        let mut layer = Layer::default();
        let data_dir = flags.data_dir.as_ref().map(|path| path.as_os_str().to_str());
        let level = flags.level.map(|level| Some(level.word()));
        for (flag, path, value) in [("--data-dir", "node.data_dir", data_dir), ("-v", "log.level", level)] {
            let read = match value {
                None => continue,
                Some(None) => Err("is not UTF-8".to_owned()),
                Some(Some(text)) => key(path).kind.read(&Given::Bare(text.to_owned())),
            };
            match read {
                Ok(kept) => {
                    layer.0.insert(path.to_owned(), Value::new(Some(&flag.to_owned()), kept));
                }
                Err(message) => self.errors.push(flag, format!("{path} {message}")),
            }
        }
        self.default_listener(flags.port, &mut layer);
        self.layers.push(layer);
    }

    /// Without any listener there is one for this machine only, whose port `-p` sets.
    fn default_listener(&mut self, port: Option<u16>, layer: &mut Layer) {
        let listeners = self.lists.entry("listener").or_default();
        let address = |port| Value::new(Some(&"-p".to_owned()), format!("localhost:{port}"));
        match (listeners.first(), port) {
            (Some(_), Some(port)) if self.main_file == MainFile::MosquittoLocalOnly => {
                layer.0.insert("listener[0].address".to_owned(), address(port));
            }
            (Some(first), Some(_)) if self.main_file == MainFile::Mosquitto => {
                let why = format!("the file says where to listen, at {first}; mosquitto ignores it, too");
                let outcome = Outcome::NotSupported(why);
                self.findings.push(Finding { place: "command line".to_owned(), option: "-p".to_owned(), outcome });
            }
            (None, port) => {
                let place = if port.is_some() { "-p" } else { DEFAULT };
                let address = format!("127.0.0.1:{}", port.unwrap_or(1883));
                layer.0.insert("listener[0].address".to_owned(), Value::new(Some(&place.to_owned()), address));
                listeners.push(place.to_owned());
            }
            (Some(first), Some(_)) => {
                let message = format!(
                    "sets the port of the default listener, but there is a [[listener]] at {first}; set the port in its address"
                );
                self.errors.push("-p", message);
            }
            (Some(_), None) => {}
        }
    }
}

/// Values by their paths, `limits.receive_maximum` or `listener[0].address`.
#[derive(Clone, Debug, Default)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// One text while it is read.
struct Reading<'a> {
    text: &'a Text,
    layer: Layer,
    faults: Vec<(usize, String)>,
    /// The first line that is not TOML. What stands below it may mean anything, so nothing is said about it.
    first_broken: usize,
}

impl Reading<'_> {
    fn fault(&mut self, offset: usize, message: String) {
        self.faults.push((offset, message));
    }

    /// A fault of something that is well-formed.
    fn semantic(&mut self, offset: usize, message: String) {
        if self.text.line(offset) < self.first_broken {
            self.fault(offset, message);
        }
    }
}

impl Key {
    /// The default as a checked value.
    fn default(&self) -> Option<ValueKind> {
        let Fallback::Value(written) = self.fallback else { return None };
        let value = DeValue::parse(written).expect("each default is a TOML value");
        Some(self.kind.read(&Given::from(value.get_ref())).expect("each default lies within its bounds"))
    }
}

/// Whether a file is a mosquitto.conf.
pub(super) fn is_mosquitto(path: &Path, text: &Text) -> bool {
    let is_toml = DeTable::parse(&text.content).is_ok_and(|table| !table.get_ref().is_empty());
    mosquitto::is_meant(&text.content, is_conf(path), is_toml)
}

/// A mosquitto.conf with all that it includes.
pub(super) fn translated(text: &Text) -> Translation {
    let include = |folder: &Path| {
        let read = |path: PathBuf| match Text::read(&path) {
            Ok(text) => Ok(Included { path, text }),
            Err(error) => Err(error.to_string()),
        };
        included(folder)?.into_iter().map(read).collect()
    };
    mosquitto::translate(text, Include(include))
}

/// A key by its path; only for those that the code itself names.
fn key(path: &str) -> &'static Key {
    let found = SECTIONS.iter().find_map(|section| {
        let name = path.strip_prefix(section.name)?.strip_prefix('.')?;
        section.keys.iter().find(|key| key.name == name)
    });
    found.expect("flags name keys that exist")
}

fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

/// A variable that names a key.
struct Variable {
    section: &'static Section,
    index: Option<usize>,
    key: &'static Key,
}

/// Understands `LIMITS__RECEIVE_MAXIMUM` and `LISTENER__0__ADDRESS`; the error is the whole message.
fn find_variable(name: &str) -> Result<Variable, String> {
    let parts: Vec<&str> = name.split("__").collect();
    let (section, index, key) = match parts.as_slice() {
        [section, key] => (section, None, key),
        [section, index, key] => (section, number(index), key),
        _ => return Err(unknown_variable(name)),
    };
    let is_written = |known: &str, written: &str| known.to_uppercase() == written;
    let section = SECTIONS.iter().find(|known| is_written(known.name, section));
    let key = section.and_then(|section| section.keys.iter().find(|known| is_written(known.name, key)));
    let (Some(section), Some(key)) = (section, key) else { return Err(unknown_variable(name)) };
    match (section.list_max, parts.len(), index) {
        (None, 2, _) | (Some(_), 3, Some(_)) => Ok(Variable { section, index, key }),
        (Some(_), 2, _) => {
            let first = variable_name(section, key);
            Err(format!("there can be several [[{}]]; write {first} for the first one", section.name))
        }
        _ => Err(unknown_variable(name)),
    }
}

/// The number of a table in a list, which can be written in one way only.
fn number(text: &str) -> Option<usize> {
    let number: u16 = text.parse().ok()?;
    (number.to_string() == text).then_some(number.into())
}

fn unknown_variable(name: &str) -> String {
    let known = SECTIONS.iter().flat_map(|section| section.keys.iter().map(|key| variable_name(section, key)));
    let known: Vec<String> = known.collect();
    match nearest(&name.to_uppercase(), known.iter().map(|known| &known[PREFIX.len()..])) {
        Some(nearest) => format!("unknown variable; did you mean {PREFIX}{nearest}?"),
        None => format!("unknown variable; the names are {PREFIX}SECTION__KEY, for example {PREFIX}LOG__LEVEL"),
    }
}

/// The variable that sets a key; of a list, in its first table.
pub(super) fn variable_name(section: &Section, key: &Key) -> String {
    let number = if section.list_max.is_some() { "0__" } else { "" };
    format!("{PREFIX}{}__{number}{}", section.name.to_uppercase(), key.name.to_uppercase())
}
