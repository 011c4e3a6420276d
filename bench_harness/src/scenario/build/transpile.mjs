// Transpiles the files of a list once to be warm and once for the clock, and prints milliseconds, how many came
// out, and the sum of all their bytes.
// node - swc|esbuild NODE_MODULES LIST
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [, , peer, modules, list] = process.argv;
const require = createRequire(join(modules, "x.js"));
const paths = readFileSync(list, "utf8").split("\n");

const esbuild = () => require("esbuild");

async function withSwc() {
  const swc = require("@swc/core");
  const options = { jsc: { target: "es2022", parser: { syntax: "typescript", decorators: true } }, module: { type: "es6" }, swcrc: false, configFile: false };
  const sources = paths.map((path) => [path, readFileSync(path, "utf8")]);
  return async () => {
    const all = await Promise.all(sources.map(([filename, source]) => swc.transform(source, { ...options, filename })));
    return all.map((output) => output.code);
  };
}

async function withEsbuild() {
  const { build } = esbuild();
  return async () => {
    const result = await build({ entryPoints: paths, outdir: "/out", write: false, format: "esm", target: "es2022", logLevel: "silent" });
    return result.outputFiles.map((file) => file.contents);
  };
}

const run = await (peer === "swc" ? withSwc() : withEsbuild());
await run();
const begin = process.hrtime.bigint();
const outputs = await run();
const milliseconds = Number(process.hrtime.bigint() - begin) / 1e6;
const sum = outputs.map((output) => Buffer.from(output).reduce((sum, byte) => sum + byte, 0));
console.log(milliseconds, outputs.length, sum.reduce((all, one) => all + one, 0));

// esbuild works in a process of its own. One that outlived this would take from who is measured next, and what it used
// would count as somebody else's.
if (peer === "esbuild") await esbuild().stop();
while (readFileSync(`/proc/self/task/${process.pid}/children`, "utf8") !== "") await new Promise(setImmediate);
process.exit(0);
