//! Completion of labels in a shell.
//!
//! Owns what may stand where the cursor is, and the part of the scripts that asks for it. Does not know how labels become known.
//! Invariant: a shell is never told of a failure; it is told nothing then.

use std::ffi::OsString;

use clap::{Arg, CommandFactory};
use clap_complete::Shell;

use super::args::{Cli, Global};
use super::options::{cache_dir, directory, said};
use crate::engine::known_labels::known_labels;
use crate::engine::workspace::{Layout, Workspace};
use crate::lang::label::{FETCHED_DIR, Label, is_within};

/// With more than so many labels only the next part of each is offered.
const OFFERED: usize = 100;

/// What a positional argument is called that is a label.
const LABEL: &str = "LABEL";

/// How a shell asks, and no person: no command, so that it is not offered either.
const QUESTION: &str = "__labels";

/// What the last word of a command line up to the cursor may become, one a line, where `arguments` ask for that: the line
/// follows `__labels --`, word by word.
pub fn main(arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let mut arguments = arguments.skip(1);
    arguments.next().filter(|first| first == QUESTION)?;
    let words = arguments.skip(1);
    let words: Vec<String> = words.map(|it| it.to_string_lossy().into_owned()).collect();
    let offered = wanted(&words).and_then(|wanted| offers(&wanted));
    let lines = offered.unwrap_or_default().into_iter();
    Some(lines.map(|it| it + "\n").collect())
}

/// A label that is being typed.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'w> {
    word: &'w str,
    /// What `-C` said.
    directory: Option<&'w str>,
}

/// Whether the last of `words` may be a label.
fn wanted(words: &[String]) -> Option<Wanted<'_>> {
    let (word, before) = words.split_last()?;
    let mut zako = Cli::command();
    zako.build();
    let is_zako = |word: &String| word.rsplit('/').next() == Some(zako.get_name());
    // By whatever name it was called.
    let start = before.iter().rposition(is_zako).unwrap_or(0) + 1;
    let mut before = before.get(start..)?.iter().map(String::as_str);
    let (mut command, mut positional, mut directory) = (&zako, 0, None);
    while let Some(typed) = before.next() {
        if typed == "--" {
            return None;
        }
        if typed.starts_with('-') {
            let attached = typed.strip_prefix("--directory=");
            directory = attached.or(directory);
            if takes_next(command, typed) {
                // Where there is none, what is typed is the value.
                let value = before.next()?;
                let is_directory = matches!(typed, "-C" | "--directory");
                directory = is_directory.then_some(value).or(directory);
            }
        } else if let Some(found) = command.find_subcommand(typed).filter(|_| positional == 0) {
            command = found;
        } else {
            positional += 1;
        }
    }
    let mut args = command.get_positionals();
    let arg = args.find(|arg| is_label(arg))?;
    let is_free = positional == 0 || arg.get_num_args().is_some_and(|it| it.max_values() > 1);
    (is_free && !word.starts_with('-')).then_some(Wanted { word, directory })
}

fn is_label(arg: &Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().any(|name| *name == LABEL)
}

/// Whether the value of flag `typed` is the next word.
fn takes_next(command: &clap::Command, typed: &str) -> bool {
    let is_it = |arg: &&Arg| match typed.strip_prefix("--") {
        Some(name) => arg.get_long() == Some(name),
        None => arg.get_short().is_some_and(|short| typed.ends_with(short)),
    };
    let arg = command.get_arguments().find(is_it);
    arg.is_some_and(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set())
}

