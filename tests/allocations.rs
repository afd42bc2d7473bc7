//! How often the hall allocates for a Message, exactly: once for its bytes, once for what the receivers of a shard share
//! of it, and never for a receiver or for an acknowledgement.

#[path = "../benches/guards/clients.rs"]
mod clients;

use std::alloc::System;
use std::sync::Mutex;

use clients::{Hall, puback, publish, subscribe};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use waypost::broker::Attachment;
use waypost::codec::Qos;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The allocator counts for the whole process, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const TOPIC: &str = "plant/hall-07/line-03/machine-0042/state";

/// Allocations, growth of existing ones included. The least of three rounds: the test harness may allocate now and then.
fn allocations(mut round: impl FnMut()) -> usize {
    let count = |_| {
        let region = Region::new(COUNTED);
        round();
        let change = region.change();
        change.allocations + change.reallocations
    };
    (0..3).map(count).min().unwrap_or_default()
}

/// A publisher, and so many receivers of its Topic who have had a Message of this QoS before.
fn audience(receivers: usize, qos: Qos) -> (Hall, Attachment, Vec<Attachment>) {
    let mut hall = Hall::new();
    let publisher = hall.connect("publisher");
    let connect = |number| {
        let receiver = hall.connect(&format!("receiver-{number}"));
        hall.receive(receiver, &subscribe(&[TOPIC], qos));
        hall.work();
        receiver
    };
    let receivers: Vec<Attachment> = (0..receivers).map(connect).collect();
    hall.receive(publisher, &publish(TOPIC, qos));
    hall.work();
    (hall, publisher, receivers)
}

fn qos0_messages(receivers: usize, messages: usize) -> usize {
    let (mut hall, publisher, _) = audience(receivers, Qos::AtMostOnce);
    let packet = publish(TOPIC, Qos::AtMostOnce);
    let before = hall.written();
    let count = allocations(|| {
        for _ in 0..messages {
            hall.receive(publisher, &packet);
            hall.work();
        }
    });
    assert_eq!(hall.written().writes - before.writes, 3 * messages * receivers);
    count
}

#[test]
fn a_qos_0_message_is_allocated_once_and_its_receivers_add_nothing() {
    let _alone = ALONE.lock();
    for receivers in [1, 2, 100, 256] {
        assert_eq!(qos0_messages(receivers, 100), 2 * 100, "{receivers} receivers");
    }
}

#[test]
fn the_receivers_of_a_fan_out_over_several_ticks_add_nothing_either() {
    let _alone = ALONE.lock();
    for receivers in [257, 10_000] {
        assert_eq!(qos0_messages(receivers, 10), 2 * 10, "{receivers} receivers");
    }
}

#[test]
fn a_message_that_nobody_wants_is_allocated_once() {
    let _alone = ALONE.lock();
    assert_eq!(qos0_messages(0, 100), 100);
}

/// Rounds of `window` Messages with QoS 1, delivered, sent and acknowledged; in each the same two allocations for each
/// Message as with QoS 0, and none for its way through the window.
fn qos1_messages(window: u16, step: u16) -> usize {
    let (mut hall, publisher, receivers) = audience(1, Qos::AtLeastOnce);
    hall.receive(receivers[0], &puback(1));
    let packet = publish(TOPIC, Qos::AtLeastOnce);
    let mut first = 2;
    let mut cycle = || {
        for _ in 0..window {
            hall.receive(publisher, &packet);
        }
        hall.work();
        for number in 0..window {
            hall.receive(receivers[0], &puback(first + number * step % window));
        }
        hall.work();
        first += window;
    };
    cycle(); // buffers find their size
    allocations(|| (0..10).for_each(|_| cycle()))
}

#[test]
fn the_qos_1_cycle_allocates_nothing_but_the_message() {
    let _alone = ALONE.lock();
    assert_eq!(qos1_messages(100, 1), 2 * 10 * 100, "acknowledged in order");
    assert_eq!(qos1_messages(100, 37), 2 * 10 * 100, "acknowledged out of order");
    assert_eq!(qos1_messages(1, 1), 2 * 10, "one at a time");
}

/// Of the Topics that a shard knows the matches of, how many it still knows after so many Clients have each subscribed to
/// a filter of their own, of a thousand. A match that is known costs no allocation, any other does: that is how they are told
/// apart.
fn known_after(subscriptions: usize) -> usize {
    let mut hall = Hall::new();
    let topics: Vec<String> = (0..8_192).map(|number| format!("state/device-{number:05}/temperature")).collect();
    for topic in &topics {
        hall.matching(topic);
    }
    let is_known = |hall: &mut Hall, topic: &str| {
        let region = Region::new(COUNTED);
        hall.matching(topic);
        region.change().allocations == 0
    };
    // There are as many places as Topics; where three compete for two, they push one another out.
    let known: Vec<&String> = topics.iter().filter(|topic| is_known(&mut hall, topic)).collect();
    assert!(known.len() > 3_000, "of 8,192 Topics only {} are known", known.len());
    let client = hall.connect("client");
    for number in 0..subscriptions {
        hall.receive(client, &subscribe(&[&format!("cmd/device-{number:05}/#")], Qos::AtLeastOnce));
        hall.work();
    }
    let still = known.iter().filter(|topic| is_known(&mut hall, topic)).count();
    still * 1_000 / known.len()
}

/// Measured: 769 and 60. There are 4,096 epochs for filters that begin with two levels, so 10,000 filters leave few of them
/// as they were.
#[test]
fn subscriptions_of_others_leave_known_matches_alone() {
    let _alone = ALONE.lock();
    let after = [1_000, 10_000].map(known_after);
    assert!(after[0] >= 720 && after[1] >= 56, "of a thousand, {after:?} are still known");
}
