//! What the whole build waits for goes first, also where few steps run at a time.

use std::fs;

use zako_tests::Project;

/// A chain, and steps that stand alone. The first time each takes a while, which is recorded; the second time those that
/// stand alone end when the last but one of the chain has.
const BUILD: &str = r#"
import { target } from "zako:build";
const step = (name, script, deps) => target({ cmd: ["sh", "-c", `${script}; echo > ${name}`], deps, outs: [name], timeout: 60 });
const all = {};
for (let n = 0; n < 4; n += 1) {
  const script = "[ -e $RAN.again ] || sleep 0.3" + (n === 2 ? "; : > $RAN.end" : "");
  all[`z${n}`] = step(`z${n}`, script, n > 0 ? [`:z${n - 1}`] : []);
}
for (let n = 0; n < 6; n += 1) {
  const script = "if [ -e $RAN.again ]; then until [ -e $RAN.end ]; do sleep 0.01; done; else sleep 0.1; fi";
  all[`a${n}`] = step(`a${n}`, script, []);
}
export default all;
"#;

#[test]
fn the_next_of_the_longest_chain_is_given_the_seat_of_the_one_before() {
    let project = Project::with_build(BUILD);
    project.zako(&["build"]).succeeds();
    fs::remove_file(project.outside().join("ran.end")).unwrap();
    fs::write(project.outside().join("ran.again"), "").unwrap();
    // Of those that stand alone one has a seat; if a second one had, nobody would ever end them.
    project.zako(&["build", "-j", "2", "--force"]).succeeds();
}
