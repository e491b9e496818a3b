//! One test for each defect that was found and can be seen from outside.
//!
//! What is still wrong is asserted to be wrong by [`red`]; whoever mends it writes [`holds`] in its place.
//!
//! Records are written `key=value@timestamp`, windowed keys `key[start]`, nulls `-`.

mod kit;
mod letters;
mod runtime;
mod tables;
mod times;
mod versions;
