// zako:internal/targets: the functions that describe targets. Pure: they check their arguments
// and return plain JSON; the engine gives it meaning after the evaluation.
import { boolean, describe, fail, integer, knownKeys, label, list, oneOf, path, plainObject, seconds, string } from "zako:internal/check";

const isArray = Array.isArray;
const keys = Object.keys;
const WILDCARD = /[*?[\]{}]/;

export function pattern(where, value) {
  const cleaned = path(where, value);
  if (cleaned.startsWith("!")) fail(`${where}: ${describe(value)} starts with !`, 'write glob("src/**", { exclude: ["..."] })');
  return cleaned;
}

// glob("src/**", { exclude: ["**/*.test.ts"] }): expanded by the engine, so that this file need
// not be evaluated again when a source appears.
export function glob(...args) {
  const last = args[args.length - 1];
  let exclude = [];
  if (typeof last === "object" && last !== null && !isArray(last)) {
    args.pop();
    plainObject("glob()", last);
    knownKeys("glob()", last, ["exclude"]);
    exclude = list("glob(): exclude", last.exclude, pattern);
  }
  const include = args.flat(1).map((one, i) => pattern(`glob(): pattern ${i + 1}`, one));
  if (include.length === 0) fail("glob(): no pattern given", 'write glob("src/**")');
  return { $glob: { include, exclude } };
}

export function source(where, value) {
  if (typeof value === "object" && value !== null && "$glob" in value) return value;
  if (typeof value !== "string") fail(`${where}: expected a path or glob(), got ${describe(value)}`);
  const cleaned = path(where, value);
  if (WILDCARD.test(cleaned)) fail(`${where}: ${describe(value)} is a path, but looks like a pattern`, `write glob(${JSON.stringify(cleaned)})`);
  return cleaned;
}

const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/;

// env("CI", "0"): the value that a variable has when the step runs; part of the step's key. The
// engine looks it up, so that this file need not be evaluated again when it changes.
export function env(name, fallback) {
  if (typeof name !== "string" || !VARIABLE.test(name)) fail(`env(): ${describe(name)} is not a variable name`);
  if (fallback !== undefined && typeof fallback !== "string") fail(`env(): expected a string as fallback, got ${describe(fallback)}`);
  return fallback === undefined ? { $env: name } : { $env: name, default: fallback };
}

export function environment(where, value) {
  if (value === undefined) return {};
  plainObject(where, value, '{ NAME: "value" }');
  const out = {};
  for (const name of keys(value)) {
    if (!VARIABLE.test(name)) fail(`${where}: \`${name}\` is not a variable name`);
    if (typeof value[name] === "object" && value[name] !== null && typeof value[name].$env === "string") {
      out[name] = value[name];
      continue;
    }
    if (typeof value[name] !== "string") {
      fail(`${where}.${name}: expected a string, got ${describe(value[name])}`, `write ${name}: ${JSON.stringify(String(value[name]))}`);
    }
    out[name] = value[name];
  }
  return out;
}

export function resources(where, value) {
  plainObject(where, value, '{ cpu: 2, memory: "1g" }');
  const out = {};
  for (const name of keys(value)) {
    const amount = value[name];
    if (name === "memory" && typeof amount === "string") {
      if (!/^\d+(?:\.\d+)?[kmgt]?$/i.test(amount)) fail(`${where}.memory: cannot read ${describe(amount)}`, 'write "512m" or "2g"');
    } else if (typeof amount !== "number" || !(amount > 0) || !Number.isFinite(amount)) {
      fail(`${where}.${name}: expected a number above zero, got ${describe(amount)}`);
    }
    out[name] = amount;
  }
  return out;
}

export function command(where, value) {
  if (typeof value === "string") {
    const words = JSON.stringify(value.split(" ").filter((word) => word !== ""));
    fail(`${where}: expected a list of words, got the string ${describe(value)}`, `write ${words}, or ["sh", "-c", ${JSON.stringify(value)}] for a shell`);
  }
  if (!isArray(value) || value.length === 0) fail(`${where}: expected a list of words, got ${describe(value)}`, 'write ["tsc", "-b"]');
  return value.map((word, i) => {
    if (typeof word !== "string") fail(`${where}[${i}]: expected a string, got ${describe(word)}`, typeof word === "number" ? `write ${JSON.stringify(String(word))}` : undefined);
    if (word.includes("\0")) fail(`${where}[${i}]: a word must not contain NUL`);
    if (i === 0 && word === "") fail(`${where}[0]: the program's name is empty`);
    return word;
  });
}

const COMMAND_KEYS = ["cmd", "srcs", "deps", "outs", "env", "timeout", "uses", "network", "worker", "multiplex"];

function commandFields(where, options, allowed) {
  plainObject(where, options, '{ cmd: ["tsc", "-b"], srcs: [...], outs: [...] }');
  knownKeys(where, options, allowed);
  if (options.cmd === undefined) fail(`${where}: \`cmd\` is missing`, 'write cmd: ["tsc", "-b"]');
  const out = {
    cmd: command(`${where}: cmd`, options.cmd),
    srcs: list(`${where}: srcs`, options.srcs, source),
    deps: list(`${where}: deps`, options.deps, label),
    outs: list(`${where}: outs`, options.outs, path),
    env: environment(`${where}: env`, options.env),
  };
  if (options.timeout !== undefined) out.timeoutSeconds = seconds(`${where}: timeout`, options.timeout);
  if (options.network !== undefined) out.network = boolean(`${where}: network`, options.network);
  if (options.worker !== undefined) {
    out.worker = isArray(options.worker) ? list(`${where}: worker`, options.worker, string) : boolean(`${where}: worker`, options.worker);
  }
  if (options.multiplex !== undefined) out.multiplex = multiplex(`${where}: multiplex`, options.multiplex);
  if (options.uses !== undefined) out.uses = resources(`${where}: uses`, options.uses);
  return out;
}

