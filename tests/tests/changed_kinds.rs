//! Another output where one was, of another kind or of another target: what is there is what a clean build leaves, and what is a
//! person's stays.

use std::fs;
use std::os::unix::fs::symlink;

use zako_tests::kinds::{Found, KINDS, Kind, SIDE, found};
use zako_tests::{Project, git};

/// Who is told in which way of a change of kinds.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The target gets another name.
    Renamed,
    /// It goes elsewhere, and a new one takes its place.
    Taken,
    /// Two change places.
    Swapped,
}

/// A target: its name, what it leaves, where, made of what.
type Made = (String, Kind, String, [&'static str; 2]);

const BEFORE: [&str; 2] = ["1", "2"];
const NOW: [&str; 2] = ["2", "3"];

impl Way {
    /// The targets before and after `from` gives its place to `to`.
    fn of(self, from: Kind, to: Kind) -> [Vec<Made>; 2] {
        let pair = format!("{self:?}_{from:?}_{to:?}");
        let made = |name: &str, kind, place: &str, words| {
            (
                format!("{pair}_{name}"),
                kind,
                format!("all/{pair}_{place}"),
                words,
            )
        };
        match self {
            Self::Renamed => [
                vec![made("a", from, "x", BEFORE)],
                vec![made("b", to, "x", NOW)],
            ],
            Self::Taken => [
                vec![made("a", from, "x", BEFORE)],
                vec![made("a", from, "y", BEFORE), made("b", to, "x", NOW)],
            ],
            Self::Swapped => [
                vec![made("a", from, "x", BEFORE), made("b", to, "y", BEFORE)],
                vec![made("a", from, "y", NOW), made("b", to, "x", NOW)],
            ],
        }
    }
}

fn describe(project: &Project, targets: &[Made]) {
    let lines = targets
        .iter()
        .map(|(name, kind, place, words)| format!("  {name}: {},\n", kind.target(place, words)));
    let lines: String = lines.collect();
    project.write(
        "BUILD.ts",
        &format!("import {{ target }} from \"zako:build\";\nexport default {{\n{lines}}};\n"),
    );
}

/// Builds `targets`, with `arguments`, and sees whether what they say is there and all there is to do.
fn is_built(project: &Project, targets: &[Made], arguments: &[&str]) {
    describe(project, targets);
    project.zako(&[&["build"], arguments].concat()).succeeds();
    let expected = targets
        .iter()
        .map(|(_, kind, place, words)| kind.left(place, words));
    let expected: Found = expected.flatten().collect();
    let found = found(&project.root(), "all");
    let differs = |one: &Found, other: &Found| -> Found {
        let all = one.clone().into_iter();
        all.filter(|(path, it)| other.get(path) != Some(it))
            .collect()
    };
    assert_eq!(differs(&found, &expected), differs(&expected, &found));
    assert_eq!(project.read("side/theirs"), "theirs\n");
    let again = project.build().text();
    assert!(
        again.contains(&format!("{} up to date", targets.len())),
        "{again}"
    );
}

/// One after the other: all pairs of kinds, and back again with results from the cache.
fn all_kinds_change(way: Way, arguments: &[&str], has_git: bool) {
    let project = Project::new();
    project.write(&format!("{SIDE}/theirs"), "theirs\n");
    if has_git {
        git(&project.root(), &["init", "-q"]);
        git(&project.root(), &["add", "."]);
    }
    let pairs = || {
        KINDS
            .iter()
            .flat_map(|from| KINDS.map(|to| way.of(*from, to)))
    };
    let [before, now] = [0, 1].map(|at| pairs().flat_map(|it| it[at].clone()).collect::<Vec<_>>());
    for targets in [&before, &now, &before, &now] {
        is_built(&project, targets, arguments);
    }
    project.zako(&["clean"]).succeeds();
    assert!(!project.has("all"));
    project.store_is_intact();
}

#[test]
fn a_target_with_another_name_leaves_another_kind() {
    all_kinds_change(Way::Renamed, &[], false);
}

#[test]
fn a_target_with_another_name_leaves_another_kind_beside_git() {
    all_kinds_change(Way::Renamed, &["-j", "1"], true);
}

#[test]
fn a_target_takes_the_place_of_another_kind() {
    all_kinds_change(Way::Taken, &[], false);
}

#[test]
fn a_target_takes_the_place_of_another_kind_one_after_the_other() {
    all_kinds_change(Way::Taken, &["-j", "1"], true);
}

#[test]
fn two_targets_change_places() {
    all_kinds_change(Way::Swapped, &[], false);
}

/// A workspace whose target `name` leaves `kind` at `all/x`.
fn project(name: &str, kind: Kind) -> Project {
    let project = Project::new();
    describe(&project, &[at_x(name, kind, BEFORE)]);
    project.build();
    project
}

fn at_x(name: &str, kind: Kind, words: [&'static str; 2]) -> Made {
    (name.into(), kind, "all/x".into(), words)
}

fn at_y(name: &str, kind: Kind, words: [&'static str; 2]) -> Made {
    (name.into(), kind, "all/y".into(), words)
}

#[test]
fn what_a_renamed_target_left_goes_once_its_heir_is_up_to_date() {
    for kind in [Kind::Tree, Kind::Pattern] {
        let project = project("a", kind);
        let heir = at_x("b", kind, NOW);
        let fails = (
            "c".into(),
            Kind::File,
            "all/no/such/\" 2>/none/x; false \"".into(),
            NOW,
        );
        // A build of something else comes between, then one that fails.
        describe(&project, &[heir.clone(), at_y("c", Kind::File, NOW)]);
        project.zako(&["build", "//:c"]).succeeds();
        describe(&project, &[heir.clone(), fails]);
        project.zako(&["build", "//:c"]).fails_saying(&["//:c"]);
        let one = kind.left("all/x", &["1"]).into_keys().next().unwrap();
        assert!(project.has(&one), "nobody knows whether it is made again");
        describe(&project, std::slice::from_ref(&heir));
        project.build();
        assert_eq!(found(&project.root(), "all"), kind.left("all/x", &NOW));
    }
}

#[test]
fn what_a_target_took_over_is_not_taken_away_by_whoever_had_it() {
    let project = project("a", Kind::Tree);
    describe(
        &project,
        &[at_y("a", Kind::Tree, NOW), at_x("b", Kind::Tree, NOW)],
    );
    project.zako(&["build", "//:b"]).succeeds();
    project.zako(&["build", "//:a"]).succeeds();
    let mut expected = Kind::Tree.left("all/x", &NOW);
    expected.extend(Kind::Tree.left("all/y", &NOW));
    assert_eq!(found(&project.root(), "all"), expected);
    let again = project.build().text();
    assert!(again.contains("2 up to date"), "{again}");
}

#[test]
fn directories_go_though_somebody_deleted_what_was_in_them() {
    for gone in ["all/x/deep/1", "all/x/deep"] {
        let project = project("a", Kind::Deep);
        let place = project.root().join(gone);
        match place.is_dir() {
            true => fs::remove_dir_all(place).unwrap(),
            false => fs::remove_file(place).unwrap(),
        }
        fs::remove_file(project.root().join("all/x/b")).unwrap();
        describe(&project, &[at_y("a", Kind::File, BEFORE)]);
        project.build();
        let left = found(&project.root(), "all");
        assert_eq!(left, Kind::File.left("all/y", &BEFORE), "{gone}");
    }
}

#[test]
fn a_persons_directory_where_a_file_goes_stays_and_is_told_of() {
    let project = project("a", Kind::File);
    let place = project.root().join("all/x");
    fs::remove_file(&place).unwrap();
    project.write("all/x/mine", "mine\n");
    let words = [
        "all/x is a directory, and zako did not write all/x/mine",
        "move that directory away: `--overwrite` replaces files only",
    ];
    for arguments in [&["build"][..], &["build", "--overwrite"]] {
        project.zako(arguments).fails_saying(&words);
    }
    assert_eq!(project.read("all/x/mine"), "mine\n");
    fs::remove_dir_all(place).unwrap();
    project.build();
    assert_eq!(project.read("all/x"), "1 2\n");
}

#[test]
fn what_a_person_put_into_a_directory_that_is_to_go_stays() {
    type Put = fn(&Project);
    let puts: [Put; 4] = [
        |project| project.write("all/x/2", "mine\n"),
        |project| project.write("all/x/mine", "mine\n"),
        |project| {
            git(&project.root(), &["init", "-q"]);
            git(&project.root(), &["add", "-f", "all/x/2"]);
        },
        |project| symlink("/", project.root().join("all/x/2b")).unwrap(),
    ];
    for put in puts {
        for is_taken in [true, false] {
            let project = project("a", Kind::Tree);
            put(&project);
            let all = found(&project.root(), "all");
            let now = match is_taken {
                true => vec![at_y("a", Kind::Tree, BEFORE), at_x("b", Kind::File, NOW)],
                false => vec![at_x("b", Kind::File, NOW)],
            };
            describe(&project, &now);
            for arguments in [&["build", "-k"][..], &["build", "-k", "--overwrite"]] {
                let said = project.zako(arguments);
                said.fails_saying(&[
                    "//:b failed: all/x is a directory, and zako did not write all/x/",
                ]);
            }
            let left = found(&project.root(), "all/x");
            assert!(!left.is_empty());
            assert!(
                left.iter()
                    .all(|(path, content)| all.get(path) == Some(content))
            );
            fs::remove_dir_all(project.root().join("all/x")).unwrap();
            project.build();
            assert_eq!(project.read("all/x"), "2 3\n");
        }
    }
}

#[test]
fn a_persons_file_where_a_directory_goes_stays_until_overwritten() {
    for is_edited in [true, false] {
        let (project, mine) = match is_edited {
            true => (project("a", Kind::File), "mine\n"),
            false => {
                let project = Project::new();
                describe(&project, &[at_y("a", Kind::File, BEFORE)]);
                project.build();
                // The cache has the same; it is a person's nevertheless.
                (project, "1 2\n")
            }
        };
        project.write("all/x", mine);
        for kind in [Kind::Tree, Kind::Empty, Kind::Inner] {
            describe(&project, &[at_x("b", kind, NOW)]);
            let said = project.zako(&["build"]);
            said.fails_saying(&["all/x exists and zako did not write it", "`--overwrite`"]);
            assert_eq!(project.read("all/x"), mine);
        }
        project.zako(&["build", "--overwrite"]).succeeds();
        assert_eq!(project.read("all/x/inner"), "2 3\n");
    }
}

#[test]
fn a_persons_link_to_another_place_is_built_through() {
    let project = Project::new();
    let elsewhere = project.outside().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(project.root().join("all")).unwrap();
    symlink(&elsewhere, project.root().join("all/x")).unwrap();
    describe(&project, &[at_x("a", Kind::Tree, BEFORE)]);
    project.build();
    assert!(project.root().join("all/x").is_symlink());
    assert_eq!(fs::read_to_string(elsewhere.join("1")).unwrap(), "1\n");
}

#[test]
fn two_targets_that_exclude_each_other_are_told_of() {
    let project = Project::new();
    describe(
        &project,
        &[
            at_x("a", Kind::File, BEFORE),
            at_x("b", Kind::Inner, BEFORE),
        ],
    );
    for _ in 0..2 {
        let said = project.zako(&["build", "-j", "1"]);
        said.fails_saying(&["//:a declares all/x as a file, and //:b writes all/x/inner in it"]);
    }
}
