//! Amounts of memory, and numbers, as people write them.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// `512m`, `2g`, `1.5 GiB`, `1073741824`: units are powers of 1024.
pub fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let number: f64 = number.trim_end().parse().ok()?;
    let bytes = number * (1_u64 << shift) as f64;
    // As far as whole numbers are exact.
    (0.0..=2_f64.powi(53))
        .contains(&bytes)
        .then_some(bytes as u64)
}

/// Reads what [`bytes`] means.
pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    let wrong = || de::Error::custom(format!("`{text}` is no size; write \"512m\" or \"2g\""));
    bytes(&text).ok_or_else(wrong)
}

/// Like [`read`], of what need not be said.
pub(super) fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    read(from).map(Some)
}

/// Reads a number that need not be said. (That it is not zero is told where it is used, by where it was said.)
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    struct Number;

    impl de::Visitor<'_> for Number {
        type Value = u64;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str("a whole number, at least 1")
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
            let wrong = |_| E::invalid_value(de::Unexpected::Signed(number), &self);
            u64::try_from(number).map_err(wrong)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }
    }
    from.deserialize_u64(Number).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!(bytes("512m"), Some(512 << 20));
        assert_eq!(bytes("1.5G"), Some(3 << 29));
        assert_eq!(bytes("1073741824"), Some(1 << 30));
        assert_eq!(bytes("2 MiB"), Some(2 << 20));
        assert_eq!(bytes("7tb"), Some(7 << 40));
        for wrong in ["2x", "", "g", "-1", "9999999t", "nan", "inf"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