fn offers(wanted: &Wanted<'_>) -> Option<Vec<String>> {
    let global = Global {
        directory: wanted.directory.map(Into::into),
        cache_dir: said("ZAKO_CACHE_DIR").map(Into::into),
        ..Global::default()
    };
    let dir = directory(&global);
    let workspace = Workspace::find(&dir).ok()?;
    let cache = cache_dir(&global, Some(&workspace)).ok()?;
    let layout = Layout::new(&workspace.root, cache.as_deref());
    let here = workspace.relative(&dir).unwrap_or_default();
    let written = |label: Label| {
        let text = label.to_string();
        // Those of packages from elsewhere are nobody's own.
        (
            text,
            (!is_within(label.dir(), FETCHED_DIR)).then_some(label),
        )
    };
    let labels = known_labels(&workspace, &layout).into_iter().map(written);
    Some(offered(wanted.word, &here, &labels.collect::<Vec<_>>()))
}

/// What `word`, typed in directory `here`, may become.
fn offered(word: &str, here: &str, labels: &[(String, Option<Label>)]) -> Vec<String> {
    let own = labels.iter().filter_map(|(_, label)| label.as_ref());
    let own = own.filter(|label| label.dir() == here).map(Label::name);
    if !word.is_empty() && !word.starts_with(['/', '@']) {
        let (mark, name) = match word.strip_prefix(':') {
            Some(name) => (":", name),
            None => ("", word),
        };
        let found = own.filter(|own| own.starts_with(name));
        return found.map(|name| format!("{mark}{name}")).collect();
    }
    let mut found: Vec<String> = labels.iter().map(|(text, _)| text.clone()).collect();
    found.retain(|text| text.starts_with(word));
    if found.len() > OFFERED {
        for text in &mut found {
            // The root's `//` is no part by itself.
            let from = word.len().max(text.find("//").map_or(0, |at| at + 2));
            if let Some(end) = text[from..].find(['/', ':']) {
                text.truncate(from + end + 1);
            }
        }
        found.sort();
        found.dedup();
    }
    let has_below = |dir: &str| labels.iter().any(|(text, _)| text.starts_with(dir));
    if word.is_empty() || word == "//" {
        found.push("//...".to_owned());
    } else if word.ends_with('/') && word.starts_with("//") && has_below(word) {
        found.push(format!("{word}..."));
    }
    if word.is_empty() && !here.is_empty() {
        found.extend(own.map(|name| format!(":{name}")));
    }
    found
}

/// `script`, as it is generated for `shell`, with what completes labels.
pub fn add_to(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script + BASH,
        Shell::Zsh => {
            let lines = script.lines().map(|line| match is_label_of_zsh(line) {
                true => line.replace(":_default'", ":_zako_labels'"),
                false => line.to_owned(),
            });
            let script = lines.collect::<Vec<_>>().join("\n");
            script.replacen("\n_zako() {", &format!("\n{ZSH}\n_zako() {{"), 1) + "\n"
        }
        Shell::Fish => script + &fish(),
        _ => script,
    }
}

fn is_label_of_zsh(line: &str) -> bool {
    line.contains("::labels -- ") || line.contains(":label -- ")
}

fn fish() -> String {
    let zako = Cli::command();
    let commands = zako.get_subcommands();
    let commands = commands.filter(|command| command.get_positionals().any(is_label));
    let commands: Vec<&str> = commands.map(clap::Command::get_name).collect();
    format!(
        "\n# Labels, from what the last build knew.\ncomplete -c zako -n \"__fish_seen_subcommand_from {}\" -f -a \"(zako __labels -- (commandline -opc) (commandline -ct | string collect --allow-empty) 2>/dev/null)\"\n",
        commands.join(" ")
    )
}

