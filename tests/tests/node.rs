//! `zako node`: it says where it listens, answers, and ends when it is told to.

use std::io::{Read, Write};
use std::net::TcpStream;

use zako_tests::{Project, Running, until};

/// Starts a node on a free port and returns it with its HTTP address.
fn start(project: &Project) -> (Running, String) {
    let data = project.outside().join("data");
    let mut node = project.start(&[
        "node",
        "--http",
        "127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    loop {
        let line = node.line();
        assert!(!line.is_empty(), "the node ended without an address");
        if let Some((_, address)) = line.split_once("http://") {
            let address = address.split(['/', ' ']).next().unwrap_or_default();
            return (node, address.to_owned());
        }
    }
}

/// The answer to a request, head and body.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What a node says of its health once it is well: one that stood still may say first that it is not.
fn health(address: &str) -> String {
    until("the node is well", || {
        let health = get(address, "/healthz");
        health.starts_with("HTTP/1.1 200").then_some(health)
    })
}

#[test]
fn it_tells_its_health_and_figures() {
    let project = Project::new();
    let (node, address) = start(&project);
    let health = health(&address);
    let (_, body) = health.split_once("\r\n\r\n").unwrap();
    let report: serde_json::Value = serde_json::from_str(body).unwrap();
    for component in ["actors", "store", "transport"] {
        let component = &report["components"][component];
        assert_eq!(component["healthy"], true, "{report}");
        assert!(component["latency_us"].is_u64(), "{report}");
    }
    let metrics = get(&address, "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("# TYPE zako_v1_"), "{metrics}");
    let nothing = get(&address, "/no/such/page");
    assert!(nothing.starts_with("HTTP/1.1 404"), "{nothing}");
    let metrics = get(&address, "/metrics");
    for figure in [
        "front_http_errors_total{code=\"404\"} 1",
        "transport_upload_chunk_bytes_count 0",
        "transport_uploads_resumed_total 0",
        "store_scrubbed_total ",
        "front_held_bytes 0",
    ] {
        assert!(metrics.contains(&format!("zako_v1_{figure}")), "{metrics}");
    }
    node.signal("TERM");
    node.wait().succeeds();
}

#[test]
fn ctrl_c_ends_it_cleanly_and_it_starts_again() {
    let project = Project::new();
    for _ in 0..2 {
        let (node, address) = start(&project);
        health(&address);
        node.signal("INT");
        node.wait().succeeds();
        assert!(TcpStream::connect(&address).is_err());
    }
}

#[test]
fn an_address_in_use_is_named() {
    let project = Project::new();
    let (node, address) = start(&project);
    let other = project.outside().join("other");
    let arguments = [
        "node",
        "--http",
        &address,
        "--data-dir",
        other.to_str().unwrap(),
    ];
    project.zako(&arguments).fails_saying(&[&address, "in use"]);
    node.signal("TERM");
    node.wait().succeeds();
}

#[test]
fn garbage_on_the_wire_harms_nobody() {
    let project = Project::new();
    let (node, address) = start(&project);
    for garbage in [
        &b"\0\xff\xfe garbage\r\n\r\n"[..],
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // Closing without an answer, even abruptly, is an answer too.
        let _ = stream.read_to_end(&mut answer);
    }
    health(&address);
    node.signal("TERM");
    node.wait().succeeds();
}

#[test]
fn the_monitoring_examples_use_figures_that_exist() {
    let project = Project::new();
    let (node, address) = start(&project);
    let metrics = get(&address, "/metrics");
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/monitoring");
    for file in ["dashboard.json", "alerts.yml"] {
        let text = std::fs::read_to_string(examples.join(file)).unwrap();
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let mut names = 0;
        for (at, _) in text.match_indices("zako_v1_") {
            let rest = &text[at..];
            let name = &rest[..rest.find(|c| !is_name(c)).unwrap()];
            let exists = metrics.lines().any(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            });
            assert!(exists, "{file}: {name} is not in /metrics");
            names += 1;
        }
        assert!(names > 10, "{file}");
    }
    let dashboard = std::fs::read_to_string(examples.join("dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let expressions: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    for quantile in ["0.95", "0.99"] {
        let wanted = format!("histogram_quantile({quantile}");
        assert!(expressions.iter().any(|expr| expr.contains(&wanted)));
    }
    node.signal("TERM");
    node.wait().succeeds();
}

#[test]
fn a_configuration_that_cannot_work_is_told_with_file_and_key() {
    let project = Project::new();
    let config = project.outside().join("node.toml");
    let path = config.to_str().unwrap();
    for (text, words) in [
        (
            "[limits]\nrequests = 0\n",
            ["[limits] requests = 0", "at least 1"],
        ),
        ("[limits]\nrequets = 5\n", ["line 2", "requets"]),
        (
            "[tls]\ncertificate = \"/no/such.pem\"\nkey = \"/no/such.key\"\n",
            ["[tls] certificate", "/no/such.pem"],
        ),
        (
            "[[access.credential]]\nname = \"ci\"\n",
            ["credential 1", "`bearer`"],
        ),
    ] {
        std::fs::write(&config, text).unwrap();
        let data = project.outside().join("data");
        let arguments = [
            "node",
            "--http",
            "127.0.0.1:0",
            "--config",
            path,
            "--data-dir",
        ];
        let arguments = [&arguments[..], &[data.to_str().unwrap()]].concat();
        let words = ["node.toml", words[0], words[1]];
        project.zako(&arguments).fails_saying(&words);
    }
}

/// Without a limit of its own a node filled the disk.
#[test]
fn a_node_leaves_half_of_what_was_free_unless_it_is_told_another_limit() {
    fn limit(config: &str) -> (String, Option<u64>) {
        let project = Project::new();
        let (data, file) = (
            project.outside().join("data"),
            project.outside().join("node.toml"),
        );
        std::fs::write(&file, config).unwrap();
        let mut command = project.command(&["node", "--http", "127.0.0.1:0", "--data-dir"]);
        let mut node = Running::start(command.arg(&data).arg("--config").arg(&file));
        let store = node.line();
        let address = until("an address", || {
            let line = node.line();
            line.split_once("http://")
                .map(|(_, address)| address.to_owned())
        });
        let metrics = get(&address, "/metrics");
        let mut lines = metrics.lines();
        let found = lines.find_map(|line| line.strip_prefix("zako_v1_store_limit_bytes "));
        let kept = std::fs::read_to_string(data.join("max-bytes")).unwrap_or_default();
        let found = found.map(|bytes| bytes.parse().unwrap());
        if config.is_empty() {
            assert_eq!(
                found.map(|bytes: u64| format!("{bytes} bytes\n")),
                Some(kept)
            );
        }
        (store, found)
    }
    let (said, chosen) = limit("");
    assert!(said.contains(", at most ") && chosen.is_some(), "{said}");
    let (said, set) = limit("max-bytes = 5368709120\n");
    assert!(said.contains(", at most 5.0 GiB"), "{said}");
    assert_eq!(set, Some(5 << 30));
    for unlimited in ["max-bytes = 0\n", "max-bytes = \"unlimited\"\n"] {
        let (said, none) = limit(unlimited);
        assert!(said.contains("as large as the disk"), "{said}");
        assert_eq!(none, None);
    }
}
