//! Cells as bytes whose order is that of the cells, for sorted sets whose members are compared byte by byte. Part of the stored formats.
//!
//! ```text
//! a cell      00 null · 01 value
//! Text        its bytes, 00 as 00 ff, and 00 00 at its end
//! Integer, Timestamp   8 bytes, big-endian, the sign turned over (microseconds since 1970)
//! Boolean     00 · 01
//! Decimal     01 zero · 02 digits before the point, digits, 00 · 00 all of that turned over
//! ```
//!
//! No cell's bytes begin another's, and none begins with `ff`: what is beyond all that begins with some cells is those cells and `ff`.

use headwater_view::{Cell, Key, TableSchema};
use rust_decimal::Decimal;

use crate::keys::row_name;

/// Appends a cell.
pub(crate) fn push_cell(bytes: &mut Vec<u8>, cell: &Cell) {
    bytes.push(u8::from(!cell.is_null()));
    match cell {
        Cell::Null => {}
        Cell::Text(text) | Cell::Json(text) => push_text(bytes, text),
        Cell::Integer(number) => push_integer(bytes, *number),
        Cell::Timestamp(moment) => push_integer(bytes, moment.as_microsecond()),
        Cell::Boolean(value) => bytes.push(u8::from(*value)),
        Cell::Decimal(number) => push_decimal(bytes, number),
    }
}

/// Appends a text.
pub(crate) fn push_text(bytes: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes.extend([0, 0]);
}

fn push_integer(bytes: &mut Vec<u8>, number: i64) {
    bytes.extend(((number as u64) ^ (1 << 63)).to_be_bytes());
}

fn push_decimal(bytes: &mut Vec<u8>, number: &Decimal) {
    if number.is_zero() {
        bytes.push(1);
        return;
    }
    let text = number.abs().normalize().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole.trim_start_matches('0');
    // 29 digits at most.
    let mut magnitude = vec![2, whole.len() as u8];
    magnitude.extend(whole.bytes());
    magnitude.extend(fraction.bytes());
    // Zeros at its end would make 1 and 10, which differ in their length alone, two spellings of their digits.
    while magnitude.len() > 2 && magnitude.ends_with(b"0") {
        magnitude.pop();
    }
    magnitude.push(0);
    if number.is_sign_negative() {
        magnitude[0] = 0;
        magnitude[1..].iter_mut().for_each(|byte| *byte = !*byte);
    }
    bytes.extend(magnitude);
}

/// A row's member in a sorted set: its cells in `columns`, then its name and the name's length, so that a script finds the row.
pub(crate) fn place<'c>(cells: impl Iterator<Item = &'c Cell>, name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * name.len() + 32);
    cells.for_each(|cell| push_cell(&mut bytes, cell));
    bytes.extend(name);
    bytes.extend((name.len() as u32).to_be_bytes());
    bytes
}

/// A row's member in the order of keys.
pub(crate) fn place_by_key(key: &Key) -> Vec<u8> {
    place(key.cells().iter(), &row_name(key))
}

/// By which columns each sorted set of a table orders its rows: the first by the key, the others by the indexes, each made total by the key.
/// Indexes with a column that nobody can search are left out.
pub(crate) fn orders(schema: &TableSchema) -> Vec<Vec<usize>> {
    let searchable = |column: &usize| schema.columns[*column].column_type != headwater_view::ColumnType::Json;
    let mut orders = vec![schema.key.clone()];
    for index in schema.indexes.iter().filter(|index| index.columns.iter().all(searchable)) {
        let mut columns: Vec<usize> = Vec::with_capacity(index.columns.len() + schema.key.len());
        for column in index.columns.iter().chain(&schema.key) {
            if !columns.contains(column) {
                columns.push(*column);
            }
        }
        orders.push(columns);
    }
    orders
}

#[cfg(test)]
mod tests {
    use headwater_view::ColumnType;
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn bytes(cells: &[Cell]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for cell in cells {
            push_cell(&mut bytes, cell);
        }
        bytes
    }

    fn decimal() -> impl Strategy<Value = Decimal> {
        let mantissa = prop_oneof![-2000_i128..2000, any::<i64>().prop_map(i128::from), Just(-10), Just(100)];
        (mantissa, 0..=28_u32).prop_map(|(mantissa, scale)| Decimal::from_i128_with_scale(mantissa, scale))
    }

