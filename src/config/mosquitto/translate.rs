//! What the options of a mosquitto.conf mean here: they are read in order, as mosquitto does, and become settings of our keys.
//! Every option leaves a finding; those that concern all listeners take effect once the last line is read.
//! Read `listener.rs` next, which makes a `[[listener]]` out of what was gathered for it.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::super::errors::ConfigError;
use super::super::file::{Text, shown};
use super::super::kind::{Given, Kind};
use super::super::units::ShownDuration;
use super::lines::{Line, lines, number};
use super::listener::{Family, Gathered, Who};
use super::options::{Form, Row, Scope, Support, find, unknown};
use super::{Finding, Outcome, find_key};
use crate::log::Level;
use crate::notice::Outside;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most files that are included in all.
const FILES_MAX: usize = 1000;

/// One key with its value, as a TOML file would set it.
#[derive(Clone, Debug)]
pub(in crate::config) struct Setting {
    pub(in crate::config) section: &'static str,
    /// Of a list of tables: which of them, from 0.
    pub(in crate::config) index: Option<usize>,
    pub(in crate::config) key: &'static str,
    pub(in crate::config) value: Given,
    pub(in crate::config) place: String,
}

/// All that a mosquitto.conf and the files that it includes say.
#[derive(Debug, Default)]
pub(in crate::config) struct Translation {
    /// Each key of a table once.
    pub(in crate::config) settings: Vec<Setting>,
    /// Where each listener stands.
    pub(in crate::config) listeners: Vec<String>,
    /// No line names an address, so there is one listener, for this machine only, whose port `-p` sets.
    pub(in crate::config) is_local_only: bool,
    pub(in crate::config) findings: Vec<Finding>,
    /// The included files, in order.
    pub(in crate::config) files: Vec<PathBuf>,
    pub(in crate::config) errors: Vec<ConfigError>,
}

/// A file of an `include_dir`.
pub(in crate::config) struct Included {
    pub(in crate::config) path: PathBuf,
    pub(in crate::config) text: Text,
}

/// Reads the `.conf` files of a folder, in mosquitto's order. The error is the rest of a sentence that begins with the folder.
#[derive(Clone, Copy)]
pub(in crate::config) struct Include(pub(in crate::config) fn(&Path) -> Result<Vec<Included>, String>);

/// Reads a file that was found to be meant for mosquitto.
pub(in crate::config) fn translate(text: &Text, include: Include) -> Translation {
    let mut translator = Translator { is_local_only: true, ..Translator::default() };
    translator.read(text, Some(include));
    translator.finish(text)
}

/// A value with where it stands and the finding that speaks of it.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) place: String,
    pub(super) finding: usize,
}

#[derive(Default)]
pub(super) struct Translator {
    pub(super) out: Translation,
    pub(super) listeners: Vec<Gathered>,
    /// The one that options speak of which stand above all `listener` lines.
    default_listener: Option<usize>,
    /// What says who may enter by all listeners.
    pub(super) who: Who,
    pub(super) is_per_listener: bool,
    /// An option that `per_listener_settings` should have stood before.
    first_security: Option<String>,
    pub(super) is_local_only: bool,
    global: BTreeMap<(&'static str, &'static str), (Given, String)>,
    packet_size: Option<(i64, String)>,
    payload_size: Option<(i64, String)>,
    logged: Option<Placed<Level>>,
    /// Places of options that may be there once.
    once: BTreeMap<(Option<usize>, &'static str), String>,
    bridges: BTreeSet<String>,
}

/// Where the reader is within one file.
struct Reading {
    /// The listener that options speak of.
    listener: Option<usize>,
    is_in_bridge: bool,
}

impl Translator {
    /// Included files cannot include others, and begin without a listener or bridge.
    fn read(&mut self, text: &Text, include: Option<Include>) {
        let mut reading = Reading { listener: None, is_in_bridge: false };
        for line in lines(&text.content) {
            let place = text.line_place(line.number);
            let finding = self.out.findings.len();
            let option = Outside::of(line.option).to_string();
            let Some(row) = find(line.option) else {
                let why = unknown(line.option);
                self.fault(&place, why.clone());
                self.out.findings.push(Finding { place, option, outcome: Outcome::Wrong(why) });
                continue;
            };
            self.out.findings.push(Finding { place: place.clone(), option, outcome: said(row.support) });
            let at = At { line, row, place, finding };
            let read = match row.name {
                "include_dir" => self.include(&at, include),
                _ => self.option(&at, &mut reading),
            };
            match read {
                Ok(outcome) => self.conclude(finding, outcome),
                Err(message) => {
                    let message = format!("{} {message}", row.name);
                    self.fault(&at.place, message.clone());
                    self.conclude(finding, Some(Outcome::Wrong(message)));
                }
            }
        }
    }

