use std::cmp::Ordering;

use headwater_core::{Error, Positions, Result};

use crate::{Cell, ColumnType, Revision, TableSchema};

/// A column to order by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Number of the column.
    pub column: usize,
    /// From greater to smaller.
    pub descending: bool,
}

/// A page of a table's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The revision to read.
    pub revision: Revision,
    /// Whether it must be the active one in the snapshot that is read.
    pub active: bool,
    /// Number of the table in that revision.
    pub table: usize,
    /// Only rows whose column equals the cell (null equals null).
    pub filter: Vec<(usize, Cell)>,
    /// By what; [`Query::total_order`] makes it total.
    pub order: Vec<Order>,
    /// Only rows after this one: its cells for `order`, in order.
    pub after: Option<Vec<Cell>>,
    /// Rows at most.
    pub limit: usize,
}

impl Query {
    /// The row of `table` with the key `key`.
    pub fn by_key(revision: Revision, table: usize, schema: &TableSchema, key: &crate::Key) -> Self {
        Self {
            revision,
            active: true,
            table,
            filter: schema.key.iter().copied().zip(key.cells().iter().cloned()).collect(),
            order: Self::total_order(schema, &[]),
            after: None,
            limit: 1,
        }
    }

    /// `order`, with the key columns that it lacks at its end, so that no two rows are equal under it.
    pub fn total_order(schema: &TableSchema, order: &[Order]) -> Vec<Order> {
        let mut total = order.to_vec();
        for column in &schema.key {
            if !total.iter().any(|known| known.column == *column) {
                total.push(Order { column: *column, descending: false });
            }
        }
        total
    }

    /// Checks the query against the table's schema, as a store does before it reads.
    ///
    /// # Errors
    /// `Invalid` that names the column.
    pub fn check(&self, schema: &TableSchema) -> Result<()> {
        let check = |column: usize, cell: Option<&Cell>| {
            let known = schema.columns.get(column).ok_or_else(|| {
                Error::invalid(schema.name.clone(), format!("there is no column number {column}"))
            })?;
            if known.column_type == ColumnType::Json {
                return Err(Error::invalid(
                    known.name.clone(),
                    "a column of type Json can be neither filtered on nor ordered by",
                ));
            }
            if cell.is_some_and(|cell| !cell.fits(known.column_type)) {
                return Err(Error::invalid(
                    known.name.clone(),
                    format!("not a {}", known.column_type.name()),
                ));
            }
            Ok(())
        };
        self.filter.iter().try_for_each(|(column, cell)| check(*column, Some(cell)))?;
        self.order.iter().try_for_each(|order| check(order.column, None))?;
        if let Some(after) = &self.after {
            if after.len() != self.order.len() {
                return Err(Error::invalid(
                    "after",
                    "it is not of a page in this order; use `next` exactly as it was given",
                ));
            }
            self.order.iter().zip(after).try_for_each(|(order, cell)| check(order.column, Some(cell)))?;
        }
        if !schema.key.iter().all(|column| self.order.iter().any(|order| order.column == *column)) {
            return Err(Error::internal("a query must be ordered by all key columns"));
        }
        Ok(())
    }

    /// The cells of `row` by which the page after it is asked for.
    pub fn cursor(&self, row: &[Cell]) -> Vec<Cell> {
        self.order.iter().map(|order| row[order.column].clone()).collect()
    }

    /// How `row` stands to the cells `cursor` in this query's order.
    pub fn compare(&self, row: &[Cell], cursor: &[Cell]) -> Ordering {
        self.order
            .iter()
            .zip(cursor)
            .map(|(order, cell)| {
                let ordering = row[order.column].cmp(cell);
                if order.descending { ordering.reverse() } else { ordering }
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

/// Rows, and how far they are, of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The checkpoints of the revision: all events up to them have taken effect, but for those that are parked.
    pub positions: Positions,
    /// Events of the revision that are parked.
    pub parked: u64,
    /// In the query's order, each with its cells by column.
    pub rows: Vec<Vec<Cell>>,
    /// Whether there are rows after these.
    pub more: bool,
}

/// Why a query has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// Another revision is active, or none: ask for that one, with its schema.
    #[error("another revision is active")]
    NotActive {
        /// Which.
        active: Option<Revision>,
    },
    /// The query is wrong, the revision is gone, or the store failed.
    #[error(transparent)]
    Failed(#[from] Error),
}
