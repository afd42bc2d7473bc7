//! From a checked value of a merged table to the Rust type that the node reads.
//! Nothing is judged here: whatever arrives was accepted by its kind, and a test loads both ends of every bound.
//! Read `keys.rs` for the table that says which key has which type.

use super::address::{Address, AddressOrOff};
use super::keys::{
    Algorithm, ClientAuth, ClientIdentity, Durability, KeyExposed, Method, Protocol, QueueDrops, SharedStrategy,
    SubscribePolicy, TlsVersion, Version,
};
use crate::access::Network;
use crate::log::{Format, Level};
use config::{Value, ValueKind};
use std::path::PathBuf;
use std::time::Duration;

/// A type that a checked value becomes.
pub(super) trait Keep: Sized {
    /// `None` is a key that nobody set and that has no default.
    fn keep(value: Option<&Value>) -> Self;
}

impl<T: Keep> Keep for Option<T> {
    fn keep(value: Option<&Value>) -> Self {
        value.map(|value| T::keep(Some(value)))
    }
}

macro_rules! keep_numbers {
    ($($type:ty),+) => { $(
        impl Keep for $type {
            fn keep(value: Option<&Value>) -> Self {
                number(value).try_into().expect("the bounds of a key lie within its type")
            }
        }
    )+ };
}

keep_numbers!(u8, u16, u32, u64, usize);

impl Keep for bool {
    fn keep(value: Option<&Value>) -> Self {
        match value.map(|value| &value.kind) {
            Some(ValueKind::Boolean(switch)) => *switch,
            other => unreachable!("a switch was checked to be one, not {other:?}"),
        }
    }
}

impl Keep for String {
    fn keep(value: Option<&Value>) -> Self {
        text(value).to_owned()
    }
}

impl Keep for PathBuf {
    fn keep(value: Option<&Value>) -> Self {
        Self::from(text(value))
    }
}

impl Keep for Duration {
    fn keep(value: Option<&Value>) -> Self {
        Self::from_millis(number(value))
    }
}

impl Keep for Address {
    fn keep(value: Option<&Value>) -> Self {
        text(value).parse().expect("an address was checked to be one")
    }
}

impl Keep for AddressOrOff {
    fn keep(value: Option<&Value>) -> Self {
        text(value).parse().expect("an address or off was checked to be one")
    }
}

impl Keep for Network {
    fn keep(value: Option<&Value>) -> Self {
        text(value).parse().expect("a network was checked to be one")
    }
}

impl<T: Keep> Keep for Vec<T> {
    fn keep(value: Option<&Value>) -> Self {
        match value.map(|value| &value.kind) {
            Some(ValueKind::Array(items)) => items.iter().map(|item| T::keep(Some(item))).collect(),
            other => unreachable!("a list was checked to be one, not {other:?}"),
        }
    }
}

macro_rules! keep_words {
    ($($type:ty),+) => { $(
        impl Keep for $type {
            fn keep(value: Option<&Value>) -> Self {
                let word = text(value);
                let found = Self::ALL.iter().find(|candidate| candidate.word() == word);
                *found.expect("a word was checked to be one of those allowed")
            }
        }
    )+ };
}

keep_words!(
    Version,
    Method,
    Algorithm,
    Protocol,
    TlsVersion,
    KeyExposed,
    ClientAuth,
    ClientIdentity,
    Durability,
    QueueDrops,
    SharedStrategy,
    SubscribePolicy,
    Level,
    Format
);

fn number(value: Option<&Value>) -> u64 {
    match value.map(|value| &value.kind) {
        Some(ValueKind::U64(number)) => *number,
        other => unreachable!("a number was checked to be one, not {other:?}"),
    }
}

fn text(value: Option<&Value>) -> &str {
    match value.map(|value| &value.kind) {
        Some(ValueKind::String(text)) => text,
        other => unreachable!("a text was checked to be one, not {other:?}"),
    }
}
