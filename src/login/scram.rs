//! SCRAM-SHA-256 by AUTH packets of MQTT 5, judged by the password file. `access/scram.rs` says what is said; here it is asked
//! and answered. What costs time is the Client's part: ours is a few hashes.

use super::chain::{Answer, Asked, Link, Porter};
use super::password::Passwords;
use crate::access::scram::{Challenged, ClientFirst, Fault, METHOD};
use crate::access::{Exchange, Identity, Login, Pending, Proof, Step};
use crate::codec::ReasonCode;
use base64ct::{Base64, Encoding};
use std::future::ready;
use std::sync::Arc;

/// Recognises by SCRAM those who have an entry of that kind in the file. Those who have none are asked all the same, and fail.
pub struct ScramLink {
    passwords: Arc<Passwords>,
}

/// Random bytes in our half of the nonce.
const NONCE_SIZE: usize = 18;

impl ScramLink {
    pub fn new(passwords: Arc<Passwords>) -> Self {
        Self { passwords }
    }

    fn answer(&self, porter: &Porter, login: &Login) -> Answer {
        let first = match ClientFirst::read(login.data.as_deref().unwrap_or_default()) {
            Ok(first) => first,
            Err(fault) => {
                let (reason, why) = refusal(fault);
                return Answer::Deny { reason, why };
            }
        };
        if login.user_name.as_deref().is_some_and(|name| name != first.user()) {
            return Answer::wrong("SCRAM for another user than the one that CONNECT names");
        }
        if !porter.is_open_to(login, Some(first.user())) {
            return Answer::Deny { reason: ReasonCode::Banned, why: "too many failed logins of this user" };
        }
        let mut random = [0; NONCE_SIZE];
        if getrandom::fill(&mut random).is_err() {
            return Answer::Deny { reason: ReasonCode::ServerUnavailable, why: "the system has no random numbers" };
        }
        let user: Box<str> = first.user().into();
        let file = self.passwords.current();
        let (secret, mark) = (file.scram(&user), file.mark(&user));
        let (challenge, challenged) = first.challenge(secret, &Base64::encode_string(&random));
        let exchange = Box::new(Waiting { user: user.clone(), mark, challenged });
        Answer::Challenge { user: Some(user), data: challenge.into_bytes(), exchange }
    }
}

impl Link for ScramLink {
    fn method(&self) -> Option<&'static str> {
        Some(METHOD)
    }

    fn ask(&self, porter: &Porter, login: &Arc<Login>) -> Asked {
        Box::pin(ready(self.answer(porter, login)))
    }
}

/// Between the challenge and the proof.
struct Waiting {
    user: Box<str>,
    /// Stands for the secret that the proof is of.
    mark: Option<u64>,
    challenged: Challenged,
}

impl Exchange for Waiting {
    fn proceed(self: Box<Self>, data: Option<Box<[u8]>>) -> Pending {
        let step = match self.challenged.finish(data.as_deref().unwrap_or_default()) {
            Ok(signature) => {
                let proof = self.mark.map_or(Proof::Shown, Proof::Password);
                Step::Accept { identity: Identity::proven(&self.user, proof), data: Some(signature.into_bytes()) }
            }
            Err(fault) => {
                let (reason, why) = refusal(fault);
                Step::Refuse(reason, why)
            }
        };
        Box::pin(ready(step))
    }
}

fn refusal(fault: Fault) -> (ReasonCode, &'static str) {
    match fault {
        Fault::Message(why) => (ReasonCode::NotAuthorized, why),
        Fault::Proof => (ReasonCode::NotAuthorized, "a wrong password, or an unknown user"),
    }
}
