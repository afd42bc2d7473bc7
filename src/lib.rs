//! Waypost, an MQTT broker.
pub mod codec;
pub mod log;
pub mod topic;
