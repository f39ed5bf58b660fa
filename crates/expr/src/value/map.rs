//! Ordered maps with text keys.

use std::borrow::Cow;
use std::sync::Arc;

use super::Value;

/// Up to this many entries looking at each is as fast as an index, and takes no memory.
const SCAN_LIMIT: usize = 12;

/// Values by text, in the order in which they were written.
#[derive(Clone, Debug, Default)]
pub struct Map<'a>(Option<Arc<Entries<'a>>>);

#[derive(Debug)]
struct Entries<'a> {
    entries: Vec<(Cow<'a, str>, Value<'a>)>,
    /// The positions of the entries in the order of their keys; empty up to [`SCAN_LIMIT`] entries.
    by_key: Vec<u32>,
}

impl<'a> Map<'a> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        let Entries { entries, by_key } = &**self.0.as_ref()?;
        if by_key.is_empty() {
            return entries.iter().find(|(known, _)| known == key).map(|(_, value)| value);
        }
        let found = by_key.binary_search_by(|&at| (*entries[at as usize].0).cmp(key)).ok()?;
        Some(&entries[by_key[found] as usize].1)
    }

    /// The entries in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value<'a>)> {
        self.entries().iter().map(|(key, value)| (&**key, value))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    pub(crate) fn entries(&self) -> &[(Cow<'a, str>, Value<'a>)] {
        self.0.as_ref().map_or(&[], |map| &map.entries)
    }

    pub(super) fn into_owned(self) -> Map<'static> {
        let entries = self.entries().iter().cloned();
        entries.map(|(key, value)| (Cow::Owned(key.into_owned()), value.into_owned())).collect()
    }
}

/// Of equal keys the first keeps its place and the last its value.
impl<'a> FromIterator<(Cow<'a, str>, Value<'a>)> for Map<'a> {
    fn from_iter<I: IntoIterator<Item = (Cow<'a, str>, Value<'a>)>>(entries: I) -> Self {
        Map::from(entries.into_iter().collect::<Vec<_>>())
    }
}

impl<'a> From<Vec<(Cow<'a, str>, Value<'a>)>> for Map<'a> {
    fn from(mut entries: Vec<(Cow<'a, str>, Value<'a>)>) -> Self {
        if entries.is_empty() {
            return Map(None);
        }
        let mut by_key = Vec::new();
        if entries.len() <= SCAN_LIMIT {
            merge_few(&mut entries);
        } else {
            by_key = sorted(&entries);
            if by_key.windows(2).any(|pair| entries[pair[0] as usize].0 == entries[pair[1] as usize].0) {
                merge_many(&mut entries, &by_key);
                by_key = if entries.len() > SCAN_LIMIT { sorted(&entries) } else { Vec::new() };
            }
        }
        Map(Some(Arc::new(Entries { entries, by_key })))
    }
}

/// The positions in the order of the keys; equal keys in the order of the positions.
fn sorted(entries: &[(Cow<'_, str>, Value<'_>)]) -> Vec<u32> {
    let mut by_key: Vec<u32> = (0..entries.len() as u32).collect();
    by_key.sort_by(|&a, &b| entries[a as usize].0.cmp(&entries[b as usize].0));
    by_key
}

fn merge_few(entries: &mut Vec<(Cow<'_, str>, Value<'_>)>) {
    let mut at = 1;
    while at < entries.len() {
        let (earlier, rest) = entries.split_at_mut(at);
        match earlier.iter_mut().find(|(key, _)| *key == rest[0].0) {
            Some((_, value)) => {
                std::mem::swap(value, &mut rest[0].1);
                entries.remove(at);
            }
            None => at += 1,
        }
    }
}

fn merge_many(entries: &mut Vec<(Cow<'_, str>, Value<'_>)>, by_key: &[u32]) {
    let mut kept = vec![true; entries.len()];
    let mut first = by_key[0] as usize;
    for &at in &by_key[1..] {
        let at = at as usize;
        if entries[first].0 == entries[at].0 {
            entries.swap(first, at);
            kept[at] = false;
        } else {
            first = at;
        }
    }
    let mut kept = kept.into_iter();
    entries.retain(|_| kept.next() == Some(true));
}

impl PartialEq for Map<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}
