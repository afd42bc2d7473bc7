//! Password files: the format of Mosquitto, one `user:hash` in a line, with its kinds of hash and one more for SCRAM.
//!
//! ```text
//! $6$SALT$HASH                               SHA-512 of password and salt, once; for files of old
//! $7$ITERATIONS$SALT$HASH                    PBKDF2 with HMAC-SHA-512
//! $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH
//! $scram-sha-256$ITERATIONS$SALT$STORED_KEY$SERVER_KEY    by RFC 5803; good for SCRAM and for plain passwords
//! ```
//!
//! A file with a line that means nothing is refused as a whole: a user that is skipped in silence is a user who cannot log
//! in, or one that was meant to be removed and was not. Unlike Mosquitto, which passes over them, blank lines, lines that
//! end with CR LF and names with blanks around them are such lines; those that begin with `#` are comments.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::scram;
use crate::notice::Outside;
use argon2::{Algorithm, Argon2, Block, Params};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64ct::{Base64, Base64Unpadded, Encoding};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::num::NonZeroU32;

/// Longest password, in bytes. Longer ones are refused before anything is computed.
pub const PASSWORD_SIZE_MAX: usize = 1024;
/// Longest user name of a file, in bytes; what MQTT can express.
pub const USER_NAME_SIZE_MAX: usize = 65_535;
/// Most iterations of PBKDF2, for `$7$` and SCRAM.
pub const ITERATIONS_MAX: u32 = 10_000_000;
/// Most memory of an Argon2 hash, in KiB.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 256 << 10;
/// Most passes of an Argon2 hash.
pub const ARGON2_PASSES_MAX: u32 = 100;
/// Most lanes of an Argon2 hash.
pub const ARGON2_LANES_MAX: u32 = 16;
/// Most bytes of salt.
const SALT_SIZE_MAX: usize = 1024;
/// Bytes of a SHA-512 hash, alone and from PBKDF2.
const SHA512_SIZE: usize = 64;
/// Bytes of an Argon2 hash: what most tools write, and what Mosquitto writes. A hash that was cut is of another length.
const ARGON2_SIZES: [usize; 2] = [32, 64];
/// Bytes of what we write ourselves. Mosquitto 2.0 takes no other salt than one of twelve bytes.
const SALT_SIZE: usize = 16;
const MOSQUITTO_SALT_SIZE: usize = 12;
const ARGON2_SIZE: usize = 32;
/// Faults of one file that are told.
const FAULTS_MAX: usize = 20;

/// The users of a file and how each is recognised.
pub struct PasswordFile {
    users: HashMap<Box<str>, Hash>,
    /// Names in the order of the file, for choosing what an unknown user is measured against.
    order: Vec<Box<str>>,
    /// Secret, and the same as long as the file is: what an unknown user meets must not change from one try to the next.
    key: hmac::Key,
    /// Those of the first user who has such an entry: what the others are asked for, too.
    scram_iterations: NonZeroU32,
}

/// What a file knows of one user's password.
#[derive(Clone, PartialEq, Eq, std::hash::Hash)]
pub enum Hash {
    Sha512 { salt: Box<[u8]>, hash: [u8; SHA512_SIZE] },
    Pbkdf2 { iterations: NonZeroU32, salt: Box<[u8]>, hash: [u8; SHA512_SIZE] },
    Argon2id { cost: Argon2Cost, salt: Box<[u8]>, hash: Box<[u8]> },
    Scram(scram::Secret),
}

/// What an Argon2 hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash)]
pub struct Argon2Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Default for Argon2Cost {
    /// OWASP's first choice of 2023 for small machines: 19 MiB, two passes, one lane.
    fn default() -> Self {
        Self { memory_kib: 19 << 10, passes: 2, lanes: 1 }
    }
}

/// A kind of hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Sha512,
    Pbkdf2,
    Argon2id,
    Scram,
}

/// A file that is not one, with all that is wrong in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordFileErrors {
    file: Box<str>,
    /// Lines, counted from 1, and what is wrong with each. Never what the hash was.
    pub faults: Vec<(usize, String)>,
    /// Faults beyond those.
    pub more: usize,
}

