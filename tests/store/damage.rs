//! Bytes that are not what was written: opening never fails, nothing is made up, and what is readable is served.

use crate::life::{History, check_damaged, live, open};
use crate::model::{Image, Lot, Model};
use waypost::store::{Batch, BlobRef, Safety};

/// A store that was closed in good order, and everything in its files.
fn closed(seed: u64) -> (Image, History) {
    let mut lot = Lot::new(seed);
    let model = Model::default();
    let (store, _) = open(&model).expect("it opens");
    let mut history = History::default();
    live(&model, &store, &mut history, 30, &mut lot);
    store.stop();
    store.run_commits(&|| {});
    (model.image(), history)
}

/// Damages one file by lot.
fn damage(image: &mut Image, lot: &mut Lot) -> String {
    let names: Vec<String> = image.files.keys().cloned().collect();
    let name = names[lot.below(names.len() as u64) as usize].clone();
    let bytes = image.files.get_mut(&name).expect("it is there");
    let length = bytes.len() as u64;
    let at = lot.below(length.max(1)) as usize;
    let what = lot.below(5);
    match what {
        _ if bytes.is_empty() => {}
        0 => bytes[at] ^= 1 << lot.below(8),
        1 => bytes.truncate(at),
        2 => {
            let end = (at + lot.below(64) as usize).min(bytes.len());
            bytes[at..end].fill(0);
        }
        3 => {
            let end = (at + lot.below(64) as usize).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte = lot.next() as u8);
        }
        // One place's bytes in another.
        _ => {
            let length = lot.below(length - at as u64) as usize;
            let from = lot.below((bytes.len() - length) as u64 + 1) as usize;
            bytes.copy_within(from..from + length, at);
        }
    }
    format!("{what} at {at} of {name}")
}

#[test]
fn whatever_bytes_are_damaged_the_store_opens_and_makes_nothing_up() {
    for seed in 1..200 {
        let (image, history) = closed(seed);
        let mut lot = Lot::new(seed);
        for _ in 0..30 {
            let mut damaged = image.clone();
            let what = damage(&mut damaged, &mut lot);
            check_damaged(damaged, &history).unwrap_or_else(|wrong| panic!("seed {seed}, {what}: {wrong}"));
        }
    }
}

/// Two records of one length, of which the second lies in the place of the first.
pub(crate) fn a_record_in_another_place() -> Result<(), String> {
    let model = Model::default();
    let (store, _) = open(&model)?;
    let mut batch = Batch::new();
    for value in [b"first", b"other"] {
        batch.clear();
        batch.put(0, value, value, BlobRef::None);
        store.journal().append(&batch, Safety::Synced);
    }
    store.commit(&|| {}).map_err(|error| error.to_string())?;
    let mut image = model.image();
    let segment = image.files.iter_mut().find(|(name, _)| name.ends_with(".log")).ok_or("no segment")?.1;
    let length = (store.journal().tail().0 - 1) as usize / 2;
    segment.copy_within(40 + length..40 + 2 * length, 40);
    let (store, findings) = open(&Model::of(image))?;
    let mut rows = Vec::new();
    store.rows(0, &mut |key, _, _| rows.push(key.to_vec())).map_err(|error| error.to_string())?;
    // The first is damaged; nothing after the second knows that it was safe.
    let is_right = rows.is_empty() && findings.damage.is_empty() && findings.torn_bytes > 0;
    if is_right { Ok(()) } else { Err(format!("{rows:?} {findings:?}")) }
}

#[test]
fn a_record_counts_only_where_it_was_written() {
    a_record_in_another_place().unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn a_damaged_record_is_put_aside_and_those_after_it_are_served() {
    let model = Model::default();
    let (store, _) = open(&model).expect("it opens");
    let mut batch = Batch::new();
    let mut places = Vec::new();
    for key in [b"a", b"b", b"c"] {
        batch.clear();
        batch.put(0, key, b"value", BlobRef::None);
        places.push(store.journal().append(&batch, Safety::Synced));
        store.commit(&|| {}).expect("the disk takes it");
    }
    let mut image = model.image();
    let (name, segment) = image.files.iter_mut().find(|(name, _)| name.ends_with(".log")).expect("there is a segment");
    let name = name.clone();
    // In its value.
    segment[40 + (places[1].end.0 - 1) as usize - 3] ^= 1;
    let model = Model::of(image);
    let (store, findings) = open(&model).expect("it opens");
    let mut rows = Vec::new();
    store.rows(0, &mut |key, _, _| rows.push(key.to_vec())).expect("rows are read");
    assert_eq!(rows, [b"a", b"c"]);
    let [damage] = &findings.damage[..] else { panic!("{findings:?}") };
    assert_eq!(
        (damage.file.as_str(), damage.position.0, damage.bytes),
        (&*name, places[1].id, places[1].end.0 - places[1].id)
    );
    let aside: Vec<(String, Vec<u8>)> =
        model.image().files.into_iter().filter(|(name, _)| name.starts_with("quarantine/")).collect();
    let [(_, bytes), (report_name, report)] = &aside[..] else { panic!("the bytes and a report: {aside:?}") };
    assert_eq!(bytes.len() as u64, damage.bytes);
    assert!(report_name.ends_with(".txt"));
    assert!(String::from_utf8_lossy(report).contains("row of table 0"), "{report:?}");
}

#[test]
fn a_newer_format_is_left_alone() {
    let (mut image, _) = closed(1);
    let line = "waypost-store format 2 id 00000000000000ff";
    let check = xxhash_rust::xxh3::xxh3_64(line.as_bytes());
    image.files.insert("format".into(), format!("{line} check {check:016x}\nand more\n").into_bytes());
    let Err(wrong) = open(&Model::of(image)) else { panic!("it opens") };
    assert!(wrong.contains("written by a newer version (format 2, this one knows 1)"), "{wrong}");
}
