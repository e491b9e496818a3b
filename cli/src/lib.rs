//! The headwater command line.