impl PasswordFile {
    /// Reads a whole file; `name` is for the errors. An empty one is valid and lets nobody in.
    ///
    /// # Errors
    /// Every line that is neither a comment nor a user with a sound hash, and every user that is there twice.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, PasswordFileErrors> {
        let mut users: HashMap<Box<str>, Hash> = HashMap::new();
        let mut first_seen: HashMap<Box<str>, usize> = HashMap::new();
        let mut order = Vec::new();
        let mut errors = PasswordFileErrors { file: name.into(), faults: Vec::new(), more: 0 };
        let is_empty = text.is_empty();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let lines = if is_empty { None } else { Some(text.split(|byte| *byte == b'\n')) };
        for (line, content) in (1_usize..).zip(lines.into_iter().flatten()) {
            if content.starts_with(b"#") {
                continue;
            }
            match entry(content) {
                Err(why) => errors.push(line, why),
                Ok((user, hash)) => {
                    if let Some(before) = first_seen.get(user) {
                        let user = Outside::of(user);
                        errors.push(line, format!("user \"{user}\" is there twice; the first time in line {before}"));
                        continue;
                    }
                    first_seen.insert(user.into(), line);
                    order.push(Box::from(user));
                    users.insert(user.into(), hash);
                }
            }
        }
        if !errors.faults.is_empty() {
            return Err(errors);
        }
        let key = digest::digest(&digest::SHA256, text);
        let scram_iterations = order.iter().find_map(|user| match users.get(user) {
            Some(Hash::Scram(secret)) => Some(secret.iterations),
            _ => None,
        });
        let scram_iterations = scram_iterations.unwrap_or(scram::ITERATIONS);
        Ok(Self { users, order, key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), scram_iterations })
    }

    /// Whether this is the password of that user. Slow on purpose, and as slow for a user who is not in the file; call it
    /// where waiting does no harm. A password with a NUL in it is never right.
    pub fn verify(&self, user: &str, password: &[u8]) -> bool {
        // To HMAC, and so to PBKDF2, a key with NULs behind it is the same key.
        if password.len() > PASSWORD_SIZE_MAX || password.contains(&0) {
            return false;
        }
        let known = self.users.get(user);
        let Some(hash) = known.or_else(|| self.decoy(user)) else { return false };
        // The result of a decoy is computed all the same, and then is worth nothing.
        hash.verify(password) & known.is_some()
    }

    /// What SCRAM needs to recognise a user. For one who is not in the file, or has no such entry, something that looks the
    /// same and that no password fits [RFC 5802, 9].
    pub fn scram(&self, user: &str) -> scram::Secret {
        if let Some(Hash::Scram(secret)) = self.users.get(user) {
            return secret.clone();
        }
        scram::Secret::decoy(&self.key, user, self.scram_iterations)
    }

    /// The stored hash of a user.
    pub fn hash(&self, user: &str) -> Option<&Hash> {
        self.users.get(user)
    }

    /// Stands for the password of a user: another password has another mark. Good as long as the process runs.
    pub fn mark(&self, user: &str) -> Option<u64> {
        self.users.get(user).map(|hash| BuildHasherDefault::<DefaultHasher>::default().hash_one(hash))
    }

    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// What an unknown user is measured against: a user of the file, always the same for the same name, so that in a file
    /// with different kinds of hash, too, the time says nothing.
    fn decoy(&self, user: &str) -> Option<&Hash> {
        let tag = hmac::sign(&self.key, user.as_bytes());
        let number = tag.as_ref().iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        let place = usize::try_from(number.checked_rem(u64::try_from(self.order.len()).ok()?)?).ok()?;
        self.users.get(self.order.get(place)?)
    }
}

/// One line: a user and its hash. The text of an error shows the user, never what follows.
fn entry(line: &[u8]) -> Result<(&str, Hash), String> {
    if line.is_empty() {
        return Err("is blank; remove it".to_owned());
    }
    if line.ends_with(b"\r") {
        return Err("ends with CR LF, as editors on Windows write it; end lines with LF alone".to_owned());
    }
    let Ok(line) = std::str::from_utf8(line) else { return Err("is not UTF-8".to_owned()) };
    let Some((user, hash)) = line.split_once(':') else {
        return Err("has no colon between user and hash".to_owned());
    };
    check_user_name(user).map_err(|why| format!("has a user name that {why}"))?;
    let hash = Hash::parse(hash).map_err(|why| format!("the hash of user \"{}\" {why}", Outside::of(user)))?;
    Ok((user, hash))
}

