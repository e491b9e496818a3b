//! HTTP webhook sink.
