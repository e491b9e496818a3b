//! What processors may ask of how their application was configured.

use crate::topology::TaskId;
use std::{collections::BTreeMap, path::PathBuf};

/// What processors may ask of how their application was configured.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// What was set by keys.
    pub(crate) configs: BTreeMap<String, String>,
    /// Where the application keeps its data, if that is known.
    pub(crate) dir: Option<PathBuf>,
}

impl Settings {
    /// The values whose keys begin with `prefix`, by what comes after it.
    pub(crate) fn with_prefix(&self, prefix: &str) -> BTreeMap<&str, &str> {
        let own = self.configs.iter();
        own.filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value.as_str()))).collect()
    }

    /// The directory of a task.
    pub(crate) fn task_dir(&self, task: TaskId) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(task.to_string()))
    }
}
