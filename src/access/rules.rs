//! All rules of all files, compiled: who is asked about, which lists of rules are theirs, and what follows from them.
//!
//! A file says yes, no or nothing about an act; a no of any file wins, then a yes, and what nobody says is no. A `Rules` never
//! changes: a reload makes a new one. Nothing here allocates but the making. Read `trie.rs` for how a rule is found.

use super::ban::{Ban, Banned, Bans};
use super::fault::Faults;
use super::filter::Level;
use super::network::Network;
use super::trie::{Builder, Found, Name, Names, Relation, RightBits, Root, Search, Trie};
use super::{Coverage, Identity, mosquitto, native};
use crate::codec::Qos;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::fmt;
use std::sync::Arc;

/// Largest rule file, in bytes.
pub const RULES_SIZE_MAX: usize = 64 << 20;

pub(super) const PUBLISH: RightBits = 1;
pub(super) const RECEIVE: RightBits = 2;

/// A rule file that somebody has read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// As errors and explanations show it.
    pub name: &'a str,
    pub text: &'a [u8],
    pub form: Form,
}

/// The language of a rule file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What mosquitto's `acl_file` names.
    Mosquitto,
    /// Ours, with roles and groups: `config/acl.toml`.
    Native,
}

impl Form {
    /// `.toml` is ours, everything else is taken for mosquitto's.
    pub fn of(name: &str) -> Self {
        if name.ends_with(".toml") { Self::Native } else { Self::Mosquitto }
    }
}

/// A compiled set of rules.
#[derive(Clone)]
pub struct Rules(Arc<Compiled>);

struct Compiled {
    files: Vec<File>,
    rules: Vec<Rule>,
    conditions: Vec<Condition>,
    trie: Trie,
    scopes: Vec<Scope>,
    layers: Vec<Layer>,
    notes: Vec<String>,
    bans: Bans,
    /// Whether any condition has a rate.
    has_rates: bool,
}

/// A file of rules, kept for explanations.
struct File {
    name: Box<str>,
    text: Box<[u8]>,
}

/// Whether a rule gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// Where a rule stands: the number of its line, from 1, and the bytes of that line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) number: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    file: u32,
    scope: u32,
    line: Line,
    rights: RightBits,
    effect: Effect,
    condition: Option<u32>,
}

/// What must hold for a rule to count. What is empty or absent asks nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Condition {
    pub(super) listeners: Vec<Box<str>>,
    pub(super) networks: Vec<Network>,
    pub(super) qos_max: Option<Qos>,
    /// Messages may not be retained.
    pub(super) no_retain: bool,
    /// Messages in a second.
    pub(super) rate: Option<u32>,
}

/// A list of rules that belong to the same somebody.
struct Scope {
    subject: Subject,
    allow: Option<Root>,
    deny: Option<Root>,
    has_placeholders: bool,
}

/// Whose rules they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    User(Box<str>),
    /// Clients without a user name.
    Anonymous,
    Everyone,
    Group(Box<str>),
    Role(Box<str>),
}

/// Something for each name. Names come from the rule files; those that are looked up come from anybody.
pub(super) type Named<T> = HashMap<Box<str>, T, RandomState>;

/// How the lists of one file add up.
pub(super) enum Layer {
    /// The list of the user first, with its denials before its grants; then the patterns in the same way.
    Mosquitto { users: Named<u32>, anonymous: Option<u32>, patterns: Option<u32> },
    /// All lists that are a Client's, as one; a denial wins.
    Native { users: Named<Box<[u32]>>, groups: Named<Box<[u32]>>, anonymous: Box<[u32]>, everyone: Box<[u32]> },
}

/// Rules in the making.
#[derive(Default)]
pub(super) struct Making {
    pub(super) faults: Faults,
    pub(super) notes: Vec<String>,
    pub(super) layers: Vec<Layer>,
    bans: Bans,
    files: Vec<File>,
    rules: Vec<Rule>,
    conditions: Vec<Condition>,
    trie: Builder,
    scopes: Vec<Scope>,
}

