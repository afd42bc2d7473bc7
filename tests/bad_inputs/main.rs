//! Hostile Clients: what real brokers have stumbled over, sent to the built binary over TCP.
//!
//! A test carries the number of its row: a letter for the section, two digits for the case. Each module is a section, and
//! opens with the list of its rows; `each_version!` makes two tests of a row, `v5` and `v311`. Around every row the rules
//! of `rules.rs` are checked: the broker lives, other Clients do not notice, nothing grows, nothing rejected has an effect.
//!
//! Load rows are small by default; `WAYPOST_LOAD=full` plays them in full. They report figures on standard error.
//! Inputs that have ever broken the broker lie in `tests/corpus/` and are sent again by `corpus`.

#![allow(clippy::disallowed_methods, reason = "a test outside the broker has sockets, threads and a clock of its own")]

/// Makes tests of each row, which is a function of the protocol version: one for each version and transport.
macro_rules! each_version {
    ($($row:ident,)+) => {$(
        mod $row {
            use crate::packet::Version::{V5, V311};
            use crate::transport::Transport::{Tcp, Tls, Ws, Wss};

            crate::each_transport! { super::$row(V5), v5, v5_tls, v5_ws, v5_wss }
            crate::each_transport! { super::$row(V311), v311, v311_tls, v311_ws, v311_wss }
        }
    )+};
}

/// Makes tests of each row that only MQTT 5 has: one for each transport.
macro_rules! only_v5 {
    ($($row:ident,)+) => {$(
        mod $row {
            use crate::transport::Transport::{Tcp, Tls, Ws, Wss};

            crate::each_transport! { super::$row(), v5, v5_tls, v5_ws, v5_wss }
        }
    )+};
}

macro_rules! each_transport {
    ($played:expr, $tcp:ident, $tls:ident, $ws:ident, $wss:ident) => {
        #[test]
        fn $tcp() {
            Tcp.play(|| $played);
        }
        #[test]
        fn $tls() {
            Tls.play(|| $played);
        }
        #[test]
        fn $ws() {
            Ws.play(|| $played);
        }
        #[test]
        fn $wss() {
            Wss.play(|| $played);
        }
    };
}
use each_transport;

mod a_framing;
mod authenticating;
mod b_connect;
mod broker;
mod c_topics;
mod client;
mod corpus;
mod d_properties;
mod e_qos;
mod f_subscribe;
mod g_authentication;
mod j_cost;
mod k_sessions;
mod l_wills;
mod m_retained;
mod n_exhaustion;
mod p_tls;
mod packet;
mod rules;
mod t_files;
mod transport;
mod v_process;

/// Figures of load rows, and the broker's log when a test fails.
#[expect(clippy::print_stderr, reason = "standard error is where a test reports")]
fn report(text: &str) {
    eprintln!("{text}");
}
