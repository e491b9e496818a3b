//! Tables: made, filtered, grouped, joined by either key, versioned and global.

mod described;
mod foreign_key;
mod global;
mod global_processor;
mod grouped;
mod joined;
mod joined_through_streams;
mod kept;
mod made;
mod model;
mod refused;
mod ttl;
mod updates;
mod versioned;
mod versioned_results;
