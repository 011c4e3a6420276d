//! The program as people and scripts call it: what it prints, and how it exits.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn call(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench_harness"))
        .args(arguments)
        .output()
        .unwrap()
}

/// One that this process may use.
fn first_core() -> String {
    bench_harness::pin::available()[0].to_string()
}

/// What it prints when all is well.
fn printed(arguments: &[&str]) -> String {
    let output = call(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// How it exits and what it says, when all is not well.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = call(arguments);
    assert!(!output.status.success(), "{arguments:?} was accepted");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code().unwrap(), said.concat())
}

/// What probes are asked for is inherited by nobody: a probe that starts programs of its own would begin again and again.
#[test]
fn a_process_of_its_own_is_asked_by_an_argument() {
    let probe = r#"{"IdleMemory":{"library":"actor_rt","actors":500}}"#;
    let answer: Value = serde_json::from_str(&printed(&["probe", probe])).unwrap();
    assert_eq!(answer["checksum"], 500 * 499 / 2);
    assert!(answer["bytes"].as_f64().unwrap() >= 0.0);
    assert!(refused(&["probe", "{}"]).1.contains("expected"));
    let nobody = r#"{"IdleMemory":{"library":"nobody","actors":1}}"#;
    assert!(
        refused(&["probe", nobody])
            .1
            .contains("no library `nobody`")
    );
    let list = Command::new(env!("CARGO_BIN_EXE_bench_harness"))
        .arg("list")
        .env("BENCH_HARNESS_MEMORY_PROBE", "actor_rt=500")
        .env("BENCH_HARNESS_STRESS_PROBE", "0=0.0001")
        .output()
        .unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert_eq!(list, printed(&["list"]));
}

#[cfg(feature = "store")]
#[test]
fn a_store_is_opened_in_a_process_of_its_own() {
    let text = printed(&["run", "store_memory", "--quick", "--repeat", "1", "--json"]);
    let outcome: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(outcome["results"][0]["checksum"], 200_000);
}

