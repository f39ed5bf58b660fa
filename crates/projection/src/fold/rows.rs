use std::collections::HashMap;

use headwater_view::{Key, LoadedRow, RowState, RowVersion, RowWrite};

use crate::plan::Plan;

/// The rows that a fold touches.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(super) slots: Vec<Slot>,
    by_key: Vec<HashMap<Key, usize>>,
    /// Slots from here on have not been loaded.
    unloaded: usize,
}

#[derive(Debug)]
pub(super) struct Slot {
    table: usize,
    pub(super) key: Key,
    version: Option<RowVersion>,
    pub(super) state: Option<RowState>,
    pub(super) touched: bool,
}

impl Rows {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { slots: Vec::new(), by_key: plan.tables.iter().map(|_| HashMap::new()).collect(), unloaded: 0 }
    }

    /// The number of the slot for a key.
    pub(super) fn slot(&mut self, table: usize, key: Key) -> usize {
        if let Some(slot) = self.by_key[table].get(&key) {
            return *slot;
        }
        let slot = self.slots.len();
        self.by_key[table].insert(key.clone(), slot);
        self.slots.push(Slot { table, key, version: None, state: None, touched: false });
        slot
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// The keys that have to be loaded before the fold, by table.
    pub(crate) fn wanted(&self) -> Vec<(usize, Vec<Key>)> {
        let mut wanted: Vec<(usize, Vec<Key>)> =
            (0..self.by_key.len()).map(|table| (table, Vec::new())).collect();
        for slot in &self.slots[self.unloaded..] {
            wanted[slot.table].1.push(slot.key.clone());
        }
        wanted.retain(|(_, keys)| !keys.is_empty());
        wanted
    }

    /// Takes what was loaded for [`wanted`](Self::wanted).
    pub(crate) fn fill(&mut self, wanted: &[(usize, Vec<Key>)], loaded: Vec<Vec<LoadedRow>>) {
        for ((table, keys), rows) in wanted.iter().zip(loaded) {
            for (key, row) in keys.iter().zip(rows) {
                let slot = self.by_key[*table].get(key).copied();
                if let (Some(slot), Some((state, version))) = (slot, row) {
                    let slot = &mut self.slots[slot];
                    slot.state = Some(state);
                    slot.version = Some(version);
                }
            }
        }
        self.unloaded = self.slots.len();
    }

    /// The rows that the fold wrote.
    pub(crate) fn into_writes(self) -> Vec<RowWrite> {
        self.slots
            .into_iter()
            .filter(|slot| slot.touched)
            .map(|slot| RowWrite {
                table: slot.table,
                key: slot.key,
                expected: slot.version,
                state: slot.state,
            })
            .collect()
    }
}
