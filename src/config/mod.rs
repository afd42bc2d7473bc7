//! The configuration: one TOML file, its drop-in folder, the environment and the flags become one `Config` of typed values.
//! Nothing is ignored in silence, all faults are reported at once, and no other room knows this one: the node fills the settings of each.
//! Read `keys.rs` first, the table of all keys; `layers.rs` and `rules.rs` say how it is read and what must hold.
//!
//! ```
//! use waypost::config::{Config, Sources};
//!
//! let config = Config::load(&Sources::default()).expect("the defaults are valid");
//! assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:1883");
//! ```

mod address;
mod errors;
mod file;
mod keep;
mod keys;
mod kind;
mod layers;
mod macros;
mod mosquitto;
mod reference;
mod rules;
mod units;
mod unknown;

pub use address::{ANY, Address, AddressOrOff, NotAnAddress};
pub use errors::{ConfigError, ConfigErrors};
pub use keys::{
    Acl, Admin, Algorithm, ClientAuth, ClientIdentity, Durability, Fallback, HttpLogin, Jwt, Key, KeyExposed, Limits,
    Listener, Log, Method, Mqtt, Node, Password, Protocol, QueueDrops, SECTIONS, Section, SharedGroup, SharedStrategy,
    Store, StoreRule, SubscribePolicy, Sys, TlsVersion, Version,
};
pub use kind::Kind;
pub use layers::{Flags, Sources, is_setting};
pub use mosquitto::{Finding, Outcome};
pub use reference::reference;

use ::config::{Map, Value, ValueKind};
use file::Text;
use layers::{Layers, is_mosquitto, translated};
use std::path::{Path, PathBuf};

/// All settings of a node, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub node: Node,
    pub store: Store,
    /// The first that matches decides.
    pub store_rules: Vec<StoreRule>,
    /// At least one.
    pub listeners: Vec<Listener>,
    pub limits: Limits,
    pub mqtt: Mqtt,
    pub acl: Acl,
    pub shared_groups: Vec<SharedGroup>,
    pub password: Password,
    pub jwt: Jwt,
    pub http_login: HttpLogin,
    pub sys: Sys,
    pub admin: Admin,
    pub log: Log,
    /// Where all this came from; see `reload`.
    pub sources: Sources,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
    /// What became of each option, when the file is a mosquitto.conf.
    pub findings: Vec<Finding>,
}

impl Config {
    /// Reads all layers and checks each and the whole. An error reports every fault that was found.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::read(sources);
        let merged = layers.merged();
        rules::check(&merged, &mut layers);
        if layers.errors.is_empty() { Ok(Self::of(&merged, layers, sources)) } else { Err(layers.errors) }
    }

    /// Reads the same sources again. After an error the present configuration is still the one that holds.
    pub fn reload(&self) -> Result<Self, ConfigErrors> {
        Self::load(&self.sources)
    }

    /// What is allowed and yet probably not meant, one sentence each, for the log.
    pub fn notes(&self) -> Vec<String> {
        rules::notes(self)
    }

    fn of(merged: &Map<String, Value>, layers: Layers, sources: &Sources) -> Self {
        Self {
            node: Node::of(&table(merged, "node")),
            store: Store::of(&table(merged, "store")),
            store_rules: tables(merged, "store_rule").map(StoreRule::of).collect(),
            listeners: tables(merged, "listener").map(Listener::of).collect(),
            limits: Limits::of(&table(merged, "limits")),
            mqtt: Mqtt::of(&table(merged, "mqtt")),
            acl: Acl::of(&table(merged, "acl")),
            shared_groups: tables(merged, "shared_group").map(SharedGroup::of).collect(),
            password: Password::of(&table(merged, "password")),
            jwt: Jwt::of(&table(merged, "jwt")),
            http_login: HttpLogin::of(&table(merged, "http_login")),
            sys: Sys::of(&table(merged, "sys")),
            admin: Admin::of(&table(merged, "admin")),
            log: Log::of(&table(merged, "log")),
            sources: sources.clone(),
            files: layers.files,
            findings: layers.findings,
        }
    }
}

/// What becomes of each option of a mosquitto.conf, faults or not; nothing for a file that is none or cannot be read.
pub fn findings(file: &Path) -> Vec<Finding> {
    match Text::read(file) {
        Ok(text) if is_mosquitto(file, &text) => translated(&text).findings,
        _ => Vec::new(),
    }
}

/// A mosquitto.conf as a file of ours, which means the same.
///
/// # Errors
/// Every fault that keeps the file from being used, and a file that is not for mosquitto.
pub fn convert(file: &Path) -> Result<String, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    match Text::read(file) {
        Ok(text) if is_mosquitto(file, &text) => {
            Config::load(&Sources { file: Some(file.to_owned()), ..Sources::default() })?;
            return Ok(mosquitto::to_toml(&translated(&text), text.name()));
        }
        Ok(text) => errors.push(text.name(), "is not a mosquitto.conf"),
        Err(error) => errors.push(error.place, error.message),
    }
    Err(errors)
}

/// What holds when nobody configures anything.
impl Default for Config {
    fn default() -> Self {
        Self::load(&Sources::default()).expect("the defaults are valid")
    }
}

/// Empty for a section that nobody set and that has no defaults.
fn table(merged: &Map<String, Value>, name: &str) -> Map<String, Value> {
    merged.get(name).and_then(as_table).cloned().unwrap_or_default()
}

fn tables<'a>(merged: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
    let items = match merged.get(name).map(|value| &value.kind) {
        Some(ValueKind::Array(items)) => items.as_slice(),
        _ => &[],
    };
    items.iter().filter_map(as_table)
}

fn as_table(value: &Value) -> Option<&Map<String, Value>> {
    match &value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}
