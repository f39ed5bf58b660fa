//! The scripts, each in a file of its own.

use crate::link::Script;

/// See the files.
pub(crate) struct Scripts {
    pub(crate) open: Script,
    pub(crate) partition: Script,
    pub(crate) progress: Script,
    pub(crate) load: Script,
    pub(crate) apply: Script,
    pub(crate) query: Script,
    pub(crate) parked: Script,
    pub(crate) change: Script,
    pub(crate) collect: Script,
    pub(crate) look: Script,
    pub(crate) leave: Script,
    pub(crate) let_go: Script,
    pub(crate) remove: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            open: Script::new(include_str!("lua/open.lua")),
            partition: Script::new(include_str!("lua/partition.lua")),
            progress: Script::new(include_str!("lua/progress.lua")),
            load: Script::new(include_str!("lua/load.lua")),
            apply: Script::new(include_str!("lua/apply.lua")),
            query: Script::new(include_str!("lua/query.lua")),
            parked: Script::new(include_str!("lua/parked.lua")),
            change: Script::new(include_str!("lua/change.lua")),
            collect: Script::new(include_str!("lua/collect.lua")),
            look: Script::new(include_str!("lua/look.lua")),
            leave: Script::new(include_str!("lua/leave.lua")),
            let_go: Script::new(include_str!("lua/let_go.lua")),
            remove: Script::new(include_str!("lua/remove.lua")),
        }
    }
}
