//! Rule files become rights: the one place that opens them, for the node and for the commands that explain.
//! What the rules mean is `crate::access`'s business.

use crate::access::{Access, Faults, Form, RULES_SIZE_MAX, Rules, Source, Subscribing};
use crate::config::{Acl, Listener, SubscribePolicy};
use crate::notice::Outside;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why there are no rights. Whatever was in force before still is.
#[derive(Debug, Error)]
pub enum AclError {
    #[error("the rule file {path} cannot be read: {}", reason(error))]
    Read { path: String, error: io::Error },
    /// One line for each fault.
    #[error("{0}")]
    Faults(#[from] Faults),
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; see acl.files".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder; name a file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// The rights that a configuration names: everything is allowed when it names no file.
pub fn load(acl: &Acl) -> Result<Access, AclError> {
    let subscribing = match acl.subscribe {
        SubscribePolicy::Strict => Subscribing::Strict,
        SubscribePolicy::Overlap => Subscribing::Overlap,
        SubscribePolicy::Lenient => Subscribing::Lenient,
    };
    if acl.files.is_empty() {
        return Ok(Access::allow_all().subscribing(subscribing));
    }
    Ok(Access::with_rules(read(&acl.files)?).subscribing(subscribing))
}

/// What the rules say and probably do not mean, one sentence each.
/// `listeners` are the names that there are.
pub fn notes(access: &Access, listeners: &[String]) -> Vec<String> {
    let Some(rules) = access.rules() else { return Vec::new() };
    let unknown: BTreeSet<&str> =
        rules.listeners().filter(|name| !listeners.iter().any(|known| known == name)).collect();
    let unknown = unknown.into_iter().map(|name| {
        format!("rules ask for a listener \"{}\", which there is none of; see listener.name", Outside::of(name))
    });
    rules.notes().map(str::to_owned).chain(unknown).collect()
}

/// The names of listeners, as rules ask for them.
pub fn names(listeners: &[Listener]) -> Vec<String> {
    listeners.iter().map(|listener| listener.name.clone().unwrap_or_else(|| listener.address.to_string())).collect()
}

/// Reads and compiles rule files.
pub fn read(paths: &[PathBuf]) -> Result<Rules, AclError> {
    let mut files = Vec::new();
    for path in paths {
        let name = Outside::of(path.as_os_str().as_encoded_bytes()).to_string();
        let text = read_bounded(path).map_err(|error| AclError::Read { path: name.clone(), error })?;
        files.push((name, text));
    }
    let sources: Vec<Source<'_>> =
        files.iter().map(|(name, text)| Source { name, text, form: Form::of(name) }).collect();
    Ok(Rules::read(&sources)?)
}

/// One byte more than allowed is enough to be refused.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(RULES_SIZE_MAX as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}
