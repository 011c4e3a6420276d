//! What leaves a build and a node for those who watch them: spans, figures, alerts, backtraces.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use zako_tests::{Node, Outcome, Project, until_so};

const BUILD: &str = r#"
import { target } from "zako:build";
export default {
  good: target({ cmd: ["sh", "-c", "echo 1 > good.out"], outs: ["good.out"] }),
  bad: target({ cmd: ["sh", "-c", "exit 3"], deps: [":good"] }),
};
"#;

/// One request to a collector: its head and its body.
fn take_request(listener: &TcpListener) -> (String, Vec<u8>) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let lower = head.to_lowercase();
    let (_, rest) = lower.split_once("content-length: ").expect(&head);
    let length = rest.lines().next().unwrap().trim().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
    (head, body)
}

#[test]
fn a_collector_is_sent_the_spans_of_a_build() {
    let project = Project::with_build(BUILD);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let collector = std::thread::spawn(move || take_request(&listener));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut command = project.command(&["build", "--otel", &address]);
    command.env("TRACEPARENT", format!("00-{trace}-b7ad6b7169203331-01"));
    assert_eq!(command.output().unwrap().status.code(), Some(1));
    let (head, body) = collector.join().unwrap();
    assert!(head.starts_with("POST /v1/traces "), "{head}");
    let names = [
        "zako build",
        "//:good",
        "//:bad",
        "read build files",
        "zako.outcome",
        "exit status 3",
    ];
    assert_spans(&body, &names, trace);
}

/// Whether these texts are in what a collector was sent, and the caller's trace.
#[track_caller]
fn assert_spans(sent: &[u8], texts: &[&str], trace: &str) {
    // Protocol Buffers keep texts and ids as they are.
    let contains = |needle: &[u8]| sent.windows(needle.len()).any(|window| window == needle);
    for text in texts {
        assert!(contains(text.as_bytes()), "no {text} among the spans");
    }
    let id: Vec<u8> = (0..16)
        .map(|n| u8::from_str_radix(&trace[2 * n..2 * n + 2], 16).unwrap())
        .collect();
    assert!(contains(&id), "the spans are not in the caller's trace");
}

#[test]
fn a_collector_is_sent_the_spans_of_a_nodes_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    let node = Node::with(&format!("otel = \"{collector}\"\n"));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut client = TcpStream::connect(node.address()).unwrap();
    let request = format!(
        "GET /ccache/absent HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\
         traceparent: 00-{trace}-b7ad6b7169203331-01\r\n\r\n"
    );
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let (head, body) = take_request(&listener);
    assert!(head.starts_with("POST /v1/traces "), "{head}");
    let texts = ["zako-node", "GET /ccache/", "/ccache/absent", "url.path"];
    assert_spans(&body, &texts, trace);
    Project::new()
        .zako(&["node", "--data-dir", "data", "--otel", "collector"])
        .fails_saying(&["--otel", "http://HOST:PORT"]);
}

#[test]
fn an_output_that_nobody_reads_fails_no_build() {
    let project = Project::with_build(BUILD);
    // The reader is gone before the build begins.
    let script = "mkfifo ended; { read gone < ended; \"$ZAKO\" build //:good --otel stdout; echo $? > status; } | \
                  { exec <&-; echo gone > ended; }";
    let said = Outcome::of(&mut project.shell(script)).succeeds();
    assert_eq!(project.read("status"), "0\n", "{}", said.stderr);
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    assert!(
        said.stderr.contains("OpenTelemetry export") && said.stderr.contains("Broken pipe"),
        "{}",
        said.stderr
    );
}

#[test]
fn spans_go_to_standard_output_and_a_collector_that_is_gone_fails_no_build() {
    let project = Project::with_build(BUILD);
    let said = project
        .zako(&["build", "//:good", "--otel", "stdout"])
        .succeeds();
    assert!(
        said.stdout.contains("//:good") && said.stdout.contains("zako build"),
        "{}",
        said.stdout
    );
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let said = project
        .zako(&["build", "//:good", "--otel", &format!("http://{closed}")])
        .succeeds();
    assert!(
        said.stderr.contains("OpenTelemetry export"),
        "{}",
        said.stderr
    );
    project
        .zako(&["build", "--otel", "collector"])
        .fails_saying(&["--otel", "http://HOST:PORT"]);
}

