//! Hostile Clients: what real brokers have stumbled over, sent to the built binary over every transport.
//!
//! A test carries the number of its row: a letter for the section, two digits for the case. Each module is a section, and
//! opens with the lists of its rows; what a row is played over, and how its tests are called, is said by the macro around the
//! list. `v5` and `v311` are MQTT 5 and 3.1.1 over TCP; `v5_tls_ws_wss` is the same row over TLS, over WebSocket and over
//! WebSocket inside TLS, all at once, with fewer repetitions: what lies below must not change the verdict. A failure names the
//! thread, and so the transport. Rows know nothing of this (`transport.rs`); those that are not played over all of them stand
//! in `rows.rs` with the reason.
//!
//! Rows about what must outlive the broker have a `Place` (`broker.rs`), in which one broker after another finds what the one before has
//! left, a `Flow` (`flow.rs`), two Clients who remember what they were told, and a `Disk` (`disk.rs`), which fails when a row wants it.
//!
//! Around every row the rules of `rules.rs` are checked: the broker lives, other Clients do not notice, nothing grows, nothing
//! rejected has an effect.
//!
//! Load rows are small by default, and smaller with layers; `WAYPOST_LOAD=full` plays them in full. They report figures on
//! standard error. Those that keep the machine busy, or measure how busy it is, play alone: `row: alone` in the list. Inputs that have ever broken the broker lie in `tests/corpus/` and are sent again by `corpus`.

#![allow(clippy::disallowed_methods, reason = "a test outside the broker has sockets, threads and a clock of its own")]

/// Makes tests of each row, which is a function of the protocol version: over TCP, and over each of the layers.
macro_rules! each_version {
    ($($row:ident $(: $alone:ident)?,)+) => {$(
        mod $row {
            over_tcp! { each_version $($alone)? super::$row }

            #[test]
            fn v5_tls_ws_wss() {
                crate::transport::play_over_layers(|| super::$row(crate::packet::Version::V5));
            }
            #[test]
            fn v311_tls_ws_wss() {
                crate::transport::play_over_layers(|| super::$row(crate::packet::Version::V311));
            }
        }
    )+};
}

/// The same over TCP alone: for sections about the process and its machine rather than about what Clients say.
macro_rules! each_version_over_tcp {
    ($($row:ident $(: $alone:ident)?,)+) => {$(
        mod $row {
            over_tcp! { each_version $($alone)? super::$row }
        }
    )+};
}

/// Makes tests of each row that only MQTT 5 has.
macro_rules! only_v5 {
    ($($row:ident $(: $alone:ident)?,)+) => {$(
        mod $row {
            over_tcp! { only_v5 $($alone)? super::$row }

            #[test]
            fn v5_tls_ws_wss() {
                crate::transport::play_over_layers(super::$row);
            }
        }
    )+};
}

/// Makes tests of each row that plays all versions itself.
macro_rules! each_transport {
    ($($row:ident $(: $alone:ident)?,)+) => {$(
        mod $row {
            over_tcp! { all_versions $($alone)? super::$row }

            #[test]
            fn tls_ws_wss() {
                crate::transport::play_over_layers(super::$row);
            }
        }
    )+};
}

/// The same over TCP alone.
macro_rules! all_versions_over_tcp {
    ($($row:ident $(: $alone:ident)?,)+) => {$(
        mod $row {
            over_tcp! { all_versions $($alone)? super::$row }
        }
    )+};
}

/// The tests of a row over TCP. One that plays alone is called so: by its name `Turn::of_this_test` knows it, and so does
/// `.config/nextest.toml`, by which these tests follow one upon another, and others do not wait for each of them.
macro_rules! over_tcp {
    (each_version $row:path) => {
        #[test]
        fn v5() {
            $row(crate::packet::Version::V5);
        }
        #[test]
        fn v311() {
            $row(crate::packet::Version::V311);
        }
    };
    (each_version alone $row:path) => {
        #[test]
        fn alone_v5() {
            $row(crate::packet::Version::V5);
        }
        #[test]
        fn alone_v311() {
            $row(crate::packet::Version::V311);
        }
    };
    (only_v5 $row:path) => {
        #[test]
        fn v5() {
            $row();
        }
    };
    (only_v5 alone $row:path) => {
        #[test]
        fn alone_v5() {
            $row();
        }
    };
    (all_versions $row:path) => {
        #[test]
        fn tcp() {
            $row();
        }
    };
    (all_versions alone $row:path) => {
        #[test]
        fn alone_tcp() {
            $row();
        }
    };
}

mod a_framing;
mod authenticating;
mod b_connect;
mod broker;
mod by_chance;
mod c_topics;
mod client;
mod corpus;
mod d_properties;
mod disk;
mod e_qos;
mod f_subscribe;
mod flow;
mod g_authentication;
#[path = "../support/grammar.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod grammar;
mod j_cost;
mod k_restarts;
mod k_sessions;
mod l_wills;
mod m_retained;
mod n_disk;
mod n_exhaustion;
mod p_tls;
mod packet;
#[path = "../support/port.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod port;
#[path = "../support/random.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod random;
mod rows;
mod rules;
mod t_files;
mod t_store;
mod transport;
mod v_disk;
mod v_process;

/// Figures of load rows, and the broker's log when a test fails.
#[expect(clippy::print_stderr, reason = "standard error is where a test reports")]
fn report(text: &str) {
    eprintln!("{text}");
}