/// A rule as a parser has read it.
pub(super) struct Draft<'a> {
    pub(super) effect: Effect,
    pub(super) rights: RightBits,
    pub(super) levels: &'a [Level],
    pub(super) line: Line,
    pub(super) condition: Option<u32>,
}

impl Making {
    pub(super) fn scope(&mut self, subject: Subject) -> u32 {
        self.scopes.push(Scope { subject, allow: None, deny: None, has_placeholders: false });
        number(self.scopes.len() - 1)
    }

    pub(super) fn condition(&mut self, condition: Condition) -> Option<u32> {
        if condition == Condition::default() {
            return None;
        }
        self.conditions.push(condition);
        Some(number(self.conditions.len() - 1))
    }

    /// Adds a ban of the file that is being read.
    pub(super) fn ban(&mut self, whom: Banned, ban: Ban) {
        self.bans.add(whom, Ban { file: number(self.files.len() - 1), ..ban });
    }

    /// Adds a rule of the file that is being read.
    pub(super) fn add(&mut self, scope: u32, draft: &Draft<'_>) {
        let Draft { effect, rights, levels, line, condition } = *draft;
        let rule = number(self.rules.len());
        self.rules.push(Rule { file: number(self.files.len() - 1), scope, line, rights, effect, condition });
        let Some(scope) = self.scopes.get_mut(scope as usize) else { return };
        scope.has_placeholders |= levels.iter().any(|level| matches!(level, Level::Template(_)));
        let root = match effect {
            Effect::Allow => &mut scope.allow,
            Effect::Deny => &mut scope.deny,
        };
        let root = *root.get_or_insert_with(|| self.trie.root());
        self.trie.insert(root, levels, rule, rights);
    }
}

/// The size of all files is bounded, and so is everything in them.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("what a bounded file holds can be counted in 32 bits")
}

/// What is asked of the rules.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) who: &'a Identity,
    pub(super) relation: Relation,
    /// A topic or a filter.
    pub(super) text: &'a [u8],
    pub(super) rights: RightBits,
    /// QoS and RETAIN of what is to be published.
    pub(super) publish: Option<(Qos, bool)>,
}

/// The rule or the reason that settles something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    Rule(u32),
    /// The file of this number has patterns, and the Client calls itself something with a wildcard.
    UnsafeName(u32),
}

/// What a file, or all of them, say about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Yes(u32),
    No(Because),
    Nothing,
}

/// How much of a filter some rules are about, and one of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) coverage: Coverage,
    pub(super) because: Option<Because>,
}

impl Share {
    pub(super) const NOTHING: Self = Self { coverage: Coverage::Nothing, because: None };

    pub(super) fn and(self, other: Self) -> Self {
        if other.coverage > self.coverage { other } else { self }
    }

    /// This without that. A part of a part may be nothing, but nobody knows.
    pub(super) fn without(self, taken: Self) -> Self {
        match (self.coverage, taken.coverage) {
            (Coverage::Nothing, _) | (_, Coverage::Everything) => Self::NOTHING,
            (_, Coverage::Nothing) => self,
            _ => Self { coverage: Coverage::Part, ..self },
        }
    }
}

/// What all files say about a filter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// What rules grant, denials not considered.
    pub(super) granted: Share,
    /// What is granted and not denied in the same file.
    pub(super) kept: Share,
    pub(super) denied: Share,
}

