//! Waypost, an MQTT broker.
pub mod codec;
pub mod config;
pub mod log;
pub mod topic;
