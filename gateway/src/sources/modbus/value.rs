//! Words of a register to its value.

use super::{Kind, Register, WordOrder};
use crate::decode::finite;
use crate::reading::{NoData, Outcome, Value};

/// The raw number of a register.
enum Raw {
    Switch(bool),
    Whole(i64),
    Float(f32),
}

/// The outcome of a register whose cells are `words`; bits come as 0 and 1. `None` if there are too few.
pub(super) fn outcome(register: &Register, words: &[u16]) -> Option<Outcome> {
    let raw = raw(register, words)?;
    if register.not_available.is_some_and(|code| is_code(register, words, code)) {
        return Some(Err(NoData::NotAvailable));
    }
    Some(match raw {
        Raw::Switch(on) => Ok(Value::Boolean(on)),
        Raw::Whole(whole) if is_one(register.scale) && register.offset == 0.0 => Ok(Value::Integer(whole)),
        Raw::Whole(whole) => finite(scaled(whole as f64, register)),
        // A single is widened as it is: rounding it to fewer decimals would invent a value.
        Raw::Float(float) => finite(scaled(f64::from(float), register)),
    })
}

fn raw(register: &Register, words: &[u16]) -> Option<Raw> {
    let first = *words.first()?;
    if register.table.is_bits() || register.kind == Kind::Bool {
        return Some(Raw::Switch(first != 0));
    }
    Some(match register.kind {
        Kind::Bool | Kind::U16 => Raw::Whole(i64::from(first)),
        Kind::I16 => Raw::Whole(i64::from(first.cast_signed())),
        Kind::U32 => Raw::Whole(i64::from(double_word(register.order, words)?)),
        Kind::I32 => Raw::Whole(i64::from(double_word(register.order, words)?.cast_signed())),
        Kind::F32 => Raw::Float(f32::from_bits(double_word(register.order, words)?)),
    })
}

fn double_word(order: WordOrder, words: &[u16]) -> Option<u32> {
    let (first, second) = (*words.first()?, *words.get(1)?);
    let (high, low) = match order {
        WordOrder::Abcd => (first, second),
        WordOrder::Cdab => (second, first),
        WordOrder::Badc => (first.swap_bytes(), second.swap_bytes()),
        WordOrder::Dcba => (second.swap_bytes(), first.swap_bytes()),
    };
    Some(u32::from(high) << 16 | u32::from(low))
}

/// Whether the bits are those of the code, be it written signed or unsigned: manuals do both.
fn is_code(register: &Register, words: &[u16], code: i64) -> bool {
    let same = |unsigned: i64, signed: i64| code == unsigned || code == signed;
    match (register.width(), words.first()) {
        (1, Some(word)) => same(i64::from(*word), i64::from(word.cast_signed())),
        _ => double_word(register.order, words)
            .is_some_and(|double| same(i64::from(double), i64::from(double.cast_signed()))),
    }
}

/// Scales by dividing where the factor is one over a whole number: 3 × 0.1 is 0.30000000000000004, 3 / 10 is 0.3.
fn scaled(raw: f64, register: &Register) -> f64 {
    let divisor = (1.0 / register.scale).round();
    let divides = divisor.is_finite() && divisor.abs() > 1.0 && is_same(1.0 / divisor, register.scale);
    let scaled = if divides { raw / divisor } else { raw * register.scale };
    scaled + register.offset
}

fn is_one(scale: f64) -> bool {
    is_same(scale, 1.0)
}

/// Equal to the last bit: what is asked for, and not nearly equal.
fn is_same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::Table;
    use super::super::tests::register;
    use super::*;

    fn number(kind: Kind, order: WordOrder, words: &[u16]) -> Outcome {
        outcome(&Register { order, ..register(Table::Holding, 0, kind) }, words).unwrap()
    }

    #[test]
    fn every_kind_and_order_gives_the_number_that_was_meant() {
        let abcd = WordOrder::Abcd;
        assert_eq!(number(Kind::Bool, abcd, &[4]), Ok(Value::Boolean(true)));
        assert_eq!(number(Kind::U16, abcd, &[0xfffe]), Ok(Value::Integer(65_534)));
        assert_eq!(number(Kind::I16, abcd, &[0xfffe]), Ok(Value::Integer(-2)));
        for (order, words) in [
            (WordOrder::Abcd, [0xfedc, 0xba98]),
            (WordOrder::Cdab, [0xba98, 0xfedc]),
            (WordOrder::Badc, [0xdcfe, 0x98ba]),
            (WordOrder::Dcba, [0x98ba, 0xdcfe]),
        ] {
            assert_eq!(number(Kind::U32, order, &words), Ok(Value::Integer(0xfedc_ba98)), "{order:?}");
            assert_eq!(number(Kind::I32, order, &words), Ok(Value::Integer(-19_088_744)), "{order:?}");
        }
        // 123.456 is 0x42f6e979 in IEEE 754.
        assert_eq!(number(Kind::F32, WordOrder::Cdab, &[0xe979, 0x42f6]), Ok(Value::Number(f64::from(123.456_f32))));
        assert_eq!(number(Kind::F32, abcd, &[0x7fc0, 0]), Err(NoData::NotFinite));
        assert_eq!(outcome(&register(Table::Coil, 0, Kind::U16), &[1]), Some(Ok(Value::Boolean(true))));
        assert_eq!(outcome(&register(Table::Input, 0, Kind::U32), &[1]), None);
    }

    #[test]
    fn scaled_values_read_as_a_person_would_write_them() {
        let tenths = Register { scale: 0.1, ..register(Table::Holding, 0, Kind::I16) };
        for raw in 0..10_000_u16 {
            let expected: f64 = format!("{}.{}", raw / 10, raw % 10).parse().unwrap();
            assert_eq!(outcome(&tenths, &[raw]), Some(Ok(Value::Number(expected))));
        }
        let fahrenheit = Register { scale: 1.8, offset: 32.0, ..register(Table::Holding, 0, Kind::I16) };
        assert_eq!(outcome(&fahrenheit, &[100]), Some(Ok(Value::Number(212.0))));
        let huge = Register { scale: f64::MAX, ..register(Table::Holding, 0, Kind::U16) };
        assert_eq!(outcome(&huge, &[2]), Some(Err(NoData::NotFinite)));
    }

    #[test]
    fn the_code_for_no_value_is_known_signed_and_unsigned() {
        for code in [32_768, -32_768] {
            let register = Register { not_available: Some(code), ..register(Table::Holding, 0, Kind::I16) };
            assert_eq!(outcome(&register, &[0x8000]), Some(Err(NoData::NotAvailable)));
            assert_eq!(outcome(&register, &[0x8001]), Some(Ok(Value::Integer(-32_767))));
        }
        let float = Register { not_available: Some(0x7fc0_0000), ..register(Table::Holding, 0, Kind::F32) };
        assert_eq!(outcome(&float, &[0x7fc0, 0]), Some(Err(NoData::NotAvailable)));
    }
}