#[test]
fn events_tell_what_the_pools_did() {
    let project = Project::with_build(BUILD);
    project
        .zako(&["build", "//:good", "--events", "events.json"])
        .succeeds();
    let text = project.read("events.json");
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let find = |name: &str| {
        events
            .iter()
            .find(|event| event["event"] == name)
            .unwrap_or_else(|| panic!("no {name}"))
    };
    let scripts = &find("scripts_evaluated")["scripts"];
    assert_eq!(scripts["evaluations"], 1);
    assert!(scripts["event_loop_polls"].as_u64().unwrap() > 0);
    assert_eq!(find("pools_finished")["workers"]["started"], 0);
}

#[test]
fn isolates_give_memory_back_while_steps_run() {
    let project = Project::with_build(BUILD);
    let mut round = 0;
    // A build that is over before an isolate had its turn did not need it to.
    until_so("an isolate gives memory back", || {
        round += 1;
        project.write("BUILD.ts", &format!("{BUILD}// {round}\n"));
        let arguments = ["build", "--force", "//:good", "--events", "events.json"];
        project.zako(&arguments).succeeds();
        let text = project.read("events.json");
        let finished = text.lines().find(|line| line.contains("pools_finished"));
        let finished: serde_json::Value = serde_json::from_str(finished.unwrap()).unwrap();
        assert!(
            finished["isolates"]["tasks"].as_u64().unwrap() > 0,
            "{finished}"
        );
        finished["isolates"]["gc_runs"].as_u64().unwrap() > 0
    });
}

#[test]
fn whoever_asks_is_told_whole_stacks() {
    let calls = "function f(n: number): never { if (n === 0) throw new Error(\"deep\", { cause: new Error(\"below\") }); return f(n - 1); }\nf(30);\nexport default {};\n";
    let project = Project::with_build(calls);
    let frames = |text: &str| text.matches("BUILD.ts:1:").count();
    let short = project.zako(&["build"]).fails_saying(&["deep"]).text();
    let whole = project
        .zako(&["build", "--backtrace"])
        .fails_saying(&["deep", "caused by Error: below"])
        .text();
    assert!(
        frames(&short) < 20 && frames(&whole) > 30,
        "{short}\n{whole}"
    );
    let mut command = project.command(&["build"]);
    let asked = command.env("ZAKO_BACKTRACE", "1").output().unwrap();
    assert!(frames(&String::from_utf8_lossy(&asked.stderr)) > 30);
    // An error of the machine says where it was noticed.
    project.write("events", "");
    let mut broken = project.command(&["build", "--backtrace", "--cache-dir", "events/below"]);
    let said = String::from_utf8(broken.output().unwrap().stderr).unwrap();
    assert!(
        said.contains("backtrace:") && said.contains("zako_actors"),
        "{said}"
    );
}

#[test]
fn doctor_prints_the_pools_that_are_in_force() {
    let project = Project::new();
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!(
            "{manifest}[settings]\nmin-workers = 2\nmax-workers = 5\nworker-idle-seconds = 7\n"
        ),
    );
    let said = project.zako(&["doctor"]).succeeds().stdout;
    let line = |name: &str| {
        said.lines()
            .find(|line| line.contains(name))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        line("isolates").contains("2 to 5, idle ones leave after 7 s"),
        "{said}"
    );
    let mut command = project.command(&["doctor"]);
    let asked = command.env("ZAKO_MAX_WORKERS", "3").output().unwrap();
    assert!(String::from_utf8_lossy(&asked.stdout).contains("2 to 3, idle"));
    let mut command = project.command(&["build"]);
    let wrong = command.env("ZAKO_MAX_WORKERS", "1").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("at least 2 and at most 1"));
}

