// zako:internal/context: `ctx` of a rule's implementation.
//
// Collects the actions of one target. Nothing runs here: an action is data, its outputs are files
// that other actions can name at once.
import { boolean, describe, fail, integer, knownKeys, list, oneOf, path, plainObject, seconds, string } from "zako:internal/check";
import { Action, File, Tool, encodeFile } from "zako:internal/files";
import { DECORATORS, environment, multiplex, resources } from "zako:internal/targets";

const isArray = Array.isArray;
const { freeze } = Object;

// Every file in `value`: files, actions (their outputs), dependencies (their files), lists of these.
export function filesOf(where, value) {
  if (value === undefined) return [];
  if (value instanceof File) return [value];
  if (value instanceof Action) return value.outs;
  if (isArray(value)) return value.flatMap((one, i) => filesOf(`${where}[${i}]`, one));
  if (typeof value === "object" && value !== null && isArray(value.files)) return filesOf(where, value.files);
  fail(`${where}: expected a file, got ${describe(value)}`, 'name outputs with ctx.file("..."), sources with an attribute attr.sources()');
}

const RUN_KEYS = ["cmd", "inputs", "outs", "env", "tools", "depfile", "network", "uses", "timeout", "dir", "worker", "multiplex"];
const TRANSPILE_KEYS = [
  "srcs", "out", "root", "module", "target", "sourceMaps", "declarations", "jsx", "jsxImportSource",
  "decorators", "useDefineForClassFields", "verbatimModuleSyntax",
];

export class RuleContext {
  constructor(target, test, ask, given) {
    this.dir = target.dir;
    this.test = test;
    this.actions = [];
    // Path to index of the action that writes it; undefined while it is only named.
    this.named = new Map();
    // Without spreading: V8 defines each property after one by a call of its runtime.
    this.face = freeze({
      label: freeze({ text: target.label, dir: target.dir, name: target.name, toString: () => target.label }),
      attrs: given.attrs,
      config: given.config,
      toolchains: given.toolchains,
      file: (path) => this.file("ctx.file()", path, false),
      directory: (path) => this.file("ctx.directory()", path, true),
      run: (options) => this.run("ctx.run()", options, RUN_KEYS),
      test: (options) => this.runTest(options),
      transpile: (options) => this.transpile(options),
      write: (path, text) => this.write(path, text),
      read: (file) => this.read(ask, file),
      all: (promises) => Promise.all(promises),
      fail: (message, help) => fail(String(message), help),
    });
  }

  // A path of the package as a file of the workspace.
  file(where, value, isDirectory) {
    const named = path(where, value);
    const below = named.endsWith("/") ? named.replace(/\/+$/, "") : named;
    const whole = this.dir === "" ? below : `${this.dir}/${below}`;
    if (below === ".") fail(`${where}: ${describe(value)} is the whole package`, "name a file or directory inside it");
    if (!this.named.has(whole)) this.named.set(whole, undefined);
    return this.own(whole, isDirectory);
  }

  // Its writer is looked up when it is read, so that a file can be named before its action.
  own(whole, isDirectory) {
    return new File(whole, "#", isDirectory);
  }

  outs(where, value, index) {
    return list(where, value, (place, one) => {
      const file = typeof one === "string" ? this.file(place, one, one.endsWith("/")) : one;
      if (!(file instanceof File) || file.from !== "#") {
        fail(`${place}: expected an output, got ${describe(one)}`, 'name it with ctx.file("...") or ctx.directory("...")');
      }
      if (this.named.get(file.path) !== undefined) fail(`${place}: ${file.path} is written by two actions`);
      this.named.set(file.path, index);
      return file;
    });
  }

