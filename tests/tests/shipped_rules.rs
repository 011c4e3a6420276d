//! The rules that ship, through the real binary and the real tools.

use std::process::Command;

use zako_tests::{Outcome, Project, is_installed};

const CC: &str = r#"
import { ccBinary, ccLibrary, ccTest } from "zako:rules";
export default {
  stat: ccLibrary({ srcs: ["stat.c"], hdrs: ["stat.h", "other.h"], defines: ["STAT=1"] }),
  tool: ccBinary({ srcs: ["main.c", "extra.cpp"], deps: [":stat"] }),
  check: ccTest({ srcs: ["check.c"], deps: [":stat"] }),
};
"#;

/// Compiled by `compiler`.
fn cc_project(compiler: &str) -> Project {
    let project = Project::new();
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("{manifest}[config]\ncc_compiler = \"{compiler}\"\n"),
    );
    project.write("c/BUILD.ts", CC);
    project.write("c/stat.h", "int stat_value(int);\n");
    project.write("c/other.h", "#define OTHER 1\n");
    project.write(
        "c/stat.c",
        "#include \"stat.h\"\n#include <stdio.h>\nint stat_value(int x) { return x * 2 + STAT; }\n",
    );
    project.write("c/main.c", "#include \"c/stat.h\"\n#include <stdio.h>\nint extra(void);\nint main(void) { printf(\"%d\\n\", stat_value(extra())); return 0; }\n");
    project.write(
        "c/extra.cpp",
        "#include <vector>\nextern \"C\" int extra() { return std::vector<int>(10).size(); }\n",
    );
    project.write(
        "c/check.c",
        "#include \"stat.h\"\nint main(void) { return stat_value(1) == 3 ? 0 : 1; }\n",
    );
    project
}

#[test]
fn a_c_program_with_cpp_below_it_is_linked_as_cpp() {
    if !is_installed("g++") {
        return;
    }
    let project = Project::new();
    project.write(
        "BUILD.ts",
        "import { ccBinary, ccLibrary, ccTest } from \"zako:rules\";\nexport default {\n\
         \x20 x: ccLibrary({ srcs: [\"x.cc\"] }),\n  over: ccLibrary({ srcs: [\"over.c\"], deps: [\":x\"] }),\n\
         \x20 m: ccBinary({ srcs: [\"m.c\"], deps: [\":over\"] }),\n  t: ccTest({ srcs: [\"t.c\"], deps: [\":x\"] }),\n};\n",
    );
    project.write(
        "x.cc",
        "#include <iostream>\n#include <string>\nextern \"C\" int x() { std::string s(\"four\"); std::cout << s; return s.size(); }\n",
    );
    project.write("over.c", "int x(void);\nint over(void) { return x(); }\n");
    project.write(
        "m.c",
        "int over(void);\nint main(void) { return over() - 4; }\n",
    );
    project.write("t.c", "int x(void);\nint main(void) { return x() - 4; }\n");
    assert_eq!(project.zako(&["run", "//:m"]).succeeds().stdout, "four");
    project.zako(&["test"]).succeeds();
}

#[test]
fn c_and_cpp_programs_are_built_and_headers_that_are_read_are_inputs() {
    if is_installed("g++") {
        builds_by("gcc", "g++");
    }
    // Half a gigabyte that nothing else here needs: `cargo xtask test` lets it be missing.
    if is_installed("clang++") {
        builds_by("clang", "clang++");
    }
}

fn builds_by(compiler: &str, driver: &str) {
    let project = cc_project(compiler);
    project.build();
    for (object, program) in [
        ("stat.objects_c_stat.c", compiler),
        ("tool.objects_c_extra.cpp", driver),
    ] {
        let name = object.split('.').next().unwrap();
        let label = format!("//c:{name}~build_{object}.o");
        let described = project.zako(&["query", "--json", &label]).succeeds().stdout;
        assert!(described.contains(&format!("/{program}\"")), "{described}");
    }
    let said = project.zako(&["run", "//c:tool"]).succeeds().stdout;
    assert_eq!(said, "21\n");
    project.zako(&["test"]).succeeds();
    let ran = |project: &Project| {
        let json = project.zako(&["build", "--json"]).succeeds().stdout;
        let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
        summary["executed"].as_u64().unwrap()
    };
    assert_eq!(ran(&project), 0);
    // stat.c does not include other.h: nobody does.
    project.write("c/other.h", "#define OTHER 2\n");
    assert_eq!(ran(&project), 0);
    project.write("c/stat.h", "int stat_value(int); // as before\n");
    assert_eq!(
        ran(&project),
        2,
        "stat.c and main.c, whose objects stay the same"
    );
    project.write("c/stat.h", "int stat_value(int);\n#include \"secret.h\"\n");
    project.write("c/secret.h", "\n");
    project.zako(&["build", "//c:stat"]).fails_saying(&[
        "c/secret.h, which it does not declare",
        "add it to the headers",
    ]);
    project.store_is_intact();
}

