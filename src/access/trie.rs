//! The filters of all rules, compiled so that a search meets only those that can match: one tree for each list of rules.
//!
//! A search goes down with the levels of a topic or filter and allocates nothing. It asks for rules that match a topic, or
//! that match every topic of a filter, or at least one of them. It knows nothing of users or verdicts: `rules.rs` does.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::filter::{Level, Part};
use std::collections::BTreeMap;

/// A tree of the trie. Trees share the storage and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root(u32);

/// A set of rights, as bits; the trie only intersects them.
pub(super) type RightBits = u8;

/// What the filter of a rule is to have to do with the text that is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// The text is a topic that the rule matches.
    Matches,
    /// The text is a filter, and the rule matches every topic that it matches.
    Covers,
    /// The text is a filter, and the rule matches at least one topic that it matches.
    Overlaps,
}

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// This one, which is not empty and holds no `/`, `+` or `#`.
    Known(&'a [u8]),
    /// There is none: a level with it matches nothing.
    Absent,
    /// It could be any: a level matches from the placeholder on, whatever it holds.
    Any,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) client: Name<'a>,
    pub(super) user: Name<'a>,
}

/// No node: the index of none.
const NONE: u32 = u32::MAX;

/// A run of items in one of the arrays.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    start: u32,
    end: u32,
}

impl Run {
    fn of<T>(self, items: &[T]) -> &[T] {
        items.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Edges of literal levels, ascending by label.
    literal: Run,
    /// Edges of levels with placeholders.
    templates: Run,
    /// Where `+` leads to.
    plus: u32,
    /// Rules whose filter ends here.
    exact: Run,
    /// Rules whose filter ends here with `#`.
    many: Run,
    /// The rights of all rules here and below.
    rights: RightBits,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    label: Run,
    node: u32,
}

#[derive(Clone, Copy, Debug)]
struct TemplateEdge {
    parts: Run,
    node: u32,
}

#[derive(Clone, Copy, Debug)]
enum FrozenPart {
    Text(Run),
    Client,
    User,
}

/// All trees, immutable.
#[derive(Debug, Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    templates: Vec<TemplateEdge>,
    parts: Vec<FrozenPart>,
    /// The bytes of all labels and parts.
    labels: Vec<u8>,
    /// The rules at all ends.
    rules: Vec<u32>,
}

/// What is searched for. `names` are asked only where a rule has placeholders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'a> {
    pub(super) relation: Relation,
    pub(super) text: &'a [u8],
    pub(super) names: Names<'a>,
    pub(super) rights: RightBits,
}

/// Nodes that one search for what overlaps with a filter may visit. A `+` of a Client can lead to every rule that there is, and
/// a SUBSCRIBE may hold a thousand filters; a topic leads to few nodes.
const OVERLAP_NODES_MAX: u32 = 1_024;

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Rule(u32),
    Nothing,
    /// The search for what overlaps would have taken too long: there may be a rule.
    GaveUp,
}

impl Trie {
    /// The first rule of a tree that fits and that `takes` takes; the order is that of the tree. `takes` is asked about rules
    /// with other rights, too.
    #[inline]
    pub(super) fn find(&self, root: Root, search: &Search<'_>, mut takes: impl FnMut(u32) -> bool) -> Found {
        let nodes_left = if search.relation == Relation::Overlaps { OVERLAP_NODES_MAX } else { u32::MAX };
        let mut walk = Walk { trie: self, search, takes: &mut takes, nodes_left };
        match walk.node(root.0, Some(search.text), true) {
            Some(rule) => Found::Rule(rule),
            None if walk.nodes_left == 0 => Found::GaveUp,
            None => Found::Nothing,
        }
    }

    fn label(&self, label: Run) -> &[u8] {
        label.of(&self.labels)
    }

    /// Whether a level with placeholders can have this text.
    fn fits(&self, parts: Run, level: &[u8], names: &Names<'_>) -> bool {
        if !self.is_possible(parts, names) {
            return false;
        }
        let mut rest = level;
        for part in parts.of(&self.parts) {
            let wanted = match part {
                FrozenPart::Text(text) => Name::Known(self.label(*text)),
                FrozenPart::Client => names.client,
                FrozenPart::User => names.user,
            };
            match wanted {
                Name::Known(wanted) => match rest.strip_prefix(wanted) {
                    Some(after) => rest = after,
                    None => return false,
                },
                Name::Any => return true,
                Name::Absent => return false,
            }
        }
        rest.is_empty()
    }

    /// Whether a level with placeholders can have any text at all.
    fn is_possible(&self, parts: Run, names: &Names<'_>) -> bool {
        parts.of(&self.parts).iter().all(|part| match part {
            FrozenPart::Text(_) => true,
            FrozenPart::Client => names.client != Name::Absent,
            FrozenPart::User => names.user != Name::Absent,
        })
    }

    /// Whether a level with placeholders is as good as `+`.
    fn is_plus(&self, parts: Run, names: &Names<'_>) -> bool {
        let begins_with = match parts.of(&self.parts).first() {
            Some(FrozenPart::Client) => names.client,
            Some(FrozenPart::User) => names.user,
            Some(FrozenPart::Text(_)) | None => return false,
        };
        begins_with == Name::Any && self.is_possible(parts, names)
    }

