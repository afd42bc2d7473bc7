//! A rule's Topic Filter as levels: literal, `+`, `#`, or one in which the Client's own names stand.
//! What is no filter is refused here, with the reason; which topics a filter means is said in `trie.rs`.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

/// Most bytes of a filter: what fits into a packet [MQTT-4.7.3-3].
const FILTER_SIZE_MAX: usize = 65_535;

/// Most levels of a filter. Mosquitto allows 200 slashes.
const LEVELS_MAX: usize = 201;

/// One level of a rule's filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Literal(Box<[u8]>),
    /// `+`: any one level.
    Plus,
    /// `#`: any levels, or none. Always the last.
    Many,
    /// A level with placeholders.
    Template(Box<[Part]>),
}

/// What a level with placeholders is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Text(Box<[u8]>),
    /// `%c`
    Client,
    /// `%u`
    User,
}

/// Where `%c` and `%u` stand for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placeholders {
    /// Nowhere: they are text.
    None,
    /// Anywhere in a level, as in mosquitto's patterns.
    Anywhere,
    /// Only as a whole level; elsewhere they are an error.
    WholeLevels,
}

/// The levels of a filter. The error says what is wrong with it, as what follows "the filter".
pub(super) fn parse(filter: &str, placeholders: Placeholders) -> Result<Vec<Level>, String> {
    if filter.is_empty() {
        return Err("is empty".to_owned());
    }
    if filter.len() > FILTER_SIZE_MAX {
        return Err(format!("is longer than allowed: up to {FILTER_SIZE_MAX} bytes"));
    }
    if filter.contains('\0') {
        return Err("holds the character U+0000, which no topic has".to_owned());
    }
    let mut levels = Vec::new();
    for text in filter.split('/') {
        if levels.last() == Some(&Level::Many) {
            return Err("has levels after #, which must be the last".to_owned());
        }
        if levels.len() >= LEVELS_MAX {
            return Err(format!("has more levels than allowed: up to {LEVELS_MAX}"));
        }
        levels.push(level(text, placeholders)?);
    }
    Ok(levels)
}

fn level(text: &str, placeholders: Placeholders) -> Result<Level, String> {
    match text {
        "#" => return Ok(Level::Many),
        "+" => return Ok(Level::Plus),
        _ if text.contains(['+', '#']) => return Err("has a + or # that is not a whole level".to_owned()),
        _ => {}
    }
    let parts = match placeholders {
        Placeholders::None => Vec::new(),
        Placeholders::Anywhere | Placeholders::WholeLevels => parts(text),
    };
    match parts.as_slice() {
        [] | [Part::Text(_)] => Ok(Level::Literal(text.as_bytes().into())),
        [_, _, ..] if placeholders == Placeholders::WholeLevels => {
            Err("has a placeholder, %c or %u, that is not a whole level".to_owned())
        }
        _ => Ok(Level::Template(parts.into())),
    }
}

/// Splits a level at its placeholders; neighbouring text is one part.
fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((at, placeholder)) = next_placeholder(rest) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        if !before.is_empty() {
            parts.push(Part::Text(before.as_bytes().into()));
        }
        parts.push(placeholder);
        rest = after.get(2..).unwrap_or_default();
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.as_bytes().into()));
    }
    parts
}

fn next_placeholder(text: &str) -> Option<(usize, Part)> {
    let client = text.find("%c").map(|at| (at, Part::Client));
    let user = text.find("%u").map(|at| (at, Part::User));
    [client, user].into_iter().flatten().min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::{Level, Part, Placeholders, parse};

    fn literal(text: &str) -> Level {
        Level::Literal(text.as_bytes().into())
    }

    fn text(text: &str) -> Part {
        Part::Text(text.as_bytes().into())
    }

    #[test]
    fn filters_become_levels() {
        let anywhere = |filter| parse(filter, Placeholders::Anywhere).expect(filter);
        assert_eq!(anywhere("a/+/#"), [literal("a"), Level::Plus, Level::Many]);
        assert_eq!(anywhere("/"), [literal(""), literal("")]);
        assert_eq!(anywhere("%c"), [Level::Template([Part::Client].into())]);
        assert_eq!(
            anywhere("x/dev-%c%u-%/y"),
            [literal("x"), Level::Template([text("dev-"), Part::Client, Part::User, text("-%")].into()), literal("y")]
        );
        assert_eq!(anywhere("%%c"), [Level::Template([text("%"), Part::Client].into())]);
        assert_eq!(parse("%c/x%u", Placeholders::None), Ok(vec![literal("%c"), literal("x%u")]));
        assert_eq!(
            parse("%u/%", Placeholders::WholeLevels),
            Ok(vec![Level::Template([Part::User].into()), literal("%")])
        );
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for filter in ["", "a+", "a/#/b", "#/", "a#", "##", "a\0", &"/".repeat(201), &"a".repeat(65_536)] {
            assert!(parse(filter, Placeholders::Anywhere).is_err(), "{filter}");
        }
        assert!(parse(&"/".repeat(200), Placeholders::Anywhere).is_ok());
        for filter in ["dev-%c", "%c%u", "a/%count"] {
            assert!(parse(filter, Placeholders::WholeLevels).is_err(), "{filter}");
        }
    }
}
