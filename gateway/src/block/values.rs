//! The values of one point in a block: the column with the fewest bytes that gives back every bit.
//!
//! `[mode u8]`, then by mode: 0 integers (difference to the one before); 1 decimals (`[digits u8]`, then as integers scaled by
//! 10^digits, where that gives back the very same bits: most sensors speak decimal; idea after ALP, Afroozeh et al.,
//! SIGMOD 2023); 2 floats (XOR with the one before, whole bytes, idea after Gorilla, Pelkonen et al., VLDB 2015);
//! 3 switches; 4 mixed, each value with its type.

#![expect(clippy::cast_possible_truncation, reason = "digits, byte counts and EXACT_MAX fit by construction")]

use super::BlockError;
use super::varint::{Reader, put, put_signed};
use crate::reading::{TEXT_BYTES_MAX, Value};

const INTEGERS: u8 = 0;
const DECIMALS: u8 = 1;
const FLOATS: u8 = 2;
const SWITCHES: u8 = 3;
const MIXED: u8 = 4;

/// Powers of ten that are tried: sensors of more digits are rare, and floats hold them anyway.
const POWERS: [f64; 7] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
/// Above 2^53 not every integer is a float.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends the column of `values`.
pub(super) fn encode<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = &'a Value> + Clone) {
    let mut numbers = true;
    let mut integers = true;
    let mut switches = true;
    for value in values.clone() {
        numbers &= matches!(value, Value::Number(_));
        integers &= matches!(value, Value::Integer(_));
        switches &= matches!(value, Value::Boolean(_));
    }
    if numbers {
        encode_floats(
            out,
            values.filter_map(|value| if let Value::Number(number) = value { Some(*number) } else { None }),
        );
    } else if integers {
        out.push(INTEGERS);
        let integers =
            values.filter_map(|value| if let Value::Integer(integer) = value { Some(*integer) } else { None });
        encode_integers(out, integers);
    } else if switches {
        out.push(SWITCHES);
        out.extend(values.map(|value| u8::from(*value == Value::Boolean(true))));
    } else {
        out.push(MIXED);
        for value in values {
            encode_mixed(out, value);
        }
    }
}

fn encode_integers(out: &mut Vec<u8>, integers: impl Iterator<Item = i64>) {
    let mut before = 0i64;
    for integer in integers {
        put_signed(out, integer.wrapping_sub(before));
        before = integer;
    }
}

fn encode_floats(out: &mut Vec<u8>, numbers: impl Iterator<Item = f64> + Clone) {
    let digits = POWERS.iter().position(|power| numbers.clone().all(|number| scaled(number, *power).is_some()));
    if let Some(digits) = digits {
        out.extend_from_slice(&[DECIMALS, digits as u8]);
        let power = POWERS.get(digits).copied().unwrap_or(1.0);
        return encode_integers(out, numbers.map(|number| scaled(number, power).unwrap_or(0)));
    }
    out.push(FLOATS);
    let mut before = 0u64;
    for number in numbers {
        let difference = (number.to_bits() ^ before).to_be_bytes();
        before = number.to_bits();
        let leading = difference.iter().take_while(|byte| **byte == 0).count();
        let trailing = difference.iter().skip(leading).rev().take_while(|byte| **byte == 0).count();
        let kept = difference.get(leading..8 - trailing).unwrap_or_default();
        out.push((leading << 4 | kept.len()) as u8);
        out.extend_from_slice(kept);
    }
}

/// The number times a power of ten, if that is an integer from which the very same bits come back (not so for -0.0).
fn scaled(number: f64, power: f64) -> Option<i64> {
    let integer = (number * power).round();
    if integer.abs() >= EXACT_MAX {
        return None;
    }
    let integer = integer as i64;
    ((integer as f64 / power).to_bits() == number.to_bits()).then_some(integer)
}

fn encode_mixed(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Number(number) => {
            out.push(0);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Integer(integer) => {
            out.push(1);
            put_signed(out, *integer);
        }
        Value::Boolean(switch) => out.extend_from_slice(&[2, u8::from(*switch)]),
        Value::Text(text) => {
            out.push(3);
            put(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Reads a column of `count` values.
pub(super) fn decode(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Value>, BlockError> {
    let mut values = Vec::with_capacity(count);
    if count == 0 {
        return Ok(values);
    }
    match reader.byte()? {
        INTEGERS => decode_integers(reader, count, |integer| values.push(Value::Integer(integer)))?,
        DECIMALS => {
            let digits = usize::from(reader.byte()?);
            let power = *POWERS.get(digits).ok_or(BlockError::Body("a decimal column has too many digits"))?;
            decode_integers(reader, count, |integer| values.push(Value::Number(integer as f64 / power)))?;
        }
        FLOATS => {
            let mut bits = 0u64;
            for _ in 0..count {
                let header = usize::from(reader.byte()?);
                let (leading, kept) = (header >> 4, header & 15);
                let mut difference = [0u8; 8];
                let target = difference.get_mut(leading..leading + kept);
                target.ok_or(BlockError::Body("a float has too many bytes"))?.copy_from_slice(reader.bytes(kept)?);
                bits ^= u64::from_be_bytes(difference);
                values.push(Value::Number(f64::from_bits(bits)));
            }
        }
        SWITCHES => {
            for byte in reader.bytes(count)? {
                values.push(Value::Boolean(*byte != 0));
            }
        }
        MIXED => {
            for _ in 0..count {
                values.push(decode_mixed(reader)?);
            }
        }
        _ => return Err(BlockError::Body("a column has an unknown mode")),
    }
    Ok(values)
}

fn decode_integers(reader: &mut Reader<'_>, count: usize, mut take: impl FnMut(i64)) -> Result<(), BlockError> {
    let mut before = 0i64;
    for _ in 0..count {
        before = before.wrapping_add(reader.signed()?);
        take(before);
    }
    Ok(())
}

fn decode_mixed(reader: &mut Reader<'_>) -> Result<Value, BlockError> {
    match reader.byte()? {
        0 => Ok(Value::Number(f64::from_le_bytes(reader.array()?))),
        1 => reader.signed().map(Value::Integer),
        2 => Ok(Value::Boolean(reader.byte()? != 0)),
        3 => {
            let length = reader.count(TEXT_BYTES_MAX)?;
            let text =
                std::str::from_utf8(reader.bytes(length)?).map_err(|_| BlockError::Body("a text is not UTF-8"))?;
            Ok(Value::Text(text.into()))
        }
        _ => Err(BlockError::Body("a value has an unknown type")),
    }
}