impl Rules {
    /// Reads and compiles rule files.
    ///
    /// # Errors
    /// All faults of all files, each with its place; there is no half of a rule set.
    pub fn read(sources: &[Source<'_>]) -> Result<Self, Faults> {
        let mut making = Making::default();
        let mut size = 0_usize;
        for source in sources {
            size = size.saturating_add(source.text.len());
            if size > RULES_SIZE_MAX {
                let message = format!("the rule files are larger than allowed: up to {RULES_SIZE_MAX} bytes in all");
                making.faults.push(source.name.to_owned(), message);
                break;
            }
            making.files.push(File { name: source.name.into(), text: source.text.into() });
            match source.form {
                Form::Mosquitto => mosquitto::read(source, &mut making),
                Form::Native => native::read(source, &mut making),
            }
        }
        let Making { faults, mut notes, layers, bans, files, rules, conditions, trie, scopes } = making;
        if !faults.is_empty() {
            return Err(faults);
        }
        let has_rates = conditions.iter().any(|condition| condition.rate.is_some());
        if bans.len() > 0 && !rules.iter().any(|rule| rule.effect == Effect::Allow) {
            notes.push("there are bans and no rule that allows anything, so nobody may do anything; to let all others do what they like, \
                        write [everyone] allow = { all = \"#\" }".to_owned());
        }
        let trie = trie.freeze();
        Ok(Self(Arc::new(Compiled { files, rules, conditions, trie, scopes, layers, notes, bans, has_rates })))
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.0.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.rules.is_empty()
    }

    /// How many bans there are.
    pub fn bans(&self) -> usize {
        self.0.bans.len()
    }

    /// The ban that somebody is under at this time, in milliseconds since 1970.
    pub(super) fn ban_of(&self, who: &Identity, unix_ms: u64) -> Option<&Ban> {
        self.0.bans.find(who, unix_ms)
    }

    pub(super) fn ban_in_words(&self, ban: &Ban) -> BanInWords {
        BanInWords {
            file: self.file_name(ban.file).into(),
            line: ban.line.number,
            text: self.text(ban.file, ban.line),
            until: ban.until.as_ref().map(|until| until.written.clone()),
            reason: ban.reason.clone(),
        }
    }

    /// A line without the space around it.
    fn text(&self, file: u32, line: Line) -> Box<str> {
        let text = self.0.files.get(file as usize).map_or(&[][..], |file| &file.text);
        let text = text.get(line.start as usize..line.end as usize).unwrap_or_default();
        String::from_utf8_lossy(text.trim_ascii()).into()
    }

    /// What is allowed and yet probably not meant, one sentence each, for the log.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.0.notes.iter().map(String::as_str)
    }

    /// The names of listeners that rules ask for, each as often as it is there.
    pub fn listeners(&self) -> impl Iterator<Item = &str> {
        self.0.conditions.iter().flat_map(|condition| condition.listeners.iter().map(|name| &**name))
    }

    /// What all files together say about a topic.
    pub(super) fn say(&self, question: &Question<'_>) -> Said {
        let mut yes = Said::Nothing;
        for (file, layer) in self.0.layers.iter().enumerate() {
            match self.layer_says(file, layer, question) {
                no @ Said::No(_) => return no,
                Said::Yes(rule) if yes == Said::Nothing => yes = Said::Yes(rule),
                Said::Yes(_) | Said::Nothing => {}
            }
        }
        yes
    }

    fn layer_says(&self, file: usize, layer: &Layer, question: &Question<'_>) -> Said {
        match layer {
            Layer::Mosquitto { users, anonymous, patterns } => {
                let own = own_list(users, *anonymous, question.who);
                let said = own.map_or(Said::Nothing, |own| self.list_says(own, question));
                let Some(patterns) = patterns.filter(|_| said == Said::Nothing) else { return said };
                if has_unsafe_name(question.who) {
                    return Said::No(Because::UnsafeName(number(file)));
                }
                self.list_says(patterns, question)
            }
            Layer::Native { .. } => {
                let find =
                    |effect| lists(layer, question.who).find_map(|scope| self.find(scope, effect, question).rule());
                match find(Effect::Deny) {
                    Some(denial) => Said::No(Because::Rule(denial)),
                    None => find(Effect::Allow).map_or(Said::Nothing, Said::Yes),
                }
            }
        }
    }

