//! The doors with everything that can stand between a socket and MQTT: TLS, certificates of Clients, WebSocket, Unix sockets,
//! PROXY headers. A real node, real sockets, and Clients that are a few lines each.

#![expect(clippy::disallowed_methods, reason = "who meets the broker from outside has clocks and sockets of his own")]

mod certificates;
#[path = "../support/frame.rs"]
mod frame;
mod limits;
mod tls;
mod websocket;
mod world;
