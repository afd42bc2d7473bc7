//! What a key accepts: its kind of value, the bounds, and the sentence for whoever wrote something else.
//! A kind checks one value by itself; what keys demand of one another is said in `rules.rs`.
//! Read `keys.rs` next, where every key names its kind.

use super::address::{Address, AddressOrOff};
use super::units::{NotUnits, ShownDuration, ShownSize, read_duration, read_size};
use crate::access::Network;
use crate::notice::Outside;
use config::{Value, ValueKind};
use std::fmt;
use std::time::Duration;
use toml::de::DeValue;

/// The kind of value that a key takes, with its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Count { least: u64, most: u64 },
    /// A number of bytes.
    Size { least: u64, most: u64 },
    /// A duration; where `or_zero`, zero is allowed too and the key's text says what it means.
    Time { least: Duration, most: Duration, or_zero: bool },
    /// `true` or `false`.
    Switch,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of some of these words, at least one and each once.
    SomeOf(&'static [&'static str]),
    /// Text of so many bytes, without control characters and without those in `refused`.
    Text { least: usize, most: usize, refused: &'static str },
    /// A path of the file system.
    Path,
    /// `IP:PORT`, `[IPv6]:PORT`, `HOST:PORT` or `unix:PATH`.
    Address,
    /// The same, or `off`.
    AddressOrOff,
    /// An IP address, or a network in the form `ADDRESS/BITS`.
    Network,
    /// Permissions of a file, in octal.
    Mode,
    /// A list of values of one kind; it may be empty.
    ListOf(&'static Self),
}

/// Most values in a list.
const LIST_LENGTH_MAX: usize = 1000;

/// Most bytes in a path; what Linux calls `PATH_MAX`.
const PATH_SIZE_MAX: usize = 4095;

/// A value as somebody wrote it, in a file, in a variable or as a flag.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    Text(String),
    /// Absent where it does not even fit 128 bits.
    Number(Option<i128>, String),
    Float(String),
    Switch(bool),
    Date(String),
    List(Vec<Self>),
    Table,
    /// The text of a variable or flag, which means whatever the key takes.
    Bare(String),
}

impl Kind {
    /// The value to keep, or what follows `key` in the error: `is 0; allowed: 1 to 65535`.
    pub(super) fn read(&self, given: &Given) -> Result<ValueKind, String> {
        let given = match given {
            Given::Bare(text) => &self.meaning(text),
            _ => given,
        };
        self.accept(given).map_err(|wrong| match wrong {
            Wrong::Form => format!("is {given}, which is not {}; write for example {}", self.noun(), self.examples()),
            Wrong::UnitMissing => format!("is {given}, which has no unit; write for example {}", self.examples()),
            Wrong::Quoted => format!("is {given}, which is text; write it without the quotation marks"),
            Wrong::Bounds => format!("is {given}; allowed: {}", self.allowed()),
            Wrong::Because(why) => format!("is {given}, {why}"),
        })
    }

    /// What a variable or a flag means as a value of this kind.
    fn meaning(&self, text: &str) -> Given {
        match self {
            Self::Count { .. } | Self::Time { .. } | Self::Size { .. } if is_decimal(text) => {
                Given::Number(text.parse().ok(), text.to_owned())
            }
            Self::Switch => match text {
                "true" => Given::Switch(true),
                "false" => Given::Switch(false),
                _ => Given::Bare(text.to_owned()),
            },
            Self::SomeOf(_) => Given::List(text.split(',').map(|item| Given::Text(item.trim().to_owned())).collect()),
            Self::ListOf(_) if text.is_empty() => Given::List(Vec::new()),
            Self::ListOf(kind) => Given::List(text.split(',').map(|item| kind.meaning(item.trim())).collect()),
            _ => Given::Text(text.to_owned()),
        }
    }

