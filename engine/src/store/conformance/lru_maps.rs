//! Maps that hold what was used last.

use super::{
    super::{LruMap, Stores, ValueAndTimestamp},
    READS, Random, STEPS, Subject,
};
use headwater_core::{ports::state::ApplicationState, serde::for_type};
use std::sync::Arc;

const ENTRIES_MAX: usize = 7;

/// Against a list of entries, the one that was used last at its end.
pub(super) fn they_are_those_of_a_list(state: &Arc<dyn ApplicationState>) {
    let builder = Stores::lru_map("lru", ENTRIES_MAX, for_type::<String>(), for_type::<i64>());
    let mut subject = Subject::<LruMap<String, i64>>::new(state, builder, |_| ());
    let (mut model, mut random) = (Vec::<(String, i64)>::new(), Random(9));
    for step in 0..STEPS {
        let (key, value, store) = (random.key(), i64::from(step), &mut subject.store);
        let place = model.iter().position(|(known, _)| *known == key);
        let there = place.map(|place| model.remove(place).1);
        let told = |stored: Option<ValueAndTimestamp<i64>>| stored.map(|it| it.value);
        match random.below(5) {
            0 => {
                assert_eq!(told(store.get(&key).expect(READS)), there, "{key:?}");
                model.extend(there.map(|there| (key, there)));
            }
            1 => {
                let found = store.put_if_absent(&key, value, value).expect("it is taken");
                assert_eq!(told(found), there, "{key:?}");
                model.push((key, there.unwrap_or(value)));
            }
            2 => {
                let found = store.delete(&key).expect("a deletion is taken");
                assert_eq!(told(found), there, "{key:?}");
            }
            _ => {
                store.put_all([(key.clone(), Some(value), value)]).expect("a value is taken");
                model.push((key, value));
            }
        }
        if model.len() > ENTRIES_MAX {
            model.remove(0);
        }
        subject.pass_time(&mut random);
        let count = subject.store.approximate_num_entries().expect(READS);
        assert_eq!(count, model.len() as u64, "step {step}");
    }
}
