//! Lists whose indexes have a type of their own, so that an index into one is never taken for one into another.

use crate::broken::broken;
use std::{
    marker::PhantomData,
    ops::{Index, IndexMut},
};

/// An index into lists of one kind. There is always an element at it: it was made for one.
pub(crate) trait TypedIndex: Copy {
    /// The invariant that is broken where there is none.
    const IS_THERE: &'static str;

    fn new(number: usize) -> Self;

    fn number(self) -> usize;
}

/// A list with an element for each index of a kind.
#[derive(Debug)]
pub(crate) struct ByIndex<I, T> {
    items: Vec<T>,
    index: PhantomData<fn(I)>,
}

impl<I: TypedIndex, T> ByIndex<I, T> {
    pub(crate) fn filled(item: T, count: usize) -> Self
    where
        T: Clone,
    {
        vec![item; count].into()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The indexes, ascending.
    pub(crate) fn indexes(&self) -> impl DoubleEndedIterator<Item = I> + use<I, T> {
        (0..self.items.len()).map(I::new)
    }

    /// The elements with their indexes.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (I, &T)> + ExactSizeIterator {
        self.items.iter().enumerate().map(|(number, item)| (I::new(number), item))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        self.items.iter_mut().enumerate().map(|(number, item)| (I::new(number), item))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut()
    }
}

impl<I, T> From<Vec<T>> for ByIndex<I, T> {
    fn from(items: Vec<T>) -> Self {
        Self { items, index: PhantomData }
    }
}

impl<I: TypedIndex, T> Index<I> for ByIndex<I, T> {
    type Output = T;

    fn index(&self, index: I) -> &T {
        self.items.get(index.number()).unwrap_or_else(|| broken(I::IS_THERE))
    }
}

impl<I: TypedIndex, T> IndexMut<I> for ByIndex<I, T> {
    fn index_mut(&mut self, index: I) -> &mut T {
        self.items.get_mut(index.number()).unwrap_or_else(|| broken(I::IS_THERE))
    }
}