#[test]
fn options_choose_mode_and_compiler() {
    if !is_installed("gcc") {
        return;
    }
    let project = cc_project("gcc");
    let cmd = |arguments: &[&str]| {
        let mut all = vec!["query", "--json", "//c:stat~build_stat.objects_c_stat.c.o"];
        all.extend(arguments);
        project.zako(&all).succeeds().stdout
    };
    assert!(cmd(&[]).contains("\"-O0\""));
    assert!(cmd(&["--set", "cc_mode=release"]).contains("\"-O2\""));
    project
        .zako(&["build", "--set", "cc_compiler=no-such-cc"])
        .fails_saying(&[
            "there is no C compiler `no-such-cc`",
            "--set cc_compiler=NAME",
        ]);
}

#[test]
fn a_header_outside_the_workspace_fails_the_step_unless_it_is_the_machines() {
    if !is_installed("gcc") {
        return;
    }
    let project = Project::new();
    let outside = |path: &str| project.outside().join(path);
    let write = |path: &str, text: &str| {
        std::fs::create_dir_all(outside(path).parent().unwrap()).unwrap();
        std::fs::write(outside(path), text).unwrap();
    };
    project.write("main.c", "#include \"v.h\"\nint main(void) { return V; }\n");
    write("ext/v.h", "#define V 0\n");
    let targets = |option: &str| {
        format!(
            "import {{ ccBinary }} from \"zako:rules\";\nexport default {{ m: ccBinary({{ srcs: [\"main.c\"], hdrs: [\"inc/v.h\"], copts: [\"-I{option}\"] }}) }};\n"
        )
    };
    project.write("inc/v.h", "#define V 0\n");
    project.write("BUILD.ts", &targets(&outside("ext").display().to_string()));
    let named = outside("ext/v.h").display().to_string();
    let told = [&*named, "outside the workspace", "BUILD.ts:2"];
    project.zako(&["build"]).fails_saying(&told);
    // From where the command runs: work, its number, scratch, .zako, the workspace.
    project.write("BUILD.ts", &targets("../../../../../ext"));
    project.zako(&["build"]).fails_saying(&told);
    // What the manifest says to be the machine's is.
    let manifest = project.read("zako.toml");
    let dir = outside("ext").display().to_string();
    project.write(
        "zako.toml",
        &format!("{manifest}[settings]\nsandbox-read = [\"{dir}\"]\n"),
    );
    project.build();
    project.write("zako.toml", &manifest);
    // What lies in the workspace is its own by any name.
    std::os::unix::fs::symlink(project.root(), outside("link")).unwrap();
    let linked = outside("link/inc").display().to_string();
    project.write("BUILD.ts", &targets(&linked));
    project.build();
    project.write(
        "BUILD.ts",
        &targets(&linked).replace("hdrs: [\"inc/v.h\"], ", ""),
    );
    project
        .zako(&["build"])
        .fails_saying(&["it reads inc/v.h, which it does not declare"]);
    // A compiler brings headers with it.
    write("cc/include/v.h", "#define V 0\n");
    let include = outside("cc/include").display().to_string();
    write(
        "cc/bin/gcc",
        &format!("#!/bin/sh\nexec /usr/bin/gcc \"$@\" -I{include}\n"),
    );
    let compiler = outside("cc/bin/gcc");
    let allowed = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&compiler, allowed).unwrap();
    project.write("BUILD.ts", &targets("none"));
    let option = format!("cc_compiler={}", compiler.display());
    project.zako(&["build", "--set", &option]).succeeds();
}

#[test]
fn objects_of_sources_with_similar_names_do_not_clash() {
    if !is_installed("gcc") {
        return;
    }
    let project = Project::with_build(
        "import { ccBinary, ccLibrary } from \"zako:rules\";\nexport default {\n\
         \x20 lib: ccLibrary({ srcs: [\"a/b.c\", \"a_b.c\", \"c/b.c\", \"-dash.c\"] }),\n\
         \x20 main: ccBinary({ srcs: [\"main.c\"], deps: [\":lib\"] }),\n};\n",
    );
    for (path, name) in [("a/b", "p"), ("a_b", "q"), ("c/b", "r"), ("-dash", "s")] {
        let text = format!("int {name}(void) {{ return 1; }}\n");
        project.write(&format!("{path}.c"), &text);
    }
    project.write(
        "main.c",
        "int p(void), q(void), r(void), s(void);\nint main(void) { return p() + q() + r() + s() - 4; }\n",
    );
    project.zako(&["run", "//:main"]).succeeds();
    assert!(project.has("build/lib.objects/a/b.c.o") && project.has("build/lib.objects/a_b.c.o"));
}