/// What `http_small` stands a node beside.
#[cfg(feature = "store")]
#[test]
fn bare_hyper_serves_until_nobody_is_there_any_more() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::process::Stdio;

    let mut child = Command::new(env!("CARGO_BIN_EXE_bench_harness"))
        .args(["probe", r#"{"Http":{"workers":1}}"#])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("http://").unwrap();
    let first = (0..1024_u64).map(|byte| byte.wrapping_mul(31) as u8);
    let first: Vec<u8> = first.collect();
    let name = cas_actor::Sha256Digest::of(&first).hex();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /cas/{name} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(&first));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn list_names_every_scenario_of_this_build() {
    let list = printed(&["list"]);
    for scenario in bench_harness::scenario::ALL {
        assert!(
            list.contains(&format!("  {} ", scenario.name)),
            "{}",
            scenario.name
        );
    }
}

/// The promised fields, and ratios that follow from the medians.
fn check_comparison(outcome: &Value, scenario: &str) {
    assert_eq!(outcome["scenario"], scenario);
    assert!(outcome["unit"].is_string() && outcome["machine"]["cores"].is_u64());
    assert!(outcome["notes"].is_array() && outcome["valid"].is_boolean());
    assert_eq!(outcome["options"]["scale"], "quick");
    let rows = outcome["results"].as_array().unwrap();
    let figure = |row: &Value, name: &str| row[name].as_f64().unwrap();
    for row in rows {
        let [min, median, max] = ["min", "median", "max"].map(|name| figure(row, name));
        assert!(0.0 < min && min <= median && median <= max, "{row}");
        assert!(row["checksum"].is_u64() && row["impl"].is_string());
    }
    for (variant, ratio) in outcome["ratio_to_best_peer"].as_object().unwrap() {
        let of_it = || rows.iter().filter(|row| row["variant"] == *variant);
        let ours = of_it().find(|row| row["impl"] == "actor_rt").unwrap();
        let peers = of_it().filter(|row| row["impl"] != "actor_rt" && row["valid"] == true);
        let best = peers.map(|row| figure(row, "median")).fold(0.0, f64::max);
        let expected = figure(ours, "median") / best;
        let ratio = ratio.as_f64().unwrap();
        assert!(
            (ratio / expected - 1.0).abs() < 1e-9,
            "{variant}: {ratio}, {expected}"
        );
    }
}

// `payloads` is one of the few with peers that need no feature `peers`.
#[cfg(feature = "store")]
#[test]
fn run_prints_one_object_for_each_scenario() {
    let peers = ["--impl", "actor_rt", "--impl", "Box"];
    let flags = ["--quick", "--repeat", "2", "--json"];
    let text = printed(&[&["run", "payloads", "ask"], &peers[..], &flags].concat());
    let outcomes: Vec<Value> = text
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(outcomes.len(), 2);
    check_comparison(&outcomes[0], "payloads");
    assert_eq!(
        outcomes[0]["ratio_to_best_peer"].as_object().unwrap().len(),
        2
    );
    check_comparison(&outcomes[1], "ask");
}

#[test]
fn compare_needs_peers_and_compares_with_them() {
    let arguments = ["compare", "burst", "--quick", "--repeat", "1", "--json"];
    if cfg!(feature = "peers") {
        let outcome: Value = serde_json::from_str(&printed(&arguments)).unwrap();
        check_comparison(&outcome, "burst");
        assert!(outcome["ratio_to_best_peer"]["one by one"].is_f64());
    } else {
        assert!(refused(&arguments).1.contains("--features peers"));
    }
}

#[test]
fn the_cores_that_are_named_are_used() {
    let core = &first_core();
    let text = printed(&["run", "ask", "--quick", "--repeat", "1", "--cores", core]);
    assert!(text.contains("between actors"));
    let text = printed(&["latency", "--quick", "--cores", core]);
    assert!(
        text.contains("same core") && !text.contains("two cores,"),
        "{text}"
    );
    assert!(text.contains("note: One core"), "{text}");
    // Every path but the two bare ones is held beside the machine's own.
    let paths = text.lines().filter(|line| line.contains("same core"));
    let ratios = text.matches("× the bare line's").count();
    assert_eq!(ratios, 2 * (paths.count() - 2), "{text}");
}

#[test]
fn what_means_nothing_is_refused_or_named() {
    let twice = [first_core(), first_core()].join(",");
    let wrong: [(&[&str], &str); 21] = [
        (&["run", "nothing"], "no scenario `nothing`"),
        (
            &["run", "ask", "--impl", "nobody"],
            "no implementation `nobody`",
        ),
        (
            &["run", "spsc", "--impl", "actor_rt", "--impl", "rtrbb"],
            "no implementation `rtrbb` here; these are: actor_rt",
        ),
        (
            &["profile", "spsc", "--impl", "nobody"],
            "no implementation `nobody` here; these are: actor_rt",
        ),
        (&["run", "spsc", "--payload", "48"], "one of 8, 16, 64, 256"),
        (&["run", "spsc", "--capacity", "0"], "at least 1"),
        (
            &["run", "spsc", "--capacity", "18446744073709551615"],
            "at most 1073741824",
        ),
        (&["report", "ask", "--json"], "--json"),
        (&["check", "--update", "--threshold", "20"], "--threshold"),
        (&["run", "spsc", "--repeat", "0"], "at least 1"),
        (
            &["run", "spsc", "--cores", "4095"],
            "core 4095 is not available",
        ),
        (&["run", "spsc", "--cores", twice.as_str()], "twice"),
        (&["soak", "--minutes=-1"], "more than 0"),
        (&["soak", "--minutes", "NaN"], "more than 0"),
        (&["stress", "--scale", "0"], "more than 0"),
        (&["stress", "--scale", "NaN"], "more than 0"),
        (&["check", "--threshold", "200"], "less than 100"),
        (&["check", "--force"], "--update"),
        (
            &["check", "--baseline", "/nowhere/baseline.json"],
            "--update",
        ),
        (&["latency", "--impl", "actor_rt"], "--impl"),
        (&["latency", "--wait", "busy"], "--wait"),
    ];
    for (arguments, part) in wrong {
        let (_, said) = refused(arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    let flags = [
        "--producers",
        "2",
        "--wait",
        "block",
        "--quick",
        "--repeat",
        "1",
    ];
    let output = call(&[&["run", "ask"], &flags[..]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success()
            && said.contains("ask: --producers means nothing here, only to mpsc, "),
        "{said}"
    );
    assert!(
        said.contains("--wait means nothing here, only to all rings"),
        "{said}"
    );
    // And by whatever else takes them.
    let directory = tempfile::tempdir().unwrap();
    for command in [["profile", "ask", "--svg"], ["report", "ask", "--out"]] {
        let file = directory.path().join(command[0]);
        let flags = ["--wait", "block", "--tiny", "--repeat", "1"];
        let output = call(&[&command[..], &[file.to_str().unwrap()], &flags].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && said.contains("ask: --wait means nothing here"),
            "{command:?}: {said}"
        );
    }
    if !cfg!(feature = "build") {
        let (_, said) = refused(&["run", "worker_processes"]);
        assert!(said.contains("--features zako"), "{said}");
    }
}

/// Multiplies every figure of a baseline file; all its runs have been like the median one.
fn scale(path: &Path, factor: f64) {
    let mut baseline: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for figure in baseline["figures"].as_object_mut().unwrap().values_mut() {
        let median = figure["median"].as_f64().unwrap();
        for name in ["worst", "median", "best"] {
            figure[name] = (median * factor).into();
        }
    }
    fs::write(path, baseline.to_string()).unwrap();
}

/// Far beyond any noise; that twice as slow is found and as fast is not shows the gate's own test, which counts steps.
#[test]
fn the_gate_exits_by_what_it_finds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("baseline.json");
    let file = path.to_str().unwrap();
    let scenario = "spawn_stop";
    if cfg!(debug_assertions) {
        let (_, said) = refused(&["check", "--baseline", file, "--update", scenario]);
        assert!(said.contains("debug build") && !path.exists(), "{said}");
    }
    let update = printed(&["check", "--baseline", file, "--update", "--force", scenario]);
    assert!(update.contains("2 figures written"), "{update}");

    scale(&path, 1e-3);
    let same = printed(&["check", "--baseline", file, scenario]);
    assert!(
        same.contains("ok") && same.contains("spawn_stop / one after another"),
        "{same}"
    );
    // What it takes to fail is told beside it, for every run alike.
    assert!(
        same.contains("fails below") && same.contains("-15.0 %"),
        "{same}"
    );

    scale(&path, 1e6);
    let (status, said) = refused(&["check", "--baseline", file, scenario]);
    assert_eq!(status, 1);
    assert!(
        said.contains("WORSE") && said.contains("2 of 2 figures"),
        "{said}"
    );

    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("one after another", "of yesterday")).unwrap();
    let (_, said) = refused(&["check", "--baseline", file, scenario]);
    assert!(
        said.contains("one after another: not in the baseline"),
        "{said}"
    );
    assert!(
        said.contains("of yesterday: in the baseline, not measured"),
        "{said}"
    );
}

#[test]
fn a_soak_that_is_too_short_says_so_and_exits_by_its_own_status() {
    let (status, said) = refused(&["soak", "--minutes", "0.001"]);
    assert_eq!(status, 3, "{said}");
    assert!(
        said.contains("INCONCLUSIVE") && said.contains("more minutes"),
        "{said}"
    );
}

#[test]
fn every_shape_of_stress_has_memory_of_its_own() {
    let text = printed(&["stress", "--scale", "0.0005", "--json"]);
    let shapes: Value = serde_json::from_str(&text).unwrap();
    let shapes = shapes.as_array().unwrap();
    assert_eq!(shapes.len(), 3);
    for shape in shapes {
        assert_eq!(shape["intact"], true);
        assert_eq!(shape["sent"], shape["delivered"]);
        let peak_mib = shape["peak_mib"].as_f64().unwrap();
        // Where there is no `/proc` it is not known.
        assert_eq!(peak_mib > 0.0, cfg!(target_os = "linux"));
    }
}

#[test]
fn a_profile_has_samples_a_flame_graph_and_allocations() {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("flame.svg");
    let file = ["--svg", svg.to_str().unwrap()];
    let flags = ["--quick", "--repeat", "1", "--capacity", "64", "--json"];
    let text = printed(&[&["profile", "spsc"], &file[..], &flags].concat());
    let profile: Value = serde_json::from_str(&text).unwrap();
    assert!(profile["samples"].as_u64().unwrap() > 0, "{profile}");
    assert!(
        profile["allocations"]["allocations"].as_u64().unwrap() > 0,
        "{profile}"
    );
    // Where strace is installed: this program and no other was counted.
    let started = profile["system_calls"]["execve"].as_u64().unwrap_or(1);
    assert_eq!(started, 1, "{profile}");
    let svg = fs::read_to_string(svg).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.contains("write_items"),
        "{svg:.300}"
    );
}

/// Valgrind hides of the machine what it cannot follow, which the program must not look for elsewhere.
#[test]
fn a_heap_profile_is_left_where_valgrind_is_installed() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["flame.svg", "heap"].map(|name| directory.path().join(name));
    let [svg, heap] = [0, 1].map(|file| paths[file].to_str().unwrap());
    let files = ["--svg", svg, "--massif", heap];
    let flags = ["--tiny", "--repeat", "1", "--json"];
    let output = call(&[&["profile", "ask"], &files[..], &flags].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // One object, and nothing of what runs under valgrind.
    let profile: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(profile["runs"].as_u64().unwrap() > 0);
    let is_installed = !said.contains("valgrind is not installed");
    assert_eq!(paths[1].is_file(), is_installed, "{said}");
}

#[cfg(feature = "peers")]
#[test]
fn who_is_named_is_profiled() {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("flame.svg");
    let flags = ["--impl", "rtrb", "--quick", "--repeat", "1", "--json"];
    let file = ["--svg", svg.to_str().unwrap()];
    printed(&[&["profile", "spsc"], &flags[..], &file].concat());
    let svg = fs::read_to_string(svg).unwrap();
    assert!(svg.contains("rtrb") && !svg.contains("actor_rt::ring::spsc"));
}

/// Wherever it is started, and with no git to ask.
#[test]
fn the_commit_is_the_one_that_was_compiled() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench_harness"))
        .args(["run", "ask", "--tiny", "--repeat", "1", "--json"])
        .current_dir("/")
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["machine"]["commit"], bench_harness::machine::COMMIT);
}