    fn list_says(&self, scope: u32, question: &Question<'_>) -> Said {
        match self.find(scope, Effect::Deny, question).rule() {
            Some(denial) => Said::No(Because::Rule(denial)),
            None => self.find(scope, Effect::Allow, question).rule().map_or(Said::Nothing, Said::Yes),
        }
    }

    /// What all files together say about a filter; the question's relation is not looked at.
    pub(super) fn shares(&self, question: &Question<'_>) -> Shares {
        let mut all = Shares { granted: Share::NOTHING, kept: Share::NOTHING, denied: Share::NOTHING };
        for (file, layer) in self.0.layers.iter().enumerate() {
            let Shares { granted, kept, denied } = self.layer_shares(file, layer, question);
            all.granted = all.granted.and(granted);
            all.kept = all.kept.and(kept);
            all.denied = all.denied.and(denied);
        }
        all
    }

    fn layer_shares(&self, file: usize, layer: &Layer, question: &Question<'_>) -> Shares {
        match layer {
            Layer::Mosquitto { users, anonymous, patterns } => {
                let own = own_list(users, *anonymous, question.who);
                let own_share = |effect| own.map_or(Share::NOTHING, |own| self.share(own, effect, question));
                let pattern_share = |effect| match patterns {
                    None => Share::NOTHING,
                    Some(_) if has_unsafe_name(question.who) => match effect {
                        Effect::Allow => Share::NOTHING,
                        Effect::Deny => {
                            Share { coverage: Coverage::Everything, because: Some(Because::UnsafeName(number(file))) }
                        }
                    },
                    Some(patterns) => self.share(*patterns, effect, question),
                };
                let (own_denied, own_granted) = (own_share(Effect::Deny), own_share(Effect::Allow));
                let (pattern_denied, pattern_granted) = (pattern_share(Effect::Deny), pattern_share(Effect::Allow));
                let own_kept = own_granted.without(own_denied);
                let pattern_kept = pattern_granted.without(pattern_denied).without(own_denied);
                Shares {
                    granted: own_granted.and(pattern_granted),
                    kept: own_kept.and(pattern_kept),
                    denied: own_denied.and(pattern_denied.without(own_kept)),
                }
            }
            Layer::Native { .. } => {
                let sum = |effect| {
                    let shares = lists(layer, question.who).map(|scope| self.share(scope, effect, question));
                    shares.fold(Share::NOTHING, Share::and)
                };
                let (granted, denied) = (sum(Effect::Allow), sum(Effect::Deny));
                Shares { granted, kept: granted.without(denied), denied }
            }
        }
    }

    fn share(&self, scope: u32, effect: Effect, question: &Question<'_>) -> Share {
        let find = |relation| self.find(scope, effect, &Question { relation, ..*question });
        if let Found::Rule(covering) = find(Relation::Covers) {
            return Share { coverage: Coverage::Everything, because: Some(Because::Rule(covering)) };
        }
        match find(Relation::Overlaps) {
            Found::Nothing => Share::NOTHING,
            Found::Rule(overlapping) => Share { coverage: Coverage::Part, because: Some(Because::Rule(overlapping)) },
            Found::GaveUp => Share { coverage: Coverage::Part, because: None },
        }
    }

    /// The first rule of a list that is about the question.
    #[inline]
    fn find(&self, scope: u32, effect: Effect, question: &Question<'_>) -> Found {
        let Some(scope) = self.0.scopes.get(scope as usize) else { return Found::Nothing };
        let root = match effect {
            Effect::Allow => scope.allow,
            Effect::Deny => scope.deny,
        };
        let Some(root) = root else { return Found::Nothing };
        let names = if scope.has_placeholders { names(question.who, effect) } else { NO_NAMES };
        let Question { relation, text, rights, .. } = *question;
        self.0.trie.find(root, &Search { relation, text, names, rights }, |rule| self.holds(rule, question))
    }

