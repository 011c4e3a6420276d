// zako:internal/rules: rule(), provider(), toolchain(), config(), and how the engine calls them.
//
// A definition is known by its file and its name. In a build file, calling a rule describes a
// target; the implementation runs later, when the engine invokes it with everything resolved.
// A promise for what the engine has to find out (the text of a file that is yet to be made, a
// program of the machine) stays open; the engine finds it out and evaluates again.
import { boolean, describe, fail, knownKeys, label, list, oneOf, plainObject, string } from "zako:internal/check";
import { Tool, decode, encode, encodeFile } from "zako:internal/files";
import { attr, isAttribute, receive } from "zako:internal/attributes";
import { NAME } from "zako:internal/targets";
import { RuleContext, filesOf } from "zako:internal/context";
import { settle } from "zako:internal/harden";

const host = globalThis.__zakoHost;
const { defineProperty, freeze, hasOwn, keys } = Object;

// File to name to definition.
const definitions = new Map();

function define(kind, file, name, definition) {
  string(`${kind}(): name`, name);
  if (!NAME.test(name)) fail(`${kind}(): name: ${describe(name)} is not a name`, "use letters, digits, _ and -");
  const known = definitions.get(file) ?? definitions.set(file, new Map()).get(file);
  if (host.isCalling) fail(`${kind}(): \`${name}\` is defined by a function that runs later`, "write it at the top of the file, outside of functions");
  if (known.has(name)) fail(`${kind}(): this file defines \`${name}\` twice`, "give one of them another name");
  const whole = freeze({ kind, name, ...definition });
  settle(whole);
  known.set(name, whole);
}

function defined(kind, file) {
  return [...(definitions.get(file)?.values() ?? [])].filter((one) => one.kind === kind);
}

// { key: handle } of things that a definition uses.
function uses(where, value, mark, example) {
  const out = {};
  if (value === undefined) return out;
  plainObject(where, value, example);
  for (const key of keys(value)) {
    const one = value[key];
    const id = mark === "$config" && typeof one === "string" ? one : one?.[mark];
    if (typeof id !== "string") fail(`${where}.${key}: expected ${mark === "$config" ? "an option made by config()" : "a toolchain"}, got ${describe(one)}`);
    out[key] = id;
  }
  return freeze(out);
}

function fn(where, value) {
  if (typeof value !== "function") fail(`${where}: expected a function, got ${describe(value)}`);
  return value;
}

const word = (_, one) => one;

const RULE_KEYS = ["name", "help", "attrs", "config", "toolchains", "test", "implementation"];

export function ruleModule(file) {
  const rule = (options) => {
    const where = "rule()";
    plainObject(where, options, '{ name: "cc_library", attrs: {...}, implementation(ctx) {...} }');
    knownKeys(where, options, RULE_KEYS);
    const { name } = options;
    const attrs = plainObject(`${where}: attrs`, options.attrs ?? {});
    for (const key of keys(attrs)) {
      if (!isAttribute(attrs[key])) fail(`${where}: attrs.${key}: expected a type, got ${describe(attrs[key])}`, `write ${key}: attr.string()`);
    }
    const config = uses(`${where}: config`, options.config, "$config", "{ mode }");
    const toolchains = uses(`${where}: toolchains`, options.toolchains, "$toolchain", "{ cc }");
    const test = options.test === undefined ? false : boolean(`${where}: test`, options.test);
    const implementation = fn(`${where}: implementation`, options.implementation);
    define("rule", file, name, { config, toolchains, implementation, test });
    const known = new Set(Object.values(config));
    for (const one of Object.values(options.toolchains ?? {})) for (const id of list(where, one.options, word)) known.add(id);
    const use = (values = {}) => {
      const place = `${name}()`;
      plainObject(place, values);
      knownKeys(place, values, keys(attrs));
      const out = {};
      for (const key of keys(attrs)) out[key] = attrs[key].encode(`${place}: ${key}`, values[key]);
      return {
        $zako: "rule", file, rule: name, test, attrs: out,
        config: [...known], toolchains: Object.values(toolchains),
      };
    };
    defineProperty(use, "name", { value: name });
    return freeze(use);
  };
  const provider = (name) => {
    define("provider", file, name, {});
    const id = `${file}#${name}`;
    const make = (value = {}) => freeze({ $provider: id, value });
    defineProperty(make, "name", { value: name });
    return freeze(defineProperty(make, "$provider", { value: id }));
  };
  return freeze({ attr, provider, rule });
}

export function toolchainModule(file) {
  const toolchain = (options) => {
    const where = "toolchain()";
    plainObject(where, options, '{ name: "cc", async select(ctx) { return { cc: await ctx.which("gcc") }; } }');
    knownKeys(where, options, ["name", "help", "config", "select"]);
    const config = uses(`${where}: config`, options.config, "$config", "{ mode }");
    define("toolchain", file, options.name, { config, select: fn(`${where}: select`, options.select) });
    return freeze({ $toolchain: `${file}#${options.name}`, options: freeze(Object.values(config)) });
  };
  return freeze({ toolchain });
}

const TYPES = ["boolean", "number", "string", "label"];

function ofType(where, type, values, value) {
  if (type === "label") {
    // An option holds for the whole workspace: there is no directory that `:name` could be from.
    if (label(where, value).startsWith(":")) fail(`${where}: ${describe(value)} does not say its directory`, `write "//path/to${value}"`);
    return values ? oneOf(where, value, values) : value;
  }
  if (typeof value !== type || (type === "number" && !Number.isFinite(value))) fail(`${where}: expected a ${type}, got ${describe(value)}`);
  return values ? oneOf(where, value, values) : value;
}

