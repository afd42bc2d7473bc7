//! What the test crates share. Each uses a part of it.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    unreachable_pub,
    reason = "every test crate includes all of this and uses some"
)]

mod broker;
mod journal;
pub mod people;
pub mod talk;
pub mod wire;

pub use broker::{Link, TestBroker, settings};
pub use journal::TestJournal;
pub use waypost::broker::Settings;
