//! User name and password, judged by a password file that is swapped whole when it is loaded again.

use super::chain::{Answer, Asked, Link, Porter};
use super::hashing::Hashing;
use crate::access::password::{PasswordFile, PasswordFileErrors};
use crate::access::{Accounts, Identity, Login, Proof};
use crate::codec::ReasonCode;
use arc_swap::ArcSwap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// A password file on disk and what it said when it was read last.
pub struct Passwords {
    path: PathBuf,
    file: ArcSwap<PasswordFile>,
}

/// Why a password file was not taken; what was loaded before, if anything, still holds.
#[derive(Debug, Error)]
pub enum NotLoaded {
    #[error("{}: the password file cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: the password file is {what}", path.display())]
    NotAFile { path: PathBuf, what: &'static str },
    #[error("{0}")]
    Damaged(PasswordFileErrors),
}

/// Largest password file, in bytes: about 500,000 users.
const FILE_SIZE_MAX: u64 = 64 << 20;

impl Passwords {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not there, not a file, too large or damaged.
    pub fn load(path: &Path) -> Result<Self, NotLoaded> {
        Ok(Self { path: path.to_owned(), file: ArcSwap::from_pointee(read(path)?) })
    }

    /// Reads the file again and puts it in place as a whole.
    ///
    /// # Errors
    /// As [`Passwords::load`]; then nothing has changed.
    pub fn reload(&self) -> Result<(), NotLoaded> {
        self.file.store(Arc::new(read(&self.path)?));
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file in force.
    pub fn current(&self) -> Arc<PasswordFile> {
        self.file.load_full()
    }
}

impl Accounts for Passwords {
    /// A password that was changed is one that has to be proved again.
    fn knows(&self, who: &Identity) -> bool {
        match (who.proof, &who.user_name) {
            (Proof::Password(mark), Some(user)) => self.file.load().mark(user) == Some(mark),
            _ => true,
        }
    }
}

fn read(path: &Path) -> Result<PasswordFile, NotLoaded> {
    let unreadable = |error| NotLoaded::Unreadable { path: path.to_owned(), error };
    let not_a_file = |what| NotLoaded::NotAFile { path: path.to_owned(), what };
    // A pipe would be waited for when it is opened.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(not_a_file("not a regular file"));
    }
    let mut text = Vec::new();
    fs::File::open(path).map_err(unreadable)?.take(FILE_SIZE_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_SIZE_MAX {
        return Err(not_a_file("larger than 64 MiB"));
    }
    PasswordFile::parse(&path.display().to_string(), &text).map_err(NotLoaded::Damaged)
}

/// Asks the file. It says no to a wrong password, and leaves users that it does not know to the next link, after as long a time.
pub struct PasswordLink {
    passwords: Arc<Passwords>,
    hashing: Arc<Hashing>,
}

impl PasswordLink {
    pub fn new(passwords: Arc<Passwords>, hashing: Arc<Hashing>) -> Self {
        Self { passwords, hashing }
    }
}

impl Link for PasswordLink {
    fn ask(&self, porter: &Porter, login: &Arc<Login>) -> Asked {
        let (file, hashing) = (self.passwords.current(), Arc::clone(&self.hashing));
        let (porter, login) = (porter.clone(), Arc::clone(login));
        Box::pin(async move {
            let (Some(user), Some(password)) = (&login.user_name, &login.password) else { return Answer::NotMine };
            // While this one waited for its turn, others from there may have failed.
            let wanted = || porter.is_open_to(&login, Some(user));
            let work = {
                let (file, user, password) = (Arc::clone(&file), user.clone(), password.clone());
                move || file.verify(&user, &password)
            };
            match hashing.run(wanted, work).await {
                Err(_) => Answer::Deny { reason: ReasonCode::ServerBusy, why: "too many logins at once" },
                Ok(None) => Answer::Deny { reason: ReasonCode::Banned, why: "too many failed logins meanwhile" },
                Ok(Some(true)) => {
                    let proof = file.mark(user).map_or(Proof::Shown, Proof::Password);
                    Answer::Accept { identity: Identity::proven(user, proof), data: None }
                }
                Ok(Some(false)) if file.hash(user).is_some() => Answer::wrong("a wrong password"),
                Ok(Some(false)) => Answer::NotMine,
            }
        })
    }
}
