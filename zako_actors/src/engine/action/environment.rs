//! The clean environment of commands.
//!
//! Owns what of the environment that zako was started in reaches a step, and which of it is part of
//! the key. Does not know what the variables mean.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Describer;
use crate::lang::target::{Command, EnvValue};

/// The environment that zako was started in, and what steps see of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outer {
    /// All of it.
    pub variables: BTreeMap<String, String>,
    /// Names (`*` stands for any text; `!` before: not that) that every step is given, part of its key.
    pub tracked: Vec<String>,
    /// Names that every step is given, no part of its key.
    pub untracked: Vec<String>,
}

impl Outer {
    /// Adds everything that `names` mean together, and nothing that is `hidden`.
    fn pass_all(&self, names: &[&str], hidden: &[&str], env: &mut BTreeMap<String, String>) {
        let mut left_out = left_out(names.iter().copied());
        left_out.extend(hidden);
        for name in names {
            self.pass(name, (name, None), &left_out, env);
        }
    }

    /// Adds variable `name` with the value of `outer`, or everything that `outer` means, but nothing that is `left_out`.
    fn pass(
        &self,
        name: &str,
        (outer, default): (&str, Option<&str>),
        left_out: &[&str],
        env: &mut BTreeMap<String, String>,
    ) {
        let is_left_out = |key: &str| left_out.iter().any(|it| means(it, key));
        if outer.contains('*') {
            let all = self.variables.iter();
            let found = all.filter(|(key, _)| means(outer, key) && !is_left_out(key));
            env.extend(found.map(|(key, value)| (key.clone(), value.clone())));
            return;
        }
        if outer.starts_with('!') || is_left_out(outer) {
            return;
        }
        let value = self.variables.get(outer).map(String::as_str).or(default);
        if let Some(value) = value {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// Whether `name`, in which `*` stands for any text, means variable `key`.
fn means(name: &str, key: &str) -> bool {
    let Some((begin, rest)) = name.split_once('*') else {
        return name == key;
    };
    let (between, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut left) = key
        .strip_prefix(begin)
        .and_then(|left| left.strip_suffix(end))
    else {
        return false;
    };
    between.split('*').all(|part| match left.split_once(part) {
        Some((_, behind)) => {
            left = behind;
            true
        }
        None => false,
    })
}

/// Those of `names` that say what is left out, with what they say.
fn left_out<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let names = names.into_iter();
    names.filter_map(|name| name.strip_prefix('!')).collect()
}

/// What a script of a package is given as a package manager would: who asks, and how the network is
/// reached. None of it may decide what it writes.
const IN_PLACE_ENV: [&str; 19] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TZ",
    "XDG_*",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "npm_config_*",
    "NPM_CONFIG_*",
    "COREPACK_*",
];

impl Describer {
    /// The declared environment of a command: PATH and locale, what the workspace passes on, the
    /// workspace's variables, its own. All of it is part of the key.
    pub fn environment(&self, command: &Command) -> Cow<'_, BTreeMap<String, String>> {
        let shared = command.in_place.iter().flat_map(|step| &step.shared_env);
        let shared: Vec<&str> = shared.map(String::as_str).collect();
        let hidden = hidden(command);
        let common = || self.common.get_or_init(|| self.common(&[]));
        if command.env.is_empty() && shared.is_empty() && hidden.is_empty() {
            return Cow::Borrowed(common());
        }
        let mut env = match hidden.is_empty() {
            true => common().clone(),
            false => self.common(&hidden),
        };
        self.outer.pass_all(&shared, &hidden, &mut env);
        self.add(&command.env, &mut env);
        Cow::Owned(env)
    }

    /// What commands without variables of their own are given, but of what is passed on nothing that is `hidden`.
    fn common(&self, hidden: &[&str]) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), self.path.clone()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ]);
        let tracked: Vec<&str> = self.outer.tracked.iter().map(String::as_str).collect();
        self.outer.pass_all(&tracked, hidden, &mut env);
        self.add(&self.env, &mut env);
        env
    }

    fn add(&self, values: &BTreeMap<String, EnvValue>, env: &mut BTreeMap<String, String>) {
        let left_out = left_out(values.keys().map(String::as_str));
        for (name, value) in values {
            match value {
                EnvValue::Text(text) => drop(env.insert(name.clone(), text.clone())),
                EnvValue::Pass {
                    name: outer,
                    default,
                } => self
                    .outer
                    .pass(name, (outer, default.as_deref()), &left_out, env),
            }
        }
    }

    /// What a command is given beyond its [`environment`](Self::environment), no part of its key.
    pub fn untracked(&self, command: &Command) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let mut hidden = hidden(command);
        let everywhere: Vec<&str> = self.outer.untracked.iter().map(String::as_str).collect();
        self.outer.pass_all(&everywhere, &hidden, &mut env);
        let Some(step) = &command.in_place else {
            return env;
        };
        let [shared, own] =
            [&step.shared_open_env, &step.open_env].map(|it| it.iter().map(String::as_str));
        let shared: Vec<&str> = shared.collect();
        self.outer.pass_all(&shared, &hidden, &mut env);
        hidden.extend(left_out(everywhere.into_iter().chain(shared)));
        self.outer.pass_all(&IN_PLACE_ENV, &hidden, &mut env);
        self.outer.pass_all(&own.collect::<Vec<_>>(), &[], &mut env);
        env
    }
}

/// What a script is not given of what all scripts are given. As with Turborepo, its own `env` leaves nothing of that out.
fn hidden(command: &Command) -> Vec<&str> {
    let own = command.in_place.iter().flat_map(|step| &step.open_env);
    left_out(own.map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_names_leave_out_again() {
        for (name, key, is_meant) in [
            ("A", "A", true),
            ("A", "AB", false),
            ("A_*", "A_B", true),
            ("A_*", "A_", true),
            ("A_*_KEY", "A_X_KEY", true),
            ("A_*_KEY", "A_KEY", false),
            ("*_B_*_D", "A_B_C_D", true),
            ("*_C_*_B_*", "A_B_C_D", false),
            ("*", "", true),
        ] {
            assert_eq!(means(name, key), is_meant, "{name} {key}");
        }
        let variables = ["A_1", "A_2", "A_SECRET"].map(|name| (name.to_owned(), "x".to_owned()));
        let outer = Outer {
            variables: variables.into(),
            ..Outer::default()
        };
        let mut env = BTreeMap::new();
        for name in ["A_*", "!A_SECRET", "A_SECRET"] {
            outer.pass(name, (name, None), &["A_SECRET"], &mut env);
        }
        assert_eq!(env.into_keys().collect::<Vec<_>>(), ["A_1", "A_2"]);
    }
}
