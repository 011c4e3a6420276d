// Runs every scenario on three builds of RxJS (the ES modules and the CommonJS modules made here,
// and the package's own distribution), compares what they observed, then follows source maps back.
// Writes a report whose last line sums it up; ends with status 1 at the first difference.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createRequire, register } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { scenarios } from "./scenarios.mjs";
import { checkSourceMaps } from "./source_maps.mjs";

register("./module_format.mjs", import.meta.url);
const require = createRequire(import.meta.url);

const importFrom = async (directory) => {
  const load = (entry) => import(pathToFileURL(resolve(directory, entry, "index.js")).href);
  return { rx: await load("."), testing: await load("testing") };
};
const requireFrom = (directory) => ({
  rx: require(resolve(directory, "index.js")),
  testing: require(resolve(directory, "testing/index.js")),
});

const published = requireFrom("package/dist/cjs");
const builds = [
  ["ES modules", await importFrom("dist/esm")],
  ["CommonJS", requireFrom("dist/cjs")],
];

const report = [];
for (const [name, { rx }] of builds) {
  assert.notEqual(rx.Observable, published.rx.Observable, `${name}: is a build of its own`);
  assert.deepEqual(Object.keys(rx).sort(), Object.keys(published.rx).sort(), `${name}: exports`);
  report.push(`${name}: exports the same ${Object.keys(rx).length} names`);
}

for (const [title, observe] of Object.entries(scenarios)) {
  const expected = await observe(published);
  assert.ok(JSON.stringify(expected).length > 4, `${title}: observes something`);
  for (const [name, build] of builds) {
    assert.deepEqual(await observe(build), expected, `${name}: ${title}`);
  }
  report.push(`${title}: ${JSON.stringify(expected)}`);
}

const positions = checkSourceMaps(["dist/esm", "dist/cjs"], "package/src");
report.push(`source maps: ${positions} positions lead back to the line they came from`);

const count = Object.keys(scenarios).length;
report.push(`ok: ${count} scenarios agree in ES modules, CommonJS and the published package`);
writeFileSync(process.argv[2], `${report.join("\n")}\n`);
console.log(report.at(-1));
