//! SCRAM-SHA-256 (RFC 5802, RFC 7677): a Client proves that it knows the password, and we that we know it, and neither says it.
//!
//! ```text
//! Client                                       broker
//!   client-first  n,,n=user,r=nonce      -->     ClientFirst::read, then challenge
//!   server-first  r=nonce+ours,s=salt,i=count  <--
//!   client-final  c=biws,r=nonce+ours,p=proof  -->  Challenged::finish
//!   server-final  v=signature            <--
//! ```
//!
//! Channel binding is not offered, so a Client may say `n` (I cannot) or `y` (I can, you cannot) and not `p`. Passwords are
//! printable ASCII, which needs no normalisation (SASLprep); others are refused when they are set.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::password::PASSWORD_SIZE_MAX;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64ct::{Base64, Encoding};
use std::num::NonZeroU32;

/// The Authentication Method of MQTT 5.
pub const METHOD: &str = "SCRAM-SHA-256";
/// Iterations of a new secret. The Client computes them at each login, so this is what small devices can bear.
pub const ITERATIONS: NonZeroU32 = NonZeroU32::new(16_384).expect("not zero");
/// Longest message of a Client, in bytes.
pub const MESSAGE_SIZE_MAX: usize = 4096;
/// Bytes of SHA-256.
const KEY_SIZE: usize = 32;
const DECOY_SALT_SIZE: usize = 16;

/// What is kept of a password: enough to check a proof, not enough to make one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret {
    pub iterations: NonZeroU32,
    pub salt: Box<[u8]>,
    pub stored_key: [u8; KEY_SIZE],
    pub server_key: [u8; KEY_SIZE],
}

/// Why an exchange ends without a Client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What came is not SCRAM, or asks for what we do not have.
    Message(&'static str),
    /// It is, and the proof is wrong.
    Proof,
}

/// The first message of a Client.
#[derive(Debug)]
pub struct ClientFirst {
    user: String,
    /// `n,,` and the like, which comes again in the last message.
    gs2_header: String,
    bare: String,
    nonce: String,
}

/// An exchange that waits for the last message of the Client.
pub struct Challenged {
    secret: Secret,
    gs2_header: String,
    /// The Client's nonce and ours.
    nonce: String,
    /// `client-first-message-bare`, a comma, `server-first-message`.
    so_far: String,
}

impl Secret {
    /// What is to be kept of a password.
    ///
    /// # Errors
    /// It has characters that SCRAM would have to normalise, or is longer than [`PASSWORD_SIZE_MAX`].
    pub fn of(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Result<Self, &'static str> {
        if password.len() > PASSWORD_SIZE_MAX {
            return Err("the password is longer than 1024 bytes");
        }
        if !password.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err(
                "the password has characters other than printable ASCII, which SCRAM clients write differently",
            );
        }
        let salted = salted(password, salt, iterations);
        let client_key = mac(&salted, b"Client Key");
        Ok(Self {
            iterations,
            salt: salt.into(),
            stored_key: sha256(&client_key),
            server_key: mac(&salted, b"Server Key"),
        })
    }

    /// What looks like the secret of a user, for one that there is none of: always the same for the same key and name.
    pub(super) fn decoy(key: &hmac::Key, user: &str, iterations: NonZeroU32) -> Self {
        let part = |what: &[u8]| {
            let mut context = hmac::Context::with_key(key);
            context.update(what);
            context.update(user.as_bytes());
            sized(context.sign().as_ref())
        };
        let salt = part(b"salt\0");
        Self {
            iterations,
            salt: salt.iter().take(DECOY_SALT_SIZE).copied().collect(),
            stored_key: part(b"stored\0"),
            server_key: part(b"server\0"),
        }
    }

    /// Whether this is the password. Slow.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let client_key = mac(&salted(password, &self.salt, self.iterations), b"Client Key");
        verify_slices_are_equal(&sha256(&client_key), &self.stored_key).is_ok()
    }
}

