//! The nearest valid name, as the end of an error text.
//!
//! Owns the wording. Does not know what is being named; distances are `diagnostic`'s.

use crate::diagnostic::nearest_name;

/// `; did you mean …?` for the end of an error text, or nothing.
pub fn did_you_mean<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest_name(wanted, candidates)
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_and_a_stranger_is_not() {
        let names = ["//libs/core:build", "//libs/ui:build", "//app:bundle"];
        assert_eq!(
            did_you_mean("//libs/cor:build", names),
            "; did you mean `//libs/core:build`?"
        );
        assert_eq!(did_you_mean("zzzzzz", names), "");
    }
}
