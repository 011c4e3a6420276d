//! The nearest valid name for a misspelt one.
//!
//! Owns the distance, the threshold and the wording. Does not know what is being named.

/// The candidate closest to `wanted`, when it is close enough to be a likely slip.
///
/// Distance is Damerau–Levenshtein over characters; up to one edit per three characters counts as
/// a slip, at least two.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (wanted.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(wanted.len()) <= limit * 4)
        .map(|candidate| (strsim::damerau_levenshtein(wanted, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean …?` for the end of an error text, or nothing.
pub fn did_you_mean<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wanted, candidates)
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
            nearest("//libs/cor:build", names),
            Some("//libs/core:build")
        );
        assert_eq!(nearest("//libs/ui:biuld", names), Some("//libs/ui:build"));
        assert_eq!(nearest("//completely/else:thing", names), None);
        assert_eq!(did_you_mean("zzzzzz", names), "");
    }
}
