//! Where a page ended: opaque to everybody else.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headwater_core::{Error, Result};
use headwater_view::{Cell, Order};
use serde::{Deserialize, Serialize};

/// The form of a cursor. A newer form gets another.
const FORMAT: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Cursor {
    #[serde(rename = "v")]
    format: u8,
    /// Columns and directions.
    #[serde(rename = "o")]
    order: Vec<(usize, bool)>,
    #[serde(rename = "c")]
    cells: Vec<Cell>,
}

fn shape(order: &[Order]) -> Vec<(usize, bool)> {
    order.iter().map(|order| (order.column, order.descending)).collect()
}

/// The text of a cursor.
pub(super) fn encode(order: &[Order], cells: Vec<Cell>) -> Result<String> {
    let cursor = Cursor { format: FORMAT, order: shape(order), cells };
    let bytes =
        serde_json::to_vec(&cursor).map_err(|error| Error::internal(format!("writing a cursor: {error}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The cells of a cursor of the same order.
pub(super) fn decode(text: &str, order: &[Order]) -> Result<Vec<Cell>> {
    let wrong = |why: &str| {
        Error::invalid(
            "after",
            format!("{why}; give `next` of the page before exactly as it was, and the same order_by"),
        )
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong("not a place in a list"))?;
    let cursor: Cursor = serde_json::from_slice(&bytes).map_err(|_| wrong("not a place in a list"))?;
    if cursor.format != FORMAT || cursor.order != shape(order) || cursor.cells.len() != order.len() {
        return Err(wrong("it is of a list in another order"));
    }
    Ok(cursor.cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_only_for_its_order() {
        let order = [Order { column: 1, descending: true }, Order { column: 0, descending: false }];
        let cells = vec![Cell::Decimal("1.50".parse().unwrap()), Cell::Text("a".into())];
        let text = encode(&order, cells.clone()).unwrap();
        assert_eq!(decode(&text, &order).unwrap(), cells);
        assert!(decode(&text, &order[..1]).is_err());
        assert!(decode(&text, &[order[0], Order { column: 0, descending: true }]).is_err());
        assert!(decode("nonsense", &order).is_err());
        assert!(decode("", &order).is_err());
    }
}
