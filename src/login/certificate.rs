//! A Client is who its certificate says. Whether the certificate is good, TLS has found out before anything was read.

use super::chain::{Answer, Asked, Link, Porter};
use crate::access::{Identity, Login, Proof};
use crate::codec::ReasonCode;
use std::future::ready;
use std::sync::Arc;

/// Takes the user name that the listener finds in a certificate.
pub struct CertificateLink;

/// Longest name that is taken from a certificate, in bytes.
const NAME_SIZE_MAX: usize = 1024;

impl Link for CertificateLink {
    fn ask(&self, _: &Porter, login: &Arc<Login>) -> Asked {
        Box::pin(ready(answer(login)))
    }
}

fn answer(login: &Login) -> Answer {
    let Some(certificate) = &login.certificate else { return Answer::NotMine };
    let deny = |why| Answer::Deny { reason: ReasonCode::NotAuthorized, why };
    match certificate.user_name.as_deref() {
        None => deny("a certificate without the name that this listener takes for the user"),
        Some(name) if !is_a_name(name) => deny("a certificate with a name that is no user name"),
        Some(name) => Answer::Accept { identity: Identity::proven(name, Proof::Shown), data: None },
    }
}

/// Names become parts of Topics by way of rules, and stand in logs.
fn is_a_name(name: &str) -> bool {
    (1..=NAME_SIZE_MAX).contains(&name.len())
        && !name.contains(|letter: char| letter.is_control() || matches!(letter, '+' | '#' | '\u{fffd}'))
}
