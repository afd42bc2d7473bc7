//! The text of `config/reference.toml`: every key with its text, bounds and default, made from the table.
//! It is valid TOML, and stays so when any of its settings is uncommented; `tests/config.rs` checks both, and that the file is current.
//! Read `keys.rs` for where the words come from.

use super::keys::{Fallback, Key, SECTIONS, Section};
use super::kind::Kind;
use super::layers::variable_name;
use super::unknown::header;
use std::fmt::Write;

const INTRODUCTION: &str = "\
# Every setting of Waypost with its default. This file is made from src/config/keys.rs; edit that one.
#
# To change a setting, write its line into your own file, under its section, without the #.
# Later layers win: defaults, then the file that -c names, then the files FILE.d/*.toml in the order of their
# names, then variables of the environment, then flags. Variables are named WAYPOST__SECTION__KEY; of a list, with the
# number of the table, from 0: WAYPOST__LISTENER__0__ADDRESS. In a variable, text goes without quotation marks and a
# list is separated by commas. What is unknown, wrong or out of bounds is an error in every layer.
#
# A size has a unit (B, KiB, MiB, GiB, TiB by 1024, or KB, MB, GB, TB by 1000) or is a number of bytes. A duration has
# units (d, h, m, s, ms), the larger ones first, as in 1m30s.
";

/// The whole reference.
pub fn reference() -> String {
    let mut out = INTRODUCTION.to_owned();
    for section in SECTIONS {
        write_section(&mut out, section).expect("writing to a String does not fail");
    }
    out
}

fn write_section(out: &mut String, section: &Section) -> std::fmt::Result {
    writeln!(out)?;
    write_docs(out, section.docs)?;
    let comment = match section.list_max {
        None => "",
        Some(most) => {
            writeln!(out, "# Up to {most} of them.")?;
            "#"
        }
    };
    writeln!(out, "{comment}{}", header(section))?;
    section.keys.iter().try_for_each(|key| write_key(out, section, key))
}

fn write_key(out: &mut String, section: &Section, key: &Key) -> std::fmt::Result {
    writeln!(out)?;
    write_docs(out, key.docs)?;
    let (fallback, shown) = match key.fallback {
        Fallback::Value(value) => (format!("Default: {}.", plain(key.kind, value)), plain(key.kind, value)),
        Fallback::Absent { example } => ("Default: not set.".to_owned(), example.to_owned()),
        Fallback::Required { example } => ("Must be set.".to_owned(), example.to_owned()),
    };
    writeln!(out, "# {}. {fallback}", key.kind.described())?;
    writeln!(out, "# {}", variable_name(section, key))?;
    writeln!(out, "#{} = {shown}", key.name)
}

/// Numbers as the errors write them, without the underscores of the table.
fn plain(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Count { .. } => value.replace('_', ""),
        _ => value.to_owned(),
    }
}

fn write_docs(out: &mut String, docs: &[&str]) -> std::fmt::Result {
    docs.iter().try_for_each(|line| writeln!(out, "#{line}"))
}