#[test]
fn groups_copies_archives_and_shell_scripts() {
    let project = Project::new();
    project.write(
        "BUILD.ts",
        r#"
import { glob } from "zako:build";
import { archive, copy, fileGroup, shell, shellTest } from "zako:rules";
export default {
  texts: fileGroup({ srcs: glob("texts/*.txt") }),
  upper: shell({ script: 'tr a-z A-Z < $SRCS > $OUT', srcs: ["texts/a.txt"], outs: ["upper.txt"] }),
  site: copy({ srcs: [":texts", ":upper"], to: "site" }),
  tar: archive({ srcs: [":site"], out: "site.tar.gz" }),
  zip: archive({ srcs: [":texts"], out: "texts.zip" }),
  check: shellTest({ script: 'test "$(cat site/upper.txt)" = ONE', deps: [":site"] }),
};
"#,
    );
    project.write("texts/a.txt", "one\n");
    project.write("texts/b.txt", "two\n");
    let labels = ["//:texts", "//:upper", "//:site", "//:tar"];
    let mut all = vec!["build"];
    all.extend(labels);
    project.zako(&all).succeeds();
    assert_eq!(project.read("site/texts/b.txt"), "two\n");
    assert_eq!(project.read("site/upper.txt"), "ONE\n");
    let first = std::fs::read(project.root().join("site.tar.gz")).unwrap();
    project.zako(&["test"]).succeeds();
    project
        .zako(&["build", "--check-determinism", "2", "//:tar"])
        .succeeds();
    assert_eq!(
        std::fs::read(project.root().join("site.tar.gz")).unwrap(),
        first
    );
    let listed = Outcome::of(
        Command::new("tar")
            .args(["-tzf"])
            .arg(project.root().join("site.tar.gz")),
    );
    assert!(
        listed.stdout.contains("site/texts/a.txt\n"),
        "{}",
        listed.stdout
    );
    if is_installed("zip") {
        project
            .zako(&["build", "--check-determinism", "2", "//:zip"])
            .succeeds();
    }
    project.zako(&["clean"]).succeeds();
    assert!(project.has("texts/a.txt") && !project.has("site/texts/a.txt"));
}

const TS: &str = r#"
import { glob } from "zako:build";
import { tsLibrary } from "zako:rules/typescript";
export default {
  lib: tsLibrary({ srcs: glob("src/**"), declarations: true }),
};
"#;

#[test]
fn a_typescript_library_has_code_maps_and_declarations() {
    let project = Project::new();
    project.write("ui/BUILD.ts", TS);
    project.write(
        "ui/src/a.ts",
        "/** Doubles. */\nexport function double(x: number): number { return x * 2; }\n",
    );
    project.write(
        "ui/src/deep/b.ts",
        "import { double } from \"../a\";\nexport const four: number = double(2);\n",
    );
    project.build();
    assert!(
        project
            .read("ui/dist/deep/b.js")
            .contains("from \"../a.js\"")
    );
    assert!(
        project
            .read("ui/dist/a.d.ts")
            .contains("export declare function double(x: number): number;")
    );
    assert!(project.read("ui/dist/a.d.ts").contains("Doubles."));
    assert!(project.has("ui/dist/a.js.map"));
    project.write("ui/src/a.ts", "export const untyped = [1].map((x) => x + 1);\nexport function double(x: number): number { return x; }\n");
    project
        .zako(&["build"])
        .fails_saying(&["--isolatedDeclarations", "ui/src/a.ts:1:"]);
}

#[test]
fn a_typescript_library_is_told_what_its_decorators_are() {
    let library = |more: &str| {
        format!(
            "import {{ tsLibrary }} from \"zako:rules\";\nexport default {{ lib: tsLibrary({{ srcs: [\"a.ts\"], root: \".\"{more} }}) }};\n"
        )
    };
    let project = Project::with_build(&library(""));
    project.write("a.ts", "const f = (it: any) => it;\n@f class A {}\n");
    project
        .zako(&["build"])
        .fails_saying(&["a.ts:2:1", "decorators: \"legacy\""]);
    project.write("BUILD.ts", &library(", decorators: \"legacy\""));
    project.build();
    assert!(!project.read("dist/a.js").contains("@f"));
}