  run(where, options, allowed, retries) {
    plainObject(where, options, '{ cmd: ["cc", "-c", src, "-o", out], outs: [out] }');
    knownKeys(where, options, allowed);
    const index = this.actions.length;
    const dir = options.dir === undefined ? "" : String(options.dir === "." ? "" : options.dir);
    const found = { inputs: filesOf(`${where}: inputs`, options.inputs), tools: [] };
    const outs = this.outs(`${where}: outs`, options.outs, index);
    if (!isArray(options.cmd) || options.cmd.length === 0) fail(`${where}: cmd: expected a list of words, got ${describe(options.cmd)}`, 'write ["cc", "-c", src, "-o", out]');
    const written = new Set(outs.map((out) => out.path));
    const cmd = options.cmd.flatMap((one, i) => words(`${where}: cmd[${i}]`, one, found, dir));
    for (const [i, tool] of list(`${where}: tools`, options.tools, (_, one) => one).entries()) {
      if (!(tool instanceof Tool)) fail(`${where}: tools[${i}]: expected a tool, got ${describe(tool)}`, "tools come from ctx.toolchains");
      found.tools.push(tool);
    }
    const action = {
      kind: "run",
      cmd,
      worker: options.worker === undefined ? undefined : this.request(`${where}: worker`, options.worker, found, dir),
      dir,
      inputs: unique(found.inputs.filter((file) => !written.has(file.path))),
      outs: outs.map(encodeFile),
      tools: [...new Set(found.tools.map((tool) => tool.path))],
      env: environment(`${where}: env`, options.env),
      retries,
    };
    if (options.depfile !== undefined) {
      const depfile = options.depfile instanceof File ? options.depfile : this.file(`${where}: depfile`, options.depfile, false);
      this.named.delete(depfile.path);
      action.depfile = depfile.path;
      action.inputs = action.inputs.filter((file) => file.$file !== depfile.path);
    }
    if (options.network !== undefined) action.network = boolean(`${where}: network`, options.network);
    if (options.multiplex !== undefined) action.multiplex = multiplex(`${where}: multiplex`, options.multiplex);
    if (options.uses !== undefined) action.uses = resources(`${where}: uses`, options.uses);
    if (options.timeout !== undefined) action.timeoutSeconds = seconds(`${where}: timeout`, options.timeout);
    this.actions.push(action);
    return new Action(outs);
  }

  // The arguments of a request to the process that `cmd` starts.
  request(where, value, found, dir) {
    if (!isArray(value)) fail(`${where}: expected the arguments of a request, got ${describe(value)}`, 'write ["--out", out, src]');
    if (dir !== "") fail(`${where}: a worker process serves all packages, so it runs in the workspace root`, "leave `dir` out");
    return value.flatMap((one, i) => words(`${where}[${i}]`, one, found, dir));
  }

  runTest(options) {
    const where = "ctx.test()";
    if (!this.test) fail(`${where}: this rule makes no tests`, "write test: true in rule({ ... })");
    if (this.actions.some((action) => action.retries !== undefined)) fail(`${where}: a target is one test`);
    const retries = options?.retries === undefined ? 0 : integer(`${where}: retries`, options.retries, 0, 20);
    return this.run(where, options, [...RUN_KEYS, "retries"], retries);
  }

