//! Gradle against a node: a second run takes everything from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use zako_tests::{Node, is_installed, succeed};

/// Two tasks that may be cached and say that they ran; no compiler is needed for them.
const BUILD: &str = r#"
@CacheableTask
class Make extends DefaultTask {
    @Input String text
    @OutputFile File out
    @TaskAction void make() {
        out.text = text
        new File(project.rootDir.parentFile, 'ran').append(text + '\n')
    }
}
['a', 'b'].each { name ->
    tasks.create("make-$name", Make) { text = name; out = file("build/$name") }
}
task all { dependsOn 'make-a', 'make-b' }
"#;

/// A Gradle whose daemon lives as long as this does.
struct Gradle {
    home: PathBuf,
    workspace: PathBuf,
}

impl Gradle {
    fn command(&self) -> Command {
        let mut command = Command::new("gradle");
        command.current_dir(&self.workspace);
        command.arg("--gradle-user-home").arg(&self.home);
        command
    }

    /// Builds as another machine would, which has nothing but the sources; how many tasks ran.
    fn build(&self) -> usize {
        for path in ["build", ".gradle"] {
            let _ = fs::remove_dir_all(self.workspace.join(path));
        }
        let ran = self.workspace.with_file_name("ran");
        let _ = fs::remove_file(&ran);
        let said = succeed(self.command().args(["--build-cache", "all"]));
        for name in ["a", "b"] {
            let out = fs::read_to_string(self.workspace.join("build").join(name));
            assert_eq!(out.unwrap(), name, "{said}");
        }
        assert!(!said.contains("cache is now disabled"), "{said}");
        fs::read_to_string(ran).unwrap_or_default().lines().count()
    }
}

impl Drop for Gradle {
    fn drop(&mut self) {
        // It ends by itself as well.
        let _ = self.command().arg("--stop").output();
    }
}

/// Older ones know no word for an address without TLS, and need none.
fn settings(node: &Node) -> String {
    let credentials = match node.is_closed() {
        true => "credentials { username = 'ada'; password = 's3cret' }",
        false => "",
    };
    let address = node.address();
    format!(
        "rootProject.name = 'test'
buildCache {{
    local {{ enabled = false }}
    remote(HttpBuildCache) {{
        url = 'http://{address}/gradle/'
        push = true
        if (it.hasProperty('allowInsecureProtocol')) {{ it.allowInsecureProtocol = true }}
        {credentials}
    }}
}}
"
    )
}

fn second_run_is_restored(mut node: Node) {
    if !is_installed("gradle") {
        return;
    }
    let gradle = Gradle {
        home: node.directory("home"),
        workspace: node.directory("gradle"),
    };
    let write = |path: &Path, text: &str| fs::write(path, text).unwrap();
    write(&gradle.workspace.join("build.gradle"), BUILD);
    write(&gradle.workspace.join("settings.gradle"), &settings(&node));
    write(
        &gradle.home.join("gradle.properties"),
        "org.gradle.daemon.idletimeout=30000\n",
    );
    assert_eq!(gradle.build(), 2);
    assert_eq!(gradle.build(), 0);
    node.kill_and_restart();
    assert_eq!(gradle.build(), 0);
}

#[test]
fn a_second_run_is_restored_even_after_a_kill() {
    second_run_is_restored(Node::open());
}

#[test]
fn the_same_with_credentials() {
    second_run_is_restored(Node::closed());
}