const BUNDLE: &str = r#"
import { glob } from "zako:build";
import { bundle, npmInstall, tsLibrary } from "zako:rules";
export default {
  modules: npmInstall({ npmrc: NPMRC }),
  lib: tsLibrary({ srcs: glob("src/**") }),
  app: bundle({ entry: "dist/main.js", deps: [":lib"], modules: [":modules"], format: "cjs", platform: "node", sourceMaps: false }),
  rolled: bundle({ entry: "dist/main.js", deps: [":lib"], modules: [":modules"], bundler: "rollup", out: "rolled.js", format: "cjs", sourceMaps: false }),
};
"#;

#[test]
fn packages_are_installed_as_a_step_and_bundled() {
    if !is_installed("npm") {
        return;
    }
    let project = Project::new();
    // The registry of whoever runs the tests.
    let home = std::env::var("HOME").unwrap_or_default();
    let npmrc = std::fs::read_to_string(format!("{home}/.npmrc")).unwrap_or_default();
    project.write(".npmrc", &npmrc);
    project.write("BUILD.ts", &BUNDLE.replace("NPMRC", "\".npmrc\""));
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("{manifest}[settings]\nuntracked-env = [\"npm_config_*\", \"*_proxy\", \"*_PROXY\", \"NODE_EXTRA_CA_CERTS\", \"http_proxy\", \"https_proxy\", \"HTTP_PROXY\", \"HTTPS_PROXY\", \"NO_PROXY\", \"no_proxy\"]\n"),
    );
    project.write(
        "package.json",
        "{\"name\": \"app\", \"version\": \"1.0.0\", \"private\": true, \"dependencies\": {\"esbuild\": \"0.25.10\", \"rollup\": \"4.52.0\"}}\n",
    );
    let mut lock = Command::new("npm");
    lock.args([
        "install",
        "--package-lock-only",
        "--silent",
        "--no-audit",
        "--no-fund",
    ]);
    Outcome::of(lock.current_dir(project.root())).succeeds();
    project.write(
        "src/main.ts",
        "import { greet } from \"./greet\";\nconsole.log(greet(\"you\"));\n",
    );
    project.write(
        "src/greet.ts",
        "export const greet = (name: string): string => `hello ${name}`;\n",
    );
    project.build();
    for program in ["bundle.js", "rolled.js"] {
        let mut node = Command::new("node");
        let said = Outcome::of(node.arg(project.root().join(program)))
            .succeeds()
            .stdout;
        assert_eq!(said, "hello you\n");
    }
    std::fs::remove_dir_all(project.root().join("node_modules")).unwrap();
    let again = project.zako(&["build", "--json"]).succeeds().stdout;
    assert!(again.contains("\"executed\": 0"), "{again}");
    assert!(project.has("node_modules/esbuild/package.json"));
}

#[test]
fn an_empty_text_is_one_and_whoever_needs_the_workspace_as_root_is_told() {
    let project = Project::new();
    project.write("p/f.txt", "x\n");
    project.write(
        "p/BUILD.ts",
        "import { target } from \"zako:build\";\nexport default { f: target({ cmd: [\"cp\", \"f.txt\", \"g.txt\"], srcs: [\"f.txt\"], outs: [\"g.txt\"] }) };\n",
    );
    project.write(
        "web/e.rule.ts",
        "import { attr, rule } from \"zako:rule\";\n\
         export const e = rule({ name: \"e\", attrs: { s: attr.string({ default: \"\" }), t: attr.string() }, implementation() {} });\n",
    );
    project.write("web/a.ts", "export const a = 1;\n");
    let build = "import { transpile } from \"zako:build\";\nimport { copy } from \"zako:rules\";\nimport { e } from \"./e.rule.ts\";\n\
                 export default { e: e({}), f: e({ t: \"\" }), js: transpile({ srcs: [\"a.ts\"], root: \"\", out: \"out\" }),\n\
                 c: copy({ srcs: [\"//p:f\"], to: \"o\", root: ROOT }) };\n";
    project.write("web/BUILD.ts", &build.replace("ROOT", "\"web\""));
    project
        .zako(&["build"])
        .fails_saying(&["p/g.txt does not lie in `root`, which is web; root: \".\" takes"]);
    project.write("web/BUILD.ts", &build.replace("ROOT", "\"\""));
    project.build();
    assert!(project.has("web/o/p/g.txt") && project.has("web/out/a.js"));
}
