//! Waypost, an MQTT broker.
pub mod access;
pub mod broker;
pub mod cli;
pub mod codec;
pub mod config;
pub mod log;
pub mod net;
pub mod node;
pub mod session;
pub mod store;
pub mod topic;
