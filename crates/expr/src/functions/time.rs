//! Moments and lengths of time.

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::Function;
use super::run::refused;
use crate::moment::parse_moment;
use crate::value::Value;

pub(super) fn timestamp(value: &Value<'_>) -> Result<Timestamp, String> {
    match value {
        Value::Timestamp(moment) => Ok(*moment),
        Value::Text(text) => parse_moment(text).map_err(|fault| format!("'{text}' {fault}")),
        Value::Number(seconds) => seconds
            .checked_mul(Decimal::from(1_000_000_000))
            .and_then(|nanoseconds| nanoseconds.trunc().to_i128())
            .and_then(|nanoseconds| Timestamp::from_nanosecond(nanoseconds).ok())
            .ok_or_else(|| format!("{seconds} seconds from 1970 is beyond the years -9999 to 9999")),
        other => Err(refused("text, a number of seconds or a timestamp", other)),
    }
}

pub(super) fn duration(value: &Value<'_>) -> Result<SignedDuration, String> {
    match value {
        Value::Duration(duration) => Ok(*duration),
        Value::Text(text) if text == "0" => Ok(SignedDuration::ZERO),
        Value::Text(text) => text
            .parse()
            .map_err(|_| format!("'{text}' is not a length of time, such as '1h30m', '10s' or '250ms'")),
        other => Err(refused("text or a duration", other)),
    }
}

/// What a getter gives. Of a duration: whole hours, minutes or seconds in all, and the milliseconds beyond the seconds.
pub(super) fn part<'e>(
    function: Function,
    of: &Value<'_>,
    zone: Option<&Value<'_>>,
) -> Result<Value<'e>, String> {
    let number = match of {
        Value::Timestamp(moment) => of_timestamp(function, *moment, offset(zone)?),
        Value::Duration(duration) => match (function, zone) {
            (Function::Hours, None) => duration.as_hours(),
            (Function::Minutes, None) => duration.as_mins(),
            (Function::Seconds, None) => duration.as_secs(),
            (Function::Milliseconds, None) => i64::from(duration.subsec_millis()),
            (_, Some(_)) => return Err("a duration has no time zone".to_owned()),
            _ => return Err(refused("a timestamp", of)),
        },
        other => return Err(refused("a timestamp", other)),
    };
    Ok(Value::from(number))
}

fn of_timestamp(function: Function, moment: Timestamp, offset: Offset) -> i64 {
    let there = offset.to_datetime(moment);
    match function {
        Function::FullYear => there.year().into(),
        // CEL counts months, and days of month and year, from 0; getDate counts from 1.
        Function::Month => i64::from(there.month()) - 1,
        Function::Date => there.day().into(),
        Function::DayOfMonth => i64::from(there.day()) - 1,
        Function::DayOfYear => i64::from(there.day_of_year()) - 1,
        Function::DayOfWeek => there.weekday().to_sunday_zero_offset().into(),
        Function::Hours => there.hour().into(),
        Function::Minutes => there.minute().into(),
        Function::Seconds => there.second().into(),
        Function::Milliseconds => i64::from(there.subsec_nanosecond()) / 1_000_000,
        other => unreachable!("{other:?} is no part of a timestamp"),
    }
}

/// `UTC`, `+02:00`, `-05:30`. Names of zones would make results depend on the machine's zone files.
fn offset(zone: Option<&Value<'_>>) -> Result<Offset, String> {
    let Some(zone) = zone else { return Ok(Offset::UTC) };
    let text = zone.as_str().ok_or_else(|| refused("text", zone))?;
    if text == "UTC" || text == "Z" {
        return Ok(Offset::UTC);
    }
    let (sign, clock) = match text.strip_prefix('-') {
        Some(clock) => (-1, clock),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let parsed = clock.split_once(':').and_then(|(hours, minutes)| {
        let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let whole = |part: &str| two_digits(part).then(|| part.parse::<i32>().ok()).flatten();
        let (hours, minutes) = (whole(hours)?, whole(minutes).filter(|minutes| *minutes < 60)?);
        Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
    });
    parsed.ok_or_else(|| format!("'{text}' is no time zone here; 'UTC' and offsets such as '+02:00' are"))
}
