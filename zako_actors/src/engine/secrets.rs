//! What looks like a secret, and is not written down as it is.
//!
//! Owns the guess, by names and by the forms in which secrets are usually written. Does not know where texts come from.
//! Invariant: of a secret no more is told than a short digest, so that one that changed is told from one that did not.

use std::borrow::Cow;

use cas_actor::without_credentials;

use super::cause::short;
use super::hash::Hash;

/// Parts of names, between what is no letter and no digit, that secrets have.
const SECRET_PARTS: [&str; 14] = [
    "AUTH",
    "AUTHORIZATION",
    "BEARER",
    "CREDENTIAL",
    "CREDENTIALS",
    "KEY",
    "PASS",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PWD",
    "SECRET",
    "SECRETS",
    "TOKEN",
];
/// The same where they are written together with something else, as in `githubToken`.
const SECRET_WITHIN: [&str; 6] = [
    "APIKEY",
    "CREDENTIAL",
    "PASSW",
    "PRIVATEKEY",
    "SECRET",
    "TOKEN",
];
/// What follows these words of a header is one.
const SCHEMES: [&str; 3] = ["BASIC", "BEARER", "TOKEN"];

/// Whether the value of a variable, an option or a flag of this name may be a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    // The working directory is no password.
    let is_known = matches!(name.as_str(), "PWD" | "OLDPWD");
    let mut parts = name.split(|c: char| !c.is_ascii_alphanumeric());
    !is_known
        && (parts.any(|part| SECRET_PARTS.contains(&part))
            || SECRET_WITHIN.iter().any(|part| name.contains(part)))
}

/// What is shown of a secret.
pub fn hidden(secret: &str) -> String {
    format!("<hidden {}>", short(&Hash::of(secret.as_bytes())))
}

/// The words of a command line, with what looks like a secret hidden.
pub fn shown_words<'a>(words: &'a [String]) -> impl Iterator<Item = Cow<'a, str>> {
    let before = std::iter::once("").chain(words.iter().map(String::as_str));
    before.zip(words).map(|(before, word)| {
        let is_flag = before.starts_with('-') && !before.contains(['=', ' ']);
        match is_flag && is_secret(before) && !word.starts_with('-') {
            true => Cow::Owned(hidden(word)),
            false => shown(word),
        }
    })
}

/// `text`, with what looks like a secret hidden: it may be a line of a shell.
pub fn shown(text: &str) -> Cow<'_, str> {
    let is_doubtful = text.contains("://") || text.contains('=') || text.contains(' ');
    if !is_doubtful {
        return Cow::Borrowed(text);
    }
    let mut told = String::with_capacity(text.len());
    let mut before = "";
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        told.push_str(&shown_word(word, before));
        told.push_str(&piece[word.len()..]);
        before = word;
    }
    match told == text {
        true => Cow::Borrowed(text),
        false => Cow::Owned(told),
    }
}

/// One word of a line, behind the word `before`.
fn shown_word<'w>(word: &'w str, before: &str) -> Cow<'w, str> {
    let bare = |word: &str| word.trim_matches(['"', '\'', ':']).to_ascii_uppercase();
    let is_named = before.starts_with("--") && !before.contains('=') && is_secret(before);
    let follows = is_named || SCHEMES.contains(&bare(before).as_str());
    if follows && !word.starts_with('-') && !word.is_empty() {
        return Cow::Owned(hidden(word));
    }
    if let Some((name, value)) = word.split_once('=')
        && is_secret(name)
        && !value.is_empty()
        && !name.contains("://")
    {
        return Cow::Owned(format!("{name}={}", hidden(value)));
    }
    let url = word.contains("://").then(|| without_credentials(word));
    match url {
        Some(url) if url != word => Cow::Owned(format!(
            "{url} <hidden {}>",
            short(&Hash::of(word.as_bytes()))
        )),
        _ => Cow::Borrowed(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_their_names() {
        for name in [
            "NPM_TOKEN",
            "githubToken",
            "DB_PASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "--api-key",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["NODE_ENV", "MODE", "PWD", "KEYBOARD", "AUTHOR", "CFLAGS"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn of_a_command_line_the_rest_is_shown() {
        let words = |line: &[&str]| {
            let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
            shown_words(&words).collect::<Vec<_>>().join("|")
        };
        assert_eq!(words(&["cc", "-O2", "a b"]), "cc|-O2|a b");
        let told = words(&["curl", "--token", "s3cret", "-v", "--api-key=s3cret"]);
        assert!(told.starts_with("curl|--token|<hidden "), "{told}");
        assert!(told.contains("|-v|--api-key=<hidden "), "{told}");
        for line in [
            "TOKEN=s3cret make all",
            "curl -H 'Authorization: Bearer s3cret' x",
            "curl https://me:s3cret@x.org/a",
        ] {
            let told = shown(line);
            assert!(
                !told.contains("s3cret") && told.contains("<hidden "),
                "{told}"
            );
        }
        let other = shown("TOKEN=other make all");
        assert_ne!(other, shown("TOKEN=s3cret make all"));
    }
}
