//! Our own rule language, TOML: users, groups and roles with what they may do. `config/acl.toml` is the example.
//!
//! ```toml
//! [user.alice]
//! roles = ["operator"]
//!
//! [group.line-3]
//! users = ["bob", "carol"]
//! allow = { publish = "plant/line-3/#" }
//!
//! [role.operator]
//! allow = [
//!     { subscribe = "plant/#" },
//!     { publish = "plant/+/set", qos_max = 1, retain = false, address = "10.0.0.0/8", rate = 10 },
//! ]
//! deny = { all = "plant/+/secret/#" }
//!
//! [everyone]                       # and [anonymous]: Clients without a user name
//! allow = { all = "dev/%c/#" }
//!
//! [[ban]]                          # of a user, a client_id or an address, for ever or until a moment
//! user = "mallory"
//! until = 2026-12-31T23:59:59Z
//! reason = "sends too much"
//! ```
//!
//! Everything that is a Client's adds up: its own rules, those of its groups and roles, and those for everyone. A `deny` of any of
//! them wins; what nobody allows is denied.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::ban::{Ban, Banned, Until, unix_ms};
use super::filter::{self, Placeholders};
use super::rules::{Condition, Draft, Effect, Layer, Line, Making, Named, PUBLISH, RECEIVE, Source, Subject};
use super::trie::RightBits;
use crate::codec::Qos;
use crate::notice::{DUPLICATE, Outside, nearest, syntax};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most messages in a second that a rule can be bounded to.
const RATE_MAX: u32 = 1_000_000;

const SECTIONS: &[&str] = &["user", "group", "role", "everyone", "anonymous", "ban"];
const BANNED: &[&str] = &["user", "client_id", "address"];
const OF_A_BAN: &[&str] = &["user", "client_id", "address", "until", "reason"];
const RIGHTS: &[&str] = &["publish", "subscribe", "all"];
const CONDITIONS: &[&str] = &["listener", "address", "qos_max", "retain", "rate"];

pub(super) fn read(source: &Source<'_>, making: &mut Making) {
    let mut text = Text::of(source);
    let content = match str::from_utf8(source.text) {
        Ok(content) => content,
        Err(error) => {
            text.fault(error.valid_up_to(), "is not UTF-8; save the file as UTF-8".to_owned());
            return text.tell(making);
        }
    };
    let (document, faults) = DeTable::parse_recoverable(content);
    for fault in &faults {
        let span = fault.span().unwrap_or_default();
        text.fault(span.start, syntax(fault.message(), content.get(span.clone()).unwrap_or_default()));
    }
    // A broken file is not searched for further faults: half of them would be echoes.
    if faults.iter().all(|fault| fault.message() == DUPLICATE) {
        let mut reading = Reading { text: &mut text, making, roles: Named::default(), lists: Lists::default() };
        reading.document(document.get_ref());
    }
    text.tell(making);
}

/// The file with its faults so far.
struct Text<'a> {
    source: &'a Source<'a>,
    /// Where each line begins.
    starts: Vec<usize>,
    faults: Vec<(usize, String)>,
}

impl<'a> Text<'a> {
    fn of(source: &'a Source<'a>) -> Self {
        let ends = memchr::memchr_iter(b'\n', source.text).map(|end| end.saturating_add(1));
        Self { source, starts: std::iter::once(0).chain(ends).collect(), faults: Vec::new() }
    }

    fn fault(&mut self, offset: usize, message: String) {
        self.faults.push((offset, message));
    }

    fn line(&self, offset: usize) -> Line {
        let number = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(number.saturating_sub(1)).copied().unwrap_or(0);
        let after = self.source.text.get(start..).unwrap_or_default();
        let end = memchr::memchr(b'\n', after).map_or(self.source.text.len(), |end| start.saturating_add(end));
        let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Line { number: narrow(number), start: narrow(start), end: narrow(end) }
    }