impl ClientFirst {
    /// Reads the first message.
    ///
    /// # Errors
    /// [`Fault::Message`]: not that, or with channel binding, a mandatory extension, or in the name of somebody else.
    pub fn read(message: &[u8]) -> Result<Self, Fault> {
        let fault = Fault::Message;
        let message = text(message)?;
        let (binding, rest) = message.split_once(',').ok_or(fault("no channel binding flag"))?;
        match binding {
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err(fault("channel binding, which is not offered")),
            _ => return Err(fault("an unknown channel binding flag")),
        }
        let (authorize_as, bare) = rest.split_once(',').ok_or(fault("no authorization identity"))?;
        let authorize_as = match authorize_as {
            "" => None,
            _ => Some(name(authorize_as.strip_prefix("a=").ok_or(fault("an ill-formed authorization identity"))?)?),
        };
        let gs2_size = message.len().saturating_sub(bare.len());
        let gs2_header = message.get(..gs2_size).unwrap_or_default();
        if bare.starts_with("m=") {
            return Err(fault("a mandatory extension"));
        }
        let mut parts = bare.split(',');
        let user = name(parts.next().and_then(|part| part.strip_prefix("n=")).ok_or(fault("no user name"))?)?;
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(fault("no nonce"))?;
        if user.is_empty() {
            return Err(fault("an empty user name"));
        }
        if nonce.is_empty() || !nonce.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
            return Err(fault("an ill-formed nonce"));
        }
        if authorize_as.is_some_and(|other| other != user) {
            return Err(fault("in the name of somebody else"));
        }
        Ok(Self { user, gs2_header: gs2_header.to_owned(), bare: bare.to_owned(), nonce: nonce.to_owned() })
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// The server-first message, and the exchange that waits for the answer. `nonce` is ours: printable ASCII without a
    /// comma, and never the same again.
    pub fn challenge(self, secret: Secret, nonce: &str) -> (String, Challenged) {
        let nonce = format!("{}{nonce}", self.nonce);
        let message = format!("r={nonce},s={},i={}", Base64::encode_string(&secret.salt), secret.iterations);
        let so_far = format!("{},{message}", self.bare);
        (message, Challenged { secret, gs2_header: self.gs2_header, nonce, so_far })
    }
}

impl Challenged {
    /// Checks the last message: the server-final message for whoever is recognised.
    ///
    /// # Errors
    /// [`Fault::Proof`]: whoever this is does not know the password. [`Fault::Message`]: not an answer to our challenge.
    pub fn finish(self, message: &[u8]) -> Result<String, Fault> {
        let fault = Fault::Message;
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(fault("no proof"))?;
        let mut parts = without_proof.split(',');
        let binding = parts.next().and_then(|part| part.strip_prefix("c=")).ok_or(fault("no channel binding data"))?;
        let binding = Base64::decode_vec(binding).map_err(|_| fault("channel binding data that is not base64"))?;
        if binding != self.gs2_header.as_bytes() {
            return Err(fault("another channel binding flag than at first"));
        }
        if parts.next().and_then(|part| part.strip_prefix("r=")) != Some(&self.nonce) {
            return Err(fault("another nonce than ours"));
        }
        let proof = Base64::decode_vec(proof).map_err(|_| fault("a proof that is not base64"))?;
        let proof: [u8; KEY_SIZE] = proof.try_into().map_err(|_| fault("a proof of another length"))?;

        let all = format!("{},{without_proof}", self.so_far);
        let signature = mac(&self.secret.stored_key, all.as_bytes());
        let mut client_key = proof;
        for (byte, mask) in client_key.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        if verify_slices_are_equal(&sha256(&client_key), &self.secret.stored_key).is_err() {
            return Err(Fault::Proof);
        }
        Ok(format!("v={}", Base64::encode_string(&mac(&self.secret.server_key, all.as_bytes()))))
    }
}

fn text(message: &[u8]) -> Result<&str, Fault> {
    if message.len() > MESSAGE_SIZE_MAX {
        return Err(Fault::Message("a message that is too long"));
    }
    std::str::from_utf8(message).map_err(|_| Fault::Message("a message that is not UTF-8"))
}

/// A `saslname`: comma and equals sign stand as `=2C` and `=3D`, and no other equals sign may.
fn name(written: &str) -> Result<String, Fault> {
    let mut parts = written.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = if let Some(rest) = part.strip_prefix("2C") {
            (',', rest)
        } else if let Some(rest) = part.strip_prefix("3D") {
            ('=', rest)
        } else {
            return Err(Fault::Message("an ill-formed name"));
        };
        name.push(sign);
        name.push_str(rest);
    }
    if name.contains('\0') { Err(Fault::Message("an ill-formed name")) } else { Ok(name) }
}

fn salted(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> [u8; KEY_SIZE] {
    let mut salted = [0; KEY_SIZE];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
    salted
}

fn mac(key: &[u8], of: &[u8]) -> [u8; KEY_SIZE] {
    sized(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), of).as_ref())
}

fn sha256(of: &[u8]) -> [u8; KEY_SIZE] {
    sized(digest::digest(&digest::SHA256, of).as_ref())
}

