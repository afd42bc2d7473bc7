//! Sentences about what is not known or not TOML: they name the nearest name, or where the name belongs, or what there is.
//! Names from outside are cut and escaped, and comparing them takes bounded time.
//! Read `layers.rs` for where these sentences are said.

use super::keys::{SECTIONS, Section};
use crate::notice::Outside;
use toml::de::DeValue;

/// A key that its section does not have.
pub(super) fn unknown_key(section: &Section, name: &str) -> String {
    let header = header(section);
    let unknown = format!("unknown key \"{}\" in {header}", Outside::of(name));
    if let Some(elsewhere) = elsewhere(name) {
        return format!("{unknown}; it belongs in {elsewhere}");
    }
    match nearest(name, section.keys.iter().map(|key| key.name)) {
        Some(nearest) => format!("{unknown}; did you mean \"{nearest}\"?"),
        None => {
            let known: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
            format!("{unknown}; known keys: {}", known.join(", "))
        }
    }
}

/// A name at the top of a file that is no section.
pub(super) fn unknown_section(name: &str, value: &DeValue<'_>) -> String {
    let is_section = match value {
        DeValue::Table(_) => true,
        DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
        _ => false,
    };
    let shown = Outside::of(name);
    if !is_section {
        return match elsewhere(name) {
            Some(elsewhere) => format!("unknown key \"{shown}\" outside of a section; it belongs in {elsewhere}"),
            None => format!("unknown key \"{shown}\" outside of a section; sections: {}", headers()),
        };
    }
    let nearest = nearest(name, SECTIONS.iter().map(|section| section.name));
    match nearest.and_then(|nearest| SECTIONS.iter().find(|section| section.name == nearest)) {
        Some(section) => format!("unknown section \"{shown}\"; did you mean {}?", header(section)),
        None => format!("unknown section \"{shown}\"; known sections: {}", headers()),
    }
}

/// The header of the section that has a key of this name.
fn elsewhere(name: &str) -> Option<String> {
    let section = SECTIONS.iter().find(|section| section.keys.iter().any(|key| key.name == name));
    section.map(header)
}

/// `[limits]` or `[[listener]]`
pub(super) fn header(section: &Section) -> String {
    match section.list_max {
        None => format!("[{}]", section.name),
        Some(_) => format!("[[{}]]", section.name),
    }
}

fn headers() -> String {
    let headers: Vec<String> = SECTIONS.iter().map(header).collect();
    headers.join(", ")
}

/// The name that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A name that is longer than any of ours is no slip of the pen, and comparing costs time.
    if name.len() > 80 {
        return None;
    }
    let scored = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, nearest) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance * 5 <= name.len().max(nearest.len()) * 2).then_some(nearest)
}

/// How the parser calls a key that is there twice.
pub(super) const DUPLICATE: &str = "duplicate key";

/// A fault of the parser in our words, with what stands there.
pub(super) fn syntax(message: &str, found: &str) -> String {
    let found = found.lines().next().unwrap_or_default();
    let shown = Outside::of(found);
    match message {
        DUPLICATE => format!("duplicate key \"{shown}\"; each key may be set once"),
        _ if NO_VALUE.iter().any(|begin| message.starts_with(begin)) => match found {
            "" => "not TOML: the value is missing".to_owned(),
            _ => format!("not TOML: \"{shown}\" is no value; text needs quotation marks"),
        },
        _ if found.is_empty() => format!("not TOML: {}", Outside::of(message)),
        _ => format!("not TOML: {}, found \"{shown}\"", Outside::of(message)),
    }
}

/// How the parser begins when it finds something that is no value: often text without quotation marks.
const NO_VALUE: &[&str] =
    &["string values must be quoted", "missing value", "invalid value", "invalid float", "invalid boolean"];

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["receive_maximum", "in_flight_max", "level"];
        let nearest = |name| nearest(name, known.into_iter());
        assert_eq!(nearest("recieve_maximum"), Some("receive_maximum"));
        assert_eq!(nearest("in_flight"), Some("in_flight_max"));
        assert_eq!(nearest("lvl"), Some("level"));
        assert_eq!(nearest(""), None);
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(&"level".repeat(1000)), None);
    }
}
