//! What may be asked of a new order. Pure.

use headwater_core::{Error, Result};
use serde::Deserialize;
use uuid::Uuid;

use crate::amount::Amount;
use crate::event::{Created, Item};

/// Lines of one order at most.
pub(crate) const MAX_ITEMS: usize = 100;

/// Pieces of one line at most.
const MAX_QUANTITY: u32 = 10_000;

/// Digits after the point of a price at most: what the smallest currency units of the world need.
const MAX_SCALE: u32 = 4;

/// Longest code, name or id of somebody else, in bytes.
const MAX_TEXT: usize = 200;

/// The body of `POST /api/orders`. Fields that are not named here are ignored, as the article's service does: its clients send
/// the whole order, with a status and a time that are not theirs to say.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NewOrder {
    /// Chosen by the client so that it may repeat the request; made when absent.
    pub(crate) order_id: Option<Uuid>,
    pub(crate) customer_id: String,
    pub(crate) restaurant_id: String,
    /// What the customer was shown; must be what the lines come to.
    pub(crate) amount: Option<Amount>,
    pub(crate) order_items: Vec<Item>,
}

impl NewOrder {
    /// The fact that `order_id` has been placed, with its amount computed exactly from its lines.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the first wrong field.
    pub(crate) fn place(self, order_id: Uuid) -> Result<Created> {
        check_text("customer_id", &self.customer_id)?;
        check_text("restaurant_id", &self.restaurant_id)?;
        let lines = self.order_items.len();
        if lines == 0 || lines > MAX_ITEMS {
            return Err(Error::invalid("order_items", format!("{lines} lines; give 1 to {MAX_ITEMS}")));
        }
        let mut amount = Amount::ZERO;
        for (index, item) in self.order_items.iter().enumerate() {
            let field = |name: &str| format!("order_items[{index}].{name}");
            check_text(&field("code"), &item.code)?;
            check_text(&field("name"), &item.name)?;
            if item.quantity == 0 || item.quantity > MAX_QUANTITY {
                return Err(Error::invalid(
                    field("quantity"),
                    format!("{}; give 1 to {MAX_QUANTITY}", item.quantity),
                ));
            }
            if item.unit_price.scale() > MAX_SCALE {
                let price = item.unit_price;
                let message = format!("{price}; give at most {MAX_SCALE} digits after the point");
                return Err(Error::invalid(field("unit_price"), message));
            }
            amount = item
                .unit_price
                .times(item.quantity)
                .and_then(|line| amount.plus(line))
                .map_err(|error| Error::invalid(field("unit_price"), error.to_string()))?;
        }
        if let Some(shown) = self.amount
            && shown != amount
        {
            return Err(Error::invalid(
                "amount",
                format!("{shown}, but the lines come to {amount}; correct it or leave it out"),
            ));
        }
        Ok(Created {
            order_id: order_id.to_string(),
            customer_id: self.customer_id,
            status: "Pending".to_owned(),
            restaurant_id: self.restaurant_id,
            amount,
            order_items: self.order_items,
        })
    }
}

fn check_text(field: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() || text.len() > MAX_TEXT {
        return Err(Error::invalid(
            field,
            format!("{} bytes of text; give 1 to {MAX_TEXT}", text.trim().len()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(json: &str) -> NewOrder {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_amount_is_computed_exactly_and_checked() {
        fn check(amount: &str, lines: &[(&str, u32)], expected: Result<&str, &str>) {
            let lines: Vec<String> = lines
                .iter()
                .map(|(price, quantity)| {
                    format!(r#"{{"code":"P","name":"Pizza","unit_price":{price},"quantity":{quantity}}}"#)
                })
                .collect();
            let order = body(&format!(
                r#"{{"customer_id":"c","restaurant_id":"r",{amount}"order_items":[{}]}}"#,
                lines.join(",")
            ));
            let placed = order.place(Uuid::from_u128(1)).map(|created| created.amount.to_string());
            assert_eq!(
                placed.as_deref().map_err(ToString::to_string),
                expected.map_err(str::to_owned),
                "{amount} {lines:?}"
            );
        }
        check("", &[("19.90", 3)], Ok("59.70"));
        check("", &[("0.1", 1), ("0.2", 1)], Ok("0.3"));
        check(r#""amount":0.3,"#, &[("0.1", 1), ("0.2", 1)], Ok("0.3"));
        check(r#""amount":59.7,"#, &[("19.90", 3)], Ok("59.70"));
        check(
            r#""amount":60,"#,
            &[("19.90", 3)],
            Err("amount: 60, but the lines come to 59.70; correct it or leave it out"),
        );
        check("", &[("1", 0)], Err("order_items[0].quantity: 0; give 1 to 10000"));
        check("", &[("1", 1), ("1", 10_001)], Err("order_items[1].quantity: 10001; give 1 to 10000"));
        check("", &[("1.0000", 1)], Ok("1.0000"));
        check(
            "",
            &[("0.00001", 1)],
            Err("order_items[0].unit_price: 0.00001; give at most 4 digits after the point"),
        );
        check("", &[], Err("order_items: 0 lines; give 1 to 100"));
    }

    #[test]
    fn a_wrong_field_is_named() {
        fn check(json: &str, fault: &str) {
            let error = body(json).place(Uuid::from_u128(1)).unwrap_err().to_string();
            assert!(error.starts_with(fault), "{error}");
        }
        check(r#"{"customer_id":" ","restaurant_id":"r","order_items":[]}"#, "customer_id: 0 bytes");
        check(r#"{"customer_id":"c","restaurant_id":"","order_items":[]}"#, "restaurant_id: 0 bytes");
        check(
            r#"{"customer_id":"c","restaurant_id":"r","order_items":[{"code":"","name":"n","unit_price":1,"quantity":1}]}"#,
            "order_items[0].code: 0 bytes",
        );
        let high = r#"{"code":"c","name":"n","unit_price":999999999999,"quantity":2}"#;
        check(
            &format!(r#"{{"customer_id":"c","restaurant_id":"r","order_items":[{high}]}}"#),
            "order_items[0].unit_price: 999999999999 × 2 is no amount",
        );
    }
}
