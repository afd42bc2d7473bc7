//! What the broker says about itself: counters by shard, and the `$SYS/broker/` Topics with mosquitto's names.
//!
//! Each shard counts for itself and lays its counters open once per tick; shard 0 adds them up and publishes them retained
//! at the configured interval. Nothing is published that has not changed.

use super::shard::{Shard, Wire};
use super::{Settings, ShardId};
use crate::codec::{Message, Moment, Qos};
use std::collections::HashMap;

/// Counters of one shard, or of all. Plain numbers: whoever counts owns them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub packets_received: u64,
    /// PUBLISH packets that came in, and those that went out.
    pub messages_received: u64,
    pub messages_sent: u64,
    /// Deliveries given up, for whatever reason.
    pub dropped: u64,
    /// Acts that were denied.
    pub denied: u64,
    /// Network Connections ended for what their Client did.
    pub refused: u64,
    pub retained_refused: u64,
    /// Network Connections that had to wait for their turn to take over a Client.
    pub takeovers_delayed: u64,
    pub connects: u64,
    /// Sessions that ended because their time was over.
    pub expired: u64,
    pub subscriptions: u64,
    pub shared_subscriptions: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
}

impl Statistics {
    pub(super) fn add(&mut self, other: &Self) {
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.packets_received += other.packets_received;
        self.messages_received += other.messages_received;
        self.messages_sent += other.messages_sent;
        self.dropped += other.dropped;
        self.denied += other.denied;
        self.refused += other.refused;
        self.retained_refused += other.retained_refused;
        self.takeovers_delayed += other.takeovers_delayed;
        self.connects += other.connects;
        self.expired += other.expired;
        self.subscriptions += other.subscriptions;
        self.shared_subscriptions += other.shared_subscriptions;
        self.sessions += other.sessions;
    }
}

/// When `$SYS` was and will be published, and with which values.
pub(super) struct SysTopics {
    started: Moment,
    next: Moment,
    said: HashMap<&'static str, String>,
    connected_max: usize,
}

impl SysTopics {
    pub(super) fn new(now: Moment) -> Self {
        Self { started: now, next: now, said: HashMap::new(), connected_max: 0 }
    }

    pub(super) fn due(&self, shard: ShardId, settings: &Settings) -> Option<Moment> {
        (shard == ShardId(0) && !settings.sys_interval.is_zero()).then_some(self.next)
    }
}

impl<W: Wire> Shard<W> {
    pub(super) fn run_sys(&mut self) {
        let interval = self.shared.settings.sys_interval;
        self.statistics.sessions = self.clients.len() as u64;
        self.shared.statistics[usize::from(self.id.0)].lock().clone_from(&self.statistics);
        if interval.is_zero() || self.now < self.sys.next {
            return;
        }
        self.sys.next = self.now.plus(interval);
        if self.id == ShardId(0) {
            for (topic, value) in self.sys_values() {
                if self.sys.said.get(topic) != Some(&value) {
                    self.publish_own(Message::new(topic, value.as_bytes(), Qos::AtMostOnce, true, self.now));
                    self.sys.said.insert(topic, value);
                }
            }
        }
    }

    fn sys_values(&mut self) -> Vec<(&'static str, String)> {
        let sum = self.shared.statistics();
        let connected = self.shared.connections();
        self.sys.connected_max = self.sys.connected_max.max(connected);
        let disconnected = sum.sessions.saturating_sub(connected as u64);
        let retained = &self.shared.retained;
        let uptime = self.now.since(self.sys.started).as_secs();
        vec![
            ("$SYS/broker/version", concat!("waypost version ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("$SYS/broker/uptime", format!("{uptime} seconds")),
            ("$SYS/broker/clients/total", sum.sessions.to_string()),
            ("$SYS/broker/clients/connected", connected.to_string()),
            ("$SYS/broker/clients/active", connected.to_string()),
            ("$SYS/broker/clients/disconnected", disconnected.to_string()),
            ("$SYS/broker/clients/inactive", disconnected.to_string()),
            ("$SYS/broker/clients/maximum", self.sys.connected_max.to_string()),
            ("$SYS/broker/clients/expired", sum.expired.to_string()),
            ("$SYS/broker/messages/received", sum.packets_received.to_string()),
            ("$SYS/broker/publish/messages/received", sum.messages_received.to_string()),
            ("$SYS/broker/publish/messages/sent", sum.messages_sent.to_string()),
            ("$SYS/broker/publish/messages/dropped", sum.dropped.to_string()),
            ("$SYS/broker/bytes/received", sum.bytes_received.to_string()),
            ("$SYS/broker/bytes/sent", sum.bytes_sent.to_string()),
            ("$SYS/broker/subscriptions/count", (sum.subscriptions + sum.shared_subscriptions).to_string()),
            ("$SYS/broker/shared_subscriptions/count", sum.shared_subscriptions.to_string()),
            ("$SYS/broker/retained messages/count", retained.len().to_string()),
            ("$SYS/broker/store/messages/bytes", self.shared.budget.used().max(0).to_string()),
        ]
    }
}