// How many requests a worker process takes at a time: 8, or { requests: 8, cancel: true }.
export function multiplex(where, value) {
  if (typeof value === "number") return { requests: integer(where, value, 2, 1000), cancel: false };
  plainObject(where, value, "8, or { requests: 8, cancel: true }");
  knownKeys(where, value, ["requests", "cancel"]);
  return {
    requests: integer(`${where}.requests`, value.requests, 2, 1000),
    cancel: value.cancel === undefined ? false : boolean(`${where}.cancel`, value.cancel),
  };
}

export function target(options) {
  return { $zako: "command", ...commandFields("target()", options, COMMAND_KEYS) };
}

export function test(options) {
  const fields = commandFields("test()", options, [...COMMAND_KEYS, "retries", "shards"]);
  const retries = options.retries === undefined ? 0 : integer("test(): retries", options.retries, 0, 20);
  const shards = options.shards === undefined ? {} : { shards: integer("test(): shards", options.shards, 1, 1000) };
  return { $zako: "test", ...fields, retries, ...shards };
}

const TRANSPILE_KEYS = [
  "srcs", "root", "out", "module", "target", "sourceMaps", "declarations", "deps", "jsx", "jsxImportSource", "include",
  "decorators", "useDefineForClassFields", "verbatimModuleSyntax",
];

export const DECORATORS = ["legacy", "legacyWithMetadata", "preserve"];

export function transpile(options) {
  const where = "transpile()";
  plainObject(where, options, '{ srcs: glob("src/**"), out: "dist" }');
  knownKeys(where, options, TRANSPILE_KEYS);
  if (options.out === undefined) fail(`${where}: \`out\` is missing`, 'write out: "dist"');
  const result = {
    $zako: "transpile",
    srcs: list(`${where}: srcs`, options.srcs, source),
    deps: list(`${where}: deps`, options.deps, label),
    root: options.root === undefined || options.root === "" ? "." : path(`${where}: root`, options.root).replace(/\/+$/, ""),
    out: path(`${where}: out`, options.out).replace(/\/+$/, ""),
    module: options.module === undefined ? "esm" : oneOf(`${where}: module`, options.module, ["esm", "commonjs"]),
    target: options.target === undefined ? "es2022" : string(`${where}: target`, options.target),
    sourceMaps: options.sourceMaps === undefined ? true : boolean(`${where}: sourceMaps`, options.sourceMaps),
    jsx: options.jsx === undefined ? "automatic" : oneOf(`${where}: jsx`, options.jsx, ["automatic", "classic", "preserve"]),
    include: list(`${where}: include`, options.include, pattern),
    verbatimModuleSyntax: options.verbatimModuleSyntax === undefined ? false : boolean(`${where}: verbatimModuleSyntax`, options.verbatimModuleSyntax),
  };
  if (result.srcs.length === 0 && result.deps.length === 0) {
    fail(`${where}: there is nothing to transpile`, 'write srcs: glob("src/**") or deps: [":target"]');
  }
  if (options.declarations !== undefined) result.declarations = boolean(`${where}: declarations`, options.declarations);
  if (options.jsxImportSource !== undefined) result.jsxImportSource = string(`${where}: jsxImportSource`, options.jsxImportSource);
  if (options.decorators !== undefined) result.decorators = oneOf(`${where}: decorators`, options.decorators, DECORATORS);
  if (options.useDefineForClassFields !== undefined) {
    result.useDefineForClassFields = boolean(`${where}: useDefineForClassFields`, options.useDefineForClassFields);
  }
  return result;
}

export const NAME = /^[A-Za-z0-9_+~-][A-Za-z0-9_.+~-]*$/;

export function checkTargets(where, targets) {
  plainObject(where, targets, '{ build: target({ ... }) }');
  for (const name of keys(targets)) {
    if (!NAME.test(name)) fail(`${where}: \`${name}\` cannot be the name of a target`, "use letters, digits, _ . + ~ and -");
    const value = targets[name];
    if (typeof value !== "object" || value === null || typeof value.$zako !== "string") {
      fail(`${where}.${name}: expected a target, got ${describe(value)}`, `write ${name}: target({ cmd: [...] })`);
    }
  }
  return targets;
}

const WORKSPACE_KEYS = ["builds", "env", "targets"];

export function workspace(options = {}) {
  const where = "workspace()";
  plainObject(where, options, '{ builds: ["**/BUILD.ts"] }');
  knownKeys(where, options, WORKSPACE_KEYS);
  return {
    $zako: "workspace",
    builds: options.builds === undefined ? ["**/BUILD.ts"] : list(`${where}: builds`, options.builds, pattern),
    env: environment(`${where}: env`, options.env),
    targets: options.targets === undefined ? {} : checkTargets(`${where}: targets`, options.targets),
  };
}
