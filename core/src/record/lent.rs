//! Memory that comes back to whoever made it: what the system takes back and gives again it clears first, page by page.

use std::{
    fmt, mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// What is kept of it: one is filled while others are read.
const IDLE_MAX: usize = 3;
/// Memory for more than this many times as much is given back to the system.
const OVERSIZE: usize = 4;

type Idle<T> = Mutex<Vec<Vec<T>>>;

/// Where lists come back to.
pub(super) struct Home<T>(Arc<Idle<T>>);

impl<T> Default for Home<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Home<T> {
    /// An empty list with room for about `items`.
    pub(super) fn take(&self, items: usize) -> Vec<T> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let fits = |idle: &Vec<T>| idle.capacity() / OVERSIZE <= items;
        idle.filter(fits).unwrap_or_else(|| Vec::with_capacity(items))
    }

    /// A list that comes back once it is dropped, if this still is there.
    pub(super) fn lend(&self, items: Vec<T>) -> Lent<T> {
        Lent { items, home: Arc::downgrade(&self.0) }
    }
}

/// A list whose memory has a home, or none.
pub(super) struct Lent<T> {
    items: Vec<T>,
    home: Weak<Idle<T>>,
}

impl<T> From<Vec<T>> for Lent<T> {
    fn from(items: Vec<T>) -> Self {
        Self { items, home: Weak::new() }
    }
}

impl<T> Default for Lent<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: Clone> Clone for Lent<T> {
    fn clone(&self) -> Self {
        self.items.clone().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Lent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.fmt(f)
    }
}

impl<T> Deref for Lent<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.items
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.items
    }
}

impl AsRef<[u8]> for Lent<u8> {
    fn as_ref(&self) -> &[u8] {
        &self.items
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut items = mem::take(&mut self.items);
        items.clear();
        let mut idle = home.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle<T>(home: &Home<T>) -> usize {
        home.0.lock().unwrap().len()
    }

    #[test]
    fn memory_comes_back_empty_and_no_more_of_it_than_is_of_use() {
        let home = Home::<u64>::default();
        let lent = |items| home.lend(Vec::with_capacity(items));
        let mut first = lent(100);
        first.push(7);
        let copy = first.clone();
        let others: Vec<_> = (0..2 * IDLE_MAX).map(|_| lent(100)).collect();
        assert_eq!(idle(&home), 0);
        drop((others, copy));
        assert_eq!(idle(&home), IDLE_MAX, "and a copy has no home");
        let taken = home.take(30);
        assert!(taken.is_empty() && taken.capacity() >= 100);
        assert!(home.take(20).capacity() < 100, "it was far too large, and goes");
        assert_eq!(idle(&home), IDLE_MAX - 2);
        assert_eq!((first.len(), first.first()), (1, Some(&7)));
        drop(home);
        drop(first);
    }
}