    /// Whether a level with placeholders is written with a `$` in front.
    fn has_dollar(&self, parts: Run) -> bool {
        match parts.of(&self.parts).first() {
            Some(FrozenPart::Text(text)) => self.label(*text).first() == Some(&b'$'),
            _ => false,
        }
    }
}

struct Walk<'a, F> {
    trie: &'a Trie,
    search: &'a Search<'a>,
    takes: &'a mut F,
    /// When there are none left, nothing more is found.
    nodes_left: u32,
}

/// A search goes no deeper than the deepest rule, which has a bounded number of levels.
impl<F: FnMut(u32) -> bool> Walk<'_, F> {
    /// `rest` is what is left of the text below this node; `first`: nothing has been taken from it yet.
    fn node(&mut self, node: u32, rest: Option<&[u8]>, first: bool) -> Option<u32> {
        let trie = self.trie;
        let node = trie.nodes.get(node as usize)?;
        if node.rights & self.search.rights == 0 || self.nodes_left == 0 {
            return None;
        }
        self.nodes_left = self.nodes_left.saturating_sub(1);
        let Some(text) = rest else {
            // "a/#" matches "a" as well.
            return self.end(node.exact).or_else(|| self.end(node.many));
        };
        // What begins with `$` is matched by no wildcard [MQTT-4.7.2-1], and by no name either: a Client that calls itself
        // `$SYS` has no more rights than others.
        let dollar = first && text.first() == Some(&b'$');
        if !dollar && let Some(found) = self.end(node.many) {
            return Some(found);
        }
        let (level, rest) = match memchr::memchr(b'/', text) {
            Some(slash) => (
                text.get(..slash).unwrap_or_default(),
                Some(text.get(slash..).and_then(|rest| rest.get(1..)).unwrap_or_default()),
            ),
            None => (text, None),
        };
        match (self.search.relation, level) {
            // Every topic has a first level, so "+/#" is as good as "#".
            (Relation::Covers, b"#") if first => {
                let plus = trie.nodes.get(node.plus as usize)?;
                self.end(plus.many)
            }
            (Relation::Covers, b"#") => None,
            (Relation::Covers, b"+") => {
                let under_plus = self.node(node.plus, rest, false);
                under_plus.or_else(|| self.templates(node, |parts, names| trie.is_plus(parts, names), rest))
            }
            (Relation::Overlaps, b"#") => self.everything_below(node, first),
            (Relation::Overlaps, b"+") => self.each_below(node, rest, first),
            (Relation::Matches | Relation::Covers | Relation::Overlaps, level) => self.level(node, level, rest, dollar),
        }
    }

    /// Goes on with a level that is no wildcard.
    fn level(&mut self, node: &Node, level: &[u8], rest: Option<&[u8]>, dollar: bool) -> Option<u32> {
        let trie = self.trie;
        let edges = node.literal.of(&trie.edges);
        if let Ok(at) = edges.binary_search_by(|edge| trie.label(edge.label).cmp(level))
            && let Some(edge) = edges.get(at)
            && let Some(found) = self.node(edge.node, rest, false)
        {
            return Some(found);
        }
        if !dollar
            && node.plus != NONE
            && let Some(found) = self.node(node.plus, rest, false)
        {
            return Some(found);
        }
        if node.templates.start == node.templates.end {
            return None;
        }
        self.templates(node, |parts, names| (!dollar || trie.has_dollar(parts)) && trie.fits(parts, level, names), rest)
    }

    fn templates(&mut self, node: &Node, fits: impl Fn(Run, &Names<'_>) -> bool, rest: Option<&[u8]>) -> Option<u32> {
        let edges = node.templates.of(&self.trie.templates);
        edges.iter().find_map(|edge| {
            if fits(edge.parts, &self.search.names) { self.node(edge.node, rest, false) } else { None }
        })
    }

    /// A `+` in the filter that is searched for: whatever there is on this level.
    fn each_below(&mut self, node: &Node, rest: Option<&[u8]>, first: bool) -> Option<u32> {
        let trie = self.trie;
        for edge in node.literal.of(&trie.edges) {
            if self.nodes_left == 0 {
                return None;
            }
            if first && trie.label(edge.label).first() == Some(&b'$') {
                continue;
            }
            if let Some(found) = self.node(edge.node, rest, false) {
                return Some(found);
            }
        }
        let under_plus = self.node(node.plus, rest, false);
        under_plus.or_else(|| {
            let fits = |parts, names: &Names<'_>| !(first && trie.has_dollar(parts)) && trie.is_possible(parts, names);
            self.templates(node, fits, rest)
        })
    }

    /// A `#` in the filter that is searched for: any rule here or below, but for those that end in `#` here, which have been
    /// asked already.
    fn everything_below(&mut self, node: &Node, first: bool) -> Option<u32> {
        let found = self.end(node.exact);
        found.or_else(|| self.each_subtree(node, first))
    }

    fn each_subtree(&mut self, node: &Node, first: bool) -> Option<u32> {
        let trie = self.trie;
        for edge in node.literal.of(&trie.edges) {
            if self.nodes_left == 0 {
                return None;
            }
            if first && trie.label(edge.label).first() == Some(&b'$') {
                continue;
            }
            if let Some(found) = self.subtree(edge.node) {
                return Some(found);
            }
        }
        if let Some(found) = self.subtree(node.plus) {
            return Some(found);
        }
        node.templates.of(&trie.templates).iter().find_map(|edge| {
            let fits = !(first && trie.has_dollar(edge.parts)) && trie.is_possible(edge.parts, &self.search.names);
            if fits { self.subtree(edge.node) } else { None }
        })
    }

    fn subtree(&mut self, node: u32) -> Option<u32> {
        let node = self.trie.nodes.get(node as usize)?;
        if node.rights & self.search.rights == 0 || self.nodes_left == 0 {
            return None;
        }
        self.nodes_left = self.nodes_left.saturating_sub(1);
        let found = self.end(node.exact).or_else(|| self.end(node.many));
        found.or_else(|| self.each_subtree(node, false))
    }

    fn end(&mut self, rules: Run) -> Option<u32> {
        rules.of(&self.trie.rules).iter().copied().find(|rule| (self.takes)(*rule))
    }
}

