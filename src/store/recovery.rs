//! Brings what the journal holds to rest, segment by segment. Recovery does it with all segments, a checkpoint with closed ones.

use super::batch::{Operation, Operations};
use super::checkpoint::{Overlay, POSITION};
use super::disk::{Disk, read_full};
use super::held::{Held, Over};
use super::home;
use super::rest::{EntryId, Rest, Space, number_value, read_number, read_row};
use super::segment::{self, Found, Reader, Segment};
use super::{Damage, Error, Findings, Position};
use std::collections::BTreeMap;
use std::io;

/// Where the first record of a store lies: no blob has the id 0.
const FIRST_POSITION: u64 = 1;

/// More than a journal holds at a time: what is not known of its end is left out.
const POSITIONS_LOST: u64 = 1 << 40;

/// Rows and entries beyond which a piece of the journal ends: what is made of them takes some 10 MB.
const LEFT_MAX: usize = 10_000;

/// Damaged bytes that are kept, of one place.
const KEPT_BYTES_MAX: u64 = 64 << 20;

pub(super) fn fault(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// What is needed to bring a segment to rest.
#[derive(Clone, Copy)]
pub(super) struct Move<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) rest: &'a dyn Rest,
    pub(super) store: u64,
}

/// Up to where rest includes the journal.
pub(super) fn position_of(rest: &dyn Rest) -> Result<Option<u64>, Error> {
    Ok(rest.get(Space::About, POSITION)?.as_deref().and_then(read_number))
}

/// What of the journal is at rest now.
pub(super) struct Moved {
    /// Rest includes the journal up to here.
    pub(super) to: u64,
    /// That is all that was to be moved.
    pub(super) is_all: bool,
    /// Keys and values that were written for it.
    pub(super) bytes: usize,
}

/// What recovery came to.
pub(super) struct Recovered {
    /// The position at which the journal goes on.
    pub(super) tail: u64,
    /// Rest includes the journal up to here.
    pub(super) at_rest: u64,
    /// What rest did not take, and the segments that have it.
    pub(super) held: Option<Held>,
    pub(super) segments: Vec<Segment>,
    /// Why it did not.
    pub(super) trouble: Option<Error>,
}