    /// Says all faults in the order of the file; lines and columns count from 1, columns in characters.
    fn tell(mut self, making: &mut Making) {
        self.faults.sort_by_key(|(offset, _)| *offset);
        for (offset, message) in &self.faults {
            let Line { number, start, .. } = self.line(*offset);
            let before = self.source.text.get(start as usize..*offset).unwrap_or_default();
            let column = String::from_utf8_lossy(before).chars().count().saturating_add(1);
            making.faults.push(format!("{}:{number}:{column}", Outside::of(self.source.name)), message.clone());
        }
    }
}

/// Which lists are whose, so far.
#[derive(Default)]
struct Lists {
    users: Named<Vec<u32>>,
    groups: Named<Vec<u32>>,
    anonymous: Vec<u32>,
    everyone: Vec<u32>,
}

struct Reading<'a, 'b> {
    text: &'a mut Text<'b>,
    making: &'a mut Making,
    roles: Named<u32>,
    lists: Lists,
}

/// The keys of a table in the order of the file.
fn in_order<'a, 'b>(table: &'a DeTable<'b>) -> Vec<(&'a Spanned<std::borrow::Cow<'b, str>>, &'a Spanned<DeValue<'b>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

impl Reading<'_, '_> {
    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in in_order(document) {
            if !SECTIONS.contains(&&**name.get_ref()) {
                let message = unknown("section", name.get_ref(), SECTIONS);
                self.text.fault(name.span().start, message);
            } else if &**name.get_ref() == "ban" {
                self.bans(value);
            } else if !value.get_ref().is_table() {
                let message = format!("{} is a table; write {}", name.get_ref(), header(name.get_ref()));
                self.text.fault(value.span().start, message);
            }
        }
        // Roles first: the others name them.
        for (name, role) in self.named(document, "role") {
            let scope = self.rules(Subject::Role(name.clone()), role, &["allow", "deny"], "[role.NAME]");
            self.roles.insert(name, scope);
        }
        for (name, user) in self.named(document, "user") {
            let scope = self.rules(Subject::User(name.clone()), user, &["roles", "allow", "deny"], "[user.NAME]");
            let mut own = vec![scope];
            own.extend(self.roles_of(user));
            self.lists.users.insert(name, own);
        }
        for (name, group) in self.named(document, "group") {
            let keys = &["users", "roles", "allow", "deny"];
            let scope = self.rules(Subject::Group(name.clone()), group, keys, "[group.NAME]");
            let mut own = vec![scope];
            own.extend(self.roles_of(group));
            for (user, _) in self.texts(group, "users") {
                self.lists.users.entry_ref(&*user).or_default().extend(&own);
            }
            self.lists.groups.insert(name, own);
        }
        for (section, subject) in [("everyone", Subject::Everyone), ("anonymous", Subject::Anonymous)] {
            let Some(DeValue::Table(table)) = document.get(section).map(Spanned::get_ref) else { continue };
            let scope = self.rules(subject.clone(), table, &["roles", "allow", "deny"], &header(section));
            let mut own = vec![scope];
            own.extend(self.roles_of(table));
            match subject {
                Subject::Everyone => self.lists.everyone = own,
                _ => self.lists.anonymous = own,
            }
        }
        let Lists { users, groups, anonymous, everyone } = std::mem::take(&mut self.lists);
        self.making.layers.push(Layer::Native {
            users: distinct(users),
            groups: distinct(groups),
            anonymous: anonymous.into(),
            everyone: everyone.into(),
        });
    }

    /// The tables `[[ban]]`.
    fn bans(&mut self, value: &Spanned<DeValue<'_>>) {
        let DeValue::Array(bans) = value.get_ref() else {
            return self.text.fault(value.span().start, "ban is a list of tables; write [[ban]]".to_owned());
        };
        for ban in bans {
            match ban.get_ref() {
                DeValue::Table(table) => self.ban(table, ban.span().start),
                _ => self.text.fault(ban.span().start, "is no ban; write [[ban]]".to_owned()),
            }
        }
    }

    fn ban(&mut self, table: &DeTable<'_>, offset: usize) {
        for (name, _) in in_order(table) {
            let key = &**name.get_ref();
            if !OF_A_BAN.contains(&key) {
                let message = misplaced_in_ban(key);
                self.text.fault(name.span().start, message);
            }
        }
        let until = self.until(table);
        let reason = match self.texts(table, "reason").as_slice() {
            [] => None,
            [(reason, _)] => Some(reason.clone()),
            [_, (_, second), ..] => return self.text.fault(*second, "a ban has one reason".to_owned()),
        };
        let mut by = BANNED.iter().filter(|key| table.contains_key(**key));
        let (Some(key), None) = (by.next(), by.next()) else {
            let message = "a ban is of one of user, client_id and address; write a [[ban]] for each";
            return self.text.fault(offset, message.to_owned());
        };
        for (whom, offset) in self.texts(table, key) {
            let banned = match *key {
                "user" => Banned::User(whom),
                "client_id" => Banned::Client(whom),
                _ => match whom.parse() {
                    Ok(network) => Banned::Network(network),
                    Err(fault) => {
                        self.text.fault(offset, format!("\"{}\" {fault}", Outside::of(&*whom)));
                        continue;
                    }
                },
            };
            let line = self.text.line(offset);
            self.making.ban(banned, Ban { file: 0, line, until: until.clone(), reason: reason.clone() });
        }
    }

    fn until(&mut self, table: &DeTable<'_>) -> Option<Until> {
        let value = table.get("until")?;
        let written = match value.get_ref() {
            DeValue::Datetime(moment) => moment.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => String::new(),
        };
        let moment = unix_ms(&written).map(|unix_ms| Until { unix_ms, written: written.into() });
        if moment.is_none() {
            let message =
                "until is a date with its time and Z or the distance from UTC; write for example 2026-12-31T23:59:59Z";
            self.text.fault(value.span().start, message.to_owned());
        }
        moment
    }

    /// The tables `[section.NAME]`.
    fn named<'t, 'v>(&mut self, document: &'t DeTable<'v>, section: &str) -> Vec<(Box<str>, &'t DeTable<'v>)> {
        let Some(DeValue::Table(tables)) = document.get(section).map(Spanned::get_ref) else { return Vec::new() };
        let mut named = Vec::new();
        for (name, value) in in_order(tables) {
            match value.get_ref() {
                DeValue::Table(table) => named.push((Box::from(&**name.get_ref()), table)),
                _ => {
                    let shown = Outside::of(&**name.get_ref());
                    let message = format!("{section}.{shown} is a table; write [{section}.{shown}]");
                    self.text.fault(name.span().start, message);
                }
            }
        }
        named
    }

    /// The list of rules in a table, and a word about each key that does not belong there.
    fn rules(&mut self, subject: Subject, table: &DeTable<'_>, keys: &[&str], header: &str) -> u32 {
        let scope = self.making.scope(subject);
        for (name, value) in in_order(table) {
            let effect = match &**name.get_ref() {
                key if !keys.contains(&key) => {
                    let message = misplaced(key, header, keys);
                    self.text.fault(name.span().start, message);
                    continue;
                }
                "allow" => Effect::Allow,
                "deny" => Effect::Deny,
                _ => continue,
            };
            match value.get_ref() {
                DeValue::Table(rule) => self.rule(scope, effect, rule, value.span()),
                DeValue::Array(rules) => {
                    for rule in rules {
                        match rule.get_ref() {
                            DeValue::Table(table) => self.rule(scope, effect, table, rule.span()),
                            _ => self.not_a_rule(effect, rule.span().start),
                        }
                    }
                }
                _ => self.not_a_rule(effect, value.span().start),
            }
        }
        scope
    }

    fn not_a_rule(&mut self, effect: Effect, offset: usize) {
        let word = word(effect);
        self.text.fault(offset, format!("is no rule; write for example {word} = {{ publish = \"a/#\" }}"));
    }

    fn rule(&mut self, scope: u32, effect: Effect, table: &DeTable<'_>, span: Range<usize>) {
        let known: Vec<&str> = RIGHTS.iter().chain(CONDITIONS).copied().collect();
        let keys: Vec<&str> = table.keys().map(|name| &**name.get_ref()).collect();
        for (name, _) in in_order(table) {
            let key = &**name.get_ref();
            let fault = match key {
                _ if !known.contains(&key) => Some(unknown_in_rule(key, &known)),
                "qos_max" | "retain" | "rate" if effect == Effect::Deny => {
                    Some(format!("a deny has no {key}; what an allow does not cover is denied already"))
                }
                "qos_max" | "retain" | "rate"
                    if keys.contains(&"subscribe") && !keys.contains(&"publish") && !keys.contains(&"all") =>
                {
                    Some(format!("{key} is about publishing, but this rule allows only to subscribe"))
                }
                _ => None,
            };
            if let Some(fault) = fault {
                self.text.fault(name.span().start, fault);
            }
        }
        if !keys.iter().any(|key| RIGHTS.contains(key)) {
            let message = format!("this {} is about no topic; write publish, subscribe or all", word(effect));
            self.text.fault(span.start, message);
        }
        let condition = self.conditions(table);
        let condition = self.making.condition(condition);
        for (key, rights) in [("publish", PUBLISH), ("subscribe", RECEIVE), ("all", PUBLISH | RECEIVE)] {
            for (filter, offset) in self.texts(table, key) {
                self.filter(scope, &filter, offset, Right { effect, rights, condition });
            }
        }
    }

    fn filter(&mut self, scope: u32, filter: &str, offset: usize, right: Right) {
        let Right { effect, rights, condition } = right;
        let levels = if filter.starts_with("$share/") {
            Err("begins with $share; write it without $share and the group".to_owned())
        } else {
            filter::parse(filter, Placeholders::WholeLevels)
        };
        match levels {
            Ok(levels) => {
                let line = self.text.line(offset);
                self.making.add(scope, &Draft { effect, rights, levels: &levels, line, condition });
            }
            Err(fault) => self.text.fault(offset, format!("the filter \"{}\" {fault}", Outside::of(filter))),
        }
    }

    fn conditions(&mut self, table: &DeTable<'_>) -> Condition {
        let mut condition = Condition::default();
        for (listener, _) in self.texts(table, "listener") {
            condition.listeners.push(listener);
        }
        for (network, offset) in self.texts(table, "address") {
            match network.parse() {
                Ok(network) => condition.networks.push(network),
                Err(fault) => self.text.fault(offset, format!("\"{}\" {fault}", Outside::of(&*network))),
            }
        }
        if let Some(qos) = self.number(table, "qos_max", 0, 2) {
            condition.qos_max = u8::try_from(qos).ok().and_then(Qos::from_value);
        }
        condition.rate = self.number(table, "rate", 1, RATE_MAX);
        match table.get("retain").map(|value| (value.get_ref(), value.span())) {
            None => {}
            Some((DeValue::Boolean(retain), _)) => condition.no_retain = !*retain,
            Some((_, span)) => self.text.fault(span.start, "retain is true or false".to_owned()),
        }
        condition
    }

    fn number(&mut self, table: &DeTable<'_>, key: &str, least: u32, most: u32) -> Option<u32> {
        let value = table.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.text.fault(value.span().start, format!("{key} is a whole number; allowed: {least} to {most}"));
        }
        number
    }

    /// The lists of the roles that a table names.
    fn roles_of(&mut self, table: &DeTable<'_>) -> Vec<u32> {
        let mut scopes = Vec::new();
        for (role, offset) in self.texts(table, "roles") {
            match self.roles.get(&*role) {
                Some(scope) => scopes.push(*scope),
                None => {
                    let known: Vec<&str> = self.roles.keys().map(|name| &**name).collect();
                    let shown = Outside::of(&*role);
                    let message = match nearest(&role, known.into_iter()) {
                        Some(near) => format!("there is no role \"{shown}\"; did you mean \"{}\"?", Outside::of(near)),
                        None => format!("there is no role \"{shown}\"; write [role.{shown}] with what it allows"),
                    };
                    self.text.fault(offset, message);
                }
            }
        }
        scopes
    }

    /// A text or a list of texts, each with its place.
    fn texts(&mut self, table: &DeTable<'_>, key: &str) -> Vec<(Box<str>, usize)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let items = match value.get_ref() {
            DeValue::Array(items) if items.is_empty() && key != "users" && key != "roles" => {
                self.text.fault(value.span().start, format!("{key} is empty; leave it out, or name something"));
                return Vec::new();
            }
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => texts.push((Box::from(&**text), item.span().start)),
                _ => self.text.fault(item.span().start, format!("{key} is a text or a list of texts")),
            }
        }
        texts
    }
}

