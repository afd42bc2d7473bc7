//! Rules as a large site has them.

use std::fmt::Write;

pub(crate) const USERS: usize = 10_000;

/// 100,000 rules in mosquitto's form: ten for each user, and patterns. Who has no name may read and write what is not secret.
pub(crate) fn mosquitto() -> String {
    let mut text = "topic readwrite plant/#\ntopic deny plant/+/+/secret/#\n".to_owned();
    for user in 0..USERS {
        let _ = writeln!(text, "user user-{user:05}");
        for rule in 0..9 {
            let _ = writeln!(text, "topic readwrite plant/{}/machine-{user:05}/{rule}/+", rule % 3);
        }
        let _ = writeln!(text, "topic deny plant/+/machine-{user:05}/secret/#");
    }
    for pattern in 0..10 {
        let _ = writeln!(text, "pattern readwrite area-{pattern}/%u/+/state\npattern deny area-{pattern}/%u/hidden/#");
    }
    text
}