    fn holds(&self, rule: u32, question: &Question<'_>) -> bool {
        let Some(rule) = self.0.rules.get(rule as usize) else { return false };
        let condition = || rule.condition.and_then(|condition| self.0.conditions.get(condition as usize));
        rule.rights & question.rights != 0
            && (rule.condition.is_none() || condition().is_some_and(|condition| condition.holds(rule.effect, question)))
    }

    /// The bound on messages in a second for what is allowed: that of the most generous rule that allows it. `None`: no bound.
    #[inline]
    pub(super) fn rate(&self, question: &Question<'_>) -> Option<u32> {
        if self.0.has_rates { self.search_rate(question) } else { None }
    }

    fn search_rate(&self, question: &Question<'_>) -> Option<u32> {
        let mut rate = Some(0);
        let mut visit = |rule: u32| {
            if self.holds(rule, question) {
                let rule = self.0.rules.get(rule as usize).and_then(|rule| rule.condition);
                let bound = rule.and_then(|condition| self.0.conditions.get(condition as usize)?.rate);
                rate = rate.zip(bound).map(|(one, other)| one.max(other));
            }
            false
        };
        for layer in &self.0.layers {
            let Layer::Native { .. } = layer else {
                // Mosquitto's rules have no bounds: what one of them allows has none.
                if matches!(self.layer_says(0, layer, question), Said::Yes(_)) {
                    return None;
                }
                continue;
            };
            for scope in lists(layer, question.who).filter_map(|scope| self.0.scopes.get(scope as usize)) {
                let Some(root) = scope.allow else { continue };
                let names = names(question.who, Effect::Allow);
                let Question { relation, text, rights, .. } = *question;
                self.0.trie.find(root, &Search { relation, text, names, rights }, &mut visit);
            }
        }
        rate
    }

    /// A rule that would allow it if its conditions held, for an explanation of why nothing does.
    pub(super) fn would_allow(&self, question: &Question<'_>) -> Option<u32> {
        let Question { who, relation, text, rights, .. } = *question;
        let scopes = self.0.layers.iter().flat_map(|layer| lists(layer, who));
        let scopes = scopes.filter_map(|scope| self.0.scopes.get(scope as usize));
        scopes.filter_map(|scope| scope.allow).find_map(|root| {
            let search = Search { relation, text, names: names(who, Effect::Allow), rights };
            let has_right = |rule: u32| self.0.rules.get(rule as usize).is_some_and(|rule| rule.rights & rights != 0);
            self.0.trie.find(root, &search, has_right).rule()
        })
    }

    /// The place of a rule.
    pub(super) fn place(&self, rule: u32) -> Option<Place> {
        let rule = self.0.rules.get(rule as usize)?;
        let scope = self.0.scopes.get(rule.scope as usize)?;
        Some(Place {
            file: self.file_name(rule.file).into(),
            line: rule.line.number,
            text: self.text(rule.file, rule.line),
            subject: scope.subject.clone(),
        })
    }

    pub(super) fn file_name(&self, file: u32) -> &str {
        self.0.files.get(file as usize).map_or("", |file| &file.name)
    }

