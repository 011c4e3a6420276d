//! Texts that many hold and nobody changes: paths, and the names of targets.
//!
//! Owns their sharing: a path is in the build file, in the stat cache, and in the records of whoever writes and reads it. Does
//! not know what a text means.
//! Invariant: two texts are equal when their letters are, whether they are shared or not.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text in shared memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Arc<str>);

thread_local! {
    /// The texts that this thread has made, while it shares them.
    static MADE: RefCell<Option<FxHashSet<Text>>> = const { RefCell::new(None) };
}

/// Does `work`; equal texts that this thread makes meanwhile are in memory once.
pub fn sharing<T>(work: impl FnOnce() -> T) -> T {
    /// Restores, also after a panic, what was shared before.
    struct Before(Option<FxHashSet<Text>>);

    impl Drop for Before {
        fn drop(&mut self) {
            MADE.set(self.0.take());
        }
    }

    let _before = Before(MADE.replace(Some(FxHashSet::default())));
    work()
}

impl Text {
    /// Its letters.
    pub fn as_str(&self) -> &str {
        self
    }
}

/// What is read as letters, and kept as a [`Text`]: one that is a text already is not copied.
pub trait AsText {
    /// Its letters.
    fn letters(&self) -> &str;

    /// To be kept.
    fn to_text(&self) -> Text {
        self.letters().into()
    }
}

impl AsText for Text {
    fn letters(&self) -> &str {
        self
    }

    fn to_text(&self) -> Text {
        self.clone()
    }
}

impl AsText for str {
    fn letters(&self) -> &str {
        self
    }
}

impl AsText for String {
    fn letters(&self) -> &str {
        self
    }
}

impl AsText for Box<str> {
    fn letters(&self) -> &str {
        self
    }
}

impl From<&str> for Text {
    fn from(letters: &str) -> Self {
        MADE.with_borrow_mut(|made| {
            let Some(made) = made else {
                return Self(letters.into());
            };
            if let Some(known) = made.get(letters) {
                return known.clone();
            }
            let text = Self(letters.into());
            made.insert(text.clone());
            text
        })
    }
}

impl From<&String> for Text {
    fn from(letters: &String) -> Self {
        letters.as_str().into()
    }
}

impl From<String> for Text {
    fn from(letters: String) -> Self {
        letters.as_str().into()
    }
}

impl From<&Text> for String {
    fn from(text: &Text) -> Self {
        text.as_str().to_owned()
    }
}

impl From<Text> for Box<str> {
    fn from(text: Text) -> Self {
        text.as_str().into()
    }
}

impl Default for Text {
    fn default() -> Self {
        "".into()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl AsRef<std::path::Path> for Text {
    fn as_ref(&self) -> &std::path::Path {
        self.as_str().as_ref()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Letters;

        impl Visitor<'_> for Letters {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, letters: &str) -> Result<Text, E> {
                Ok(letters.into())
            }
        }

        deserializer.deserialize_string(Letters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_in_memory_once_while_they_are_shared() {
        let pair = || (Text::from("a/b"), Text::from(String::from("a/b")));
        let (first, second) = sharing(|| {
            // Sharing inside ends with what is inside.
            sharing(pair);
            pair()
        });
        assert!(Arc::ptr_eq(&first.0, &second.0));
        let (first, second) = pair();
        assert!(!Arc::ptr_eq(&first.0, &second.0));
        assert_eq!(first, second);
    }

    #[test]
    fn a_text_is_kept_as_it_is() {
        let text = Text::from("a/b");
        assert!(Arc::ptr_eq(&text.to_text().0, &text.0));
        assert_eq!("a/b".to_text(), text);
    }

    #[test]
    fn a_panic_ends_sharing() {
        std::panic::catch_unwind(|| sharing(|| panic!("as a test"))).unwrap_err();
        assert!(MADE.with_borrow(Option::is_none));
    }
}
