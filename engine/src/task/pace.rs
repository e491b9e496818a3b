//! How many rows a run or a chunk may have, so that what becomes of them fits into a commit: what a row becomes, only the
//! rows before it can tell. Runs begin short, so that after a restart too an application whose rows become much goes on.

/// What a run adds to the next commit, at about most.
const BYTES_MAX: usize = 8 << 20;

/// What a row is taken for before there was one.
const ROW_BYTES: usize = 8 << 10;
/// The most rows of a task's first run.
const ROWS_FIRST: usize = 16;
/// How much longer a run may be than the one before.
const GROWTH: usize = 4;

/// The pace of a task's runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    bytes_max: usize,
    rows_max: usize,
}

impl Pace {
    /// Of runs, for a log whose commits have at most so many bytes.
    pub(super) fn of_runs(commit_bytes_max: usize) -> Self {
        let chunks = Self::of_chunks(commit_bytes_max);
        Self { rows_max: chunks.rows_max.min(ROWS_FIRST), ..chunks }
    }

    /// Of what is left to forward, whose rows are small ones mostly: finals.
    pub(super) fn of_chunks(commit_bytes_max: usize) -> Self {
        let bytes_max = (commit_bytes_max / 16).min(BYTES_MAX);
        Self { bytes_max, rows_max: (bytes_max / ROW_BYTES).max(1) }
    }

    /// The most rows of the next run.
    pub(super) fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// A run of so many rows has added so many bytes.
    pub(super) fn ran(&mut self, rows: usize, bytes: usize) {
        let Some(bytes_a_row) = bytes.checked_div(rows) else { return };
        let fitting = self.bytes_max / bytes_a_row.max(1);
        self.rows_max = fitting.min(self.rows_max.saturating_mul(GROWTH)).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_while_rows_are_light_and_shrink_at_once_where_they_are_heavy() {
        let mut pace = Pace::of_runs(512 << 20);
        let mut rows = Vec::new();
        for bytes_a_row in [100, 1 << 20, 1 << 20, 64 << 20, 100, 100, 0] {
            rows.push(pace.rows_max());
            pace.ran(pace.rows_max(), pace.rows_max() * bytes_a_row);
        }
        assert_eq!(rows, [16, 64, 8, 8, 1, 4, 16]);
        pace.ran(0, 7);
        assert_eq!(pace.rows_max(), 64, "without rows there is nothing to tell");
        assert_eq!(Pace::of_runs(0).rows_max(), 1);
        assert_eq!(Pace::of_chunks(512 << 20).rows_max(), 1_024);
    }
}
