//! A node behind another one: what is found there, what is handed on, and what a dead one costs.

use std::time::{Duration, Instant};

use zako_tests::{Node, Project, until_so};

fn behind(there: &Node, scheme: &str) -> Node {
    let address = there.address();
    Node::with(&format!(
        "[upstream]\naddress = \"{scheme}://{address}\"\nwrite = \"background\"\n"
    ))
}

/// Asks until the answer is this.
fn until_it_answers(node: &Node, path: &str, body: &str) {
    until_so(path, || node.ask("GET", path, "") == (200, body.to_owned()));
}

fn chained(scheme: &str) {
    let mut there = Node::open();
    let here = behind(&there, scheme);
    assert_eq!(there.ask("PUT", "/ccache/one", "1").0, 200);
    assert_eq!(here.ask("GET", "/ccache/one", ""), (200, "1".to_owned()));
    assert_eq!(here.ask("PUT", "/gradle/two", "2").0, 200);
    until_it_answers(&there, "/gradle/two", "2");

    there.kill();
    let began = Instant::now();
    assert_eq!(
        here.ask("GET", "/ccache/one", ""),
        (200, "1".to_owned()),
        "it was kept"
    );
    for number in 0..50 {
        assert_eq!(here.ask("GET", &format!("/ccache/none{number}"), "").0, 404);
    }
    assert_eq!(here.ask("PUT", "/ccache/three", "3").0, 200);
    assert_eq!(here.ask("GET", "/ccache/three", ""), (200, "3".to_owned()));
    // Three calls that fail, and a pause of a second at first: far from fifty patiences.
    assert!(
        began.elapsed() < Duration::from_secs(50),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(here.figure("upstream_up"), 0);
    assert!(here.figure("upstream_skipped_total") > 0);

    there.restart();
    assert_eq!(there.ask("PUT", "/ccache/four", "4").0, 200);
    until_it_answers(&here, "/ccache/four", "4");
    assert_eq!(here.figure("upstream_up"), 1);
}

#[test]
fn two_nodes_over_http_and_the_far_one_killed() {
    chained("http");
}

#[test]
fn two_nodes_over_grpc_and_the_far_one_killed() {
    chained("grpc");
}

#[test]
fn an_upstream_that_cannot_be_used_is_named_at_the_start() {
    let project = Project::new();
    let data = project.outside().join("data");
    let data = data.to_str().unwrap();
    for (address, words) in [
        ("cache:8080", ["[upstream] address", "grpc://HOST:PORT"]),
        ("https+ftp://a", ["https+ftp://a", "unknown scheme"]),
    ] {
        let arguments = ["node", "--data-dir", data, "--upstream", address];
        project.zako(&arguments).fails_saying(&words);
    }
    let config = project.outside().join("node.toml");
    std::fs::write(
        &config,
        "[upstream]\naddress = \"http://a\"\nuser = \"ada\"\n",
    )
    .unwrap();
    let arguments = [
        "node",
        "--data-dir",
        data,
        "--config",
        config.to_str().unwrap(),
    ];
    project
        .zako(&arguments)
        .fails_saying(&["node.toml", "`password`"]);
}
