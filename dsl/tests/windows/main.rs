//! Windows of every kind, what is counted in them, and when they give their results.

mod all;
mod cogroup;
mod days;
mod distinct;
mod final_headers;
mod hopping;
mod interval_models;
mod late_records;
mod retention;
mod sessions;
mod sliding;
mod suppress;