#[test]
fn a_report_has_bars_and_curves_and_says_what_it_lacks() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("report.html");
    let mut arguments = vec!["report", "--out", page.to_str().unwrap(), "ask", "burst"];
    let all = cfg!(feature = "store");
    if all {
        // Nobody of that name is in it.
        arguments.push("store_writers");
    }
    arguments.extend(["--impl", "actor_rt", "--tiny", "--repeat", "1"]);
    let text = printed(&arguments);
    assert_eq!(text.contains("left out: store_writers"), all, "{text}");
    let page = fs::read_to_string(page).unwrap();
    for part in [
        "<h2>ask</h2>",
        "<h2>burst</h2>",
        "<h2>Latency</h2>",
        "<rect",
        "<polyline",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.contains("Not here: store_writers"), all);
    assert!(page.contains("median with the range of all runs (a single run, --tiny)"));
    // Which of a scenario's variants a line is of.
    let scales = bench_harness::pin::available().len() > 1;
    assert_eq!(page.contains(">tell, actor to actor ("), scales);
    assert!(page.ends_with("</html>\n"));
}

/// Whole processes of build tools, where they are installed: at their smallest, with the checksums that `compare` holds them to.
#[cfg(all(feature = "build", feature = "peers"))]
#[test]
fn builds_of_whole_processes_are_compared() {
    let program = Path::new(env!("CARGO_BIN_EXE_bench_harness"));
    let has_zako = program.with_file_name("zako").is_file();
    let names = ["build_noop", "build_cold", "build_edit", "packages_noop"];
    let flags = ["--tiny", "--repeat", "1", "--json"];
    let text = printed(&[&["compare"], &names[..], &flags].concat());
    let outcomes: Vec<Value> = text
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(outcomes.len(), names.len());
    for outcome in outcomes {
        let rows = outcome["results"].as_array().unwrap();
        let ours = rows.iter().filter(|row| row["impl"] == "zako_actors");
        let mut variants = ours.map(|row| row["variant"].as_str().unwrap());
        let as_process = variants.any(|it| !it.ends_with("in this process"));
        let said = outcome["notes"].to_string().contains("the zako binary");
        assert_eq!((as_process, said), (has_zako, !has_zako), "{outcome}");
    }
}
