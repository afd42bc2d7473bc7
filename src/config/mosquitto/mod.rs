//! A mosquitto.conf as a layer of our configuration: its options become values of our keys, each with its line as its place.
//! It never guesses: an option that nobody knows is an error, and what is not supported is one where it concerns security.
//! Read `options.rs` first, the table of all options; `lines.rs` reads the text, `translate.rs` gives it its meaning.

mod convert;
mod lines;
mod listener;
mod options;
mod translate;

pub(super) use convert::to_toml;
pub(super) use translate::{Include, Included, Setting, Translation, translate};

use super::keys::{Key, SECTIONS, Section};
use std::fmt;

/// What became of one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `mosquitto.conf:7`
    pub place: String,
    /// As the file names it.
    pub option: String,
    pub outcome: Outcome,
}

/// Whether an option means what it means to mosquitto.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By this key, or as this sentence says.
    Honoured(String),
    /// With this difference.
    Changed(String),
    /// It has no effect, for this reason.
    NotSupported(String),
    /// It concerns security, so the broker does not start with it.
    Refused(String),
    /// It is not an option, or its value is not one that it can have.
    Wrong(String),
}

impl Finding {
    /// Whether it means something else than in mosquitto.
    pub fn differs(&self) -> bool {
        !matches!(self.outcome, Outcome::Honoured(_))
    }
}

/// `mosquitto.conf:7: max_qos: honoured: mqtt.maximum_qos`
impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, sentence) = match &self.outcome {
            Outcome::Honoured(sentence) => ("honoured", sentence),
            Outcome::Changed(sentence) => ("changed", sentence),
            Outcome::NotSupported(sentence) => ("not supported", sentence),
            Outcome::Refused(sentence) => ("not supported, and it concerns security", sentence),
            Outcome::Wrong(sentence) => ("error", sentence),
        };
        write!(out, "{}: {}: {word}: {sentence}", self.place, self.option)
    }
}

/// Whether a file is meant for mosquitto: by what it says and, where both could be meant, by its name.
pub(super) fn is_meant(text: &str, is_conf: bool, is_toml: bool) -> bool {
    let Some(first) = lines::lines(text).next() else { return is_conf };
    let is_assignment = first.option.contains('=') || first.rest.trim_start().starts_with('=');
    let like_toml = is_assignment || first.option.starts_with('[');
    !is_toml && !like_toml && (is_conf || options::find(first.option).is_some())
}

/// A key of ours by its names.
fn find_key(section: &str, key: &str) -> Option<(&'static Section, &'static Key)> {
    let section = SECTIONS.iter().find(|known| known.name == section)?;
    Some((section, section.keys.iter().find(|known| known.name == key)?))
}
