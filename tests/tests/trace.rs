//! What `--trace` and `zako trace` draw: the format by its rules, and what Perfetto itself reads in it.

use std::path::Path;
use std::process::Command;

use zako_tests::{Project, perfetto, succeed};

/// A slice of one row: when it begins and ends.
type Slice = (u64, u64);

/// Whether each two slices of a row lie one after the other or one in the other; viewers drop what overlaps in part.
fn are_nested(slices: &mut [Slice]) -> bool {
    slices.sort_by_key(|(begin, end)| (*begin, std::cmp::Reverse(*end)));
    let mut open: Vec<u64> = Vec::new();
    slices.iter().all(|(begin, end)| {
        while open.pop_if(|outer| *outer <= *begin).is_some() {}
        let fits = open.last().is_none_or(|outer| end <= outer);
        open.push(*end);
        fits
    })
}

/// A rule that reads a file.
const COUNT: &str = r#"
import { attr, rule } from "zako:rule";
export const count = rule({
  name: "count",
  attrs: { src: attr.source() },
  async implementation(ctx) {
    const text = await ctx.read(ctx.attrs.src);
    return { files: [ctx.write(ctx.label.name, `${text.length}`)] };
  },
});
"#;

/// Two steps that wait for each other, so that they run at the same time, and a rule that reads what one of them wrote.
const PARALLEL: &str = r#"
import { target } from "zako:build";
import { count } from "./count.rule.ts";
export default {
  a: target({ cmd: ["sh", "-c", "echo > $RAN.a; read x < $RAN.b; echo 1 > a"], outs: ["a"] }),
  b: target({ cmd: ["sh", "-c", "read x < $RAN.a; echo > $RAN.b; echo 1 > b"], outs: ["b"] }),
  n: count({ src: ":a" }),
  last: target({ cmd: ["sh", "-c", "echo 1 > last"], deps: [":a", ":b", ":n"], outs: ["last"] }),
};
"#;

/// A workspace whose build wrote `trace.json`.
fn traced() -> Project {
    let project = Project::with_build(PARALLEL);
    project.write("count.rule.ts", COUNT);
    for pipe in ["ran.a", "ran.b"] {
        succeed(Command::new("mkfifo").arg(project.outside().join(pipe)));
    }
    let arguments = ["build", "-j", "2", "--trace", "trace.json"];
    project.zako(&arguments).succeeds();
    project
}

#[test]
fn a_trace_of_parallel_steps_follows_the_format_and_nothing_in_it_overlaps_in_part() {
    let mut parts = [(0, 5), (3, 9)];
    assert!(!are_nested(&mut parts) && are_nested(&mut [(5, 9), (0, 5), (0, 3), (0, 9)]));
    let project = traced();
    let trace: serde_json::Value = serde_json::from_str(&project.read("trace.json")).unwrap();
    let mut rows: std::collections::BTreeMap<u64, Vec<Slice>> = Default::default();
    let mut named = std::collections::BTreeSet::new();
    let mut together = 0;
    for event in trace["traceEvents"].as_array().unwrap() {
        for field in ["ts", "pid", "tid"] {
            assert!(event[field].is_u64(), "{field}: {event}");
        }
        assert!(event["name"].is_string(), "{event}");
        let tid = event["tid"].as_u64().unwrap();
        match event["ph"].as_str().unwrap() {
            "X" => {
                let begin = event["ts"].as_u64().unwrap();
                let end = begin + event["dur"].as_u64().unwrap();
                rows.entry(tid).or_default().push((begin, end));
            }
            "C" => {
                let values = event["args"].as_object().unwrap();
                let numbers = values.values().map(|value| value.as_u64().unwrap());
                together = together.max(numbers.max().unwrap());
            }
            "M" if event["name"] == "thread_name" => drop(named.insert(tid)),
            "M" => assert!(event["args"].is_object(), "{event}"),
            "i" => assert!(["g", "p", "t"].contains(&event["s"].as_str().unwrap())),
            other => panic!("{other}: {event}"),
        }
    }
    assert_eq!(together, 2);
    // Those of zako itself, and one for each of two steps at a time.
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    assert!(rows.keys().all(|tid| named.contains(tid)));
    for (row, slices) in &mut rows {
        assert!(are_nested(slices), "row {row}: {slices:?}");
    }
}

