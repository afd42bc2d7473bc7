//! Rule files become rights: the one place that opens them, for the node and for the commands that explain.
//! What the rules mean is `crate::access`'s business.

use crate::access::{Access, Faults, Form, RULES_SIZE_MAX, Rules, Source, Subscribing};
use crate::codec::Moment;
use crate::config::{Acl, Config, Listener, SubscribePolicy};
use crate::files::{self, Unread};
use crate::notice::Outside;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::SystemTime;
use thiserror::Error;

/// Why there are no rights. Whatever was in force before still is.
#[derive(Debug, Error)]
pub enum AclError {
    #[error("the rule file {path} cannot be read: {unread}{}", hint(unread))]
    Read { path: String, unread: Unread },
    /// One line for each fault.
    #[error("{0}")]
    Faults(#[from] Faults),
}

fn hint(unread: &Unread) -> &'static str {
    if unread.is_missing() { "; see acl.files and listener.acl_files" } else { "" }
}

/// Which rule files a configuration names: those for all listeners, and those of listeners that have their own.
#[derive(Clone, Debug)]
pub struct RuleFiles {
    acl: Acl,
    own: Vec<(String, Vec<PathBuf>)>,
    /// The names of all listeners.
    listeners: Vec<String>,
}

impl RuleFiles {
    pub fn of(config: &Config) -> Self {
        let own = |listener: &Listener| Some((listener.called(), listener.acl_files.clone()?));
        Self {
            acl: config.acl.clone(),
            own: config.listeners.iter().filter_map(own).collect(),
            listeners: config.listeners.iter().map(Listener::called).collect(),
        }
    }

    /// Reads and compiles all of them: there is no half of the rights. Where no file is named, everything is allowed.
    /// `now` is the hall's, of this moment.
    pub fn load(&self, now: Moment) -> Result<Access, AclError> {
        let mut known = Vec::new();
        let general = read_once(&self.acl.files, &mut known)?;
        let mut access = general.map_or_else(Access::allow_all, Access::with_rules);
        for (listener, files) in &self.own {
            access = access.at_listener(listener, read_once(files, &mut known)?);
        }
        Ok(at_this_time(access, now).subscribing(match self.acl.subscribe {
            SubscribePolicy::Strict => Subscribing::Strict,
            SubscribePolicy::Overlap => Subscribing::Overlap,
            SubscribePolicy::Lenient => Subscribing::Lenient,
        }))
    }

    /// The names of all listeners, as rules ask for them.
    pub fn listeners(&self) -> &[String] {
        &self.listeners
    }

    /// What the rules say and probably do not mean, one sentence each.
    pub fn notes(&self, access: &Access) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        let mut note = |new: String| {
            if !notes.contains(&new) {
                notes.push(new);
            }
        };
        for (listener, rules) in access.rules() {
            rules.notes().for_each(|text| note(text.to_owned()));
            let holds_at = |name: &str| match listener {
                Some(listener) => name == listener,
                None => {
                    self.listeners.iter().any(|known| known == name) && !self.own.iter().any(|(own, _)| own == name)
                }
            };
            let unknown: BTreeSet<&str> = rules.listeners().filter(|name| !holds_at(name)).collect();
            for name in unknown {
                let shown = Outside::of(name);
                note(if self.listeners.iter().any(|known| known == name) {
                    format!("rules that are not for the listener \"{shown}\" ask for it; see listener.acl_files")
                } else {
                    format!("rules ask for a listener \"{shown}\", which there is none of; see listener.name")
                });
            }
        }
        notes
    }
}

/// These rights know by which time bans end.
#[expect(clippy::disallowed_methods, reason = "bans end by the clock on the wall")]
pub fn at_this_time(access: Access, now: Moment) -> Access {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    access.at_time(now, u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// No files are no rules. The same files are the same rules, whoever names them.
fn read_once<'a>(
    files: &'a [PathBuf],
    known: &mut Vec<(&'a [PathBuf], Option<Rules>)>,
) -> Result<Option<Rules>, AclError> {
    if let Some((_, rules)) = known.iter().find(|(others, _)| *others == files) {
        return Ok(rules.clone());
    }
    let rules = if files.is_empty() { None } else { Some(read(files)?) };
    known.push((files, rules.clone()));
    Ok(rules)
}

/// Reads and compiles rule files.
pub fn read(paths: &[PathBuf]) -> Result<Rules, AclError> {
    let mut read = Vec::new();
    for path in paths {
        let name = Outside::of(path.as_os_str().as_encoded_bytes()).to_string();
        let text = files::read_whole(path, RULES_SIZE_MAX as u64);
        let text = text.map_err(|unread| AclError::Read { path: name.clone(), unread })?;
        read.push((name, text));
    }
    let sources: Vec<Source<'_>> =
        read.iter().map(|(name, text)| Source { name, text, form: Form::of(name) }).collect();
    Ok(Rules::read(&sources)?)
}
