//! Signals that a program was started with ignored.

use std::fs;

/// Whether this process was started with the signal of this number ignored, where the system tells: one that is to go on does not
/// handle it.
///
/// `nohup` has a closed terminal ignored, and a shell without job control Ctrl-C for what it starts in the background.
///
/// ```
/// use headwater::signals::is_ignored;
///
/// // SIGTERM, and a number that is no signal's.
/// assert!(!is_ignored(15) && !is_ignored(0));
/// ```
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1
}