    /// What is finally said of an option; a refusal is an error as well.
    pub(super) fn conclude(&mut self, finding: usize, outcome: Option<Outcome>) {
        let Some(finding) = self.out.findings.get_mut(finding) else { return };
        if let Some(outcome) = outcome {
            finding.outcome = outcome;
        }
        if let Outcome::Refused(why) = &finding.outcome {
            let message = format!("{} is not supported: {why}", finding.option);
            self.out.errors.push(ConfigError { place: finding.place.clone(), message });
        }
    }

    pub(super) fn fault(&mut self, place: &str, message: String) {
        self.out.errors.push(ConfigError { place: place.to_owned(), message });
    }

    fn include(&mut self, at: &At<'_>, include: Option<Include>) -> Result<Option<Outcome>, String> {
        let Some(Include(include)) = include else {
            return Err("may stand in the main file only".to_owned());
        };
        let folder = Path::new(at.line.text()?);
        let files = include(folder).map_err(|why| format!("{}: {why}", shown(folder)))?;
        if self.out.files.len().saturating_add(files.len()) > FILES_MAX {
            return Err(format!("adds more files than allowed: up to {FILES_MAX}"));
        }
        for Included { path, text } in files {
            self.out.files.push(path);
            self.read(&text, None);
        }
        Ok(None)
    }

    /// `None`: what the table says holds.
    fn option(&mut self, at: &At<'_>, reading: &mut Reading) -> Result<Option<Outcome>, String> {
        let value = at.value()?;
        if reading.listener.is_none() && is_default_of_listener(at.row.name, value) {
            return Ok(Some(as_always()));
        }
        self.enter(at, reading)?;
        let listener = reading.listener;
        if at.row.once {
            let table = if at.row.scope == Scope::Listener || self.is_per_listener { listener } else { None };
            if let Some(place) = self.once.insert((table, at.row.name), at.place.clone()) {
                return Err(format!("is there twice; the first one is at {place}"));
            }
        }
        if at.row.harmless.is_some_and(|harmless| value.is(harmless)) {
            return Ok(Some(as_always()));
        }
        match (at.row.support, at.row.scope) {
            (Support::NotSupported(_) | Support::Refused(_), _) => not_supported(at),
            (_, Scope::Listener) => self.of_listener(at, value, listener),
            (_, Scope::Security) => self.of_security(at, value, listener),
            _ => self.of_all(at, value),
        }
    }

