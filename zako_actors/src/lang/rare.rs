//! Values that are nearly always the default one.
//!
//! Owns their place: in memory of their own, or nowhere while they are the default. Does not know what they mean.

use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that takes eight bytes while it is the default one. It is written as the value itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rare<T>(Option<Box<T>>);

/// What there is one default of, for all who read it.
pub trait Usual: Default + PartialEq + 'static {
    /// The default.
    fn usual() -> &'static Self;
}

impl<T: Usual> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self(Some(value).filter(|it| it != T::usual()).map(Box::new))
    }
}

impl<T: Usual> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::usual(),
        }
    }
}

impl<T: Usual + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Usual + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::target::Special;

    #[test]
    fn a_default_takes_no_memory_of_its_own_and_both_are_read_back() {
        let usual = Rare::from(Special::default());
        let other = Rare::from(Special {
            network: true,
            ..Special::default()
        });
        assert!(usual.0.is_none() && !usual.network);
        assert!(other.0.is_some() && other.network);
        assert_eq!(size_of::<Rare<Special>>(), size_of::<usize>());
        for value in [usual, other] {
            let bytes = postcard::to_stdvec(&value).unwrap();
            assert_eq!(
                postcard::from_bytes::<Rare<Special>>(&bytes).unwrap(),
                value
            );
        }
    }
}
