//! Keys and values: without one, of every type, refused, too large.

mod keys;
mod nulls;
mod refused_types;
mod refused_values;
mod round_trip;
mod sizes;
