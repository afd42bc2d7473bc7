//! The brokers that the tests talk with: the one of the test profile, and some with one setting changed.
//! Only this file knows what the settings are called.

use std::time::Duration;

use crate::support::{Settings, TestBroker};
use waypost::codec::Qos;

pub(crate) fn broker() -> TestBroker {
    TestBroker::new()
}

pub(crate) fn broker_with(change: impl FnOnce(&mut Settings)) -> TestBroker {
    TestBroker::with(change)
}

pub(crate) fn receive_maximum(value: u16) -> TestBroker {
    broker_with(|settings| settings.session.receive_maximum = value)
}

pub(crate) fn topic_alias_maximum(value: u16) -> TestBroker {
    broker_with(|settings| settings.session.topic_alias_maximum = value)
}

pub(crate) fn keep_alive_max(seconds: u64) -> TestBroker {
    broker_with(|settings| settings.session.keep_alive_max = Duration::from_secs(seconds))
}

pub(crate) fn packet_size_max(bytes: u32) -> TestBroker {
    broker_with(|settings| settings.session.codec.packet_size_max = bytes)
}

pub(crate) fn maximum_qos(qos: u8) -> TestBroker {
    let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(qos)];
    broker_with(|settings| settings.session.maximum_qos = qos)
}

pub(crate) fn without_retain() -> TestBroker {
    broker_with(|settings| settings.session.retain_available = false)
}

pub(crate) fn without_wildcards() -> TestBroker {
    broker_with(|settings| settings.wildcard_subscription_available = false)
}

pub(crate) fn without_shared_subscriptions() -> TestBroker {
    broker_with(|settings| settings.shared_subscription_available = false)
}

pub(crate) fn response_information(prefix: &str) -> TestBroker {
    broker_with(|settings| prefix.clone_into(&mut settings.response_information))
}

/// A broker that publishes `$SYS` topics every ten seconds.
pub(crate) fn with_sys_topics() -> TestBroker {
    broker_with(|settings| settings.sys_interval = Duration::from_secs(10))
}

/// A broker that checks a payload against its Payload Format Indicator.
pub(crate) fn that_validates_payloads() -> TestBroker {
    broker_with(|settings| settings.session.validate_utf8_payload = true)
}
