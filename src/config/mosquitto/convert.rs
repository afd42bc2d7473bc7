//! A translated mosquitto.conf as a file of ours: what means nothing here as comments, then each section with its keys.
//! It decides nothing; read by our own reader, the text gives the configuration that the mosquitto.conf gives.
//! Read `../layers.rs` for how both are read.

use super::super::keys::{SECTIONS, Section};
use super::super::kind::Given;
use super::super::unknown::header;
use super::{Setting, Translation};
use crate::notice::Outside;
use std::fmt::Write;

/// The text of the file. `name` is what it was made from.
pub(in crate::config) fn to_toml(translation: &Translation, name: &str) -> String {
    let mut out = format!("# Made from {} by `waypost convert`.\n", Outside::of(name));
    let differing: Vec<_> = translation.findings.iter().filter(|finding| finding.differs()).collect();
    if !differing.is_empty() {
        out.push_str("#\n# What is different from mosquitto:\n");
    }
    for finding in differing {
        out.push_str(&format!("#   {finding}\n"));
    }
    for section in SECTIONS {
        match section.list_max {
            None => write_table(&mut out, section, None, translation),
            Some(_) => {
                let tables = translation.settings.iter().filter(|setting| setting.section == section.name);
                let count = tables.filter_map(|setting| setting.index).max().map_or(0, |last| last + 1);
                (0..count).for_each(|index| write_table(&mut out, section, Some(index), translation));
            }
        }
    }
    out
}

/// The keys in the order of the reference.
fn write_table(out: &mut String, section: &Section, index: Option<usize>, translation: &Translation) {
    let is_here = |setting: &&Setting| setting.section == section.name && setting.index == index;
    let mut settings: Vec<_> = translation.settings.iter().filter(is_here).collect();
    if settings.is_empty() {
        return;
    }
    settings.sort_by_key(|setting| section.keys.iter().position(|key| key.name == setting.key));
    writeln!(out, "\n{}", header(section)).expect("writing to a String does not fail");
    for setting in settings {
        writeln!(out, "{} = {}", setting.key, written(&setting.value)).expect("writing to a String does not fail");
    }
}

/// As TOML writes it.
fn written(value: &Given) -> String {
    match value {
        Given::Text(text) | Given::Bare(text) => quoted(text),
        Given::Number(_, written) | Given::Float(written) | Given::Date(written) => written.clone(),
        Given::Switch(switch) => switch.to_string(),
        Given::List(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Given::Table => "{}".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}
