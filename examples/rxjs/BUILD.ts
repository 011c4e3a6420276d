// RxJS 7.8.2, from the sources that its authors publish in the npm registry.
import { glob, target, transpile } from "zako:build";

/** What both formats share. From es2022 on, class fields would be defined anew in each subclass,
 * which is not what these sources were written for. */
const compiled = {
  deps: [":fetch"],
  root: "package/src",
  target: "es2021",
  sourceMaps: true,
};

export default {
  // The one step that needs the network. Its script names the version and the hash of what it
  // accepts, so its result is as good as a file in the repository.
  fetch: target({
    cmd: ["node", "fetch.mjs"],
    srcs: ["fetch.mjs"],
    outs: ["package/"],
    network: true,
    timeout: 300,
  }),

  esm: transpile({ ...compiled, module: "esm", out: "dist/esm" }),

  cjs: transpile({ ...compiled, module: "commonjs", out: "dist/cjs" }),

  // Runs the same programs on both results and on the package's own distribution.
  smoke: target({
    cmd: ["node", "smoke/main.mjs", "smoke.txt"],
    srcs: glob("smoke/**"),
    deps: [":fetch", ":esm", ":cjs"],
    outs: ["smoke.txt"],
    timeout: 120,
  }),
};
