//! The doors: sockets, and the threads on which shards run. The only floor that waits, reads the clock and knows tokio.
//!
//! `listener.rs` lets Network Connections in, `connection.rs` is the one task that each of them has, `thread.rs` runs a shard.

mod connection;
mod listener;
mod thread;

pub use listener::{Listener, ListenerSettings};
pub use thread::{DoorSettings, Threads};

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

    #[expect(clippy::disallowed_methods, reason = "the doors are where the time comes in")]
    pub fn now(&self) -> Moment {
        Moment::from_millis(self.started.elapsed().as_millis() as u64)
    }

    fn instant(&self, moment: Moment) -> Instant {
        self.started + std::time::Duration::from_millis(moment.as_millis())
    }
}
