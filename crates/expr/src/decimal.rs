//! Exact decimals: reading them from text, and arithmetic that says why it fails.

use rust_decimal::{Decimal, RoundingStrategy};

/// Reads `-12.50`, `1e3`, `2.5E-4`: JSON's grammar, and leading zeros. `None` when it is something else or does not fit
/// exactly. The scale stays as written where it fits, so `59.70` keeps its zero.
pub(crate) fn parse(text: &str) -> Option<Decimal> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (number, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let digits_only = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !digits_only(whole) || !fraction.is_none_or(digits_only) {
        return None;
    }
    let plain = exponent.is_none().then(|| Decimal::from_str_exact(number).ok()).flatten();
    let mut value = match plain {
        Some(value) => value,
        None => scaled(whole, fraction.unwrap_or_default(), exponent)?,
    };
    if unsigned.len() < text.len() && !value.is_zero() {
        value.set_sign_negative(true);
    }
    Some(value)
}

/// The long way, for exponents and for zeros that make a number longer than a decimal.
fn scaled(whole: &str, fraction: &str, exponent: Option<&str>) -> Option<Decimal> {
    let exponent = match exponent {
        Some(exponent) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            // Far beyond what fits, so that the sum below cannot overflow.
            let size: i64 = digits.parse().unwrap_or(i64::MAX).min(1 << 40);
            if exponent.starts_with('-') { -size } else { size }
        }
        None => 0,
    };
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    let mut scale = fraction.len() as i64 - exponent - (digits.len() - significant.len()) as i64;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some(Decimal::ZERO);
    }
    let mut mantissa: i128 = significant.parse().ok()?;
    if scale < 0 {
        mantissa = mantissa.checked_mul(10_i128.checked_pow(u32::try_from(-scale).ok()?)?)?;
        scale = 0;
    }
    Decimal::try_from_i128_with_scale(mantissa, u32::try_from(scale).ok()?).ok()
}

/// Half away from zero, as invoices and SQL do it. `None` when `scale` is not 0 to 28.
pub(crate) fn round(value: Decimal, scale: Decimal) -> Option<Decimal> {
    let scale: u32 = scale.try_into().ok().filter(|_| scale.is_integer())?;
    (scale <= Decimal::MAX_SCALE)
        .then(|| value.round_dp_with_strategy(scale, RoundingStrategy::MidpointAwayFromZero))
}
