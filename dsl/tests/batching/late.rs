//! What comes too late for windows.

use crate::folds::{Window, cached, or_gone, reduced, windowed};
use headwater_dsl::{KStream, Materialized};
use std::{cell::RefCell, rc::Rc};

/// Results and late records as one stream, each told from the other.
pub(crate) fn late_and_in_time(
    stream: &KStream<String, i64>,
    window: Window,
    store: &str,
) -> KStream<String, i64> {
    let late = Rc::new(RefCell::new(None));
    let read = Rc::clone(&late);
    let windowed = windowed(&stream.group_by_key(), window, 20)
        .late_records(move |stream| drop(read.borrow_mut().replace(stream)));
    let sums = windowed.reduce(reduced, cached(Materialized::named(store), window.caching));
    let in_time = sums
        .to_stream()
        .map(|key, value| (format!("{}@{}", key.key, key.window.start), or_gone(value)));
    let late = late.borrow_mut().take().expect("it is handed to whoever asks for it");
    late.to("late");
    let late = late.map(|key, late| {
        (format!("late-{key}@{}", late.window.start), late.value.wrapping_add(late.late_by_ms))
    });
    in_time.merge(&late)
}
