//! One memory budget for the process: the bytes of all live Messages, of the queues that they wait in, and of packets that have
//! come or gone in part, counted without an atomic per Message.
//!
//! Each thread counts what it makes and drops (`codec::live_bytes`) and publishes its sum once per tick.

use super::ShardId;
use std::sync::atomic::{AtomicI64, Ordering};

/// How full the budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    #[default]
    Normal,
    /// Above 70 %: QoS 0 may use a quarter of its queues, replays of retained Messages pause.
    High,
    /// Above 90 %: QoS 0 is dropped where it would have to wait, Clients without a Session are refused with 0x97.
    Critical,
    /// Nothing more is queued where it would have to wait, and no large packet is put together; publishers are told 0x97 where
    /// nobody could take their Message.
    Full,
}

pub(super) struct Budget {
    bytes: i64,
    /// What waits for a disk that takes nothing.
    stuck: AtomicI64,
    live: Box<[AtomicI64]>,
}

impl Budget {
    pub(super) fn new(bytes: usize, shards: usize) -> Self {
        Self {
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            stuck: AtomicI64::new(0),
            live: (0..shards).map(|_| AtomicI64::new(0)).collect(),
        }
    }

    /// What waits for the disk counts too while it takes nothing, or those whom nothing holds back could let it grow for ever.
    pub(super) fn report_stuck(&self, bytes: Option<u64>) {
        let bytes = bytes.map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX / 2));
        if bytes != 0 || self.stuck.load(Ordering::Relaxed) != 0 {
            self.stuck.store(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn report(&self, shard: ShardId, live: i64) {
        self.live[usize::from(shard.0)].store(live, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> i64 {
        self.live.iter().map(|live| live.load(Ordering::Relaxed)).sum::<i64>() + self.stuck.load(Ordering::Relaxed)
    }

    pub(super) fn level(&self) -> Level {
        let used = self.used();
        if used > self.bytes {
            Level::Full
        } else if used > self.bytes / 10 * 9 {
            Level::Critical
        } else if used > self.bytes / 10 * 7 {
            Level::High
        } else {
            Level::Normal
        }
    }
}