/// Whether a name can stand in a password file.
///
/// # Errors
/// What is wrong with it: "is empty", for instance.
pub fn check_user_name(user: &str) -> Result<(), &'static str> {
    match user {
        "" => Err("is empty"),
        _ if user.len() > USER_NAME_SIZE_MAX => Err("is longer than 65535 bytes"),
        _ if user.starts_with('#') => Err("begins with #, as comments do"),
        _ if user.contains(':') => Err("has a colon in it"),
        _ if user.contains(char::is_control) => Err("has a control character in it"),
        _ if user.trim() != user => Err("begins or ends with a blank"),
        _ => Ok(()),
    }
}

impl Hash {
    /// A new hash of a password, with a salt that nobody else has.
    ///
    /// # Errors
    /// The iterations are 0 or above [`ITERATIONS_MAX`], or are asked for where there are none; or the password is empty or
    /// longer than [`PASSWORD_SIZE_MAX`], or has a NUL in it.
    pub fn create(scheme: Scheme, password: &[u8], iterations: Option<u32>) -> Result<Self, &'static str> {
        if password.is_empty() {
            return Err("the password is empty");
        }
        if password.len() > PASSWORD_SIZE_MAX {
            return Err("the password is longer than 1024 bytes");
        }
        if password.contains(&0) {
            return Err("the password has a NUL in it");
        }
        let mut random = [0; SALT_SIZE];
        let (short, _) = random.split_at_mut(MOSQUITTO_SALT_SIZE);
        let salt = match scheme {
            Scheme::Sha512 | Scheme::Pbkdf2 => short,
            Scheme::Argon2id | Scheme::Scram => &mut random[..],
        };
        getrandom::fill(salt).map_err(|_| "the system has no random numbers")?;
        let salt = &*salt;
        let iterations = |fallback| {
            NonZeroU32::new(iterations.unwrap_or(fallback))
                .filter(|iterations| iterations.get() <= ITERATIONS_MAX)
                .ok_or("the iterations are not from 1 to 10000000")
        };
        match scheme {
            Scheme::Sha512 => Ok(Self::Sha512 { hash: sha512(password, salt), salt: salt.into() }),
            Scheme::Pbkdf2 => {
                let iterations = iterations(PBKDF2_ITERATIONS)?;
                Ok(Self::Pbkdf2 { iterations, hash: pbkdf2_sha512(password, salt, iterations), salt: salt.into() })
            }
            Scheme::Argon2id => {
                let passes = iterations(Argon2Cost::default().passes)?.get();
                if passes > ARGON2_PASSES_MAX {
                    return Err("the iterations of argon2id are not from 1 to 100");
                }
                let cost = Argon2Cost { passes, ..Argon2Cost::default() };
                let mut hash = vec![0; ARGON2_SIZE].into_boxed_slice();
                argon2id(password, salt, cost, &mut hash).ok_or("argon2id failed")?;
                Ok(Self::Argon2id { cost, salt: salt.into(), hash })
            }
            Scheme::Scram => {
                let iterations = iterations(scram::ITERATIONS.get())?;
                scram::Secret::of(password, salt, iterations).map(Self::Scram)
            }
        }
    }

    /// Reads what follows the colon.
    ///
    /// # Errors
    /// What follows "the hash of user X".
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is missing".to_owned());
        }
        let Some(text) = text.strip_prefix('$') else {
            return Err("does not begin with $: is this a file of plain passwords? \
                        `waypost passwd -U FILE` replaces them by hashes"
                .to_owned());
        };
        let mut parts = text.split('$');
        let scheme = parts.next().unwrap_or_default();
        let parts: Vec<&str> = parts.collect();
        match (scheme, parts.as_slice()) {
            ("6", [salt, hash]) => Ok(Self::Sha512 { salt: read_salt::<Base64>(salt)?, hash: read_sha512(hash)? }),
            ("7", [iterations, salt, hash]) => Ok(Self::Pbkdf2 {
                iterations: read_iterations(iterations)?,
                salt: read_salt::<Base64>(salt)?,
                hash: read_sha512(hash)?,
            }),
            ("argon2id", ["v=19", cost, salt, hash]) => {
                let cost = read_argon2_cost(cost)?;
                let salt = read_salt::<Base64Unpadded>(salt)?;
                let hash = read_base64::<Base64Unpadded>(hash, "hash")?;
                if salt.len() < argon2::MIN_SALT_LEN || !ARGON2_SIZES.contains(&hash.len()) {
                    return Err("is not of a length that argon2id has: it may have been cut".to_owned());
                }
                Ok(Self::Argon2id { cost, salt, hash })
            }
            ("argon2id", [version, ..]) if *version != "v=19" => {
                Err("is of a version of argon2id other than v=19".to_owned())
            }
            ("scram-sha-256", [iterations, salt, stored, server]) => Ok(Self::Scram(scram::Secret {
                iterations: read_iterations(iterations)?,
                salt: read_salt::<Base64>(salt)?,
                stored_key: read_sized::<Base64, 32>(stored)?,
                server_key: read_sized::<Base64, 32>(server)?,
            })),
            ("6" | "7" | "argon2id" | "scram-sha-256", _) => {
                Err(format!("has {} parts after ${scheme}$, which is not what belongs there", parts.len()))
            }
            _ => Err(format!(
                "is of the unknown kind ${}$; known are $6$, $7$, $argon2id$ and $scram-sha-256$",
                Outside::of(scheme)
            )),
        }
    }

    /// The slow part.
    fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Sha512 { salt, hash } => verify_slices_are_equal(&sha512(password, salt), hash).is_ok(),
            Self::Pbkdf2 { iterations, salt, hash } => {
                verify_slices_are_equal(&pbkdf2_sha512(password, salt, *iterations), hash).is_ok()
            }
            Self::Argon2id { cost, salt, hash } => {
                let mut computed = vec![0; hash.len()];
                argon2id(password, salt, *cost, &mut computed).is_some()
                    && verify_slices_are_equal(&computed, hash).is_ok()
            }
            Self::Scram(secret) => secret.verify(password),
        }
    }
}

