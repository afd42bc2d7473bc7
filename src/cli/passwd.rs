//! `waypost passwd`: makes and changes password files, with the verbs of `mosquitto_passwd`.
//!
//! A file is replaced as a whole, by one that is complete and on disk: whoever reads it meanwhile, a running broker for
//! instance, finds the old one or the new one. Comments, order and the lines of others stay as they are.

use super::{WRONG_SETTINGS, complain, print};
use crate::access::password::{Hash, PASSWORD_SIZE_MAX, PasswordFile, Scheme, check_user_name};
use crate::notice::Outside;
use clap::{ArgAction, Args, ValueEnum};
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(
    after_help = "Without -b, -D or -U the password is asked for, or read from standard input where that is no terminal. \
Files with sha512, sha512-pbkdf2 and argon2id hashes are Mosquitto's, too. A running broker reads its file again on SIGHUP."
)]
pub(super) struct Passwd {
    /// Make a new file; one that is there already is replaced
    #[arg(short, action = ArgAction::SetTrue, conflicts_with_all = ["delete", "upgrade"])]
    create: bool,
    /// Take the password from the command line, where other users of this machine can see it
    #[arg(short, action = ArgAction::SetTrue, requires = "password", conflicts_with_all = ["delete", "upgrade"])]
    batch: bool,
    /// Delete the user
    #[arg(short = 'D', action = ArgAction::SetTrue, requires = "user", conflicts_with = "upgrade")]
    delete: bool,
    /// Replace the plain passwords of a file by hashes
    #[arg(short = 'U', action = ArgAction::SetTrue, conflicts_with = "user")]
    upgrade: bool,
    /// Kind of hash; with scram-sha-256 the user can also log in by that Authentication Method of MQTT 5
    #[arg(short = 'H', value_name = "HASH", default_value = "sha512-pbkdf2")]
    hash: Choice,
    /// Iterations: of sha512-pbkdf2 and scram-sha-256 up to 10000000, of argon2id up to 100
    #[arg(short = 'I', value_name = "COUNT")]
    iterations: Option<u32>,
    /// The password file
    file: PathBuf,
    /// The user
    #[arg(required_unless_present = "upgrade")]
    user: Option<String>,
    /// The password; only with -b
    #[arg(requires = "batch")]
    password: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Choice {
    #[value(name = "sha512")]
    Sha512,
    #[value(name = "sha512-pbkdf2")]
    Pbkdf2,
    #[value(name = "argon2id")]
    Argon2id,
    #[value(name = "scram-sha-256")]
    Scram,
}

/// Why nothing was changed.
enum Fault {
    /// What was asked for cannot be.
    Asked(String),
    /// It could be, and failed.
    Failed(String),
}

pub(super) fn run(passwd: &Passwd) -> ExitCode {
    match passwd.run() {
        Ok(said) => print(&said),
        Err(Fault::Asked(why)) => complain(&format!("error: {why}"), ExitCode::from(WRONG_SETTINGS)),
        Err(Fault::Failed(why)) => complain(&format!("error: {why}; nothing was changed"), ExitCode::FAILURE),
    }
}

impl Passwd {
    fn run(&self) -> Result<String, Fault> {
        if let Some(user) = &self.user {
            check_user_name(user).map_err(|why| Fault::Asked(format!("the user name {why}")))?;
        }
        // Asked for before the file is touched: whoever is called away leaves nothing behind.
        let line = match &self.user {
            Some(user) if !self.delete => Some(format!("{user}:{}", self.hash_of(self.password()?.as_bytes())?)),
            _ => None,
        };
        let replacement = Replacement::begin(&self.file)?;
        let old = if self.create { Vec::new() } else { replacement.old()? };
        let old = String::from_utf8(old)
            .map_err(|_| Fault::Failed(format!("{}: the file is not UTF-8", self.file.display())))?;
        let (new, said) = match (&self.user, line) {
            (Some(user), Some(line)) => (with(&old, user, &line), String::new()),
            (Some(user), None) => (self.without(&old, user)?, String::new()),
            (None, _) => self.upgraded(&old)?,
        };
        PasswordFile::parse(&self.file.display().to_string(), new.as_bytes())
            .map_err(|errors| Fault::Failed(errors.to_string()))?;
        replacement.finish(new.as_bytes())?;
        Ok(said)
    }

    fn hash_of(&self, password: &[u8]) -> Result<Hash, Fault> {
        let scheme = match self.hash {
            Choice::Sha512 => Scheme::Sha512,
            Choice::Pbkdf2 => Scheme::Pbkdf2,
            Choice::Argon2id => Scheme::Argon2id,
            Choice::Scram => Scheme::Scram,
        };
        Hash::create(scheme, password, self.iterations).map_err(|why| Fault::Asked(why.to_owned()))
    }

    fn password(&self) -> Result<String, Fault> {
        match &self.password {
            Some(password) => Ok(password.clone()),
            None => ask().map_err(|error| Fault::Failed(format!("cannot read the password: {error}"))),
        }
    }

