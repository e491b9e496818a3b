//! Commits: all tasks of an application together, or none.
//!
//! | part | does |
//! |---|---|
//! | `rounds` | what participants, committer and handle share: when a commit is wanted, where its round is, how it ends |
//! | `assemble` | what the log gets of it, and then the state |
//! | `committer` | hands commits to the log, and publishes them once it has them |

pub(super) mod assemble;
pub(super) mod committer;
pub(super) mod rounds;