#[test]
fn doctor_tells_what_is_in_force_and_where_it_comes_from() {
    let project = Project::new();
    let ask = |variables: &[(&str, &str)]| {
        let mut command = project.command(&["doctor"]);
        command.env_remove("ZAKO_JOBS").env_remove("ZAKO_REMOTE");
        let said = command.envs(variables.iter().copied()).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    let said = ask(&[]);
    for line in [
        "steps at a time (default)",
        "off (default)",
        "remote cache       none",
        "256.0 MiB of heap (default), 30 s of computing, 120 s by the clock (default)",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!(
            "{manifest}[settings]\njobs = 2\nsandbox = \"strict\"\nremote = \"http://there:1\"\nevaluation-seconds = 7\nevaluation-heap = \"96m\"\n"
        ),
    );
    let said = ask(&[]);
    for line in [
        "2 steps at a time (zako.toml)",
        "strict (zako.toml)",
        "http://there:1 (zako.toml)",
        "96.0 MiB of heap (zako.toml), 7 s of computing, 28 s by the clock (zako.toml)",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let said = ask(&[
        ("ZAKO_JOBS", "7"),
        ("ZAKO_REMOTE", "grpc://ada:s3cret@here:2"),
        ("ZAKO_EVALUATION_SECONDS", "5"),
        ("ZAKO_EVALUATION_HEAP", "128m"),
        ("ZAKO_SANDBOX", "warn"),
    ]);
    for line in [
        "7 steps at a time (ZAKO_JOBS)",
        "grpc://here:2 (ZAKO_REMOTE)",
        "128.0 MiB of heap (ZAKO_EVALUATION_HEAP), 5 s of computing, 20 s by the clock (ZAKO_EVALUATION_SECONDS)",
        "warn (ZAKO_SANDBOX)",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(ask(&[("ZAKO_JOBS", "x")]).contains("warn  jobs"));
    assert!(ask(&[("ZAKO_SANDBOX", "x")]).contains("warn  sandbox"));
    let heap = ask(&[("ZAKO_EVALUATION_HEAP", "1k")]);
    assert!(
        heap.contains("ZAKO_EVALUATION_HEAP=1k: a size from 32m"),
        "{heap}"
    );
    project.write("zako.toml", "grop = \"x\"\n");
    let said = ask(&[]);
    for words in ["zako.toml:1:1: unknown field `grop`", "correct it"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("zako init"), "{said}");
}

#[test]
fn a_node_tells_when_a_rule_begins_to_hold() {
    let project = Project::new();
    let told = project.outside().join("told");
    assert!(
        Command::new("mkfifo")
            .arg(&told)
            .status()
            .unwrap()
            .success()
    );
    let config = project.outside().join("node.toml");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let webhook = format!("http://{}/hooks/zako", listener.local_addr().unwrap());
    let hook = std::thread::spawn(move || take_request(&listener));
    let text = format!(
        "data-dir = {:?}\nhttp = \"127.0.0.1:0\"\n[alerts]\nevery_seconds = 1\nwebhook = \"{webhook}\"\ncommand = [\"sh\", \"-c\", \"cat > {}\"]\n\
         [[alerts.rule]]\nname = \"it runs\"\nfigure = \"zako_v1_store_up\"\nabove = 0\n",
        project.outside().join("data"),
        told.display()
    );
    std::fs::write(&config, text).unwrap();
    let node = project.start(&["node", "--config", config.to_str().unwrap()]);
    // Opening waits for the command.
    let mut notice = String::new();
    File::open(&told)
        .unwrap()
        .read_to_string(&mut notice)
        .unwrap();
    let notice: serde_json::Value = serde_json::from_str(&notice).unwrap();
    assert_eq!(notice["alert"], "it runs");
    assert_eq!(notice["state"], "firing");
    let (head, body) = hook.join().unwrap();
    assert!(head.starts_with("POST /hooks/zako "), "{head}");
    let posted: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(posted, notice);
    node.signal("TERM");
    node.wait().succeeds();
    let wrong = "[alerts]\n[[alerts.rule]]\nname = \"r\"\nfigure = \"f\"\nabove = 0\n";
    std::fs::write(&config, wrong).unwrap();
    project
        .zako(&["node", "--config", config.to_str().unwrap()])
        .fails_saying(&["node.toml", "somebody who is told"]);
}