  transpile(options) {
    const where = "ctx.transpile()";
    plainObject(where, options, '{ srcs: ctx.attrs.srcs, out: ctx.directory("dist") }');
    knownKeys(where, options, TRANSPILE_KEYS);
    const index = this.actions.length;
    const srcs = filesOf(`${where}: srcs`, options.srcs);
    if (srcs.length === 0) fail(`${where}: there is nothing to transpile`);
    if (!(options.out instanceof File) || !options.out.isDirectory) fail(`${where}: out: expected a directory, got ${describe(options.out)}`, 'write out: ctx.directory("dist")');
    const outs = this.outs(`${where}: out`, [options.out], index);
    const root = options.root === undefined ? this.dir : options.root === "" ? "" : string(`${where}: root`, options.root);
    const settings = {
      module: oneOf(`${where}: module`, options.module ?? "esm", ["esm", "commonjs"]),
      target: string(`${where}: target`, options.target ?? "es2022"),
      sourceMap: boolean(`${where}: sourceMaps`, options.sourceMaps ?? true),
      jsx: oneOf(`${where}: jsx`, options.jsx ?? "automatic", ["automatic", "classic", "preserve"]),
      verbatimModuleSyntax: boolean(`${where}: verbatimModuleSyntax`, options.verbatimModuleSyntax ?? false),
    };
    if (options.declarations !== undefined) settings.declarations = boolean(`${where}: declarations`, options.declarations);
    if (options.jsxImportSource !== undefined) settings.jsxImportSource = string(`${where}: jsxImportSource`, options.jsxImportSource);
    if (options.decorators !== undefined) settings.decorators = oneOf(`${where}: decorators`, options.decorators, DECORATORS);
    if (options.useDefineForClassFields !== undefined) settings.useDefineForClassFields = boolean(`${where}: useDefineForClassFields`, options.useDefineForClassFields);
    this.actions.push({
      kind: "transpile",
      inputs: unique(srcs),
      outs: outs.map(encodeFile),
      root: root === "." ? "" : root,
      out: outs[0].path,
      settings,
    });
    return new Action(outs);
  }

  // A small file with this text.
  write(path, text) {
    const where = "ctx.write()";
    if (typeof text !== "string" || text.includes("\0")) fail(`${where}: expected a text, got ${describe(text)}`);
    if (text.length > 60_000) fail(`${where}: the text has ${text.length} characters; at most 60000 fit`, "let a program write it");
    const out = path instanceof File ? path : this.file(where, path, false);
    return this.run(where, { cmd: ["sh", "-c", 'printf %s "$1" > "$2"', "write", text, out], outs: [out] }, RUN_KEYS).out;
  }

  read(ask, file) {
    if (file instanceof Action) file = file.out;
    if (!(file instanceof File)) fail(`ctx.read(): expected a file, got ${describe(file)}`);
    if (file.isDirectory) fail(`ctx.read(): ${file.path} is a directory`, 'name a file in it: dir.at("x.json")');
    return ask({ read: file.path, from: file.from });
  }

  lastOuts() {
    return this.actions.length === 0 ? [] : this.actions[this.actions.length - 1].outs.map((out) => this.own(out.$file, out.directory === true));
  }

  // Every output that is named is written by somebody.
  check() {
    for (const [path, index] of this.named) {
      if (index === undefined) fail(`no action writes ${path}`, "name it in `outs` of ctx.run(), or do not name it");
    }
    if (this.test && !this.actions.some((action) => action.retries !== undefined)) fail("a test rule has to call ctx.test()");
  }
}

function unique(files) {
  const byPath = new Map();
  for (const file of files) if (!byPath.has(file.path)) byPath.set(file.path, encodeFile(file));
  return [...byPath.values()];
}

// One element of `cmd`: a word, a file or tool (its path), several words of these in a list.
function words(where, value, found, dir) {
  if (typeof value === "string") {
    if (value.includes("\0")) fail(`${where}: a word must not contain NUL`);
    return [value];
  }
  if (typeof value === "number") return [String(value)];
  if (value instanceof Tool) {
    found.tools.push(value);
    return [value.path];
  }
  if (value instanceof File) {
    found.inputs.push(value);
    return [word(relative(dir, value.path))];
  }
  if (value instanceof Action) return value.outs.flatMap((file) => words(where, file, found, dir));
  if (isArray(value)) return value.flatMap((one, i) => words(`${where}[${i}]`, one, found, dir));
  fail(`${where}: expected a string, a file or a tool, got ${describe(value)}`);
}

// A file whose name begins as an option does, or as a list of further words, is neither to the program.
function word(path) {
  return path.startsWith("-") || path.startsWith("@") ? `./${path}` : path;
}

function relative(dir, path) {
  if (dir === "") return path;
  const from = dir.split("/");
  const to = path.split("/");
  let same = 0;
  while (same < from.length && same < to.length - 1 && from[same] === to[same]) same++;
  return [...from.slice(same).map(() => ".."), ...to.slice(same)].join("/");
}
