// A TypeScript program that calls the C tool: compiled in process, run under Node.js, tested.
import { glob, target, test, transpile } from "zako:build";

const program = [":compiled", "//tool:textstat"];

export default {
  compiled: transpile({
    srcs: glob("src/**/*.ts"),
    root: "src",
    out: "dist",
    module: "commonjs",
    sourceMaps: true,
  }),

  report: target({
    cmd: ["node", "dist/main.js", "../tool/textstat", "texts", "report.md"],
    srcs: glob("texts/**"),
    deps: program,
    outs: ["report.md"],
  }),

  check: test({
    cmd: ["node", "dist/check.js", "../tool/textstat"],
    srcs: glob("texts/**"),
    deps: program,
  }),
};