    fn accept(&self, given: &Given) -> Result<ValueKind, Wrong> {
        match (self, given) {
            (Self::Count { least, most }, Given::Number(number, _)) => within(*number, *least, *most),
            (Self::Count { .. }, Given::Text(text)) if is_decimal(text) => Err(Wrong::Quoted),
            (Self::Size { least, most }, Given::Number(number, _)) => within(*number, *least, *most),
            (Self::Size { least, most }, Given::Text(text)) => within(Some(read_size(text)?.into()), *least, *most),
            (Self::Time { least, most, or_zero }, _) => {
                let time = match given {
                    Given::Number(Some(0), _) => Duration::ZERO,
                    Given::Number(..) => return Err(Wrong::UnitMissing),
                    Given::Text(text) => read_duration(text)?,
                    _ => return Err(Wrong::Form),
                };
                let allowed = (*least..=*most).contains(&time) || (*or_zero && time.is_zero());
                if allowed { Ok(ValueKind::U64(milliseconds(time))) } else { Err(Wrong::Bounds) }
            }
            (Self::Switch, Given::Switch(switch)) => Ok(ValueKind::Boolean(*switch)),
            (Self::Switch, Given::Text(text)) if text == "true" || text == "false" => Err(Wrong::Quoted),
            (Self::OneOf(words), Given::Text(text)) if words.contains(&text.as_str()) => Ok(text.as_str().into()),
            (Self::OneOf(_), Given::Text(_)) => Err(Wrong::Bounds),
            (Self::SomeOf(words), Given::List(items)) => some_of(words, items),
            (Self::Text { least, most, refused }, Given::Text(text)) => {
                if text.len() < *least
                    || text.len() > *most
                    || text.contains(|c: char| c.is_control() || refused.contains(c))
                {
                    return Err(Wrong::Bounds);
                }
                Ok(text.as_str().into())
            }
            (Self::Path, Given::Text(text)) => {
                let allowed = (1..=PATH_SIZE_MAX).contains(&text.len()) && !text.contains(char::is_control);
                if allowed { Ok(text.as_str().into()) } else { Err(Wrong::Bounds) }
            }
            (Self::Address, Given::Text(text)) => match text.parse::<Address>() {
                Ok(_) => Ok(text.as_str().into()),
                Err(why) => Err(Wrong::Because(why.to_string())),
            },
            (Self::AddressOrOff, Given::Text(text)) => match text.parse::<AddressOrOff>() {
                Ok(_) => Ok(text.as_str().into()),
                Err(why) => Err(Wrong::Because(why.to_string())),
            },
            (Self::Network, Given::Text(text)) => match text.parse::<Network>() {
                Ok(_) => Ok(text.as_str().into()),
                Err(_) => Err(Wrong::Form),
            },
            (Self::Mode, Given::Text(text)) => {
                let octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
                if octal { Ok(text.as_str().into()) } else { Err(Wrong::Form) }
            }
            (Self::ListOf(_), Given::List(items)) if items.len() > LIST_LENGTH_MAX => Err(Wrong::Bounds),
            (Self::ListOf(kind), Given::List(items)) => {
                let values: Result<Vec<Value>, Wrong> =
                    items.iter().map(|item| kind.accept(item).map(|value| Value::new(None, value))).collect();
                values.map(ValueKind::Array)
            }
            _ => Err(Wrong::Form),
        }
    }

    /// The bounds in words, as errors and the reference say them.
    pub fn allowed(&self) -> String {
        match self {
            Self::Count { least, most } => format!("{least} to {most}"),
            Self::Size { least, most } => format!("{} to {}", ShownSize(*least), ShownSize(*most)),
            Self::Time { least, most, or_zero } => {
                let zero = if *or_zero { "0s, or " } else { "" };
                format!("{zero}{} to {}", ShownDuration(*least), ShownDuration(*most))
            }
            Self::Switch => "true or false".to_owned(),
            Self::OneOf(words) => listed(words, "or"),
            Self::SomeOf(words) => format!("a list of one or more of {}", listed(words, "and")),
            Self::Text { least, most, refused } => {
                let mut allowed = format!("{least} to {most} bytes without control characters");
                if !refused.is_empty() {
                    let characters: Vec<String> = refused.chars().map(String::from).collect();
                    let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
                    allowed.push_str(&format!(" and without {}", listed(&characters, "or")));
                }
                allowed
            }
            Self::Path => format!("1 to {PATH_SIZE_MAX} bytes without control characters"),
            Self::Address | Self::AddressOrOff | Self::Network | Self::Mode => self.examples().to_owned(),
            Self::ListOf(kind) => format!("a list of up to {LIST_LENGTH_MAX} values, each {}", kind.allowed()),
        }
    }

