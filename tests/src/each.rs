//! A rule that reads: it does something for each line of a list, once the list is there.
//!
//! Owns the rule, and workspaces that use it. Does not know what is tested with it.

use crate::project::Project;

/// What has to be done for each line of a list is known once the list is there.
pub const EACH: &str = r#"
import { attr, rule } from "zako:rule";
export const each = rule({
  name: "each",
  attrs: { srcs: attr.sources(), after: attr.deps(), scan: attr.string({ default: "true" }), step: attr.string({ default: "true" }) },
  async implementation(ctx) {
    const list = ctx.file(`${ctx.label.name}.list`);
    ctx.run({ cmd: ["sh", "-ec", `${ctx.attrs.scan}; sort -u "$1" > "$2"`, "sh", ctx.attrs.srcs, list], outs: [list], timeout: 60 });
    const names = (await ctx.read(list)).split("\n").filter((name) => name !== "");
    if (names.includes("bad")) throw new Error("a bad name");
    const files = names.map((name) => {
      const out = ctx.file(name.startsWith("!") ? name.slice(1) : `${ctx.label.name}/${name}`);
      return ctx.run({ cmd: ["sh", "-ec", `${ctx.attrs.step}; echo $1 >> $RAN; echo $1 > "$2"`, "sh", name, out], outs: [out], timeout: 60 });
    });
    return { files };
  },
});
"#;

/// A workspace with such a rule and these targets; `names` are `b` and `a`.
pub fn project(targets: &str) -> Project {
    let project = Project::new();
    project.write("each.rule.ts", EACH);
    write(&project, targets);
    project.write("names", "b\na\n");
    project
}

/// Writes the build file, with these targets.
pub fn write(project: &Project, targets: &str) {
    let imports =
        "import { glob, target } from \"zako:build\";\nimport { each } from \"./each.rule.ts\";\n";
    project.write(
        "BUILD.ts",
        &format!("{imports}export default {{\n{targets}\n}};\n"),
    );
}
