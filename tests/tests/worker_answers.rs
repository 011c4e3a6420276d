//! What a worker process says at the wrong moment, or without end.

use std::fs;

use zako_tests::Project;

/// Answers a request for `twice` two times, and then says so by a file. It writes another output in two parts, and its
/// process id to `$RAN.pids`.
const WORKER: &str = r#"
echo $$ >> $RAN.pids
while read -r line; do
  case $line in
    *twice*) echo > twice; echo '{}'; echo '{}'; : > $RAN.said;;
    *) printf part > slow; printf ial >> slow; echo '{}';;
  esac
done
"#;

#[test]
fn an_answer_too_many_is_not_taken_for_that_of_the_next_request() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
const worker = (name, deps) => target({ cmd: ["sh", "worker.sh"], worker: [name], srcs: ["worker.sh"], deps, outs: [name] });
export default {
  twice: worker("twice", []),
  between: target({ cmd: ["sh", "-c", "until [ -e $RAN.said ]; do sleep 0.01; done; echo > between"], deps: [":twice"], outs: ["between"] }),
  slow: worker("slow", [":between"]),
};
"#,
    );
    project.write("worker.sh", WORKER);
    project.build();
    assert_eq!(project.read("slow"), "partial");
    let pids = fs::read_to_string(project.outside().join("ran.pids")).unwrap();
    assert_eq!(
        pids.lines().count(),
        2,
        "whoever answered twice is not asked again"
    );
}

/// A target whose worker process does this, with a time limit and `more`.
fn talks(script: &str, timeout: &str, more: &str) -> Project {
    let project = Project::with_build(&format!(
        "import {{ target }} from \"zako:build\";\nexport default {{ t: target({{ cmd: [\"sh\", \"worker.sh\"], worker: [], \
         srcs: [\"worker.sh\"], outs: [\"out\"], timeout: \"{timeout}\"{more} }}) }};\n"
    ));
    project.write("worker.sh", script);
    project
}

#[test]
fn who_talks_without_end_is_killed_at_its_time_limit() {
    let talks = |more: &str| talks("read -r line; exec yes ''", "1s", more).zako(&["build"]);
    talks("").fails_saying(&["//:t failed: its worker was killed after 1 s, its timeout"]);
    talks(", multiplex: 2").fails_saying(&["its worker did not answer within 1 s, its timeout"]);
}

#[test]
fn a_line_without_end_is_given_up() {
    talks("read -r line; exec cat /dev/zero", "10m", "")
        .zako(&["build"])
        .fails_saying(&["its answer has no end", "and so did another one"]);
}
