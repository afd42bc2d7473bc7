//! What must survive, and which acknowledgement waits for it.
//!
//! Each change to durable state becomes a record in the shard's journal; the answer to whoever asked for the change waits in
//! a first-in, first-out gate until the journal says that the record is safe, so answers keep their order. With
//! `durability = "memory"` records are safe at once and the gate stays empty.

use super::shard::Attachment;
use crate::codec::{Message, ReasonCode};
use crate::session::Answer;
use crate::store::Position;
use crate::store::single::{Journal, Record};
use std::collections::VecDeque;

/// Kinds of records. The numbers are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A Message that a durable Session waits for. Key: Topic Name.
    Message = 1,
    /// A Message became the retained one of its Topic. Key: Topic Name.
    Retained = 2,
    /// The retained Message of this Topic is gone.
    RetainedCleared = 3,
    /// A Session subscribes. Key: Client Identifier; body: filter.
    Subscribed = 4,
    /// A Session unsubscribes.
    Unsubscribed = 5,
    /// A Session that outlives its Network Connection began or came back. Key: Client Identifier.
    SessionOpened = 6,
    /// A Session ended.
    SessionEnded = 7,
}

/// An answer that waits for the journal.
struct Waiting {
    position: Position,
    to: Attachment,
    answer: Answer,
    reason: ReasonCode,
}

/// A journal and the answers that wait for it.
pub(super) struct Durable {
    journal: Box<dyn Journal>,
    waiting: VecDeque<Waiting>,
}

impl Durable {
    pub(super) fn new(journal: Box<dyn Journal>) -> Self {
        Self { journal, waiting: VecDeque::new() }
    }

    pub(super) fn note(&mut self, change: Change, key: &[u8], body: &[u8]) -> Position {
        self.journal.append(Record { kind: change as u8, key, body })
    }

    pub(super) fn note_message(&mut self, change: Change, message: &Message) -> Position {
        self.note(change, message.topic(), message.payload())
    }

    /// Whether an answer that depends on `position` may go now. Behind others that wait it may not: order.
    pub(super) fn is_open(&self, position: Option<Position>) -> bool {
        self.waiting.is_empty() && position.is_none_or(|position| position <= self.journal.durable())
    }

    pub(super) fn wait(&mut self, position: Option<Position>, to: Attachment, answer: Answer, reason: ReasonCode) {
        let position = position.unwrap_or_else(|| self.waiting.back().map_or(Position(0), |last| last.position));
        self.waiting.push_back(Waiting { position, to, answer, reason });
    }

    /// The next answer whose record is safe.
    pub(super) fn release(&mut self) -> Option<(Attachment, Answer, ReasonCode)> {
        if self.waiting.front()?.position > self.journal.durable() {
            return None;
        }
        self.waiting.pop_front().map(|waiting| (waiting.to, waiting.answer, waiting.reason))
    }
}
