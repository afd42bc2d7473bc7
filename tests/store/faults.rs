//! Calls that fail: nothing is promised that is not so, nothing is lost, and it ends by itself.

use crate::life::{History, crash_everywhere, live, open};
use crate::model::{Event, Failing, Failure, Image, Lot, Model};
use waypost::store::Safety;

const FAILURES: [Failure; 5] = [Failure::Broken, Failure::Full, Failure::Short, Failure::Interrupted, Failure::AtRest];

fn failing(lot: &mut Lot) -> Failing {
    let error = FAILURES[lot.below(FAILURES.len() as u64) as usize];
    // Checkpoints are rare among calls.
    let rarity = if error == Failure::AtRest { 10 } else { 1 };
    Failing { from: lot.below(60) + 1, calls: (lot.below(12) + 1) * rarity, error }
}

/// Lives with calls that fail, and crashes after each.
pub(crate) fn fail_and_crash(seed: u64) -> Result<u64, String> {
    let mut lot = Lot::new(seed);
    let failing = failing(&mut lot);
    crash_everywhere(Image::default(), History::default(), Some(failing), &mut lot, 0)
        .map_err(|wrong| format!("seed {seed}, {failing:?}: {wrong}"))
}

#[test]
fn a_crash_while_calls_fail_leaves_all_that_was_promised() {
    let mut checked = 0;
    let mut seed = 0;
    while checked < 20_000 {
        seed += 1;
        checked += fail_and_crash(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn trouble_is_said_while_calls_fail_and_ends_by_itself() {
    for seed in 1..300 {
        let mut lot = Lot::new(seed);
        let model = Model::default();
        let (store, _) = open(&model).expect("it opens");
        let mut history = History::default();
        live(&model, &store, &mut history, 10, &mut lot);
        let calls = model.world().calls;
        model.world().failing = Some(Failing { from: calls + 1, calls: u64::MAX / 2, error: Failure::Full });
        let journal = store.journal();
        let before = journal.reached(Safety::Synced);
        let mut batch = waypost::store::Batch::new();
        batch.put(0, b"key", &[7; 500], waypost::store::BlobRef::None);
        let appended = journal.append(&batch, Safety::Synced);
        for _ in 0..3 {
            store.commit(&|| {}).expect_err("the disk is full");
            assert!(journal.reached(Safety::Synced) < appended.end, "seed {seed}");
            let trouble = journal.trouble().expect("there is trouble");
            assert!(trouble.contains("cannot be written"), "{trouble}");
        }
        assert!(journal.reached(Safety::Synced) >= before);
        model.world().failing = None;
        store.commit(&|| {}).expect("there is room again");
        store.commit(&|| {}).expect("there is room again");
        assert_eq!(journal.trouble(), None, "seed {seed}");
        assert_eq!(journal.reached(Safety::Synced), journal.tail(), "seed {seed}");
    }
}

/// Lives, and opens over a rest that takes nothing, for longer or shorter; lives on, and crashes after each.
pub(crate) fn open_over_a_full_rest(seed: u64) -> Result<u64, String> {
    let mut lot = Lot::new(seed);
    let model = Model::default();
    let (store, _) = open(&model)?;
    let mut history = History::default();
    live(&model, &store, &mut history, 60, &mut lot);
    drop(store);
    let failing = Failing { from: lot.below(8) + 1, calls: 1 << lot.below(8), error: Failure::RestFull };
    crash_everywhere(model.image(), history, Some(failing), &mut lot, 0)
        .map_err(|wrong| format!("seed {seed}, {failing:?}: {wrong}"))
}

#[test]
fn a_store_opens_over_a_rest_that_takes_nothing() {
    let mut checked = 0;
    let mut seed = 0;
    while checked < 10_000 {
        seed += 1;
        checked += open_over_a_full_rest(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn a_signal_is_no_failure() {
    let model = Model::default();
    let (store, _) = open(&model).expect("it opens");
    let mut batch = waypost::store::Batch::new();
    batch.put(0, b"key", b"value", waypost::store::BlobRef::None);
    store.journal().append(&batch, Safety::Synced);
    store.commit(&|| {}).expect("it works");
    // The next call is the write of the next record.
    let calls = model.world().calls;
    model.world().failing = Some(Failing { from: calls + 1, calls: 1, error: Failure::Interrupted });
    store.journal().append(&batch, Safety::Synced);
    store.commit(&|| {}).expect("it works");
    assert_eq!(store.statistics().failures, 0);
    assert!(matches!(model.world().events.last(), Some(Event::Sync(_))));
}
