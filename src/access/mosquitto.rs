//! The language of mosquitto's `acl_file`, read as mosquitto 2.0 reads it; what that refuses to start with is refused here.
//!
//! ```text
//! # Until the first "user", rules are for Clients without a user name.
//! topic [read|write|readwrite|deny] FILTER     readwrite when there is no such word
//! user NAME                                    the rules that follow are this user's
//! pattern [read|write|readwrite|deny] FILTER   for everyone; %c is the Client Identifier, %u the user name
//! ```
//!
//! Two differences, neither of which gives a right: a byte order mark is skipped, and a placeholder never stands for more or less
//! than a part of one level (mosquitto puts a name with a `/` or an empty one into the filter as it is).

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::filter::{self, Level, Placeholders};
use super::rules::{Draft, Effect, Layer, Line, Making, Named, PUBLISH, RECEIVE, Source, Subject};
use super::trie::RightBits;
use crate::notice::Outside;

/// What C calls white space.
const SPACE: &[char] = &[' ', '\t', '\n', '\x0b', '\x0c', '\r'];

pub(super) fn read(source: &Source<'_>, making: &mut Making) {
    let mut reading = Reading { source, user: None, users: Named::default(), anonymous: None, patterns: None };
    let bom: &[u8] = b"\xef\xbb\xbf";
    let text = source.text.strip_prefix(bom).unwrap_or(source.text);
    let mut start = source.text.len().saturating_sub(text.len());
    for (number, bytes) in text.split(|byte| *byte == b'\n').enumerate() {
        let end = start.saturating_add(bytes.len());
        let line = Line { number: narrow(number).saturating_add(1), start: narrow(start), end: narrow(end) };
        if let Err(message) = reading.line(bytes, line, making) {
            making.faults.push(format!("{}:{}", Outside::of(source.name), line.number), message);
        }
        start = end.saturating_add(1);
    }
    let Reading { users, anonymous, patterns, .. } = reading;
    making.layers.push(Layer::Mosquitto { users, anonymous, patterns });
}

/// The size of a file is bounded far below.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

struct Reading<'a> {
    source: &'a Source<'a>,
    /// Whose rules come next.
    user: Option<String>,
    users: Named<u32>,
    anonymous: Option<u32>,
    patterns: Option<u32>,
}

impl Reading<'_> {
    /// The error says what is wrong with this line.
    fn line(&mut self, bytes: &[u8], line: Line, making: &mut Making) -> Result<(), String> {
        // A comment may be in any encoding.
        if bytes.first() == Some(&b'#') {
            return Ok(());
        }
        let text = match str::from_utf8(bytes) {
            Ok(text) => text.trim_end_matches(SPACE),
            Err(_) => return Err("is not UTF-8; topics and user names are".to_owned()),
        };
        // Words end at a space and at nothing else.
        let text = text.trim_start_matches(' ');
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "" => Ok(()),
            "topic" => self.rule(rest, Placeholders::None, line, making),
            "pattern" => self.rule(rest, Placeholders::Anywhere, line, making),
            "user" => self.user(rest),
            _ if word.starts_with('#') => Err("is no comment: # must be the first character of the line".to_owned()),
            _ => Err(format!("unknown word \"{}\"; a line begins with topic, user, pattern or #", Outside::of(word))),
        }
    }

    fn user(&mut self, rest: &str) -> Result<(), String> {
        let name = rest.trim_matches(SPACE);
        if name.is_empty() {
            return Err("the user name is missing; write user NAME".to_owned());
        }
        if name.contains('\0') {
            return Err("the user name holds the character U+0000".to_owned());
        }
        self.user = Some(name.to_owned());
        Ok(())
    }

    fn rule(&mut self, rest: &str, placeholders: Placeholders, line: Line, making: &mut Making) -> Result<(), String> {
        let rest = rest.trim_start_matches(' ');
        let (effect, rights, filter) = match rest.split_once(' ') {
            Some((word, filter)) if !filter.is_empty() => {
                let (effect, rights) = access(word)?;
                (effect, rights, filter.trim_matches(SPACE))
            }
            _ if rest.is_empty() => return Err("the topic is missing".to_owned()),
            _ => (Effect::Allow, PUBLISH | RECEIVE, rest),
        };
        let levels = filter::parse(filter, placeholders)
            .map_err(|fault| format!("the topic \"{}\" {fault}", Outside::of(filter)))?;
        self.note(filter, &levels, placeholders, line, making);
        let scope = match placeholders {
            Placeholders::None => self.own_list(making),
            Placeholders::Anywhere | Placeholders::WholeLevels => {
                *self.patterns.get_or_insert_with(|| making.scope(Subject::Everyone))
            }
        };
        making.add(scope, &Draft { effect, rights, levels: &levels, line, condition: None });
        Ok(())
    }

    fn own_list(&mut self, making: &mut Making) -> u32 {
        match &self.user {
            None => *self.anonymous.get_or_insert_with(|| making.scope(Subject::Anonymous)),
            Some(user) => {
                let subject = || Subject::User(user.as_str().into());
                *self.users.entry_ref(user.as_str()).or_insert_with(|| making.scope(subject()))
            }
        }
    }

    /// What mosquitto takes and is probably a mistake.
    fn note(&self, filter: &str, levels: &[Level], placeholders: Placeholders, line: Line, making: &mut Making) {
        let has_names = levels.iter().any(|level| matches!(level, Level::Template(_)));
        let note = match placeholders {
            _ if filter.starts_with("$share/") => "never matches: write the filter without $share and the group",
            Placeholders::None if filter.contains("%c") || filter.contains("%u") => {
                "takes %c and %u as text; did you mean pattern?"
            }
            Placeholders::Anywhere if !has_names => "is a pattern without %c or %u; it is for everyone",
            _ => return,
        };
        let Source { name, .. } = self.source;
        making.notes.push(format!("{}:{}: \"{}\" {note}", Outside::of(name), line.number, Outside::of(filter)));
    }
}

fn access(word: &str) -> Result<(Effect, RightBits), String> {
    match word {
        "read" => Ok((Effect::Allow, RECEIVE)),
        "write" => Ok((Effect::Allow, PUBLISH)),
        "readwrite" => Ok((Effect::Allow, PUBLISH | RECEIVE)),
        "deny" => Ok((Effect::Deny, PUBLISH | RECEIVE)),
        _ => Err(format!(
            "unknown access \"{}\"; write read, write, readwrite or deny (a topic with spaces needs one of them)",
            Outside::of(word)
        )),
    }
}
