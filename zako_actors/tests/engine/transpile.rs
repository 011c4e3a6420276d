//! Transpile steps and their per-file cache.

use serde_json::{Value, json};
use zako_actors::engine::event::Outcome;

use crate::world::{World, step};

fn target(module: &str, out: &str) -> Value {
    json!({
        "$zako": "transpile", "srcs": [{"$glob": {"include": ["src/**"], "exclude": ["**/*.test.ts"]}}],
        "root": "src", "out": out, "module": module, "sourceMaps": true,
    })
}

#[test]
fn sources_become_modules_and_maps_beside_each_other() {
    let world = World::new(
        &json!({ "esm": target("esm", "dist/esm"), "cjs": target("commonjs", "dist/cjs") }),
    );
    world.write(
        "src/a.ts",
        "import { b } from \"./deep/b\";\nexport const a: number = b;\n",
    );
    world.write("src/deep/b.ts", "export const b: number = 1;\n");
    world.write("src/a.test.ts", "this is not even TypeScript");
    world.write("src/types.d.ts", "declare const x: number;\n");
    assert_eq!(world.build().summary.files, 8);
    assert!(world.read("dist/esm/a.js").contains("export const a = b"));
    assert!(world.read("dist/cjs/deep/b.js").contains("exports"));
    let map = world.read("dist/esm/deep/b.js.map");
    assert!(map.contains("\"../../../src/deep/b.ts\""), "{map}");
    assert_eq!(world.build().summary.up_to_date, 2);
}

#[test]
fn a_removed_source_takes_its_outputs_away() {
    let world = World::new(&json!({ "esm": target("esm", "dist") }));
    world.write("src/a.ts", "export const a = 1;\n");
    world.write("src/b.ts", "export const b = 1;\n");
    world.build();
    std::fs::remove_file(world.root().join("src/b.ts")).unwrap();
    world.build();
    assert!(world.has("dist/a.js") && !world.has("dist/b.js") && !world.has("dist/b.js.map"));
}

#[test]
fn outputs_of_dependencies_are_sources_too() {
    let world = World::new(&json!({
        "made": step("mkdir -p gen; echo 'export const x: number = 1;' > gen/x.ts", &[], &[], &["gen/"]),
        "js": { "$zako": "transpile", "deps": [":made"], "root": "gen", "out": "dist" },
    }));
    world.build();
    assert_eq!(
        world.read("dist/x.js").lines().next(),
        Some("export const x = 1;")
    );
}

#[test]
fn all_mistakes_of_all_files_are_told_and_nothing_is_written() {
    let world = World::new(&json!({ "esm": target("esm", "dist") }));
    world.write("src/a.ts", "export const a: = 1;\n");
    world.write("src/b.ts", "export const = 2;\n");
    world.write("src/c.ts", "export const c = 3;\n");
    let built = world.try_build().unwrap();
    assert_eq!(built.with(Outcome::Failed), ["//:esm"]);
    assert!(built.failures[0].contains("src/a.ts:1:") && built.failures[0].contains("src/b.ts:1:"));
    assert!(!world.has("dist"));
    world.write("src/a.ts", "export const a = 1;\n");
    world.write("src/b.ts", "export const b = 2;\n");
    world.build();
    assert!(world.has("dist/c.js"));
}