fn sized(bytes: &[u8]) -> [u8; KEY_SIZE] {
    bytes.try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::{ClientFirst, Fault, Secret};
    use base64ct::{Base64, Encoding};
    use std::num::NonZeroU32;

    // The example of RFC 7677, section 3.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const LAST: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const VERDICT: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn secret() -> Secret {
        let salt = Base64::decode_vec("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        Secret::of(b"pencil", &salt, NonZeroU32::new(4096).expect("not zero")).expect("a password of ASCII")
    }

    fn answered(first: &str, last: &str) -> Result<String, Fault> {
        let (challenge, challenged) = ClientFirst::read(first.as_bytes())?.challenge(secret(), NONCE);
        assert!(challenge.ends_with(",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
        challenged.finish(last.as_bytes())
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let first = ClientFirst::read(FIRST.as_bytes()).expect("it is the example");
        assert_eq!(first.user(), "user");
        let (challenge, challenged) = first.challenge(secret(), NONCE);
        assert_eq!(challenge, CHALLENGE);
        assert_eq!(challenged.finish(LAST.as_bytes()).as_deref(), Ok(VERDICT));
        assert!(secret().verify(b"pencil") && !secret().verify(b"pencils"));
    }

    #[test]
    fn a_wrong_proof_nonce_or_flag_is_refused() {
        assert_eq!(answered(FIRST, LAST).as_deref(), Ok(VERDICT));
        assert_eq!(answered(FIRST, &LAST.replace("p=dHzb", "p=eHzb")), Err(Fault::Proof));
        for (changed, why) in [
            (LAST.replace("r=rOpr", "r=rOpq"), "another nonce than ours"),
            (LAST.replace("F$k0", "F$k"), "another nonce than ours"),
            (LAST.replace("F$k0", "F$k00"), "another nonce than ours"),
            (LAST.replace("c=biws", "c=eSws"), "another channel binding flag than at first"),
            (LAST.replace("c=biws", "c=biw"), "channel binding data that is not base64"),
            (LAST.replace("c=biws,", ""), "no channel binding data"),
            (LAST.replace(",p=", ",q="), "no proof"),
            (LAST.replace("dVQ=", "dVQ"), "a proof that is not base64"),
            (LAST.replace("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "AAAA"), "a proof of another length"),
            (String::new(), "no proof"),
        ] {
            assert_eq!(answered(FIRST, &changed), Err(Fault::Message(why)), "{changed}");
        }
    }

    #[test]
    fn who_can_bind_to_a_channel_may_say_so_but_not_ask_for_it() {
        let y = FIRST.replace("n,,", "y,,");
        assert!(ClientFirst::read(y.as_bytes()).is_ok());
        // The flag is part of what is proved: nobody on the way can change it.
        assert_eq!(answered(&y, LAST), Err(Fault::Message("another channel binding flag than at first")));
        assert_eq!(answered(&y, &LAST.replace("c=biws", "c=eSws")), Err(Fault::Proof));
        for (first, why) in [
            ("p=tls-unique,,n=user,r=x", "channel binding, which is not offered"),
            ("x,,n=user,r=x", "an unknown channel binding flag"),
            ("n,a=other,n=user,r=x", "in the name of somebody else"),
            ("n,b=user,n=user,r=x", "an ill-formed authorization identity"),
            ("n,,m=must,n=user,r=x", "a mandatory extension"),
            ("n,,n=,r=x", "an empty user name"),
            ("n,,n=us=er,r=x", "an ill-formed name"),
            ("n,,n=us=2cer,r=x", "an ill-formed name"),
            ("n,,n=user,r=", "an ill-formed nonce"),
            ("n,,n=user,r=\u{e9}", "an ill-formed nonce"),
            ("n,,n=user", "no nonce"),
            ("n,,r=x,n=user", "no user name"),
            ("n,", "no authorization identity"),
            ("n", "no channel binding flag"),
            ("", "no channel binding flag"),
        ] {
            assert_eq!(
                ClientFirst::read(first.as_bytes()).map(|first| first.user),
                Err(Fault::Message(why)),
                "{first}"
            );
        }
        assert!(ClientFirst::read(b"n,,n=us\xff,r=x").is_err());
        assert!(ClientFirst::read(&[b'n'; 5000]).is_err());
    }

    #[test]
    fn names_may_hold_commas_and_equals_signs() {
        let first = ClientFirst::read(b"n,a=a=2Cb=3D,n=a=2Cb=3D,r=x,ext=1").expect("well formed");
        assert_eq!(first.user(), "a,b=");
    }

    #[test]
    fn passwords_that_clients_would_write_differently_are_not_taken() {
        for password in ["größe".as_bytes(), b"a\0b", b"tab\t", b"\xff"] {
            assert!(Secret::of(password, b"salt", super::ITERATIONS).is_err());
        }
    }
}