/// What readline takes for the word ends where a `:` was typed, so that this is left out of the answers.
const BASH: &str = r#"
# Labels, from what the last build knew.
_zako_with_labels() {
    _zako "$@"
    local line=${COMP_LINE:0:COMP_POINT} words offer found=() before= breaks=${COMP_WORDBREAKS//[^:=@]/}
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local typed=${words[${#words[@]}-1]}
    while IFS= read -r offer; do found+=("$offer"); done < <("${words[0]}" __labels -- "${words[@]}" 2>/dev/null)
    [[ ${#found[@]} -gt 0 ]] || return 0
    [[ -n $breaks ]] && before=${typed%"${typed##*[$breaks]}"}
    COMPREPLY=("${found[@]#"$before"}")
    [[ ${#found[@]} -eq 1 && ${found[0]} == *[/:] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _zako_with_labels -o bashdefault -o default zako
"#;

const ZSH: &str = r#"# Labels, from what the last build knew.
_zako_labels() {
    local -a typed found
    typed=(${(z)LBUFFER})
    [[ $LBUFFER == *[[:space:]] ]] && typed+=('')
    found=(${(f)"$(${(Q)typed[1]} __labels -- ${(Q)typed[@]} 2>/dev/null)"})
    compadd -Q -S '' -- ${(M)found:#*[/:]}
    compadd -Q -- ${found:#*[/:]}
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn label_of(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        wanted(&words).map(|it| format!("{}|{}", it.word, it.directory.unwrap_or_default()))
    }

    #[test]
    fn a_label_may_stand_where_a_command_takes_one() {
        for (line, expected) in [
            ("zako build //a", Some("//a|")),
            ("zako build ", Some("|")),
            ("zako -C x test :a //b", Some("//b|x")),
            ("./zako build -k -j 4 ", Some("|")),
            ("zako run ", Some("|")),
            ("zako why --json //a:b //", Some("//|")),
            ("zako run //a:b ", None),
            ("zako run //a:b -- ", None),
            ("zako build --events ", None),
            ("zako build -j ", None),
            ("zako build --k", None),
            ("zako ", None),
            ("zako cache get ", None),
            ("zako query ", None),
        ] {
            assert_eq!(label_of(line).as_deref(), expected, "{line:?}");
        }
    }

    #[test]
    fn of_many_labels_the_next_part_is_offered() {
        let labels = |texts: &[String]| -> Vec<(String, Option<Label>)> {
            let labels = texts.iter().map(|text| Label::parse(text, "").unwrap());
            labels
                .map(|label| (label.to_string(), Some(label)))
                .collect()
        };
        let few = labels(
            &[
                "//:all_in",
                "//libs/core:build",
                "//libs/core:test",
                "//libs/ui:build",
            ]
            .map(str::to_owned),
        );
        let ask = |word: &str, here: &str| offered(word, here, &few);
        assert_eq!(
            ask("//libs/c", ""),
            ["//libs/core:build", "//libs/core:test"]
        );
        assert_eq!(
            ask("//libs/", ""),
            [
                "//libs/core:build",
                "//libs/core:test",
                "//libs/ui:build",
                "//libs/..."
            ]
        );
        assert_eq!(ask(":", "libs/core"), [":build", ":test"]);
        assert_eq!(ask("bu", "libs/core"), ["build"]);
        assert!(ask("", "libs/ui").ends_with(&["//...".to_owned(), ":build".to_owned()]));
        assert!(ask("//nope", "").is_empty());
        let many: Vec<String> = (0..OFFERED)
            .flat_map(|n| [format!("//libs/l{n}:a"), format!("//apps:a{n}")])
            .collect();
        let many = labels(&many);
        assert_eq!(offered("", "", &many), ["//apps:", "//libs/", "//..."]);
        assert_eq!(offered("//apps:a1", "", &many).len(), 11);
    }

    #[test]
    fn every_generated_script_asks_for_labels() {
        let generated = |shell| {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "zako", &mut script);
            add_to(shell, String::from_utf8(script).unwrap())
        };
        let zako = Cli::command();
        let commands = zako.get_subcommands();
        let takers = commands.filter(|command| command.get_positionals().any(is_label));
        let takers = takers.count();
        assert_eq!(takers, 7);
        let zsh = generated(Shell::Zsh);
        assert_eq!(zsh.matches(":_zako_labels'").count(), takers, "{zsh}");
        assert_eq!(zsh.matches("_zako_labels() {").count(), 1);
        for shell in [Shell::Bash, Shell::Fish] {
            assert!(generated(shell).contains(" __labels -- "), "{shell}");
        }
    }
}
