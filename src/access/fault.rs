//! What is wrong with a rule file: every fault at once, each with its file and line.
//! The list is bounded, so that a file full of nonsense cannot fill a log.
//! Read `mosquitto.rs` and `native.rs` next, which find them.

use std::fmt;
use thiserror::Error;

/// Faults that are kept; those beyond are counted.
const FAULTS_MAX: usize = 50;

/// One fault and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {message}")]
pub struct Fault {
    /// `acl.conf:7`, or `acl.toml:7:20` with the column.
    pub place: String,
    pub message: String,
}

/// All faults of the rule files, in the order of the files and, within a file, of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Error)]
pub struct Faults {
    faults: Vec<Fault>,
    further: usize,
}

impl Faults {
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    pub(super) fn push(&mut self, place: String, message: String) {
        let fault = Fault { place, message };
        // The TOML parser sometimes says the same of the same place for each level that it leaves.
        if self.faults.last() == Some(&fault) {
            return;
        }
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.further = self.further.saturating_add(1);
        }
    }
}

/// One line for each fault.
impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(out, "{separator}{fault}")?;
        }
        match self.further {
            0 => Ok(()),
            further => write!(out, "\nand {further} more"),
        }
    }
}
