//! The tasks of an application: how they are made, and what they take and give to each other.
//!
//! | part | does |
//! |---|---|
//! | `setup` | from a topology to tasks |
//! | `partitions` | how many partitions topics have, and internal ones that grow |
//! | `assignment` | which partitions the application may read, by events of the log |
//! | `task_group` | lets the tasks of one participant step |
//! | `feed` | what was fetched of an external partition, for all applications that read it |
//! | `exchange`, `resting` | repartition topics between tasks, in memory; who rests, and when that ends |
//! | `globals` | global stores at the ends of their topics |

pub(super) mod assignment;
pub(super) mod exchange;
pub(super) mod feed;
pub(super) mod globals;
pub(super) mod partitions;
pub(super) mod resting;
pub(super) mod setup;
pub(super) mod task_group;
