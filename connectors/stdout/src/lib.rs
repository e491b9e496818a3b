//! Stdout sink: one line a record.
