//! What is on the metrics page. Labels have few values, which the code knows or the configuration names: how long the page is
//! depends on neither Clients nor Topics.

use super::page::Page;
use super::{Reloads, Sources};
use crate::broker::{Level, Shared, Statistics};
use crate::codec::{PacketType, ReasonCode, Sender};
use crate::net::Doors;
use crate::notice::Outcomes;
use crate::store::Store;
use std::collections::BTreeMap;

/// The page as of now. Figures of a shard are those of its last tick.
pub(super) fn write(sources: &Sources) -> String {
    let Sources { shared, doors, failed_logins, reloads, key_set, store, log_lines_lost, started_s } = sources;
    let mut page = Page::default();
    let statistics = shared.statistics();
    process(&mut page, *started_s);
    clients(&mut page, shared, &statistics);
    connections(&mut page, doors);
    page.counter("failed_logins_total", "Logins that failed for what they brought.").is(failed_logins.get());
    messages(&mut page, &statistics);
    state(&mut page, shared, &statistics);
    files(&mut page, doors, reloads);
    let about_lines =
        "Lines of the log that came faster than they could be written, or that standard error did not take.";
    page.counter("log_lines_lost_total", about_lines).is(log_lines_lost());
    if let Some(key_set) = key_set {
        let mut family = page.counter("key_set_fetches_total", "Attempts to fetch keys of tokens from jwt.jwks_url.");
        outcomes(&mut family, "result", ["taken", "failed"], key_set);
    }
    if let Some(store) = store {
        durability(&mut page, store);
    }
    page.finish()
}

fn durability(page: &mut Page, store: &Store) {
    let journal = store.journal();
    let counted = journal.statistics();
    let has_trouble = [journal.trouble(), journal.rest_trouble()].iter().any(Option::is_some);
    let about = "1 while the disk does not take what is to be kept, so that publishers are told so or wait.";
    page.gauge("store_trouble", about).is(u64::from(has_trouble));
    page.counter("store_records_total", "Changes that the journal was given.").is(counted.records_appended);
    page.counter("store_bytes_total", "Bytes that the journal was given.").is(counted.bytes_appended);
    page.counter("store_commits_total", "Writes to the journal; each takes what has gathered.").is(counted.commits);
    page.counter("store_syncs_total", "Commits that waited for the disk.").is(counted.syncs);
    page.counter("store_failures_total", "Writes and syncs that failed; each is done again.").is(counted.failures);
    page.gauge("store_pending_bytes", "Bytes that no disk has yet.").is(counted.bytes_pending);
    page.gauge("store_segments", "Files of the journal.").is(counted.segments);
    let about = "Bytes written to move what outlives its file of the journal.";
    page.counter("store_rest_bytes_total", about).is(counted.bytes_to_rest);
}

fn process(page: &mut Page, started_s: f64) {
    page.gauge("build_info", "Always 1; the label says which version this is.").of(
        "version",
        env!("CARGO_PKG_VERSION"),
        1,
    );
    page.gauge("start_time_seconds", "When the node started, in seconds since 1970.").is(started_s);
}

fn clients(page: &mut Page, shared: &Shared, statistics: &Statistics) {
    page.gauge("clients", "Clients that are connected.").is(shared.connections());
    page.gauge("sessions", "Sessions, of Clients that are connected or not.").is(statistics.sessions);
    page.counter("connects_total", "Clients that were let in.").is(statistics.connects);
    let ends = shared.ends();
    let mut family = page.counter(
        "disconnects_total",
        "Network Connections of Clients that ended, by what ended them: the Client's DISCONNECT, its silent leave, or ours.",
    );
    family.of("reason", "client_disconnect", ends.goodbye.get()).of("reason", "connection_lost", ends.lost.get());
    for reason in errors_of(PacketType::Disconnect) {
        family.of("reason", &label(reason), ends.refused.get(reason));
    }
    page.counter("sessions_expired_total", "Sessions that ended because their time was over.").is(statistics.expired);
}

fn connections(page: &mut Page, doors: &Doors) {
    let (pending, handshakes) = doors.pending();
    page.gauge("connections_pending", "Network Connections that have not completed their CONNECT.").is(pending);
    let mut family = page.counter(
        "connections_refused_total",
        "Network Connections that did not become a Client's, by what was said in CONNACK or what closed them without a word.",
    );
    for (reason, count) in doors.turned_silently() {
        family.of("reason", reason, count);
    }
    for (reason, count) in doors.turned_by_reason() {
        family.of("reason", &label(reason), count);
    }
    page.gauge("tls_handshakes_pending", "TLS handshakes under way.").is(handshakes);
    outcomes(
        &mut page.counter("tls_handshakes_total", "TLS handshakes that ended."),
        "result",
        ["completed", "failed"],
        doors.handshakes(),
    );
}

