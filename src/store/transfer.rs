//! A store as lines of JSON, and back: for whoever moves to another machine or version, or wants to see what there is.
//!
//! ```json
//! {"waypost-store":1}
//! {"blob":71,"bytes":"aGVsbG8="}
//! {"table":1,"key":"dG9waWM=","value":"","blob":71}
//! {"queue":7,"blob":71,"tag":1,"meta":"","count":2}
//! ```
//!
//! Bytes are base64. What comes back is the same: blobs keep their ids.

use super::checkpoint::POSITION;
use super::engine::Engine;
use super::recovery::{fault, position_of};
use super::rest::{EntryId, Rest, Space, entry_value, number_value, row_key, row_value};
use super::{Error, Findings, Folder, Options, Store, home, whole};
use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::Path;

/// Of the lines.
const FORMAT: u32 = 1;

/// Bytes of changes that are gathered before they are written.
const CHUNK_BYTES: usize = 4 << 20;

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub rows: u64,
    pub entries: u64,
    pub blobs: u64,
    /// Of keys, values, metas and blobs.
    pub bytes: u64,
    /// Rows and entries whose blob is not there.
    pub without_blob: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Store {
        #[serde(rename = "waypost-store")]
        format: u32,
    },
    Row {
        table: u8,
        key: String,
        value: String,
        blob: u64,
    },
    Entry {
        queue: u64,
        blob: u64,
        tag: u64,
        meta: String,
        count: u32,
    },
    Blob {
        blob: u64,
        bytes: String,
    },
}

impl Store {
    /// Reads everything that recovery found, and says how much there is. What is damaged is then in `take_damage`.
    pub fn contents(&self) -> Result<Contents, Error> {
        self.export(&mut io::sink())
    }

    /// Writes everything that recovery found.
    pub fn export(&self, out: &mut dyn Write) -> Result<Contents, Error> {
        let mut contents = Contents::default();
        let mut blobs: BTreeMap<u64, bool> = BTreeMap::new();
        let mut written = write_line(out, &Line::Store { format: FORMAT });
        for table in 0..=u8::MAX {
            self.rows(table, &mut |key, value, blob| {
                contents.rows += 1;
                contents.bytes += (key.len() + value.len()) as u64;
                let line = Line::Row { table, key: text_of(key), value: text_of(value), blob };
                after(&mut written, || write_line(out, &line));
                blobs.insert(blob, false);
            })?;
        }
        self.entries(&mut |queue, blob, tag, meta, count| {
            contents.entries += 1;
            contents.bytes += meta.len() as u64;
            after(&mut written, || write_line(out, &Line::Entry { queue, blob, tag, meta: text_of(meta), count }));
            blobs.insert(blob, false);
        })?;
        blobs.remove(&0);
        for (blob, is_there) in &mut blobs {
            if let Some(bytes) = self.blob(*blob)? {
                *is_there = true;
                contents.blobs += 1;
                contents.bytes += bytes.len() as u64;
                after(&mut written, || write_line(out, &Line::Blob { blob: *blob, bytes: text_of(&bytes) }));
            }
        }
        let is_missing = |blob: u64| blobs.get(&blob) == Some(&false);
        if blobs.values().any(|is_there| !is_there) {
            for table in 0..=u8::MAX {
                self.rows(table, &mut |_, _, blob| contents.without_blob += u64::from(is_missing(blob)))?;
            }
            self.entries(&mut |_, blob, _, _, _| contents.without_blob += u64::from(is_missing(blob)))?;
        }
        after(&mut written, || out.flush());
        written.map_err(fault("write the lines"))?;
        Ok(contents)
    }

    /// Fills a directory in which there is no store yet. After an error what is there is of no use.
    pub fn import(dir: &Path, options: &Options, input: &mut dyn BufRead) -> Result<Contents, Error> {
        let _lock = home::lock(dir)?;
        let disk = Folder(dir.to_owned());
        let mut findings = Findings::default();
        if let (id, false) = whole::identify(&disk, dir, &mut findings)? {
            home::write_format(&disk, id).map_err(fault("write the format file"))?;
        }
        let rest = Engine::open(dir, options, &mut findings)?;
        if position_of(&rest)?.is_some() || whole::has_segments(&disk)? {
            let why = "there is a store in this directory already: import into an empty one".into();
            return Err(Error::Rest { what: "filled", why });
        }
        let mut filling = Filling { rest: &rest, changes: Vec::new(), bytes: 0, contents: Contents::default() };
        let mut references: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last = 0;
        for (number, line) in (1..).zip(input.lines()) {
            let line = line.map_err(fault("read the lines"))?;
            let wrong = |why: String| Error::Rest { what: "filled", why: format!("line {number}: {why}") };
            let line: Line = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            let is_first = matches!(line, Line::Store { format: FORMAT });
            if is_first != (number == 1) {
                return Err(wrong(format!("the first line, and no other, is {{\"waypost-store\":{FORMAT}}}")));
            }
            let bytes_of = |text: &str| Base64::decode_vec(text).map_err(|_| wrong("this is not base64".into()));
            match line {
                Line::Store { .. } => {}
                Line::Row { table, key, value, blob } => {
                    let (key, value) = (bytes_of(&key)?, bytes_of(&value)?);
                    *references.entry(blob).or_default() += 1;
                    last = last.max(blob);
                    filling.contents.rows += 1;
                    filling.contents.bytes += (key.len() + value.len()) as u64;
                    filling.put(Space::Rows, row_key(table, &key), row_value(&key, &value, blob))?;
                }
                Line::Entry { queue, blob, tag, meta, count } => {
                    *references.entry(blob).or_default() += 1;
                    last = last.max(blob);
                    let meta = bytes_of(&meta)?;
                    filling.contents.entries += 1;
                    filling.contents.bytes += meta.len() as u64;
                    let value = entry_value(count, &meta);
                    filling.put(Space::Entries, EntryId { queue, blob, tag }.key(), value)?;
                }
                Line::Blob { blob, bytes } => {
                    last = last.max(blob);
                    let bytes = bytes_of(&bytes)?;
                    filling.contents.blobs += 1;
                    filling.contents.bytes += bytes.len() as u64;
                    filling.put(Space::Blobs, blob.to_be_bytes().to_vec(), bytes)?;
                }
            }
        }
        references.remove(&0);
        filling.write()?;
        for (blob, count) in references {
            if rest.get(Space::Blobs, &blob.to_be_bytes())?.is_some() {
                filling.put(Space::References, blob.to_be_bytes().to_vec(), number_value(count))?;
            } else {
                filling.contents.without_blob += count;
            }
        }
        filling.put(Space::About, POSITION.to_vec(), number_value(last + 1))?;
        filling.write()?;
        Ok(filling.contents)
    }
}

struct Filling<'a> {
    rest: &'a Engine,
    changes: Vec<super::Change>,
    bytes: usize,
    contents: Contents,
}

impl Filling<'_> {
    fn put(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) -> Result<(), Error> {
        self.bytes += key.len() + value.len();
        self.changes.push((space, key, Some(value)));
        if self.bytes > CHUNK_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Error> {
        self.bytes = 0;
        self.rest.apply(std::mem::take(&mut self.changes))
    }
}

fn text_of(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

fn write_line(out: &mut dyn Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Goes on unless something went wrong before.
fn after(done: &mut io::Result<()>, next: impl FnOnce() -> io::Result<()>) {
    if done.is_ok() {
        *done = next();
    }
}
