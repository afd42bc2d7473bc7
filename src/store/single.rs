//! The journal of a single shard as the hall has it so far; goes when the hall takes [`super::Journal`].

use super::Position;

/// One change. The bytes are borrowed: a journal that keeps nothing costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The caller's number for what this is.
    pub kind: u8,
    pub key: &'a [u8],
    pub body: &'a [u8],
}

/// The commit point. `append` never blocks.
pub trait Journal {
    /// Takes a record in. It is safe once `durable() >= ` the position returned, and lost or kept, but never torn, before.
    fn append(&mut self, record: Record<'_>) -> Position;

    /// Everything up to here is safe.
    fn durable(&self) -> Position;
}

/// `durability = "memory"`: nothing survives the process, and nothing waits.
#[derive(Default, Debug)]
pub struct Memory {
    appended: Position,
}

impl Journal for Memory {
    fn append(&mut self, _record: Record<'_>) -> Position {
        self.appended.0 += 1;
        self.appended
    }

    fn durable(&self) -> Position {
        self.appended
    }
}