fn messages(page: &mut Page, statistics: &Statistics) {
    page.counter(
        "network_bytes_total",
        "Bytes of MQTT that came in from and went out to Clients, CONNECT not counted.",
    )
    .of("direction", "received", statistics.bytes_received)
    .of("direction", "sent", statistics.bytes_sent);
    page.counter("packets_received_total", "MQTT packets that came in.").is(statistics.packets_received);
    page.counter("messages_total", "PUBLISH packets that came in and went out.")
        .of("direction", "received", statistics.messages_received)
        .of("direction", "sent", statistics.messages_sent);
    let mut family = page.counter("messages_dropped_total", "Deliveries that were given up.");
    for (reason, count) in statistics.dropped.by_reason() {
        family.of("reason", reason, count);
    }
    page.counter("denials_total", "What Clients wanted to do and may not.")
        .of("act", "publish", statistics.denied.publish)
        .of("act", "subscribe", statistics.denied.subscribe)
        .of("act", "receive", statistics.denied.receive);
}

fn state(page: &mut Page, shared: &Shared, statistics: &Statistics) {
    page.gauge("subscriptions", "Subscriptions of all Sessions.").of("kind", "own", statistics.subscriptions).of(
        "kind",
        "shared",
        statistics.shared_subscriptions,
    );
    page.gauge("topic_filters", "Different Topic Filters that somebody subscribes to.").is(shared.filters());
    let (retained, retained_bytes) = shared.retained();
    page.gauge("retained_messages", "Retained messages.").is(retained);
    page.gauge("retained_bytes", "Bytes of retained messages with their Topics.").is(retained_bytes);
    page.counter("retained_refused_total", "Messages that were not retained because there was no room.")
        .is(statistics.retained_refused);
    let (used, level) = shared.memory();
    page.gauge("memory_budget_bytes", "What node.memory_budget allows.").is(shared.settings().memory_budget);
    page.gauge("memory_used_bytes", "Bytes of the memory budget that are used.").is(used);
    let mut family = page.gauge(
        "memory_level",
        "1 for how full the memory budget is: high from 70 %, critical from 90 %, full when it is used up.",
    );
    for (name, known) in
        [("normal", Level::Normal), ("high", Level::High), ("critical", Level::Critical), ("full", Level::Full)]
    {
        family.of("level", name, u8::from(level == known));
    }
}

fn files(page: &mut Page, doors: &Doors, reloads: &Reloads) {
    let mut family = page.counter("reloads_total", "Files that were read again and taken.");
    let kinds = [
        ("certificates", doors.certificate_reloads()),
        ("rules", &reloads.rules),
        ("passwords", &reloads.passwords),
        ("keys", &reloads.keys),
        ("authorities", &reloads.authorities),
    ];
    for (what, outcomes) in kinds {
        family.of("what", what, outcomes.well.get());
    }
    let mut family = page
        .counter("reload_failures_total", "Files that were read again and not taken; the former ones stayed in force.");
    for (what, outcomes) in kinds {
        family.of("what", what, outcomes.badly.get());
    }
    // Listeners may share a file.
    let mut files = BTreeMap::new();
    for expiry in doors.certificate_expiries() {
        let ends = files.entry(expiry.file).or_insert(expiry.not_after_s);
        *ends = expiry.not_after_s.min(*ends);
    }
    if !files.is_empty() {
        let mut family = page.gauge(
            "certificate_expiry_timestamp_seconds",
            "When the first certificate in this file ends, in seconds since 1970.",
        );
        for (file, ends) in files {
            family.of("file", &file.to_string_lossy(), ends);
        }
    }
}

fn outcomes(family: &mut super::page::Family<'_>, label: &str, says: [&str; 2], outcomes: &Outcomes) {
    family.of(label, says[0], outcomes.well.get()).of(label, says[1], outcomes.badly.get());
}

/// The Reason Codes that our packets of this type may carry when something is wrong.
fn errors_of(kind: PacketType) -> impl Iterator<Item = ReasonCode> {
    let reasons = ReasonCode::ALL.iter().copied();
    reasons.filter(move |reason| reason.is_error() && reason.is_of(kind, Sender::Server))
}

/// The standard's name of it: `bad_user_name_or_password`.
fn label(reason: ReasonCode) -> String {
    reason.to_string().to_ascii_lowercase().replace([' ', '-'], "_")
}