/// Grows trees; [`Builder::freeze`] makes the trie of them.
#[derive(Debug, Default)]
pub(super) struct Builder {
    nodes: Vec<Growing>,
}

#[derive(Debug, Default)]
struct Growing {
    literal: BTreeMap<Box<[u8]>, u32>,
    templates: BTreeMap<Box<[Part]>, u32>,
    plus: Option<u32>,
    exact: Vec<u32>,
    many: Vec<u32>,
    rights: RightBits,
}

impl Found {
    pub(super) fn rule(self) -> Option<u32> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::Nothing | Self::GaveUp => None,
        }
    }
}

impl Builder {
    /// A new tree.
    pub(super) fn root(&mut self) -> Root {
        Root(self.grow())
    }

    fn grow(&mut self) -> u32 {
        let number = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(Growing::default());
        number
    }

    /// Adds a rule. What is in the trie is bounded by the size of the rule files, which fits into 32 bits.
    pub(super) fn insert(&mut self, root: Root, levels: &[Level], rule: u32, rights: RightBits) {
        let mut at = root.0;
        let mut many = false;
        for level in levels {
            if let Some(node) = self.nodes.get_mut(at as usize) {
                node.rights |= rights;
            }
            if *level == Level::Many {
                many = true;
                break;
            }
            at = self.below(at, level);
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.rights |= rights;
            if many { node.many.push(rule) } else { node.exact.push(rule) }
        }
    }

    fn below(&mut self, at: u32, level: &Level) -> u32 {
        let Some(node) = self.nodes.get(at as usize) else { return NONE };
        let known = match level {
            Level::Literal(text) => node.literal.get(text).copied(),
            Level::Template(parts) => node.templates.get(parts).copied(),
            Level::Plus | Level::Many => node.plus,
        };
        if let Some(known) = known {
            return known;
        }
        let new = self.grow();
        if let Some(node) = self.nodes.get_mut(at as usize) {
            match level {
                Level::Literal(text) => drop(node.literal.insert(text.clone(), new)),
                Level::Template(parts) => drop(node.templates.insert(parts.clone(), new)),
                Level::Plus | Level::Many => node.plus = Some(new),
            }
        }
        new
    }

    pub(super) fn freeze(self) -> Trie {
        let mut trie = Trie::default();
        for growing in self.nodes {
            let node = Node {
                literal: run(&mut trie.edges, |edges| {
                    edges.extend(
                        growing
                            .literal
                            .iter()
                            .map(|(label, node)| Edge { label: text(&mut trie.labels, label), node: *node }),
                    );
                }),
                templates: run(&mut trie.templates, |templates| {
                    templates.extend(growing.templates.iter().map(|(parts, node)| TemplateEdge {
                        parts: run(&mut trie.parts, |frozen| {
                            frozen.extend(parts.iter().map(|part| match part {
                                Part::Text(part) => FrozenPart::Text(text(&mut trie.labels, part)),
                                Part::Client => FrozenPart::Client,
                                Part::User => FrozenPart::User,
                            }));
                        }),
                        node: *node,
                    }));
                }),
                plus: growing.plus.unwrap_or(NONE),
                exact: run(&mut trie.rules, |rules| rules.extend_from_slice(&growing.exact)),
                many: run(&mut trie.rules, |rules| rules.extend_from_slice(&growing.many)),
                rights: growing.rights,
            };
            trie.nodes.push(node);
        }
        trie
    }
}

/// What `add` adds to an array.
fn run<T>(items: &mut Vec<T>, add: impl FnOnce(&mut Vec<T>)) -> Run {
    let start = u32::try_from(items.len()).unwrap_or(NONE);
    add(items);
    Run { start, end: u32::try_from(items.len()).unwrap_or(NONE) }
}

fn text(labels: &mut Vec<u8>, text: &[u8]) -> Run {
    run(labels, |labels| labels.extend_from_slice(text))
}