export function configModule(file) {
  const config = (options) => {
    const where = "config()";
    plainObject(where, options, '{ name: "mode", type: "string", default: "debug" }');
    knownKeys(where, options, ["name", "help", "type", "default", "values"]);
    const type = oneOf(`${where}: type`, options.type ?? typeof options.default, TYPES);
    const values = options.values && list(`${where}: values`, options.values, word);
    if (options.default === undefined) fail(`${where}: \`default\` is missing`);
    if (typeof options.default !== "function") ofType(`${where}: default`, type, values, options.default);
    define("config", file, options.name, { type, values, help: options.help, fallback: options.default });
    return freeze({ $config: `${file}#${options.name}` });
  };
  return freeze({ config });
}

// The questions of one invocation: answered ones have a value, the others stay open.
class Questions {
  constructor(known) {
    this.known = known ?? {};
    this.open = [];
    this.ask = (question) => {
      const key = JSON.stringify(question);
      if (hasOwn(this.known, key)) return Promise.resolve(this.known[key]);
      if (!this.open.includes(key)) this.open.push(key);
      return new Promise(() => {});
    };
  }
}

// What toolchains and options may ask about the machine.
function systemContext(request, questions, config) {
  const { ask } = questions;
  return freeze({
    platform: freeze(request.platform),
    config,
    env: async (name) => (await ask({ env: string("ctx.env()", name) })) ?? undefined,
    async which(...names) {
      names.forEach((name, i) => string(`ctx.which(): name ${i + 1}`, name));
      const found = await ask({ which: names });
      return found === null ? undefined : decode(found);
    },
    async output(tool, ...args) {
      if (!(tool instanceof Tool)) fail(`ctx.output(): expected a tool, got ${describe(tool)}`, "find it with ctx.which()");
      return await ask({ output: [tool.path, ...args.map(String)] });
    },
    all: (promises) => Promise.all(promises),
    fail: (message, help) => fail(String(message), help),
  });
}

const values = (handles, settled) => {
  const out = {};
  for (const key of keys(handles)) out[key] = settled[handles[key]];
  return freeze(out);
};

// Runs `work` now; `done` gets its result, if it ever comes. A mistake names what was at work.
function start(name, work, done) {
  const mistaken = (error) => {
    host.current = name;
    throw error;
  };
  host.current = name;
  const result = work();
  if (typeof result?.then === "function") result.then(done).then(undefined, mistaken);
  else done(result);
}

const kinds = {
  rule(request, results) {
    const definition = definitions.get(request.file)?.get(request.rule);
    if (definition?.kind !== "rule") fail(`${request.file} does not define the rule \`${request.rule}\` any more`);
    for (const target of request.targets) {
      const questions = new Questions(target.known);
      const attrs = {};
      for (const key of keys(target.attrs)) attrs[key] = receive(target.attrs[key]);
      const context = new RuleContext(target, definition.test, questions.ask, {
        attrs: freeze(attrs),
        config: values(definition.config, request.config),
        toolchains: decode(values(definition.toolchains, request.toolchains)),
      });
      const result = { label: target.label, open: questions.open, actions: context.actions };
      results.push(result);
      start(target.label, () => definition.implementation(context.face), (value) => {
        Object.assign(result, conclude(definition, context, value));
      });
    }
  },

  toolchain(request, results) {
    for (const { name, config, select } of defined("toolchain", request.file)) {
      const questions = new Questions(request.known);
      const result = { name, open: questions.open };
      results.push(result);
      const context = systemContext(request, questions, values(config, request.config));
      start(name, () => select(context), (value) => {
        result.value = encode(`toolchain ${name}`, value ?? {});
      });
    }
  },

  config(request, results) {
    for (const { name, type, values, help, fallback } of defined("config", request.file)) {
      const questions = new Questions(request.known);
      const result = { name, type, values, help, open: questions.open };
      results.push(result);
      const work = () => typeof fallback === "function" ? fallback(systemContext(request, questions, {})) : fallback;
      start(name, work, (value) => {
        result.default = ofType(`option ${name}: default`, type, values, value);
      });
    }
  },
};

const RESULT = '{ files: [...], provides: [Info({ ... })] }';

function conclude(definition, context, value) {
  const where = `${definition.name}: what the implementation returns`;
  const out = { done: true, providers: {} };
  if (value === undefined) value = {};
  plainObject(where, value, RESULT);
  knownKeys(where, value, ["files", "provides"]);
  const last = context.lastOuts();
  out.files = (value.files === undefined ? last : filesOf(`${where}: files`, value.files)).map(encodeFile);
  for (const one of value.provides ?? []) {
    if (typeof one?.$provider !== "string") fail(`${where}: provides: expected a provider's value, got ${describe(one)}`, `write ${RESULT}`);
    if (hasOwn(out.providers, one.$provider)) fail(`${where}: provides: the same provider twice`);
    out.providers[one.$provider] = encode(`${where}: provides`, one.value);
  }
  context.check();
  return out;
}

let results = [];

export function invoke(request) {
  results = [];
  host.isCalling = true;
  host.current = "";
  // As a promise, so that whatever is thrown ends in one place.
  Promise.resolve().then(() => kinds[request.kind](request, results));
}

export function collect() {
  return results;
}
