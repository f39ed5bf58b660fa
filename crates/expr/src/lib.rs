//! CEL over events and rows, checked once, with exact decimals; templates.
