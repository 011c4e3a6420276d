// Copies RxJS's sources from `package/src` to `sources`, with `type` before every re-exported name
// that is only a type. The published sources leave that to a compiler which sees all files at once;
// compiled one file at a time, `export { SomeInterface } from "./x"` would name a value that "./x"
// does not have. (TypeScript calls the discipline `isolatedModules`.)
import { cpSync, existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const FROM = "package/src";
const TO = "sources";

const VALUE = /^export\s+(?:default\s+)?(?:abstract\s+|async\s+)?(?:class|function\*?|const|let|var|enum)\s+(\w+)/gm;
const RE_EXPORT = /^export\s*\{([^}]*)\}\s*from\s*'(\.[^']*)';/gm;

/** The names of values that a file declares and exports, or passes on. */
const valuesOf = (file) => {
  const text = readFileSync(file, "utf8");
  const passedOn = [...text.matchAll(RE_EXPORT)].flatMap(([, names, from]) => {
    const values = valuesOf(fileOf(file, from));
    const list = names.split(",").map((name) => name.trim()).filter(Boolean);
    return list.filter((name) => values.has(name.split(/\s+as\s+/)[0])).map((name) => name.split(/\s+as\s+/).at(-1));
  });
  return new Set([...[...text.matchAll(VALUE)].map(([, name]) => name), ...passedOn]);
};

const fileOf = (importer, specifier) => {
  const path = join(dirname(importer), specifier);
  return existsSync(`${path}.ts`) ? `${path}.ts` : join(path, "index.ts");
};

cpSync(FROM, TO, { recursive: true });
let marked = 0;
for (const name of readdirSync(FROM, { recursive: true })) {
  if (!name.endsWith(".ts")) continue;
  const file = join(FROM, name);
  const text = readFileSync(file, "utf8");
  const changed = text.replace(RE_EXPORT, (whole, names, from) => {
    const values = valuesOf(fileOf(file, from));
    const list = names.split(",").map((each) => each.trim()).filter(Boolean);
    const typed = list.map((each) => (values.has(each.split(/\s+as\s+/)[0]) ? each : `type ${each}`));
    marked += typed.filter((each) => each.startsWith("type ")).length;
    return whole.replace(`{${names}}`, `{ ${typed.join(", ")} }`);
  });
  if (changed !== text) writeFileSync(join(TO, name), changed);
}
console.log(`${marked} re-exported names are types`);