    /// Every rule about a topic, whoever it is for; names are taken to be whatever makes a pattern match.
    pub(super) fn about(&self, topic: &[u8]) -> Vec<Concerned> {
        let names = Names { client: Name::Any, user: Name::Any };
        let search = Search { relation: Relation::Matches, text: topic, names, rights: PUBLISH | RECEIVE };
        let mut found = Vec::new();
        for scope in &self.0.scopes {
            for root in [scope.deny, scope.allow].into_iter().flatten() {
                self.0.trie.find(root, &search, |rule| {
                    found.push(rule);
                    false
                });
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|rule| self.concerned(rule)).collect()
    }

    fn concerned(&self, number: u32) -> Option<Concerned> {
        let rule = self.0.rules.get(number as usize)?;
        Some(Concerned {
            place: self.place(number)?,
            effect: rule.effect,
            publish: rule.rights & PUBLISH != 0,
            receive: rule.rights & RECEIVE != 0,
            is_conditional: rule.condition.is_some(),
        })
    }
}

impl Condition {
    /// An unknown listener or address is one that a denial is about, and a grant is not.
    fn holds(&self, effect: Effect, question: &Question<'_>) -> bool {
        let unknown = effect == Effect::Deny;
        let who = question.who;
        let listener = || {
            who.listener.as_deref().map_or(unknown, |name| self.listeners.iter().any(|listener| **listener == *name))
        };
        let address =
            || who.address.map_or(unknown, |address| self.networks.iter().any(|network| network.contains(address)));
        (self.listeners.is_empty() || listener())
            && (self.networks.is_empty() || address())
            && question
                .publish
                .is_none_or(|(qos, retain)| self.qos_max.is_none_or(|most| qos <= most) && !(retain && self.no_retain))
    }
}

fn own_list(users: &Named<u32>, anonymous: Option<u32>, who: &Identity) -> Option<u32> {
    match &who.user_name {
        Some(name) => users.get(&**name).copied(),
        None => anonymous,
    }
}

/// The lists of our form that are a Client's.
fn lists<'a>(layer: &'a Layer, who: &'a Identity) -> impl Iterator<Item = u32> + 'a {
    let (own, everyone, groups) = match layer {
        Layer::Native { users, groups, anonymous, everyone } => {
            let own = match &who.user_name {
                Some(name) => users.get(&**name).map_or(&[][..], |own| own),
                None => anonymous,
            };
            (own, &**everyone, Some(groups))
        }
        Layer::Mosquitto { .. } => (&[][..], &[][..], None),
    };
    let named = who.token.as_ref().map_or(&[][..], |token| &token.groups);
    let of_groups = named.iter().filter_map(move |name| groups?.get(&**name)).flat_map(|lists| lists.iter());
    own.iter().chain(everyone).chain(of_groups).copied()
}

const NO_NAMES: Names<'static> = Names { client: Name::Absent, user: Name::Absent };

fn names(who: &Identity, effect: Effect) -> Names<'_> {
    Names {
        client: name(&who.client_id, effect),
        user: who.user_name.as_deref().map_or(Name::Absent, |user| name(user, effect)),
    }
}

/// A name that is no single level never gives a right: grants with it match nothing, and denials match whatever the name is.
fn name(name: &str, effect: Effect) -> Name<'_> {
    let is_level = !name.is_empty() && memchr::memchr3(b'/', b'+', b'#', name.as_bytes()).is_none();
    match effect {
        _ if is_level => Name::Known(name.as_bytes()),
        Effect::Allow => Name::Absent,
        Effect::Deny => Name::Any,
    }
}

/// To such a Client mosquitto denies everything that only patterns could allow.
fn has_unsafe_name(who: &Identity) -> bool {
    let is_unsafe = |name: &str| memchr::memchr2(b'+', b'#', name.as_bytes()).is_some();
    is_unsafe(&who.client_id) || who.user_name.as_deref().is_some_and(is_unsafe)
}

/// Where a rule stands, what it says, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Box<str>,
    /// From 1.
    pub line: u32,
    /// The line without the space around it.
    pub text: Box<str>,
    pub subject: Subject,
}

/// The ban that somebody is under: where it stands and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanInWords {
    pub file: Box<str>,
    /// From 1.
    pub line: u32,
    /// The line without the space around it.
    pub text: Box<str>,
    /// As the file has it; `None`: for ever.
    pub until: Option<Box<str>>,
    pub reason: Option<Box<str>>,
}

/// A rule about a topic, as [`super::Access::who`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concerned {
    pub place: Place,
    pub effect: Effect,
    pub publish: bool,
    pub receive: bool,
    /// It holds only for some listeners or addresses, or for some messages.
    pub is_conditional: bool,
}

/// The same rules, not equal ones: comparing 100,000 rules has no use.
impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Rules({})", self.len())
    }
}
