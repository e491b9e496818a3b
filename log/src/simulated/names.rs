//! A directory's names: those that were synced, and what was done to them since.

use super::random::Random;
use std::{collections::BTreeMap, ffi::OsString};

/// Which file or directory each name leads to.
type Table = BTreeMap<OsString, usize>;

/// What a directory holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    synced: Table,
    current: Table,
    /// What leads from `synced` to `current`.
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Create(OsString, usize),
    Rename { to: OsString, node: usize },
    Remove(OsString),
}

impl Change {
    fn apply(&self, table: &mut Table) {
        match self {
            Self::Create(name, node) => {
                table.insert(name.clone(), *node);
            }
            Self::Rename { to, node } => {
                // An earlier rename of it may be lost: whatever name it has, it has one.
                table.retain(|_, at| at != node);
                table.insert(to.clone(), *node);
            }
            Self::Remove(name) => {
                table.remove(name);
            }
        }
    }
}

impl Names {
    pub(super) fn get(&self, name: &OsString) -> Option<usize> {
        self.current.get(name).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &OsString> {
        self.current.keys()
    }

    pub(super) fn create(&mut self, name: OsString, node: usize) {
        self.change(Change::Create(name, node));
    }

    pub(super) fn remove(&mut self, name: OsString) {
        self.change(Change::Remove(name));
    }

    /// Gives what has a name here another one.
    pub(super) fn rename(&mut self, to: OsString, node: usize) {
        self.change(Change::Rename { to, node });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    /// Makes all of it last.
    pub(super) fn sync(&mut self) {
        if !self.unsynced.is_empty() {
            self.synced.clone_from(&self.current);
            self.unsynced.clear();
        }
    }

    /// What the names lead or led to that a sync has to make last now, or their absence.
    pub(super) fn unsynced(&self) -> impl Iterator<Item = usize> {
        let changed = self.unsynced.iter().map(|change| match change {
            Change::Create(name, _) | Change::Rename { to: name, .. } | Change::Remove(name) => {
                name
            }
        });
        let leads_to = |name| (self.synced.get(name).copied(), self.current.get(name).copied());
        let changed = changed.map(leads_to).filter(|(synced, current)| synced != current);
        changed.filter_map(|(synced, current)| current.or(synced))
    }

    /// What a power cut leaves, where `kept` of ten changes are kept, roughly.
    pub(super) fn survivor(&self, kept: u64, random: &mut Random) -> Self {
        let mut table = self.synced.clone();
        for change in &self.unsynced {
            if random.chance(kept, 10) {
                change.apply(&mut table);
            }
        }
        Self { synced: table.clone(), current: table, unsynced: Vec::new() }
    }
}
