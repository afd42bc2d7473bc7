//! Who may do what, as Clients meet it: each conversation shows one of the hostile cases about rights, on every path that a
//! Message can take (live, retained, queued, sent again, shared, Will, delayed Will) and in both versions of the protocol.
//!
//! The users are always the same: alice has `a/#` and reads `pub/#`, bob has `b/#` and reads `pub/#`, devices write
//! `dev/<their Client Identifier>/#`, mallory may log in and nothing else, root may everything.

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod bans;
mod listeners;
mod publish;
mod revoked;
mod stage;
mod subscribe;
mod will;