/// As OWASP recommended in 2023. Mosquitto's own tool writes 101, which protects a file that was stolen for seconds only.
const PBKDF2_ITERATIONS: u32 = 210_000;

/// The GNU C library gives memory of more than 32 MiB back to the system as soon as it is free, and keeps less for the thread
/// that had it: with several threads that would be many times what one hash needs. Pages that are not used cost nothing.
const GIVEN_BACK_BLOCKS: usize = 33 << 10;

fn sha512(password: &[u8], salt: &[u8]) -> [u8; SHA512_SIZE] {
    let mut context = digest::Context::new(&digest::SHA512);
    context.update(password);
    context.update(salt);
    let mut hash = [0; SHA512_SIZE];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn pbkdf2_sha512(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> [u8; SHA512_SIZE] {
    let mut hash = [0; SHA512_SIZE];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, salt, password, &mut hash);
    hash
}

/// `None`: the parameters are outside of what Argon2 allows, or there is no memory for it.
fn argon2id(password: &[u8], salt: &[u8], cost: Argon2Cost, hash: &mut [u8]) -> Option<()> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(hash.len())).ok()?;
    let count = params.block_count();
    let mut memory = Vec::new();
    memory.try_reserve_exact(count.max(GIVEN_BACK_BLOCKS)).ok()?;
    memory.resize(count, Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, argon2::Version::V0x13, params);
    argon2.hash_password_into_with_memory(password, salt, hash, memory).ok()
}

fn read_iterations(text: &str) -> Result<NonZeroU32, String> {
    read_number(text)
        .and_then(NonZeroU32::new)
        .filter(|iterations| iterations.get() <= ITERATIONS_MAX)
        .ok_or_else(|| format!("has iterations that are not a number from 1 to {ITERATIONS_MAX}"))
}

fn read_argon2_cost(text: &str) -> Result<Argon2Cost, String> {
    let cost = || {
        let (memory, rest) = text.strip_prefix("m=")?.split_once(",t=")?;
        let (passes, lanes) = rest.split_once(",p=")?;
        Some(Argon2Cost { memory_kib: read_number(memory)?, passes: read_number(passes)?, lanes: read_number(lanes)? })
    };
    let cost = cost().ok_or("has a cost that does not read m=KIB,t=PASSES,p=LANES")?;
    let lanes = (1..=ARGON2_LANES_MAX).contains(&cost.lanes);
    let passes = (1..=ARGON2_PASSES_MAX).contains(&cost.passes);
    let memory = (cost.lanes.saturating_mul(8)..=ARGON2_MEMORY_KIB_MAX).contains(&cost.memory_kib);
    if lanes && passes && memory {
        Ok(cost)
    } else {
        Err(format!(
            "has a cost outside of p from 1 to {ARGON2_LANES_MAX}, t from 1 to {ARGON2_PASSES_MAX} and m from 8 times p to {ARGON2_MEMORY_KIB_MAX}"
        ))
    }
}

