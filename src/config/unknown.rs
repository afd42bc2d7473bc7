//! Sentences about what is not known or not TOML: they name the nearest name, or where the name belongs, or what there is.
//! Names from outside are cut and escaped, and comparing them takes bounded time.
//! Read `layers.rs` for where these sentences are said.

use super::keys::{SECTIONS, Section};
use crate::notice::Outside;
pub(super) use crate::notice::{DUPLICATE, nearest, syntax};
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
