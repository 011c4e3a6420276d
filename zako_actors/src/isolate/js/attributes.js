// zako:internal/attributes: the types of a rule's attributes.
//
// A type checks what a build file writes, turns it into JSON for the engine, and turns the
// engine's answer (globs expanded, labels resolved) into what an implementation reads.
import { boolean, describe, fail, knownKeys, label, list, oneOf, path, plainObject, string } from "zako:internal/check";
import { decode } from "zako:internal/files";
import { environment, source } from "zako:internal/targets";

const isArray = Array.isArray;
const freeze = Object.freeze;

export class Attribute {
  constructor(type, options, more) {
    Object.assign(this, { type, required: false, ...more });
    const where = `attr.${type}()`;
    plainObject(where, options, '{ required: true, help: "..." }');
    knownKeys(where, options, ["required", "default", "help", ...(type === "dep" || type === "deps" ? ["provides"] : [])]);
    if (options.required !== undefined) this.required = boolean(`${where}: required`, options.required);
    if (options.default !== undefined) {
      if (this.required) fail(`${where}: a required attribute needs no default`);
      this.fallback = this.check(`${where}: default`, options.default);
    }
    this.provides = list(`${where}: provides`, options.provides, (place, one) => {
      if (typeof one !== "function" || typeof one.$provider !== "string") fail(`${place}: expected a provider, got ${describe(one)}`);
      return one.$provider;
    });
    freeze(this);
  }

  // What a build file wrote, as JSON.
  check(where, value) {
    switch (this.type) {
      // What has to be said says something.
      case "string": return this.required ? string(where, value) : word(where, value);
      case "strings": return list(where, value, word);
      case "boolean": return boolean(where, value);
      case "number":
        if (typeof value !== "number" || !Number.isFinite(value)) fail(`${where}: expected a number, got ${describe(value)}`);
        return value;
      case "oneOf": return oneOf(where, value, this.values);
      case "path": return path(where, value).replace(/\/+$/, "");
      case "env": return environment(where, value);
      case "source": return { $sources: [sourceOrLabel(where, value)], one: true };
      case "sources": return { $sources: list(where, value, sourceOrLabel) };
      case "dep": return { $deps: [label(where, value)], one: true, provides: this.provides };
      case "deps": return { $deps: list(where, value, label), provides: this.provides };
    }
  }

  encode(where, value) {
    if (value === undefined) {
      if (this.required) fail(`${where} is missing`, this.help);
      return this.fallback === undefined ? this.nothing() : this.fallback;
    }
    return this.check(where, value);
  }

  nothing() {
    switch (this.type) {
      case "strings": return [];
      case "boolean": return false;
      case "env": return {};
      case "sources": return { $sources: [] };
      case "deps": return { $deps: [], provides: this.provides };
      default: return null;
    }
  }
}

function word(where, value) {
  if (typeof value !== "string") fail(`${where}: expected a string, got ${describe(value)}`);
  if (value.includes("\0")) fail(`${where}: a string must not contain NUL`);
  return value;
}

// ":gen" and "//lib:gen" among sources mean what that target writes.
function sourceOrLabel(where, value) {
  const isLabel = typeof value === "string" && /^(:|\/\/|@)/.test(value);
  return isLabel ? { $label: label(where, value) } : source(where, value);
}

const of = (type) => (options = {}) => new Attribute(type, options);

export const attr = freeze({
  string: of("string"),
  strings: of("strings"),
  boolean: of("boolean"),
  number: of("number"),
  path: of("path"),
  env: of("env"),
  source: of("source"),
  sources: of("sources"),
  dep: of("dep"),
  deps: of("deps"),
  oneOf(values, options = {}) {
    if (!isArray(values) || values.length === 0) fail("attr.oneOf(): expected a list of values", 'write attr.oneOf(["debug", "release"])');
    return new Attribute("oneOf", options, { values: freeze([...values]) });
  },
});

export function isAttribute(value) {
  return value instanceof Attribute;
}

// A dependency as an implementation sees it.
export class Dependency {
  constructor({ label, files, providers }) {
    this.label = label;
    this.files = freeze(files.map(decode));
    const values = {};
    for (const id of Object.keys(providers)) values[id] = decode(providers[id]);
    this.get = (provider) => values[provider.$provider];
    freeze(this);
  }

  toString() {
    return this.label;
  }
}

// What the engine made of an attribute, as an implementation sees it.
export function receive(value) {
  if (typeof value === "object" && value !== null) {
    if (isArray(value.$files)) {
      const files = freeze(value.$files.map(decode));
      return value.one ? files[0] : files;
    }
    if (isArray(value.$deps)) {
      const deps = freeze(value.$deps.map((one) => new Dependency(one)));
      return value.one ? deps[0] : deps;
    }
    if (isArray(value)) return freeze(value);
  }
  return value === null ? undefined : value;
}