    fn cell(column_type: ColumnType) -> BoxedStrategy<Cell> {
        let value = match column_type {
            ColumnType::Text => "[a-c\u{0}\u{1}\u{e9}\u{10ffff}]{0,4}".prop_map(Cell::Text).boxed(),
            ColumnType::Integer => prop_oneof![any::<i64>(), -3..3_i64].prop_map(Cell::Integer).boxed(),
            ColumnType::Decimal => decimal().prop_map(Cell::Decimal).boxed(),
            ColumnType::Boolean => any::<bool>().prop_map(Cell::Boolean).boxed(),
            _ => (-62_167_219_200_000_000..253_402_207_200_000_000_i64)
                .prop_map(|micros| Cell::Timestamp(Timestamp::from_microsecond(micros).unwrap()))
                .boxed(),
        };
        prop_oneof![1 => Just(Cell::Null), 6 => value].boxed()
    }

    fn cells() -> impl Strategy<Value = (Vec<Cell>, Vec<Cell>)> {
        let types = [
            ColumnType::Text,
            ColumnType::Integer,
            ColumnType::Decimal,
            ColumnType::Boolean,
            ColumnType::Timestamp,
        ];
        prop::collection::vec(prop::sample::select(types.to_vec()), 1..4).prop_flat_map(|types| {
            let row = types.into_iter().map(cell).collect::<Vec<_>>();
            (row.clone(), row)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn bytes_are_ordered_as_the_cells_are((a, b) in cells()) {
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b), "{:?} {:?}", a, b);
        }

        #[test]
        fn what_is_beyond_some_cells_is_beyond_all_that_begins_with_them((a, b) in cells(), name in "[a-c\u{0}]{0,3}") {
            let mut beyond = bytes(&a[..1]);
            beyond.push(0xff);
            let of_a = place(a.iter(), name.as_bytes());
            prop_assert!(of_a < beyond && of_a > bytes(&a[..1]));
            let of_b = place(b.iter(), name.as_bytes());
            if b[0] != a[0] {
                prop_assert_eq!(of_b < beyond, b[0] < a[0]);
            }
        }
    }

    #[test]
    fn decimals_of_all_sizes_are_ordered() {
        let texts = [
            "-79228162514264337593543950335",
            "-100",
            "-10",
            "-9.5",
            "-9",
            "-1.05",
            "-1",
            "-0.5",
            "-0.05",
            "-0.0000000000000000000000000001",
            "0",
            "0.0000000000000000000000000001",
            "0.05",
            "0.5",
            "1",
            "1.05",
            "9",
            "10",
            "100",
            "79228162514264337593543950335",
        ];
        let all: Vec<Vec<u8>> =
            texts.iter().map(|text| bytes(&[Cell::Decimal(text.parse().unwrap())])).collect();
        assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
        let of = |text: &str| bytes(&[Cell::Decimal(text.parse().unwrap())]);
        assert_eq!(of("1.50"), of("1.5"));
        assert_eq!(of("-0.00"), of("0"));
    }

    #[test]
    fn the_bytes_have_a_golden_form() {
        let at = |micros| Cell::Timestamp(Timestamp::from_microsecond(micros).unwrap());
        let check = |cell: Cell, golden: &[u8]| assert_eq!(bytes(&[cell]), golden);
        check(Cell::Null, &[0]);
        check(Cell::Text("a\0".into()), &[1, b'a', 0, 255, 0, 0]);
        check(Cell::Integer(-2), &[1, 127, 255, 255, 255, 255, 255, 255, 254]);
        check(at(3), &[1, 128, 0, 0, 0, 0, 0, 0, 3]);
        check(Cell::Boolean(true), &[1, 1]);
        check(Cell::Decimal("120.50".parse().unwrap()), &[1, 2, 3, b'1', b'2', b'0', b'5', 0]);
        check(Cell::Decimal("100".parse().unwrap()), &[1, 2, 3, b'1', 0]);
        check(Cell::Decimal("-0.05".parse().unwrap()), &[1, 0, 255, !b'0', !b'5', 255]);
        check(Cell::Decimal("0.00".parse().unwrap()), &[1, 1]);
        let key = Key::new(vec![Cell::Boolean(false), Cell::Text("a/b".into())]);
        let golden = [&[1, 0, 1][..], b"a/b", &[0, 0], b"false/a%2Fb", &[0, 0, 0, 11]].concat();
        assert_eq!(place_by_key(&key), golden);
    }
}
