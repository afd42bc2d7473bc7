//! What the broker says about itself: counters by shard, and the `$SYS/broker/` Topics with mosquitto's names.
//!
//! Each shard counts for itself and lays its counters open once per tick; shard 0 adds them up and publishes them retained
//! at the configured interval. Nothing is published that has not changed.

use super::shard::{End, Shard, Wire};
use super::{Settings, ShardId};
use crate::access::Act;
use crate::codec::{Message, Moment, Qos, ReasonCode};
use crate::notice::Tally;
use crate::session::Dropped;
use crate::store::Journal;
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
    /// Deliveries given up.
    pub dropped: Drops,
    /// Acts that were denied.
    pub denied: Denials,
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
        self.dropped.add(&other.dropped);
        self.denied.add(&other.denied);
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

/// Deliveries given up, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    pub queue_full: u64,
    pub offline: u64,
    pub expired: u64,
    pub packet_too_large: u64,
    pub not_authorized: u64,
    pub unreadable: u64,
    /// What waited for a shared group when its last member left.
    pub group_ended: u64,
}

impl Drops {
    pub(super) fn note(&mut self, reason: Dropped) {
        self.note_some(reason, 1);
    }

    pub(super) fn note_some(&mut self, reason: Dropped, count: usize) {
        let number = match reason {
            Dropped::QueueFull => &mut self.queue_full,
            Dropped::Offline => &mut self.offline,
            Dropped::Expired => &mut self.expired,
            Dropped::PacketTooLarge => &mut self.packet_too_large,
            Dropped::NotAuthorized => &mut self.not_authorized,
            Dropped::Unreadable => &mut self.unreadable,
        };
        *number += count as u64;
    }

    fn add(&mut self, other: &Self) {
        self.queue_full += other.queue_full;
        self.offline += other.offline;
        self.expired += other.expired;
        self.packet_too_large += other.packet_too_large;
        self.not_authorized += other.not_authorized;
        self.unreadable += other.unreadable;
        self.group_ended += other.group_ended;
    }

    /// Each reason with its number.
    pub fn by_reason(&self) -> [(&'static str, u64); 7] {
        [
            ("queue_full", self.queue_full),
            ("offline", self.offline),
            ("expired", self.expired),
            ("packet_too_large", self.packet_too_large),
            ("not_authorized", self.not_authorized),
            ("unreadable", self.unreadable),
            ("group_ended", self.group_ended),
        ]
    }

    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}

/// Acts that were denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denials {
    pub publish: u64,
    pub subscribe: u64,
    pub receive: u64,
}

impl Denials {
    pub(super) fn note(&mut self, act: &Act<'_>) {
        match act {
            Act::Publish { .. } => self.publish += 1,
            Act::Subscribe { .. } => self.subscribe += 1,
            Act::Receive { .. } => self.receive += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.publish += other.publish;
        self.subscribe += other.subscribe;
        self.receive += other.receive;
    }

    pub fn total(&self) -> u64 {
        self.publish + self.subscribe + self.receive
    }
}

/// Tallies by Reason Code.
pub struct ReasonTallies([Tally; 256]);

impl Default for ReasonTallies {
    fn default() -> Self {
        Self([const { Tally::new() }; 256])
    }
}

impl ReasonTallies {
    pub fn add(&self, reason: ReasonCode) {
        self.0[usize::from(reason.value())].add();
    }

    pub fn get(&self, reason: ReasonCode) -> u64 {
        self.0[usize::from(reason.value())].get()
    }
}

/// How the Network Connections of Clients have ended.
#[derive(Default)]
pub struct Ends {
    /// By the Client, with DISCONNECT.
    pub goodbye: Tally,
    /// Without.
    pub lost: Tally,
    /// By us.
    pub refused: ReasonTallies,
}

impl Ends {
    pub(super) fn note(&self, end: End) {
        match end {
            End::Goodbye(_) => self.goodbye.add(),
            End::Lost => self.lost.add(),
            End::Refused(reason) => self.refused.add(reason),
        }
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
        let mut values = vec![
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
            ("$SYS/broker/publish/messages/dropped", sum.dropped.total().to_string()),
            ("$SYS/broker/bytes/received", sum.bytes_received.to_string()),
            ("$SYS/broker/bytes/sent", sum.bytes_sent.to_string()),
            ("$SYS/broker/subscriptions/count", (sum.subscriptions + sum.shared_subscriptions).to_string()),
            ("$SYS/broker/shared_subscriptions/count", sum.shared_subscriptions.to_string()),
            ("$SYS/broker/retained messages/count", retained.len().to_string()),
            ("$SYS/broker/store/messages/bytes", self.shared.budget.used().max(0).to_string()),
        ];
        if let Some(keeping) = &self.shared.keeping {
            values.extend(store_values(&*keeping.journal));
        }
        values
    }
}

/// What there is to say of the store, beside what the metrics page says. The first is "ok", or what is wrong.
fn store_values(journal: &dyn Journal) -> [(&'static str, String); 5] {
    let trouble = journal.trouble().or_else(|| journal.rest_trouble());
    let counted = journal.statistics();
    [
        ("$SYS/broker/store/state", trouble.map_or_else(|| "ok".to_owned(), |why| why.to_string())),
        ("$SYS/broker/store/pending/bytes", counted.bytes_pending.to_string()),
        ("$SYS/broker/store/journal/bytes", counted.bytes_appended.to_string()),
        ("$SYS/broker/store/journal/segments", counted.segments.to_string()),
        ("$SYS/broker/store/failures", (counted.failures + counted.checkpoint_failures).to_string()),
    ]
}
