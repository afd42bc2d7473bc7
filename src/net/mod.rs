//! The doors: sockets, and the threads on which shards run. The only floor that waits, reads the clock and knows tokio.
//!
//! `listener.rs` lets Network Connections in (`admission.rs` says how many), `arrival.rs` brings them to MQTT, `connection.rs` is
//! the one task that each of them has, `thread.rs` runs a shard. `stream.rs` is what a connection reads from and writes to,
//! with `tls.rs` and `websocket.rs` as its layers; `credentials.rs` holds certificates and keys, which `watch.rs` keeps fresh; `counts.rs`
//! says what happened.

mod admission;
mod arrival;
mod certificate;
mod connection;
mod counts;
mod credentials;
mod listener;
pub mod proxy;
mod stream;
mod thread;
mod tls;
mod unix;
mod watch;
pub mod websocket;

pub use certificate::ClientIdentity;
pub use counts::Doors;
pub use credentials::{ClientAuth, Credentials, CredentialsError, Expiry, Issuers, TlsSettings};
pub use listener::{Listener, ListenerSettings, Place};
pub use thread::{DoorSettings, Threads};
pub use unix::UnixSettings;
pub use websocket::WebSocketSettings;

use crate::codec::Moment;
use std::time::Instant;

/// The node's clock: moments since it started.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    #[expect(clippy::new_without_default, reason = "a clock that starts now is not a default value")]
    #[expect(clippy::disallowed_methods, reason = "the doors are where the time comes in")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }

    pub fn now(&self) -> Moment {
        Moment::from_millis(self.started.elapsed().as_millis() as u64)
    }

    fn instant(&self, moment: Moment) -> Instant {
        self.started + std::time::Duration::from_millis(moment.as_millis())
    }
}
