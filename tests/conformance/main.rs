//! What the standards demand of a server, statement by statement.
//!
//! A test is named after its statement: `mqtt_3_8_4_1_…` shows `[MQTT-3.8.4-1]` of MQTT 5.0, `mqtt311_3_8_4_1_…` the one
//! of that number in MQTT 3.1.1, and `mqtt31_…` what MQTT 3.1 says without numbers. Tests of other names show what the
//! text of the standard demands without a number. `table.rs` sees to it that no statement is forgotten.

#[path = "../support/mod.rs"]
mod support;

mod house;

mod auth;
mod connack;
mod connect;
mod data;
mod delivery;
mod disconnect;
mod errors;
mod mqtt31;
mod ping;
mod publish;
mod session;
mod shared_subscriptions;
mod subscribe;
mod table;
mod topics;
mod unsubscribe;
mod will;
mod wire_itself;

use support::talk;
