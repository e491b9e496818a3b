//! One test for each defect that was found and can be seen from outside.
//!
//! Records are written `key=value@timestamp`, windowed keys `key[start]`, nulls `-`.

mod kit;
mod letters;
mod runtime;
mod tables;
mod times;
mod versions;
