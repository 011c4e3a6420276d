//! Who may use a remote cache, and what is said of it: no secret, but what to do.

use zako_tests::{Answer, Node, Outcome, Project, Web};

fn project() -> Project {
    Project::with_build(
        "import { target } from \"zako:build\";\nexport default { t: target({ cmd: [\"sh\", \"-c\", \"seq 9000 > t\"], outs: [\"t\"] }) };\n",
    )
}

#[test]
fn a_password_in_an_address_is_sent_and_never_said() {
    let node = Node::closed();
    for scheme in ["http", "grpc"] {
        let build = |address: &str| {
            let project = project();
            let remote = format!("{scheme}://ada:s3cret@{address}");
            let mut command = project.command(&["build", "-v", "--json", "--remote", &remote]);
            command
                .args(["--events", "events", "--trace", "trace"])
                .env("RUST_LOG", "debug");
            let said = Outcome::of(&mut command).succeeds().text();
            let mut doctor = project.command(&["doctor"]);
            let doctor = Outcome::of(doctor.env("ZAKO_REMOTE", &remote)).text();
            let all = [said, doctor, project.read("events"), project.read("trace")].concat();
            assert!(!all.contains("s3cret"), "{all}");
            all
        };
        build(node.address());
        // A port that was free a moment ago: nobody answers there.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let said = build(&address);
        assert!(
            said.contains(&format!(
                "the remote cache at {scheme}://{address} does not answer"
            )),
            "{said}"
        );
        let wrong = format!("{scheme}://ada:s3cret@");
        let said = project().zako(&["build", "--remote", &wrong]);
        assert!(!said.text().contains("s3cret"), "{}", said.text());
        said.fails_saying(&["remote cache"]);
    }
    let cache = Web::cache();
    let remote = cache.url("").replace("http://", "http://ada:s3cret@");
    project().zako(&["build", "--remote", &remote]).succeeds();
    let asked = cache.asked();
    // `ada:s3cret`
    let basic = Some("Basic YWRhOnMzY3JldA==".to_owned());
    assert!(
        !asked.is_empty() && asked.iter().all(|(_, by)| *by == basic),
        "{asked:?}"
    );
}

#[test]
fn who_is_refused_is_told_where_a_token_comes_from() {
    let cache = Web::cache();
    cache.answer_below("/", Answer::Status(401));
    let said = project()
        .zako(&["build", "--remote", &cache.url("")])
        .succeeds()
        .text();
    assert!(
        said.contains("401") && said.contains("ZAKO_REMOTE_TOKEN"),
        "{said}"
    );
}

#[test]
fn who_asks_something_else_than_a_cache_is_told() {
    for page in ["<html>welcome</html>", "{\"welcome\": true}", ""] {
        let cache = Web::cache();
        cache.answer_below("/ac/", Answer::Body(page.into()));
        let project = project();
        let build = ["build", "--remote", &cache.url("")];
        let said = project.zako(&build).succeeds().text();
        let expected = "answers with what is no result of a step";
        assert_eq!(said.matches(expected).count(), 1, "{page}: {said}");
        assert_eq!(project.read("t").lines().count(), 9000);
    }
}

#[test]
fn who_may_only_read_is_told_once_that_nothing_is_shared() {
    let reader = "[[access.credential]]\nname = \"reader\"\nbearer = \"r3ad\"\nright = \"read\"\n";
    let node = Node::with(reader);
    for scheme in ["http", "grpc"] {
        let project = Project::with_build(
            "import { target } from \"zako:build\";\nconst step = (name) => target({ cmd: [\"sh\", \"-c\", `seq 9000 > ${name}`], outs: [name] });\n\
             export default { t: step(\"t\"), u: step(\"u\") };\n",
        );
        let remote = format!("{scheme}://{}", node.address());
        let mut command = project.command(&["build", "--remote", &remote]);
        let said = Outcome::of(command.env("ZAKO_REMOTE_TOKEN", "r3ad"))
            .succeeds()
            .text();
        assert_eq!(said.matches("is shared with nobody").count(), 1, "{said}");
        assert!(!said.contains("r3ad"), "{said}");
    }
}