    /// Finds out what the option speaks of, and opens it where the option does so.
    fn enter(&mut self, at: &At<'_>, reading: &mut Reading) -> Result<(), String> {
        match (at.row.name, at.row.scope) {
            ("connection", _) => {
                let name = at.line.word()?.to_owned();
                if !self.bridges.insert(name.clone()) {
                    return Err(format!("\"{}\" is there twice", Outside::of(&name)));
                }
                reading.is_in_bridge = true;
            }
            ("listener", _) => {
                self.is_local_only = false;
                reading.listener = Some(self.open(Gathered::read(&at.line, &at.place)?));
            }
            ("port" | "bind_address", _) => {
                self.is_local_only = false;
                reading.listener = Some(self.default_listener(&at.place));
            }
            (_, Scope::Listener) if reading.listener.is_none() => {
                self.is_local_only = false;
                reading.listener = Some(self.default_listener(&at.place));
            }
            (_, Scope::Security) => {
                self.first_security.get_or_insert_with(|| at.row.name.to_owned());
                if self.is_per_listener && reading.listener.is_none() {
                    return Err("needs a listener above it, because per_listener_settings is true".to_owned());
                }
            }
            (_, Scope::Bridge) if !reading.is_in_bridge => {
                return Err("belongs to a bridge; write it below its line connection NAME".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, gathered: Gathered) -> usize {
        self.listeners.push(gathered);
        self.listeners.len().saturating_sub(1)
    }

    fn default_listener(&mut self, place: &str) -> usize {
        match self.default_listener {
            Some(listener) => listener,
            None => {
                let listener = self.open(Gathered::at_port(1883, place));
                self.default_listener = Some(listener);
                listener
            }
        }
    }

    /// Options that speak of the whole broker.
    fn of_all(&mut self, at: &At<'_>, value: Value<'_>) -> Result<Option<Outcome>, String> {
        match (at.row.name, value) {
            ("per_listener_settings", Value::Switch(true)) if !self.is_per_listener => {
                if let Some(earlier) = &self.first_security {
                    return Err(format!("must stand above {earlier}"));
                }
                self.is_per_listener = true;
            }
            ("per_listener_settings", _) => {}
            ("queue_qos0_messages", Value::Switch(on)) => self.set(at, "mqtt", "queue_qos0_offline", Given::Switch(on)),
            ("retain_available", Value::Switch(on)) => self.set(at, "mqtt", "retain_available", Given::Switch(on)),
            ("global_max_connections", Value::Number(count)) => {
                return Ok(self.limit(at, "limits", "connections_max", count, 0));
            }
            ("max_inflight_messages", Value::Number(count)) => {
                if count > 65_535 {
                    return Err(format!("is {count}; allowed: 0 to 65535"));
                }
                let count = if count == 65_535 { 0 } else { count };
                self.limit(at, "limits", "in_flight_max", count, 0);
                return Ok(self.limit(at, "limits", "receive_maximum", count, 0));
            }
            ("max_queued_messages", Value::Number(count)) => {
                return Ok(self.limit(at, "limits", "queue_messages_max", count, 0));
            }
            ("max_queued_bytes", Value::Number(size)) => {
                return Ok(self.limit(at, "limits", "queue_size_max", size, 0));
            }
            ("memory_limit", Value::Number(0)) => {
                let how =
                    "node.memory_budget keeps its default, because without a limit the process would be killed one day";
                return Ok(Some(Outcome::Changed(how.to_owned())));
            }
            ("memory_limit", Value::Number(size)) => {
                return Ok(self.limit(at, "node", "memory_budget", size, -1));
            }
            ("max_keepalive", Value::Number(seconds)) => {
                if !(0..=65_535).contains(&seconds) {
                    return Err(format!("is {seconds}; allowed: 0 to 65535"));
                }
                let seconds = if seconds == 0 { 65_535 } else { seconds };
                self.set(at, "limits", "keep_alive_max", time(seconds));
            }
            ("sys_interval", Value::Number(seconds)) => {
                if !(0..=65_535).contains(&seconds) {
                    return Err(format!("is {seconds}; allowed: 0 to 65535"));
                }
                self.set(at, "sys", "interval", time(seconds));
            }
            ("max_packet_size", Value::Number(size)) => {
                if size < 20 {
                    return Err(format!("is {size}; allowed: 20 and more"));
                }
                self.packet_size = Some((size, at.place.clone()));
                if size < 128 {
                    return Ok(Some(Outcome::Changed("limits.packet_size_max is 128, its least".to_owned())));
                }
            }
            ("message_size_limit", Value::Number(size)) => {
                if !(0..=268_435_455).contains(&size) {
                    return Err(format!("is {size}; allowed: 0 to 268435455"));
                }
                self.payload_size = Some((size, at.place.clone()));
                if size == 0 {
                    return Ok(Some(Outcome::Honoured("limits.packet_size_max".to_owned())));
                }
            }
            ("persistence_location", Value::Text(folder)) => {
                let folder = Path::new(folder).join("waypost-data");
                self.set(at, "node", "data_dir", Given::Text(folder.to_string_lossy().into_owned()));
            }
            ("persistence", Value::Switch(on)) => {
                let durability = if on { "disk" } else { "memory" };
                self.set(at, "store", "durability", Given::Text(durability.to_owned()));
            }
            ("persistent_client_expiration", Value::Text(written)) => return self.expiration(at, written),
            ("log_type", Value::Text(word)) => return self.log_type(at, word),
            _ => {}
        }
        Ok(None)
    }

    /// A number of days and so on; mosquitto's months have 30 days and its years 365.
    fn expiration(&mut self, at: &At<'_>, written: &str) -> Result<Option<Outcome>, String> {
        let wrong = || format!("is \"{}\"; write for example 14d (s, h, d, w, m for months, y)", Outside::of(written));
        let unit = written.chars().next_back().ok_or_else(wrong)?;
        let unit_s: i64 = match unit {
            's' => 1,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            'm' => 2_592_000,
            'y' => 31_536_000,
            _ => return Err(wrong()),
        };
        let count = number(written.trim_end_matches(unit)).map_err(|_| wrong())?;
        let most_s = SESSION_EXPIRY_MOST_S;
        match count.checked_mul(unit_s).filter(|seconds| *seconds > 0) {
            None if count <= 0 => Err(wrong()),
            Some(seconds) if seconds <= most_s => {
                self.set(at, "limits", "session_expiry_max", time(seconds));
                Ok(None)
            }
            _ => {
                self.set(at, "limits", "session_expiry_max", time(most_s));
                Ok(Some(Outcome::Changed("limits.session_expiry_max is 136 years, its most".to_owned())))
            }
        }
    }

    /// Types are a set and our levels a ladder: the level that includes all of them.
    fn log_type(&mut self, at: &At<'_>, word: &str) -> Result<Option<Outcome>, String> {
        let level = match word {
            "none" | "error" => Level::Error,
            "warning" => Level::Warn,
            "notice" | "information" => Level::Info,
            "debug" | "subscribe" | "unsubscribe" | "internal" | "websockets" | "all" => Level::Debug,
            other => {
                let known = "none, error, warning, notice, information, debug, subscribe, unsubscribe, websockets, internal and all";
                return Err(format!("is \"{}\"; allowed: {known}", Outside::of(other)));
            }
        };
        let earlier = self.logged.take().map(|logged| logged.value).filter(|_| word != "none");
        let level = earlier.map_or(level, |earlier| earlier.max(level));
        self.logged = Some(Placed { value: level, place: at.place.clone(), finding: at.finding });
        let changed = (word == "none").then(|| Outcome::Changed("log.level = \"error\" is the least".to_owned()));
        Ok(changed)
    }

    /// Options that say who may enter, of all listeners or of one.
    fn of_security(
        &mut self,
        at: &At<'_>,
        value: Value<'_>,
        listener: Option<usize>,
    ) -> Result<Option<Outcome>, String> {
        let who = match listener.filter(|_| self.is_per_listener) {
            Some(listener) => self.listeners.get_mut(listener).map(|listener| &mut listener.who),
            None => Some(&mut self.who),
        };
        let Some(who) = who else { return Ok(None) };
        match (at.row.name, value) {
            ("allow_anonymous", Value::Switch(on)) => who.allow_anonymous = Some(at.placed(on)),
            ("password_file", Value::Text(path)) => who.password_file = Some(at.placed(path.to_owned())),
            ("acl_file", Value::Text(path)) => who.acl_file = Some(at.placed(path.to_owned())),
            ("auto_id_prefix", Value::Text(prefix)) => who.id_prefix = Some(at.placed(prefix.to_owned())),
            _ => {}
        }
        Ok(None)
    }

    fn of_listener(
        &mut self,
        at: &At<'_>,
        value: Value<'_>,
        listener: Option<usize>,
    ) -> Result<Option<Outcome>, String> {
        let Some(listener) = listener.and_then(|listener| self.listeners.get_mut(listener)) else { return Ok(None) };
        match (at.row.name, value) {
            ("port", Value::Number(port)) => match u16::try_from(port) {
                Ok(port) if port > 0 => listener.port = port,
                _ => return Err(format!("is {port}; allowed: 1 to 65535")),
            },
            ("bind_address", Value::Text(host)) => listener.host = Some(host.to_owned()),
            ("socket_domain", Value::Text(word)) => {
                listener.family = match word {
                    "ipv4" => Some(Family::V4),
                    "ipv6" => Some(Family::V6),
                    other => return Err(format!("is \"{}\"; allowed: ipv4 and ipv6", Outside::of(other))),
                };
                if listener.host.is_some() {
                    let how = "no effect beside an address; write an IP address instead of a name to choose";
                    return Ok(Some(Outcome::Changed(how.to_owned())));
                }
            }
            ("bind_interface", Value::Text(name)) => {
                listener.set("interface", Given::Text(name.to_owned()), &at.place);
            }
            ("protocol", Value::Text(word)) => match word {
                "mqtt" => listener.set("protocol", Given::Text("mqtt".to_owned()), &at.place),
                "websockets" => listener.set("protocol", Given::Text("websocket".to_owned()), &at.place),
                "http_api" => {
                    listener.is_left_out = true;
                    let how = "there is no HTTP interface of mosquitto's kind; this listener is left out";
                    return Ok(Some(Outcome::NotSupported(how.to_owned())));
                }
                other => return Err(format!("is \"{}\"; allowed: mqtt and websockets", Outside::of(other))),
            },
            ("accept_protocol_versions", Value::Text(written)) => {
                let words = written.split([',', ' ', '\t']);
                let version = |word| match word {
                    "3" => Some("3.1"),
                    "4" => Some("3.1.1"),
                    "5" => Some("5.0"),
                    _ => None,
                };
                let mut versions: Vec<&str> = words.filter_map(version).collect();
                versions.sort_unstable();
                versions.dedup();
                if versions.is_empty() {
                    return Err(format!("is \"{}\"; allowed: 3, 4 and 5", Outside::of(written)));
                }
                let versions = versions.into_iter().map(|version| Given::Text(version.to_owned())).collect();
                listener.set("versions", Given::List(versions), &at.place);
            }
            ("max_connections", Value::Number(count)) => {
                let (count, outcome) = bounded("listener", "connections_max", count, 0);
                listener.set("connections_max", count, &at.place);
                return Ok(outcome);
            }
            ("max_qos" | "maximum_qos", Value::Number(qos)) => {
                if !(0..=2).contains(&qos) {
                    return Err(format!("is {qos}; allowed: 0 to 2"));
                }
                listener.maximum_qos = Some(at.placed(qos));
            }
            ("max_topic_alias", Value::Number(count)) => listener.topic_aliases = Some(at.placed(alias(count)?)),
            ("max_topic_alias_broker", Value::Number(count)) => {
                listener.topic_aliases_outbound = Some(at.placed(alias(count)?));
            }
            ("listener_allow_anonymous", Value::Switch(on)) => listener.allow_anonymous = Some(at.placed(on)),
            ("listener_auto_id_prefix", Value::Text(prefix)) => {
                listener.who.id_prefix = Some(at.placed(prefix.to_owned()));
            }
            ("websockets_origin", Value::Text(origin)) => {
                listener.origins.push(at.placed(origin.to_owned()));
            }
            ("enable_proxy_protocol", Value::Number(version)) => {
                if !(1..=2).contains(&version) {
                    return Err(format!("is {version}; allowed: 1 and 2"));
                }
                let everywhere = ["0.0.0.0/0", "::/0"].map(|network| Given::Text(network.to_owned()));
                listener.set("proxy_protocol", Given::Switch(true), &at.place);
                listener.set("proxy_trusted", Given::List(everywhere.into()), &at.place);
            }
            (_, Value::Switch(on)) => listener.tls.switch(at, on),
            (_, Value::Text(text)) => return listener.tls.text(at, text),
            _ => {}
        }
        Ok(None)
    }

    fn set(&mut self, at: &At<'_>, section: &'static str, key: &'static str, value: Given) {
        self.global.insert((section, key), (value, at.place.clone()));
    }

    /// A limit that is none at `none` and below. Ours always have one, so then it is the highest.
    fn limit(
        &mut self,
        at: &At<'_>,
        section: &'static str,
        key: &'static str,
        count: i64,
        none: i64,
    ) -> Option<Outcome> {
        let (value, outcome) = bounded(section, key, count, none);
        self.set(at, section, key, value);
        outcome
    }

    /// What can only be said once everything is read.
    fn finish(mut self, text: &Text) -> Translation {
        let default = format!("{} (a default of mosquitto)", text.name());
        if let Some(logged) = self.logged.take() {
            self.global.insert(("log", "level"), (Given::Text(logged.value.word().to_owned()), logged.place));
        }
        self.packet_sizes();
        // Mosquitto keeps a Session for as long as its Client may still come back.
        self.global
            .entry(("limits", "session_expiry_max"))
            .or_insert_with(|| (time(SESSION_EXPIRY_MOST_S), default.clone()));
        // Nobody has said where anything may be written.
        self.global
            .entry(("store", "durability"))
            .or_insert_with(|| (Given::Text("memory".to_owned()), default.clone()));
        if self.is_local_only {
            self.listeners = vec![Gathered::of_this_machine(&default)];
        }
        self.listeners.retain(|listener| !listener.is_left_out);
        let mut global = std::mem::take(&mut self.global);
        self.of_any_listener(&mut global);
        self.out.settings = global
            .into_iter()
            .map(|((section, key), (value, place))| Setting { section, index: None, key, value, place })
            .collect();
        self.finish_listeners(&default);
        self.out.is_local_only = self.is_local_only;
        self.out
    }

    fn packet_sizes(&mut self) {
        let payload = self.payload_size.take().map(|(size, place)| {
            let room = if size == 0 { i64::MAX } else { PACKET_WITHOUT_PAYLOAD_MAX };
            (size.saturating_add(room), place)
        });
        let Some((size, place)) = self.packet_size.take().or(payload) else { return };
        let (value, _) = bounded("limits", "packet_size_max", size, 0);
        self.global.insert(("limits", "packet_size_max"), (value, place.clone()));
        if size < CONNECT_PACKET_SIZE {
            let (value, _) = bounded("limits", "connect_packet_size_max", size, 0);
            self.global.insert(("limits", "connect_packet_size_max"), (value, place));
        }
    }
}

/// What a PUBLISH can hold besides its payload: a Topic of 64 KiB and, as far as Waypost takes them, as much of properties.
const PACKET_WITHOUT_PAYLOAD_MAX: i64 = 2 * 65_536 + 16;

/// The default of `limits.connect_packet_size_max`. Mosquitto's limit holds for CONNECT as for any other packet.
const CONNECT_PACKET_SIZE: i64 = 384 * 1024;

/// The most that `limits.session_expiry_max` can be: what fits the 32 bits of Session Expiry Interval, in whole days.
const SESSION_EXPIRY_MOST_S: i64 = 49_710 * 86_400;

/// One line with all that is known about it.
pub(super) struct At<'a> {
    line: Line<'a>,
    pub(super) row: &'static Row,
    pub(super) place: String,
    pub(super) finding: usize,
}

/// What the row's form made of a line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Switch(bool),
    Number(i64),
    Text(&'a str),
    Any,
}

impl<'a> At<'a> {
    fn value(&self) -> Result<Value<'a>, String> {
        Ok(match self.row.form {
            Form::Switch => Value::Switch(self.line.switch()?),
            Form::Number => Value::Number(self.line.number()?),
            Form::Word => Value::Text(self.line.word()?.trim()),
            Form::Text => Value::Text(self.line.text()?),
            Form::Any => Value::Any,
        })
    }

    pub(super) fn placed<T>(&self, value: T) -> Placed<T> {
        Placed { value, place: self.place.clone(), finding: self.finding }
    }
}

impl Value<'_> {
    fn is(&self, written: &str) -> bool {
        match self {
            Self::Switch(on) => written == if *on { "true" } else { "false" },
            Self::Number(count) => number(written) == Ok(*count),
            Self::Text(text) => *text == written,
            Self::Any => false,
        }
    }
}

/// With these values mosquitto 2.0 does not open its default listener: people write them above their `listener` lines.
fn is_default_of_listener(option: &str, value: Value<'_>) -> bool {
    match option {
        "protocol" => value.is("mqtt"),
        "max_connections" => value.is("-1"),
        "max_qos" | "maximum_qos" => value.is("2"),
        "max_topic_alias" | "max_topic_alias_broker" => value.is("10"),
        "require_certificate" | "use_identity_as_username" | "use_subject_as_username" | "use_username_as_clientid" => {
            value.is("false")
        }
        _ => false,
    }
}

fn as_always() -> Outcome {
    Outcome::Honoured("as it is without this line".to_owned())
}

fn said(support: Support) -> Outcome {
    match support {
        Support::Honoured(key) => Outcome::Honoured(key.to_owned()),
        Support::Changed(key, how) => Outcome::Changed(format!("{key}: {how}")),
        Support::NotSupported(why) => Outcome::NotSupported(why.to_owned()),
        Support::Refused(why) => Outcome::Refused(why.to_owned()),
    }
}

/// A number within the bounds of a key, and what to say when it had to be moved there.
pub(super) fn bounded(section: &str, key: &str, count: i64, none: i64) -> (Given, Option<Outcome>) {
    let (least, most) = match find_key(section, key).map(|(_, key)| key.kind) {
        Some(Kind::Count { least, most } | Kind::Size { least, most }) => (least, most),
        _ => (0, u64::MAX),
    };
    let is_none = count <= none;
    let wanted = if is_none { most } else { u64::try_from(count).unwrap_or(0) };
    let count = wanted.clamp(least, most);
    let outcome = if is_none {
        Some(Outcome::Changed(format!("there is always a limit: {section}.{key} is {count}, its most")))
    } else if count != wanted {
        let which = if count == least { "least" } else { "most" };
        Some(Outcome::Changed(format!("{section}.{key} is {count}, its {which}")))
    } else {
        None
    };
    (Given::Number(Some(count.into()), count.to_string()), outcome)
}

fn not_supported(at: &At<'_>) -> Result<Option<Outcome>, String> {
    match at.row.name {
        "log_dest" => match at.line.word()? {
            "stderr" => Ok(Some(Outcome::Honoured("the log goes to standard error".to_owned()))),
            "file" if at.line.text_after("file").is_empty() => Err("file has no path".to_owned()),
            "none" | "stdout" | "syslog" | "topic" | "file" | "dlt" | "android" => Ok(None),
            other => Err(format!(
                "is \"{}\"; allowed: none, stdout, stderr, syslog, topic, file and dlt",
                Outside::of(other)
            )),
        },
        _ => Ok(None),
    }
}

fn alias(count: i64) -> Result<i64, String> {
    if (0..=65_535).contains(&count) { Ok(count) } else { Err(format!("is {count}; allowed: 0 to 65535")) }
}

fn time(seconds: i64) -> Given {
    Given::Text(ShownDuration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::options::{Form, ROWS, Scope, Support};
    use super::super::{Outcome, find_key};
    use super::{Include, Text, translate};

    /// Where an option needs it, a value that it can have.
    fn value(option: &str, form: Form) -> &'static str {
        match option {
            "accept_protocol_versions" => "5",
            "bind_address" | "bind_interface" => "eth0",
            "listener" => "1884",
            "log_dest" => "syslog",
            "log_type" => "debug",
            "max_packet_size" => "1000",
            "persistent_client_expiration" => "1d",
            "protocol" => "websockets",
            "socket_domain" => "ipv6",
            "tls_keyform" => "engine",
            "tls_version" => "tlsv1.3",
            "ciphers" | "ciphers_tls1.3" => "DEFAULT",
            _ => match form {
                Form::Switch => "true",
                Form::Number => "1",
                _ => "some/thing",
            },
        }
    }

    #[test]
    fn each_option_of_the_table_is_understood_and_does_what_the_table_says() {
        for row in ROWS {
            let option = row.name.replace('*', "x");
            let above = match row.scope {
                Scope::Bridge => "connection b\n",
                Scope::Listener => "listener 1883\n",
                _ => "",
            };
            let conf = format!("{above}{option} {}\n", value(&option, row.form));
            let text =
                Text::of("m.conf".to_owned(), conf.clone().into_bytes()).unwrap_or_else(|error| panic!("{error}"));
            let done = translate(&text, Include(|_| Ok(Vec::new())));
            let finding = done.findings.last().expect("each option leaves a finding");
            assert_eq!(finding.option, option);
            assert!(!matches!(finding.outcome, Outcome::Wrong(_)), "{conf}{finding}");
            for setting in &done.settings {
                let (_, key) = find_key(setting.section, setting.key).expect("settings are of keys that exist");
                assert!(key.kind.read(&setting.value).is_ok(), "{conf}{setting:?}");
            }
            let is_refused =
                matches!(row.support, Support::Refused(_)) && row.harmless != Some(value(&option, row.form));
            assert_eq!(matches!(finding.outcome, Outcome::Refused(_)), is_refused, "{conf}{finding}");
        }
    }
}
