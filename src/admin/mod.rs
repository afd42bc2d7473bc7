//! What the broker tells those who watch it, over HTTP: figures for Prometheus, and whether it is well. It changes nothing.
//!
//! It has a thread of its own and reads what the rooms below have counted anyway: nothing on the way of a PUBLISH knows of it.
//! Read `http.rs` (who is answered, within which bounds), then `metrics.rs` (what is on the page).

mod http;
mod metrics;
mod page;

pub use http::{Admin, Bound};

use crate::broker::Shared;
use crate::net::Doors;
use crate::notice::{Outcomes, Tally};
use crate::store::Store;
use std::sync::Arc;

/// What is read for an answer.
#[derive(Clone)]
pub struct Sources {
    pub shared: Arc<Shared>,
    pub doors: Doors,
    pub failed_logins: Arc<Tally>,
    pub reloads: Arc<Reloads>,
    /// What came of fetching keys of tokens, where they are fetched.
    pub key_set: Option<Arc<Outcomes>>,
    /// What survives, where something does.
    pub store: Option<Arc<Store>>,
    /// Lines of the log that were lost since the process began.
    pub log_lines_lost: fn() -> u64,
    /// When the node started, in seconds since 1970.
    pub started_s: f64,
}

/// What came of reading files again, since the start; certificates count for themselves.
#[derive(Debug, Default)]
pub struct Reloads {
    pub rules: Outcomes,
    pub passwords: Outcomes,
    pub keys: Outcomes,
    /// Those of servers that are asked about logins and keys.
    pub authorities: Outcomes,
}
