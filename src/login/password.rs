//! User name and password, judged by a password file that is swapped whole when it is loaded again.

use super::chain::{Answer, Asked, Link, Porter};
use super::hashing::Hashing;
use crate::access::password::{PasswordFile, PasswordFileErrors};
use crate::access::{Accounts, Identity, Login, Proof};
use crate::codec::ReasonCode;
use crate::files::{self, Unread};
use arc_swap::ArcSwap;
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
    #[error("{}: the password file cannot be read: {unread}", path.display())]
    Unread { path: PathBuf, unread: Unread },
    #[error("{0}")]
    Damaged(PasswordFileErrors),
}

/// The password files of all listeners: one for all, and those of listeners that have their own. A file is read once, however many
/// name it.
#[derive(Default)]
pub struct PasswordFiles {
    general: Option<Arc<Passwords>>,
    /// By the name of the listener.
    own: Vec<(String, Arc<Passwords>)>,
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

impl PasswordFiles {
    /// Reads the file for all listeners, if there is one, and those of listeners by their names.
    ///
    /// # Errors
    /// The first that cannot be used, as with [`Passwords::load`].
    pub fn load<'a>(general: Option<&Path>, own: impl Iterator<Item = (String, &'a Path)>) -> Result<Self, NotLoaded> {
        let mut files = Self::default();
        if let Some(path) = general {
            files.general = Some(Arc::new(Passwords::load(path)?));
        }
        for (listener, path) in own {
            let known = files.each().find(|file| file.path() == path).cloned();
            let file = known.map_or_else(|| Passwords::load(path).map(Arc::new), Ok)?;
            files.own.push((listener, file));
        }
        Ok(files)
    }

    /// The file that judges whoever comes through this listener.
    pub fn at(&self, listener: Option<&str>) -> Option<&Arc<Passwords>> {
        let own = self.own.iter().find(|(name, _)| Some(name.as_str()) == listener);
        own.map(|(_, file)| file).or(self.general.as_ref())
    }

    /// Each file once.
    pub fn each(&self) -> impl Iterator<Item = &Arc<Passwords>> {
        let all = || self.general.iter().chain(self.own.iter().map(|(_, file)| file));
        all()
            .enumerate()
            .filter(move |(at, file)| !all().take(*at).any(|one| Arc::ptr_eq(one, file)))
            .map(|(_, file)| file)
    }
}

impl Accounts for PasswordFiles {
    fn knows(&self, who: &Identity) -> bool {
        match who.proof {
            Proof::Password(_) => self.at(who.listener.as_deref()).is_some_and(|file| file.knows(who)),
            _ => true,
        }
    }

    /// One file, one set of users.
    fn are_one(&self, one: &Identity, other: &Identity) -> bool {
        let file = |who: &Identity| self.at(who.listener.as_deref()).map(Arc::as_ptr);
        one.user_name == other.user_name && file(one) == file(other)
    }
}

fn read(path: &Path) -> Result<PasswordFile, NotLoaded> {
    let unread = |unread| NotLoaded::Unread { path: path.to_owned(), unread };
    let text = files::read_whole(path, FILE_SIZE_MAX).map_err(unread)?;
    PasswordFile::parse(&path.display().to_string(), &text).map_err(NotLoaded::Damaged)
}

/// So many files in a row are asked when each is replaced while a password is checked by it.
const FILES_MAX: usize = 4;

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
        let (passwords, hashing) = (Arc::clone(&self.passwords), Arc::clone(&self.hashing));
        let (porter, login) = (porter.clone(), Arc::clone(login));
        Box::pin(async move {
            let (Some(user), Some(password)) = (&login.user_name, &login.password) else { return Answer::NotMine };
            for _ in 0..FILES_MAX {
                // While this one waited for its turn, others from there may have failed.
                let wanted = || porter.is_open_to(&login, Some(user));
                let work = {
                    let (passwords, user, password) = (Arc::clone(&passwords), user.clone(), password.clone());
                    move || {
                        let file = passwords.current();
                        (file.verify(&user, &password), file.mark(&user))
                    }
                };
                match hashing.run(wanted, work).await {
                    Err(_) => return busy("too many logins at once"),
                    Ok(None) => {
                        return Answer::Deny { reason: ReasonCode::Banned, why: "too many failed logins meanwhile" };
                    }
                    Ok(Some((false, Some(_)))) => return Answer::wrong("a wrong password"),
                    Ok(Some((false, None))) => return Answer::NotMine,
                    Ok(Some((true, mark))) => {
                        let identity = Identity::proven(user, mark.map_or(Proof::Shown, Proof::Password));
                        // With another file in force by now the hall would refuse what was right a moment ago.
                        if passwords.knows(&identity) {
                            return Answer::Accept { identity, data: None };
                        }
                    }
                }
            }
            busy("the password file changes faster than a password is checked")
        })
    }
}

