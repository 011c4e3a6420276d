// More than a thousand TypeScript files, from the sources that their authors publish in the npm registry.
import { glob, target, transpile } from "zako:build";

const compiled = (name) =>
  transpile({
    deps: [":fetch"],
    root: `sources/${name}/src`,
    out: `dist/${name}`,
    module: "esm",
    target: "es2022",
    sourceMaps: true,
  });

export default {
  // The one step that needs the network. Its script names the versions and hashes of what it accepts.
  fetch: target({
    cmd: ["node", "fetch.mjs"],
    srcs: ["fetch.mjs"],
    outs: ["sources/"],
    network: true,
    timeout: 300,
  }),

  effect: compiled("effect"),
  zod: compiled("zod"),
  platform: compiled("platform"),
  cli: compiled("cli"),
  experimental: compiled("experimental"),

  // Runs what came out of the first two beside the packages' own distributions.
  smoke: target({
    cmd: ["node", "smoke/main.mjs", "smoke.txt"],
    srcs: glob("smoke/**"),
    deps: [":fetch", ":effect", ":zod"],
    outs: ["smoke.txt"],
    timeout: 120,
  }),
};