/// Digits only: no sign, no blank.
fn read_number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn read_salt<B: Encoding>(text: &str) -> Result<Box<[u8]>, String> {
    let salt = read_base64::<B>(text, "salt")?;
    if (1..=SALT_SIZE_MAX).contains(&salt.len()) {
        Ok(salt)
    } else {
        Err(format!("has a salt that is not of 1 to {SALT_SIZE_MAX} bytes"))
    }
}

fn read_sha512(text: &str) -> Result<[u8; SHA512_SIZE], String> {
    read_sized::<Base64, SHA512_SIZE>(text)
}

fn read_sized<B: Encoding, const SIZE: usize>(text: &str) -> Result<[u8; SIZE], String> {
    let bytes = read_base64::<B>(text, "hash")?;
    <[u8; SIZE]>::try_from(&*bytes)
        .map_err(|_| format!("has {} bytes where {SIZE} belong: it may have been cut", bytes.len()))
}

fn read_base64<B: Encoding>(text: &str, what: &str) -> Result<Box<[u8]>, String> {
    let bytes = B::decode_vec(text).map_err(|_| format!("has a {what} that is not base64: it may have been cut"))?;
    Ok(bytes.into())
}

impl PasswordFileErrors {
    fn push(&mut self, line: usize, why: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push((line, why.into()));
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

impl std::error::Error for PasswordFileErrors {}

impl fmt::Display for PasswordFileErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (line, why)) in self.faults.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(
                out,
                "{end}{}:{line}: {}{why}",
                self.file,
                if why.starts_with("the ") || why.starts_with("user ") { "" } else { "the line " }
            )?;
        }
        if self.more > 0 {
            write!(out, "\n{}: and {} faults more", self.file, self.more)?;
        }
        Ok(())
    }
}

/// As it stands in a file, behind the colon.
impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha512 { salt, hash } => {
                write!(out, "$6${}${}", Base64::encode_string(salt), Base64::encode_string(hash))
            }
            Self::Pbkdf2 { iterations, salt, hash } => {
                write!(out, "$7${iterations}${}${}", Base64::encode_string(salt), Base64::encode_string(hash))
            }
            Self::Argon2id { cost: Argon2Cost { memory_kib, passes, lanes }, salt, hash } => write!(
                out,
                "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${}${}",
                Base64Unpadded::encode_string(salt),
                Base64Unpadded::encode_string(hash)
            ),
            Self::Scram(scram::Secret { iterations, salt, stored_key, server_key }) => write!(
                out,
                "$scram-sha-256${iterations}${}${}${}",
                Base64::encode_string(salt),
                Base64::encode_string(stored_key),
                Base64::encode_string(server_key)
            ),
        }
    }
}

/// Which kind it is; hashes are not shown.
impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Sha512 { .. } => "$6$ (not shown)",
            Self::Pbkdf2 { .. } => "$7$ (not shown)",
            Self::Argon2id { .. } => "$argon2id$ (not shown)",
            Self::Scram(_) => "$scram-sha-256$ (not shown)",
        })
    }
}

