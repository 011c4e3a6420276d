// zako:internal/files: what the implementations of rules hold in their hands.
//
// A File is a path of the workspace and who writes it; a Tool is a program of the machine. Both
// travel between evaluations as plain JSON.
import { describe, fail } from "zako:internal/check";

const isArray = Array.isArray;
const { defineProperty, freeze, getPrototypeOf, keys } = Object;
const MAX_DEPTH = 64;

export class File {
  // `from` is the label of the target that writes it, "#n" for action n of the target that is
  // being described, and absent for a source.
  constructor(path, from, isDirectory = false) {
    this.path = path;
    this.from = from;
    this.isDirectory = isDirectory;
    freeze(this);
  }

  get name() {
    return this.path.slice(this.path.lastIndexOf("/") + 1);
  }

  get extension() {
    const dot = this.name.lastIndexOf(".");
    return dot > 0 ? this.name.slice(dot) : "";
  }

  get stem() {
    return this.name.slice(0, this.name.length - this.extension.length);
  }

  get directory() {
    const slash = this.path.lastIndexOf("/");
    return slash < 0 ? "." : this.path.slice(0, slash);
  }

  // A file of this directory.
  at(path) {
    if (!this.isDirectory) fail(`${this.path} is a file, not a directory`);
    return new File(`${this.path}/${path}`, this.from);
  }

  toString() {
    return this.path;
  }
}

export class Tool {
  constructor(path, digest) {
    this.path = path;
    this.digest = digest;
    freeze(this);
  }

  toString() {
    return this.path;
  }
}

// What ctx.run() and its like return.
export class Action {
  constructor(outs) {
    this.outs = freeze(outs);
    this.out = outs[0];
    freeze(this);
  }
}

export function encodeFile(file) {
  const out = { $file: file.path };
  if (file.from !== undefined) out.from = file.from;
  if (file.isDirectory) out.directory = true;
  return out;
}

// Has `out` own the property, also one named `__proto__`: set like others that would replace the prototype.
function own(out, key, value) {
  defineProperty(out, key, { value, enumerable: true, writable: true, configurable: true });
}

// A value of a provider or a toolchain as JSON.
export function encode(where, value, depth = 0) {
  if (depth > MAX_DEPTH) fail(`${where}: nested too deeply, or refers to itself`);
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  if (value instanceof File) return encodeFile(value);
  if (value instanceof Tool) return { $tool: value.path, digest: value.digest };
  if (value instanceof Action) return value.outs.map(encodeFile);
  if (isArray(value)) return value.map((one, i) => encode(`${where}[${i}]`, one, depth + 1));
  if (typeof value === "object" && (getPrototypeOf(value) === Object.prototype || getPrototypeOf(value) === null)) {
    const out = {};
    for (const key of keys(value)) {
      if (value[key] !== undefined) own(out, key, encode(`${where}.${key}`, value[key], depth + 1));
    }
    return out;
  }
  fail(`${where}: ${describe(value)} cannot be passed on`, "use strings, numbers, booleans, files, tools, lists and plain objects");
}

export function decode(value) {
  if (isArray(value)) return freeze(value.map(decode));
  if (typeof value !== "object" || value === null) return value;
  if (typeof value.$file === "string") return new File(value.$file, value.from, value.directory === true);
  if (typeof value.$tool === "string") return new Tool(value.$tool, value.digest);
  const out = {};
  for (const key of keys(value)) own(out, key, decode(value[key]));
  return freeze(out);
}
