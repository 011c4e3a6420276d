//! How packages come: side by side, and through the proxy of the environment.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use zako_tests::archive::{Entry, integrity, tar_gz};
use zako_tests::{Answer, Outcome, Project, Web};

#[test]
fn packages_come_through_the_proxy_that_the_environment_names() {
    let proxy = Web::new();
    let archive = tar_gz(&[Entry::File("lib-1/text.txt", "text")]);
    proxy.answer("http://far.invalid/lib.tgz", Answer::Body(archive.clone()));
    let digest = integrity("sha256", &archive);
    let project = Project::with_build(
        "import { target } from \"zako:build\";\nexport default { copy: target({ cmd: [\"cp\", \".zako/packages/lib/text.txt\", \"out.txt\"], \
         deps: [\"@lib//:files\"], outs: [\"out.txt\"] }) };\n",
    );
    let manifest = project.read("zako.toml");
    let declare = |url: &str| {
        let entry =
            format!("[dependencies]\nlib = {{ url = \"{url}\", integrity = \"{digest}\" }}\n");
        project.write("zako.toml", &format!("{manifest}{entry}"));
    };
    declare("http://far.invalid/lib.tgz");
    let build = |name: &str, proxy: &str, no_proxy: &str| {
        let mut command = project.command(&["build"]);
        command.env(name, proxy).env("NO_PROXY", no_proxy);
        Outcome::of(&mut command)
    };
    let through = format!("http://me:word@{}", proxy.address());
    build("HTTP_PROXY", &through, "other.invalid").succeeds();
    assert_eq!(project.read("out.txt"), "text");
    let mine = Some("Basic bWU6d29yZA==".to_owned());
    assert_eq!(
        proxy.asked(),
        [("http://far.invalid/lib.tgz".to_owned(), mine.clone())]
    );

    // Of https the proxy hears the name only; one that refuses is an error, and says no secret.
    declare("https://far.invalid/lib.tgz");
    let said = build("https_proxy", &through, "")
        .fails_saying(&["through the proxy", proxy.address()])
        .text();
    assert!(!said.contains("word"), "{said}");
    let asked = proxy.asked();
    assert!(
        !asked.is_empty()
            && asked
                .iter()
                .all(|one| *one == ("far.invalid:443".to_owned(), mine.clone())),
        "{asked:?}"
    );
    build("HTTPS_PROXY", "socks5://127.0.0.1:1", "")
        .fails_saying(&["only http:// is spoken with a proxy"]);
    for unreadable in ["ftp://me:word@127.0.0.1:1", "127.0.0.1:1/", "a proxy"] {
        let said = build("HTTPS_PROXY", unreadable, "")
            .fails_saying(&["HTTPS_PROXY of the environment names no proxy"])
            .text();
        assert!(!said.contains("word"), "{said}");
    }

    // Whoever is to be reached without one is.
    proxy.answer("/lib.tgz", Answer::Body(archive));
    declare(&proxy.url("/lib.tgz"));
    build("HTTP_PROXY", "http://127.0.0.1:1", "127.0.0.1").succeeds();
    assert_eq!(proxy.asked(), [("/lib.tgz".to_owned(), None)]);
}

#[test]
fn packages_are_fetched_side_by_side() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let archive = tar_gz(&[Entry::File("lib-1/text.txt", "text")]);
    let digest = integrity("sha256", &archive);
    let server = std::thread::spawn(move || {
        // Nobody is answered before all have asked.
        let asked: Vec<TcpStream> = (0..3).map(|_| listener.accept().unwrap().0).collect();
        for mut stream in asked {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let length = archive.len();
            let head =
                format!("HTTP/1.1 200 x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&archive).unwrap();
        }
    });
    let entry = |name: &str| {
        format!("{name} = {{ url = \"http://{address}/{name}.tgz\", integrity = \"{digest}\" }}\n")
    };
    let project = Project::with_build("export default {};\n");
    let manifest = project.read("zako.toml");
    let entries = ["lib", "second", "third"].map(entry).concat();
    project.write("zako.toml", &format!("{manifest}[dependencies]\n{entries}"));
    project.build();
    server.join().unwrap();
    for name in ["lib", "second", "third"] {
        assert_eq!(
            project.read(&format!(".zako/packages/{name}/text.txt")),
            "text"
        );
    }
    assert!(!project.has(".zako/packages/.new"));
}
