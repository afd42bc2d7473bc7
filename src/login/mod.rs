//! Who is coming? Each listener has a chain of ways to find out, asked in order; nobody is let in whom none of them knows.
//!
//! A link says yes, no, or that this is none of its business; an error or a doubt is a no and never falls through to the next.
//! It never decides what somebody may do: that is `crate::access`. Read `chain.rs` first.

mod certificate;
mod chain;
mod fetch;
mod hashing;
mod http;
mod jwt;
mod key_set;
mod password;
mod scram;
#[cfg(test)]
mod stub;
mod throttle;
mod waiting;

pub use certificate::CertificateLink;
pub use chain::{Answer, Asked, Chain, Link, Porter};
pub use fetch::{NotAUrl, Url};
pub use hashing::Hashing;
pub use http::{HttpLink, HttpSettings, NotAService};
pub use jwt::{JwtLink, KeyFile, KeysNotLoaded, TokenRules, Tokens};
pub use key_set::{KeySet, KeySetSettings};
pub use password::{NotLoaded, PasswordFiles, PasswordLink, Passwords};
pub use scram::ScramLink;
pub use throttle::{Patience, Throttle};
