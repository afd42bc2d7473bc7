//! What is wrong with a configuration: every fault at once, each with its place.
//! The list is bounded, so that a file full of nonsense cannot fill a log.
//! Read `layers.rs` next, which finds most of them.

use std::fmt;
use thiserror::Error;

/// Faults that are kept; those beyond are counted.
const ERRORS_MAX: usize = 50;

/// One fault and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    /// `waypost.toml:7:20`, the name of a variable, or a flag.
    pub place: String,
    pub message: String,
}

/// All faults of a configuration, in the order of the layers and, within a file, of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Error)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    further: usize,
}

impl ConfigErrors {
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn push(&mut self, place: impl Into<String>, message: impl Into<String>) {
        let error = ConfigError { place: place.into(), message: message.into() };
        // The parser sometimes says the same of the same place for each level that it leaves.
        if self.errors.last() == Some(&error) {
            return;
        }
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        } else {
            self.further += 1;
        }
    }
}

/// One line for each fault.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.errors.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(out, "{separator}{error}")?;
        }
        match self.further {
            0 => Ok(()),
            further => write!(out, "\nand {further} more"),
        }
    }
}