impl Move<'_> {
    /// Brings all segments to rest, and removes them one after the other. What rest does not take is held, and its segments stay.
    /// `is_known`: the store has been opened before, so that rest says how far it includes the journal, or the journal has been
    /// there from the first.
    pub(super) fn all(
        self,
        is_known: bool,
        findings: &mut Findings,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Recovered, Error> {
        let names = self.disk.list(segment::FOLDER).map_err(fault("list the journal"))?;
        let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
        firsts.sort_unstable();
        let at_rest = position_of(self.rest)?;
        if is_known && at_rest.is_none() && firsts.first() != Some(&FIRST_POSITION) {
            findings.damage.push(Damage {
                file: "rest".into(),
                position: Position(0),
                bytes: 0,
                what: "how far what is at rest includes the journal is missing, and perhaps much of what was at rest"
                    .into(),
            });
        }
        self.mend_references(findings)?;
        let mut position = at_rest.or(firsts.first().copied()).unwrap_or(FIRST_POSITION);
        let end = firsts.last().copied().unwrap_or(0);
        let start = position;
        let mut left = firsts.as_slice();
        let mut trouble = None;
        while let [first, after @ ..] = left {
            let next = after.first().copied();
            if next.is_none_or(|next| next > position) {
                progress(position.saturating_sub(start), end.saturating_sub(start));
                let found = findings.clone();
                match self.one_by_name(*first, position, next, findings) {
                    Ok(to) => position = to,
                    Err(error) => {
                        *findings = found;
                        trouble = Some(error);
                        break;
                    }
                }
            }
            if next.is_some() {
                self.forget(*first);
            }
            left = after;
        }
        let (reached, mut held, mut segments) = (position, None, Vec::new());
        if trouble.is_some() {
            // What could not be read is no better now, and ends the start.
            let over = Over { rest: self.rest, held: held.insert(Held::default()) };
            for (at, first) in left.iter().enumerate() {
                let next = left.get(at + 1).copied();
                position = Move { rest: &over, ..self }.one_by_name(*first, position, next, findings)?;
                let name = segment::name_of(*first);
                let file = self.disk.open(&name).map_err(fault(format!("open {name}")))?;
                segments.push(Segment { first: *first, file });
            }
        }
        if at_rest.is_none() {
            position = self.after_all_blobs(position)?;
        }
        if at_rest.is_none() && trouble.is_none() {
            self.rest.apply(vec![(Space::About, POSITION.to_vec(), Some(number_value(position)))])?;
        }
        if trouble.is_none() {
            firsts.iter().for_each(|first| self.forget(*first));
        }
        let _ = self.disk.remove(segment::NEXT);
        self.disk.sync_folder(segment::FOLDER).map_err(fault("sync the journal's folder"))?;
        progress(end.saturating_sub(start), end.saturating_sub(start));
        let at_rest = if held.is_some() { reached } else { position };
        Ok(Recovered { tail: position, at_rest, held, segments, trouble })
    }

    fn forget(self, first: u64) {
        let _ = self.disk.remove(&segment::name_of(first)); // one that stays is known to be at rest
    }

    /// Where rest has lost how far it includes the journal: positions that no blob can have.
    fn after_all_blobs(self, position: u64) -> Result<u64, Error> {
        let mut last = None;
        self.rest.scan(Space::References, &[], &[], &mut |key, _| {
            last = key.try_into().ok().map(u64::from_be_bytes);
            true
        })?;
        let Some(last) = last.filter(|last| *last > position) else { return Ok(position) };
        Ok(last.saturating_add(POSITIONS_LOST))
    }

    /// Where rest has lost what refers to blobs: counts anew.
    fn mend_references(self, findings: &mut Findings) -> Result<(), Error> {
        let has_any = |space| {
            let mut has_any = false;
            let scanned = self.rest.scan(space, &[], &[], &mut |_, _| {
                has_any = true;
                false
            });
            scanned.map(|()| has_any)
        };
        if has_any(Space::References)? || !has_any(Space::Blobs)? {
            return Ok(());
        }
        let mut references: BTreeMap<u64, u64> = BTreeMap::new();
        self.rest.scan(Space::Rows, &[], &[], &mut |_, row| {
            if let Some((blob, ..)) = read_row(row) {
                *references.entry(blob).or_default() += 1;
            }
            true
        })?;
        self.rest.scan(Space::Entries, &[], &[], &mut |key, _| {
            if let Some(id) = EntryId::read(key) {
                *references.entry(id.blob).or_default() += 1;
            }
            true
        })?;
        references.remove(&0);
        findings.damage.extend(self.rest.take_damage());
        let change =
            |(id, count): (u64, u64)| (Space::References, id.to_be_bytes().to_vec(), Some(number_value(count)));
        self.rest.apply(references.into_iter().map(change).collect())
    }

    fn one_by_name(self, first: u64, from: u64, next: Option<u64>, findings: &mut Findings) -> Result<u64, Error> {
        let name = segment::name_of(first);
        let file = self.disk.open(&name).map_err(fault(format!("open {name}")))?;
        match segment::store_of(&*file).map_err(fault(format!("read {name}")))? {
            Some(store) if store != self.store => {
                home::put_aside(self.disk, &name, Position(first), "a journal segment of another store", findings);
                return Ok(from);
            }
            Some(_) => {}
            // Its name says where it begins, and each record for itself whether it is right.
            None => findings.damage.push(Damage {
                file: name.clone(),
                position: Position(first),
                bytes: 0,
                what: "the header of a journal segment is damaged; its records are read all the same".into(),
            }),
        }
        if first > from {
            findings.damage.push(Damage {
                file: name,
                position: Position(from),
                bytes: first - from,
                what: "a journal segment is missing".into(),
            });
        }
        let segment = Segment { first, file };
        let mut position = from.max(first);
        loop {
            let moved = self.piece(&[(&segment, next)], position, findings)?;
            position = moved.to;
            if moved.is_all {
                return Ok(position);
            }
        }
    }

    /// Brings what segments that follow one another hold from a position on to rest, each with where the next one begins: as much of
    /// it as leaves so little that it takes little memory. What begins and ends within the piece leaves no trace.
    pub(super) fn piece(
        self,
        segments: &[(&Segment, Option<u64>)],
        from: u64,
        findings: &mut Findings,
    ) -> Result<Moved, Error> {
        let mut overlay = Overlay::new(self.rest, from);
        let mut moved = Moved { to: from, is_all: true, bytes: 0 };
        for (segment, next) in segments {
            (moved.to, moved.is_all) =
                self.read(&mut overlay, segment, moved.to.max(segment.first), *next, findings)?;
            if !moved.is_all {
                break;
            }
        }
        let name_of = |segment: &Segment| segment::name_of(segment.first);
        overlay.clear_long(&mut || {
            let sync =
                |(segment, _): &(&Segment, _)| segment.file.sync().map_err(fault(format!("sync {}", name_of(segment))));
            segments.iter().try_for_each(sync)
        })?;
        // In order, from the bytes that were just read: one read for many.
        let mut readers = Vec::new();
        for (segment, next) in segments {
            let reader = Reader::new(segment, self.store, from, *next);
            readers.push((segment.first, reader.map_err(fault(format!("read {}", name_of(segment))))?));
        }
        let changes = overlay.changes(moved.to, &mut |id| {
            let of = readers.iter_mut().rfind(|(first, _)| *first <= id);
            let batch = of.map_or(Ok(None), |(_, reader)| reader.batch_at(id)).map_err(fault("read the journal"))?;
            Ok(batch.and_then(blob_in).map(<[u8]>::to_vec))
        })?;
        moved.bytes = changes.iter().map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        self.rest.apply(changes)?;
        Ok(moved)
    }

    /// Takes in what a segment holds from a position on, until much is left of it. Returns where that ends, and whether it is all.
    fn read(
        self,
        overlay: &mut Overlay<'_>,
        segment: &Segment,
        from: u64,
        next: Option<u64>,
        findings: &mut Findings,
    ) -> Result<(u64, bool), Error> {
        let name = segment::name_of(segment.first);
        let unreadable = || fault(format!("read {name}"));
        let mut reader = Reader::new(segment, self.store, from, next).map_err(unreadable())?;
        let mut to = from;
        while overlay.left() <= LEFT_MAX {
            let Some(found) = reader.next().map_err(unreadable())? else { return Ok((to, true)) };
            match found {
                Found::Record { position, end } => {
                    if let Some(operations) = Operations::new(reader.batch()).whole() {
                        overlay.add(position, operations)?;
                        findings.records += 1;
                        findings.bytes += end - position;
                    } else {
                        let what = "a record holds what this version does not know";
                        self.quarantine(segment, position, end, what, findings);
                    }
                    to = end;
                }
                Found::Damaged { position, end } => {
                    self.quarantine(segment, position, end, "a part of the journal is damaged", findings);
                    to = end;
                }
                Found::End { position, torn } => {
                    findings.torn_bytes += torn;
                    return Ok((position, true));
                }
            }
        }
        Ok((to, false))
    }

    fn quarantine(self, segment: &Segment, position: u64, end: u64, what: &str, findings: &mut Findings) {
        let mut bytes = vec![0; usize::try_from((end - position).min(KEPT_BYTES_MAX)).unwrap_or(0)];
        let read = read_full(&*segment.file, &mut bytes, segment.offset(position)).unwrap_or(0);
        bytes.truncate(read);
        let damage = Damage {
            file: segment::name_of(segment.first),
            position: Position(position),
            bytes: end - position,
            what: what.into(),
        };
        home::quarantine(self.disk, damage, &bytes, findings);
    }
}

pub(super) fn blob_in(batch: &[u8]) -> Option<&[u8]> {
    Operations::new(batch).find_map(|operation| match operation {
        Operation::Blob(bytes) => Some(bytes),
        _ => None,
    })
}