fn busy(why: &'static str) -> Answer {
    Answer::Deny { reason: ReasonCode::ServerBusy, why }
}

#[cfg(test)]
mod tests {
    use super::super::chain::{Answer, Link, Porter};
    use super::super::throttle::{Patience, Throttle};
    use super::{Hashing, PasswordFiles, PasswordLink, Passwords};
    use crate::access::password::{Hash, Scheme};
    use crate::access::{Accounts, Identity, Login, Proof};
    use crate::codec::Moment;
    use std::fs;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    #[test]
    fn j08_each_listener_knows_the_users_of_its_own_file() {
        let folder = std::env::temp_dir().join(format!("waypost-password-files-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let write = |name: &str, password: &str| {
            let hash = Hash::create(Scheme::Pbkdf2, password.as_bytes(), Some(1)).expect("a good password");
            let path = folder.join(name);
            fs::write(&path, format!("alice:{hash}\n")).expect("the temporary folder can be written");
            path
        };
        let (general, inner) = (write("general", "one"), write("inner", "two"));
        let own = [("inner", &inner), ("yard", &inner), ("same", &general)];
        let own = own.into_iter().map(|(name, path)| (name.to_owned(), path.as_path()));
        let files = PasswordFiles::load(Some(&general), own).expect("the files are good");
        assert_eq!(files.each().count(), 2);
        let mark = |listener: &str| files.at(Some(listener)).and_then(|file| file.current().mark("alice"));
        let alice = |listener: &str| Identity {
            listener: Some(listener.into()),
            ..Identity::proven("alice", Proof::Password(mark(listener).expect("she is there")))
        };
        let (outer, inner_alice) = (alice("outer"), alice("inner"));
        assert!(files.knows(&outer) && files.knows(&inner_alice));
        assert!(!files.knows(&Identity { listener: Some("outer".into()), ..inner_alice.clone() }));
        assert!(!files.are_one(&outer, &inner_alice) && !files.are_one(&inner_alice, &outer));
        assert!(files.are_one(&inner_alice, &alice("yard")) && files.are_one(&outer, &alice("same")));
        assert!(!files.are_one(&outer, &Identity { user_name: Some("bob".into()), ..outer.clone() }));
        // One file is replaced; nobody of the other one notices.
        write("inner", "three");
        files.each().for_each(|file| file.reload().expect("the file is good"));
        assert!(files.knows(&outer) && !files.knows(&inner_alice));
        fs::remove_dir_all(&folder).expect("it was ours");
    }

    #[test]
    fn whoever_waits_while_the_file_is_replaced_is_judged_by_the_new_one() {
        let path = std::env::temp_dir().join(format!("waypost-passwords-{}", std::process::id()));
        let write = |password: &str| {
            let hash = Hash::create(Scheme::Pbkdf2, password.as_bytes(), Some(10)).expect("a good password");
            fs::write(&path, format!("alice:{hash}\n")).expect("the temporary folder can be written");
        };
        write("right");
        let passwords = Arc::new(Passwords::load(&path).expect("the file is good"));
        let hashing = Arc::new(Hashing::new(1, 10));
        let link = PasswordLink::new(Arc::clone(&passwords), Arc::clone(&hashing));
        let patience = Patience { failures_max: 10, window: Duration::from_secs(1), block_max: Duration::from_secs(1) };
        let porter = Porter::new(Throttle::new(patience), || Moment::from_millis(0));
        let login = |password: &[u8]| {
            Arc::new(Login { user_name: Some("alice".into()), password: Some(password.into()), ..Login::default() })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (release, held) = channel::<()>();
            let mut nothing = Context::from_waker(Waker::noop());
            let mut before = pin!(hashing.run(|| true, move || held.recv()));
            assert!(before.as_mut().poll(&mut nothing).is_pending());
            let (mut old, mut new) = (link.ask(&porter, &login(b"right")), link.ask(&porter, &login(b"changed")));
            assert!(matches!(old.as_mut().poll(&mut nothing), Poll::Pending));
            assert!(matches!(new.as_mut().poll(&mut nothing), Poll::Pending));
            write("changed");
            passwords.reload().expect("the file is good");
            drop(release);
            assert!(matches!(old.await, Answer::Deny { why: "a wrong password", .. }));
            let Answer::Accept { identity, .. } = new.await else { panic!("the new password is right") };
            assert!(passwords.knows(&identity));
        });
        fs::remove_file(&path).expect("it was ours");
    }
}