    /// The kind and its bounds as the reference says them.
    pub fn described(&self) -> String {
        let allowed = self.allowed();
        match self {
            Self::Count { .. } => format!("A whole number from {allowed}"),
            Self::Size { .. } => format!("A size from {allowed}"),
            Self::Time { or_zero: false, .. } => format!("A duration from {allowed}"),
            Self::Time { or_zero: true, .. } => format!("A duration: {allowed}"),
            Self::Switch => "true or false".to_owned(),
            Self::OneOf(_) => format!("One of {allowed}"),
            Self::SomeOf(words) => format!("A list of one or more of {}", listed(words, "and")),
            Self::Text { .. } => format!("Text of {allowed}"),
            Self::Path => "A path".to_owned(),
            Self::Address => "An address".to_owned(),
            Self::AddressOrOff => "An address, or \"off\"".to_owned(),
            Self::Network => "A network".to_owned(),
            Self::Mode => "Permissions".to_owned(),
            Self::ListOf(_) => format!("A list of {}", self.plural()),
        }
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Count { .. } => "a whole number",
            Self::Size { .. } => "a size in bytes",
            Self::Time { .. } => "a duration",
            Self::Switch => "true or false",
            Self::SomeOf(_) => "a list of words",
            Self::ListOf(Self::Network) => "a list of networks",
            Self::ListOf(_) => "a list of text",
            Self::Network => "an IP address or a network",
            Self::Mode => "permissions in octal",
            Self::OneOf(_) | Self::Text { .. } | Self::Path | Self::Address | Self::AddressOrOff => "text",
        }
    }

    /// Of what there is a list.
    fn plural(&self) -> &'static str {
        match self {
            Self::ListOf(Self::Path) => "paths",
            Self::ListOf(Self::Network) => "networks",
            _ => "text",
        }
    }

    fn examples(&self) -> String {
        match self {
            Self::Count { least, most } => 10.clamp(*least, *most).to_string(),
            Self::Size { .. } => r#""64KiB", "8MB" or 65536"#.to_owned(),
            Self::Time { .. } => r#""5s", "1m30s" or "250ms""#.to_owned(),
            Self::Switch => "true".to_owned(),
            Self::OneOf(words) => words.first().map_or_else(String::new, |word| format!("{word:?}")),
            Self::SomeOf(words) => format!("{words:?}"),
            Self::Text { .. } => r#""some text""#.to_owned(),
            Self::Path => r#""/var/lib/waypost""#.to_owned(),
            Self::Address => {
                r#""127.0.0.1:1883", "[::1]:1883", "localhost:1883" or "unix:/run/waypost.sock""#.to_owned()
            }
            Self::AddressOrOff => r#""127.0.0.1:18083", "[::1]:18083" or "off""#.to_owned(),
            Self::Network => r#""10.0.0.0/8", "fd00::/8" or "192.0.2.1""#.to_owned(),
            Self::Mode => r#""0660""#.to_owned(),
            Self::ListOf(Self::Network) => r#"["10.0.0.0/8", "::1"]"#.to_owned(),
            Self::ListOf(kind) => format!("[{}]", kind.examples()),
        }
    }
}

/// What is wrong with a value.
enum Wrong {
    Form,
    UnitMissing,
    Quoted,
    Bounds,
    Because(String),
}

impl From<NotUnits> for Wrong {
    fn from(not_units: NotUnits) -> Self {
        match not_units {
            NotUnits::Form => Self::Form,
            NotUnits::UnitMissing => Self::UnitMissing,
            NotUnits::TooLarge => Self::Bounds,
        }
    }
}

fn within(number: Option<i128>, least: u64, most: u64) -> Result<ValueKind, Wrong> {
    let number = number.and_then(|number| u64::try_from(number).ok()).ok_or(Wrong::Bounds)?;
    if (least..=most).contains(&number) { Ok(ValueKind::U64(number)) } else { Err(Wrong::Bounds) }
}

fn some_of(words: &[&str], items: &[Given]) -> Result<ValueKind, Wrong> {
    let mut chosen: Vec<String> = Vec::new();
    for item in items {
        let Given::Text(text) = item else { return Err(Wrong::Form) };
        if !words.contains(&text.as_str()) || chosen.contains(text) {
            return Err(Wrong::Bounds);
        }
        chosen.push(text.clone());
    }
    if chosen.is_empty() { Err(Wrong::Bounds) } else { Ok(chosen.into()) }
}

/// `"a", "b" or "c"`
fn listed(words: &[&str], conjunction: &str) -> String {
    match words {
        [] => String::new(),
        [only] => format!("{only:?}"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|word| format!("{word:?}")).collect();
            format!("{} {conjunction} {last:?}", first.join(", "))
        }
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<&DeValue<'_>> for Given {
    fn from(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => {
                Self::Number(i128::from_str_radix(number.as_str(), number.radix()).ok(), number.to_string())
            }
            DeValue::Float(number) => Self::Float(number.to_string()),
            DeValue::Boolean(switch) => Self::Switch(*switch),
            DeValue::Datetime(date) => Self::Date(date.to_string()),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::from(item.get_ref())).collect()),
            DeValue::Table(_) => Self::Table,
        }
    }
}

/// As the error shows it: cut and escaped.
impl fmt::Display for Given {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Bare(text) => write!(out, "\"{}\"", Outside::of(text)),
            Self::Number(_, written) | Self::Float(written) | Self::Date(written) => {
                write!(out, "{}", Outside::of(written))
            }
            Self::Switch(switch) => write!(out, "{switch}"),
            Self::List(items) => {
                let shown: Vec<String> = items.iter().take(10).map(Self::to_string).collect();
                let more = if items.len() > shown.len() { ", …" } else { "" };
                write!(out, "[{}{more}]", shown.join(", "))
            }
            Self::Table => out.write_str("a table"),
        }
    }
}