/// What Perfetto answers to a query about a trace, a JSON array for each row.
fn ask(page: &Path, trace: &Path, query: &str) -> Vec<serde_json::Value> {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/perfetto.mjs");
    let mut node = Command::new("node");
    let told = succeed(node.arg(client).arg(page).arg(trace).arg(query));
    let rows = told.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>().expect("JSON")
}

#[test]
fn perfetto_reads_a_trace_and_drops_nothing_of_it() {
    let Some(page) = perfetto() else {
        return;
    };
    let project = traced();
    let trace = project.root().join("trace.json");
    let ask = |query: &str| ask(&page, &trace, query);
    let errors =
        "select name, value from stats where severity in ('error', 'data_loss') and value > 0";
    assert!(ask(errors).is_empty(), "{:?}", ask(errors));
    let parsed: serde_json::Value = serde_json::from_str(&project.read("trace.json")).unwrap();
    let written = parsed["traceEvents"].as_array().unwrap().iter();
    let slices = written.filter(|event| event["ph"] == "X" || event["ph"] == "i");
    let slices = slices.count();
    assert_eq!(
        ask("select count(*) from slice"),
        [serde_json::json!([slices])]
    );
    let rows = "select thread.name, category, slice.name, dur > 0 from slice \
        join thread_track on track_id = thread_track.id join thread using (utid) \
        order by category, slice.name";
    let rows = ask(rows);
    let of = |category: &'static str| rows.iter().filter(move |row| row[1] == category);
    assert!(
        of("zako").count() > 1 && of("zako").all(|row| row[0] == "zako"),
        "{rows:?}"
    );
    let steps: Vec<_> = of("step").map(|step| step[2].as_str().unwrap()).collect();
    assert_eq!(steps, ["//:a", "//:b", "//:last", "//:n"]);
    let mut of_waiting = of("step").take(2).map(|step| step[0].as_str().unwrap());
    let of_waiting = [of_waiting.next().unwrap(), of_waiting.next().unwrap()];
    assert!(
        of_waiting == ["steps 1", "steps 2"] || of_waiting == ["steps 2", "steps 1"],
        "{rows:?}"
    );
    assert!(of("step").all(|step| step[3] == 1), "{rows:?}");
    assert_eq!(
        ask("select cast(max(value) as int) from counter"),
        [serde_json::json!([2])]
    );
    let mut node = Command::new("node");
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/perfetto.mjs");
    let refused = node
        .arg(client)
        .arg(&page)
        .arg(&trace)
        .arg("select")
        .output();
    assert!(!refused.unwrap().status.success(), "a wrong query is told");
}

#[test]
fn trace_tells_where_the_time_goes() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
const wait = (name, seconds, deps) =>
  target({ cmd: ["sh", "-c", `sleep ${seconds}; touch ${name}`], deps, outs: [name] });
export default {
  first: wait("first", 2, []),
  second: wait("second", 2, [":first"]),
  alone: wait("alone", 0.1, []),
};
"#,
    );
    let before = project.zako(&["trace"]).succeeds().text();
    assert!(before.contains("3 never ran here"), "{before}");
    project.build();
    let told = project.zako(&["trace", "-j", "1"]).succeeds().text();
    let place = |text: &str| {
        told.find(text)
            .unwrap_or_else(|| panic!("no {text}: {told}"))
    };
    assert!(place("longest chain") < place("//:first") && place("//:first") < place("//:second"));
    assert!(place("slowest steps:") < place("//:alone"));
    assert!(
        told.contains("with 1 job\n") && told.contains("with 4 jobs\n"),
        "{told}"
    );
    let json = project
        .zako(&["trace", "--json", "//:second"])
        .succeeds()
        .text();
    assert!(
        json.contains("\"targets\": 2") && !json.contains("//:alone"),
        "{json}"
    );
    project.zako(&["trace", "-o", "trace.json"]).succeeds();
    let trace = project.read("trace.json");
    assert_eq!(trace.matches("\"cat\":\"step\"").count(), 3);
    project
        .zako(&["trace", "//:frist"])
        .fails_saying(&["//:frist", "did you mean"]);
}
