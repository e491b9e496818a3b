//! What runs a topology: threads, time, timers, assignment, rest, restarts, other versions.

mod ahead;
mod assignment;
mod changelogs;
mod chunks;
mod damage;
mod defects;
mod diff;
mod drain;
mod explain;
mod handlers;
mod idle_partitions;
mod lifecycle;
mod limits;
mod listeners;
mod metrics;
mod panics;
mod processor_api;
mod progress;
mod queries;
mod rest;
mod restore;
mod threads;
mod time;
mod timers;
mod topologies;
mod versions;
