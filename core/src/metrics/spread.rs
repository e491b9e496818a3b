//! Mean, smallest and largest of what was measured.

use std::ops::AddAssign;

/// How many values there were, their sum, and the smallest and the largest of them.
///
/// ```
/// use headwater_core::metrics::Spread;
///
/// let mut spread: Spread = [3.0, 9.0].into_iter().collect();
/// spread += Spread::of(6.0);
/// assert_eq!((spread.mean(), spread.min(), spread.max()), (Some(6.0), Some(3.0), Some(9.0)));
/// assert_eq!(Spread::default().mean(), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// One value.
    #[must_use]
    pub fn of(value: f64) -> Self {
        Self { count: 1.0, sum: value, min: value, max: value }
    }

    /// A share of so many, `part` of `whole`, that counts as often: the mean of several is that of all that is counted.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share is about right")]
    pub fn of_share(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self::default();
        }
        let (part, whole) = (part as f64, whole as f64);
        Self { count: whole, sum: part, min: part / whole, max: part / whole }
    }

    /// So many values, of which no more than their sum and the smallest and largest are known.
    ///
    /// ```
    /// # use headwater_core::metrics::Spread;
    /// let spread = Spread::of_all(4, 10.0, 1.0, 4.0);
    /// assert_eq!((spread.mean(), spread.min(), spread.max()), (Some(2.5), Some(1.0), Some(4.0)));
    /// ```
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nobody counts that far")]
    pub fn of_all(count: u64, sum: f64, min: f64, max: f64) -> Self {
        if count == 0 { Self::default() } else { Self { count: count as f64, sum, min, max } }
    }

    /// The mean; none if there is no value.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    /// The smallest; none if there is no value.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        (self.count > 0.0).then_some(self.min)
    }

    /// The largest; none if there is no value.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        (self.count > 0.0).then_some(self.max)
    }
}

impl AddAssign for Spread {
    fn add_assign(&mut self, other: Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = other;
            return;
        }
        self.count += other.count;
        self.sum += other.sum;
        (self.min, self.max) = (self.min.min(other.min), self.max.max(other.max));
    }
}

impl FromIterator<f64> for Spread {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut spread = Self::default();
        values.into_iter().for_each(|value| spread += Self::of(value));
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_weigh_by_what_is_counted() {
        let mut ratio = Spread::of_share(1, 2);
        ratio += Spread::of_share(0, 0);
        ratio += Spread::of_share(6, 6);
        assert_eq!((ratio.mean(), ratio.min(), ratio.max()), (Some(0.875), Some(0.5), Some(1.0)));
    }
}