/// How many users; nothing of them is shown.
impl fmt::Debug for PasswordFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PasswordFile({} users)", self.users.len())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a test may panic")]

    use super::{Hash, PasswordFile, Scheme};

    // Written by mosquitto_passwd 2.0.11 (`-H sha512` and without), by `argon2` of the reference implementation, and by
    // the example of RFC 7677.
    const BOB: &str = "bob:$6$fQbfBvWDH8gQy/Ud$je3t8J0KkO12j+wvYqmGgKG10zVddQ3L35MkkiTGtZ0XnAelZ+IOqzOiK+AwaRCqpjUnhHpsbceAvu+bRuoO0g==";
    const ALICE: &str = "alice:$7$101$/ZpjS0CLoqfMOfR9$RPM2QCFjzUPa/JJzPE8v+1dIWerCpTAI7vkGvG2q9jEemQKdwGWZUZ56f7I4yysddjt8nbpYPVJg0J31gWgmtA==";
    const CAROL: &str = "carol:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    const USER: &str = "user:$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn file(lines: &[&str]) -> PasswordFile {
        PasswordFile::parse("passwd", lines.join("\n").as_bytes()).expect("a sound file")
    }

    fn faults(text: &str) -> String {
        PasswordFile::parse("passwd", text.as_bytes()).expect_err("a damaged file").to_string()
    }

    #[test]
    fn each_kind_of_hash_knows_its_password_and_no_other() {
        let file = file(&["# users", BOB, ALICE, CAROL, USER]);
        assert_eq!(file.len(), 4);
        for (user, password) in [("bob", "s3cret"), ("alice", "secret"), ("carol", "password"), ("user", "pencil")] {
            assert!(file.verify(user, password.as_bytes()), "{user}");
            let near = [
                String::new(),
                password.to_uppercase(),
                format!("{password}\0"),
                format!("{password}x"),
                format!("{password}\0x"),
                password[..password.len() - 1].to_owned(),
                format!(" {password}"),
                "x".repeat(2000),
            ];
            for wrong in near {
                assert!(!file.verify(user, wrong.as_bytes()), "{user} {wrong:?}");
            }
            assert!(!file.verify("nobody", password.as_bytes()));
            assert!(!file.verify(&user.to_uppercase(), password.as_bytes()));
            assert!(!file.verify("", password.as_bytes()));
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for line in [BOB, ALICE, CAROL, USER] {
            let (_, hash) = line.split_once(':').expect("user and hash");
            assert_eq!(Hash::parse(hash).expect("a sound hash").to_string(), hash);
        }
        for (scheme, iterations) in [
            (Scheme::Sha512, None),
            (Scheme::Pbkdf2, Some(101)),
            (Scheme::Argon2id, Some(1)),
            (Scheme::Scram, Some(4096)),
        ] {
            let hash = Hash::create(scheme, b"secret", iterations).expect("a good password");
            assert_eq!(Hash::parse(&hash.to_string()).as_ref(), Ok(&hash));
            assert_ne!(Hash::create(scheme, b"secret", iterations).as_ref(), Ok(&hash), "a salt of its own");
            assert!(hash.verify(b"secret") && !hash.verify(b"Secret"));
            assert!(Hash::create(scheme, b"", None).is_err());
            assert!(Hash::create(scheme, &[b'x'; 1025], None).is_err());
            assert!(Hash::create(scheme, b"secret\0", None).is_err());
        }
        assert!(Hash::create(Scheme::Pbkdf2, b"secret", Some(0)).is_err());
        assert!(Hash::create(Scheme::Argon2id, b"secret", Some(101)).is_err());
    }

    #[test]
    fn an_empty_file_lets_nobody_in() {
        for text in ["", "# nobody\n", "# nobody"] {
            let file = PasswordFile::parse("passwd", text.as_bytes()).expect("sound");
            assert!(file.is_empty() && !file.verify("a", b"") && !file.verify("", b""));
        }
    }

    #[test]
    fn damage_is_refused_with_the_line() {
        let alice_cut = &ALICE[..ALICE.len() - 5];
        for (text, expected) in [
            (format!("{ALICE}\n\n{BOB}\n"), "passwd:2: the line is blank; remove it"),
            ("\n".to_owned(), "passwd:1: the line is blank; remove it"),
            (format!("{ALICE}\n\n"), "passwd:2: the line is blank; remove it"),
            ("alice\n".to_owned(), "passwd:1: the line has no colon between user and hash"),
            ("alice:\n".to_owned(), "passwd:1: the hash of user \"alice\" is missing"),
            (":$6$a$b\n".to_owned(), "passwd:1: the line has a user name that is empty"),
            (format!(" {ALICE}"), "passwd:1: the line has a user name that begins or ends with a blank"),
            (
                format!("{ALICE}\r\n"),
                "passwd:1: the line ends with CR LF, as editors on Windows write it; end lines with LF alone",
            ),
            (
                alice_cut.to_owned(),
                "passwd:1: the hash of user \"alice\" has a hash that is not base64: it may have been cut",
            ),
            (
                ALICE.replace("tA==", ""),
                "passwd:1: the hash of user \"alice\" has 63 bytes where 64 belong: it may have been cut",
            ),
            (
                format!("{ALICE}\n# note\n{ALICE}\n"),
                "passwd:3: user \"alice\" is there twice; the first time in line 1",
            ),
            (
                "alice:$1$salt$hash".to_owned(),
                "passwd:1: the hash of user \"alice\" is of the unknown kind $1$; known are $6$, $7$, $argon2id$ and $scram-sha-256$",
            ),
            (
                "alice:secret".to_owned(),
                "passwd:1: the hash of user \"alice\" does not begin with $: is this a file of plain passwords? \
                 `waypost passwd -U FILE` replaces them by hashes",
            ),
            (
                ALICE.replace("$101$", "$0$"),
                "passwd:1: the hash of user \"alice\" has iterations that are not a number from 1 to 10000000",
            ),
            (
                ALICE.replace("$101$", "$+101$"),
                "passwd:1: the hash of user \"alice\" has iterations that are not a number from 1 to 10000000",
            ),
            (
                CAROL.replace("m=256", "m=4294967295"),
                "passwd:1: the hash of user \"carol\" has a cost outside of p from 1 to 16, t from 1 to 100 and m from 8 times p to 262144",
            ),
            (
                CAROL[..CAROL.len() - 3].to_owned(),
                "passwd:1: the hash of user \"carol\" is not of a length that argon2id has: it may have been cut",
            ),
            (
                "alice:$6$\n".to_owned(),
                "passwd:1: the hash of user \"alice\" has 1 parts after $6$, which is not what belongs there",
            ),
        ] {
            assert_eq!(faults(&text), expected, "{text}");
        }
        assert_eq!(
            PasswordFile::parse("passwd", b"al\xffice:x").expect_err("not UTF-8").to_string(),
            "passwd:1: the line is not UTF-8"
        );
    }

    #[test]
    fn every_cut_of_a_file_is_refused_or_a_smaller_file() {
        let text = format!("{BOB}\n{ALICE}\n{CAROL}\n{USER}\n");
        for end in 0..text.len() {
            if let Ok(file) = PasswordFile::parse("passwd", &text.as_bytes()[..end]) {
                let whole = [BOB, ALICE, CAROL, USER].iter().take(file.len()).map(|line| line.len() + 1).sum::<usize>();
                assert!(end == whole || end + 1 == whole, "{end}");
            }
        }
    }

    #[test]
    fn all_faults_are_told_at_once_but_not_without_end() {
        let text = "alice\n".repeat(100);
        let errors = PasswordFile::parse("passwd", text.as_bytes()).expect_err("no colons");
        assert_eq!((errors.faults.len(), errors.more), (20, 80));
        assert!(errors.to_string().ends_with("\npasswd: and 80 faults more"));
    }

    #[test]
    fn nothing_that_is_shown_of_a_file_is_secret() {
        let shown = format!("{:?} {:?}", file(&[ALICE]), file(&[ALICE]).hash("alice"));
        assert_eq!(shown, "PasswordFile(1 users) Some($7$ (not shown))");
        assert!(!faults(&format!("{ALICE}x")).contains("RPM2"));
    }

    #[test]
    fn unknown_users_meet_the_same_work_and_the_same_challenge_each_time() {
        let file = file(&[ALICE, USER]);
        assert_eq!(file.decoy("nobody"), file.decoy("nobody"));
        let first = file.scram("nobody");
        assert!(first == file.scram("nobody") && first != file.scram("somebody"));
        assert_eq!((first.iterations.get(), first.salt.len()), (4096, 16));
        // So does a user who has a password, but no SCRAM secret.
        assert!(file.scram("alice") == file.scram("alice"));
        assert!(file.scram("user") == file.scram("user"));
    }

    #[test]
    fn another_password_has_another_mark() {
        let (before, after) = (file(&[ALICE, BOB]), file(&[ALICE, USER]));
        assert_eq!(before.mark("alice"), after.mark("alice"));
        assert_eq!((before.mark("bob").is_some(), after.mark("bob")), (true, None));
        let changed = file(&[&format!("alice:{}", BOB.split_once(':').expect("a hash").1)]);
        assert_ne!(before.mark("alice"), changed.mark("alice"));
    }
}