    fn without(&self, old: &str, user: &str) -> Result<String, Fault> {
        let new: String = old.split_inclusive('\n').filter(|line| !is_of(line, user)).collect();
        if new.len() == old.len() {
            let user = Outside::of(user);
            return Err(Fault::Failed(format!("{}: there is no user \"{user}\"", self.file.display())));
        }
        Ok(new)
    }

    /// Lines that hold a hash already stay as they are; blank ones go.
    fn upgraded(&self, old: &str) -> Result<(String, String), Fault> {
        let (mut new, mut count) = (String::new(), 0);
        for (number, line) in (1..).zip(old.lines()) {
            if line.is_empty() {
                continue;
            }
            let fault = |why: &str| Fault::Failed(format!("{}:{number}: {why}", self.file.display()));
            if !line.starts_with('#') {
                let (user, password) =
                    line.split_once(':').ok_or_else(|| fault("the line has no colon between user and password"))?;
                if !password.starts_with('$') {
                    let hash = self.hash_of(password.as_bytes()).map_err(|cause| match cause {
                        Fault::Asked(why) | Fault::Failed(why) => fault(&why),
                    })?;
                    new.push_str(&format!("{user}:{hash}\n"));
                    count += 1;
                    continue;
                }
                if let Err(why) = Hash::parse(password) {
                    return Err(fault(&format!("the password begins with $, as hashes do, but {why}")));
                }
            }
            new.push_str(line);
            new.push('\n');
        }
        Ok((new, format!("{count} passwords replaced by hashes\n")))
    }
}

/// The file with this line in place of the user's, or behind all others.
fn with(old: &str, user: &str, line: &str) -> String {
    let (mut new, mut is_in) = (String::new(), false);
    for old_line in old.split_inclusive('\n') {
        if !is_of(old_line, user) {
            new.push_str(old_line);
            if !old_line.ends_with('\n') {
                new.push('\n');
            }
        } else if !is_in {
            new.push_str(&format!("{line}\n"));
            is_in = true;
        }
    }
    if !is_in {
        new.push_str(&format!("{line}\n"));
    }
    new
}

fn is_of(line: &str, user: &str) -> bool {
    line.strip_prefix(user).is_some_and(|rest| rest.starts_with(':'))
}

/// A new file beside the old one, which takes its place at the end. As long as it is there, nobody else begins one.
struct Replacement {
    path: PathBuf,
    beside: PathBuf,
    file: File,
    is_done: bool,
}

impl Replacement {
    fn begin(path: &Path) -> Result<Self, Fault> {
        // A link is followed, not replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Fault::Failed(format!(
                "{} is there: somebody else is changing the password file; if nobody is, remove it",
                beside.display()
            )),
            _ => Fault::Failed(format!("{}: cannot be written: {error}", beside.display())),
        })?;
        Ok(Self { path, beside, file, is_done: false })
    }

    fn old(&self) -> Result<Vec<u8>, Fault> {
        let mut old = Vec::new();
        File::open(&self.path).and_then(|mut file| file.read_to_end(&mut old)).map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::NotFound { "; -c makes a new one" } else { "" };
            Fault::Failed(format!("{}: cannot be read: {error}{hint}", self.path.display()))
        })?;
        Ok(old)
    }

    /// What is written is on disk before it takes the old file's place. Whoever could read the old one, its owner and
    /// perhaps its group, can read the new one.
    fn finish(mut self, new: &[u8]) -> Result<(), Fault> {
        let done = (|| {
            if let Ok(old) = fs::metadata(&self.path) {
                let own = self.file.metadata()?;
                if (old.uid(), old.gid()) != (own.uid(), own.gid()) {
                    fchown(&self.file, Some(old.uid()), Some(old.gid()))?;
                }
                self.file.set_permissions(fs::Permissions::from_mode((old.mode() & 0o640) | 0o600))?;
            }
            self.file.write_all(new)?;
            self.file.sync_all()?;
            fs::rename(&self.beside, &self.path)?;
            self.is_done = true;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        })();
        done.map_err(|error: io::Error| Fault::Failed(format!("{}: cannot be written: {error}", self.path.display())))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_done {
            // What cannot be removed is named by the next one who finds it.
            let _ = fs::remove_file(&self.beside);
        }
    }
}

/// Twice from the terminal without showing it; or a line of standard input, where a second one must say the same.
fn ask() -> io::Result<String> {
    let stdin = io::stdin();
    let is_terminal = isatty(&stdin);
    let _quiet = is_terminal.then(Quiet::begin).transpose()?;
    let mut lines = stdin.lock();
    let mut ask = |prompt: &str| -> io::Result<String> {
        if is_terminal {
            let mut out = io::stderr().lock();
            write!(out, "{prompt}: ")?;
            out.flush()?;
        }
        let mut line = String::new();
        (&mut lines).take(PASSWORD_SIZE_MAX as u64 + 3).read_line(&mut line)?;
        if is_terminal {
            writeln!(io::stderr().lock())?;
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let password = ask("Password")?;
    let again = ask("Again")?;
    if again == password || (!is_terminal && again.is_empty()) {
        Ok(password)
    } else {
        Err(io::Error::other("the two passwords are not the same"))
    }
}

/// A terminal that shows nothing of what is typed, until this goes.
struct Quiet(rustix::termios::Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
