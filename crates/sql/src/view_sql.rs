//! What the statements of both views are written with.

use headwater_view::{Cell, Key};

/// A quoted identifier. Names are checked when a revision is created; quoting makes `order` and `select` names like others.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn join<T>(
    items: impl IntoIterator<Item = T>,
    separator: &str,
    mut item: impl FnMut(T) -> String,
) -> String {
    items.into_iter().map(&mut item).collect::<Vec<_>>().join(separator)
}

/// The cell as a key has it.
pub(crate) fn normal(cell: &Cell) -> Cell {
    Key::new(vec![cell.clone()]).cells()[0].clone()
}