/// What the filters of one rule give or take, and when.
struct Right {
    effect: Effect,
    rights: RightBits,
    condition: Option<u32>,
}

/// Each list once, however many ways lead to it.
fn distinct(lists: Named<Vec<u32>>) -> Named<Box<[u32]>> {
    let distinct = |mut own: Vec<u32>| {
        own.sort_unstable();
        own.dedup();
        own.into_boxed_slice()
    };
    lists.into_iter().map(|(name, own)| (name, distinct(own))).collect()
}

fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    }
}

fn header(section: &str) -> String {
    match section {
        "everyone" | "anonymous" => format!("[{section}]"),
        "ban" => "[[ban]]".to_owned(),
        _ => format!("[{section}.NAME]"),
    }
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let shown = Outside::of(name);
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("unknown {what} \"{shown}\"; did you mean {}?", header(near)),
        None => {
            let known: Vec<String> = known.iter().map(|section| header(section)).collect();
            format!("unknown {what} \"{shown}\"; known: {}", known.join(", "))
        }
    }
}

/// A key that a user, group, role or the like does not have.
fn misplaced(key: &str, header: &str, keys: &[&str]) -> String {
    let shown = Outside::of(key);
    if RIGHTS.contains(&key) {
        return format!("{key} belongs into a rule; write allow = {{ {key} = … }} or deny = {{ {key} = … }}");
    }
    match nearest(key, keys.iter().copied()) {
        Some(near) => format!("unknown key \"{shown}\" in {header}; did you mean \"{near}\"?"),
        None => format!("unknown key \"{shown}\" in {header}; known keys: {}", keys.join(", ")),
    }
}

fn misplaced_in_ban(key: &str) -> String {
    let shown = Outside::of(key);
    match nearest(key, OF_A_BAN.iter().copied()) {
        Some(near) => format!("unknown key \"{shown}\" in [[ban]]; did you mean \"{near}\"?"),
        None => format!("unknown key \"{shown}\" in [[ban]]; known keys: {}", OF_A_BAN.join(", ")),
    }
}

fn unknown_in_rule(key: &str, known: &[&str]) -> String {
    let shown = Outside::of(key);
    let meant = match key {
        "receive" | "read" => Some("subscribe"),
        "write" => Some("publish"),
        "readwrite" | "topic" | "both" => Some("all"),
        _ => nearest(key, known.iter().copied()),
    };
    match meant {
        Some(meant) => format!("unknown key \"{shown}\" in a rule; did you mean \"{meant}\"?"),
        None => format!("unknown key \"{shown}\" in a rule; known keys: {}", known.join(", ")),
    }
}
