// Takes away everything whose result could differ between two evaluations of the same sources.
//
// Globals: an allow list, so that what a newer engine adds is absent until somebody allows it.
// Members of allowed globals: a ban list, each replaced by a function that says why.
//
// Functions in parentheses are compiled together with this file, so that the snapshot has them: they run before every
// evaluation, and V8 would compile them then.

const ALLOWED = new Set([
  "Object", "Function", "Array", "Number", "parseFloat", "parseInt", "Infinity", "NaN", "undefined",
  "Boolean", "String", "Symbol", "Promise", "RegExp", "Error", "AggregateError", "EvalError",
  "RangeError", "ReferenceError", "SyntaxError", "TypeError", "URIError", "SuppressedError",
  "DisposableStack", "AsyncDisposableStack", "globalThis", "JSON", "Math", "Map", "BigInt", "Set",
  "WeakMap", "WeakSet", "Proxy", "Reflect", "Iterator", "decodeURI", "decodeURIComponent",
  "encodeURI", "encodeURIComponent", "escape", "unescape", "isFinite", "isNaN", "queueMicrotask",
]);

const { defineProperty, getOwnPropertyDescriptor, getOwnPropertyNames, getPrototypeOf, freeze, hasOwn } = Object;
const isArray = Array.isArray;
const ownKeys = Reflect.ownKeys;

const LOCALE = "its result depends on the machine's locale";

function replace(holder, name, why, owner) {
  if (holder === undefined || !(name in holder)) return;
  const message = `${owner}${name} is not available in build files: ${why}`;
  const banned = { [name]() { throw new TypeError(message); } }[name];
  defineProperty(holder, name, { value: banned, writable: false, enumerable: false, configurable: false });
}

function banMembers() {
  replace(Math, "random", "a build must give the same result every time", "Math.");
  replace(Promise, "race", "its result depends on timing; use Promise.all or await one after another", "Promise.");
  for (const name of ["localeCompare", "toLocaleLowerCase", "toLocaleUpperCase"]) {
    const plain = name === "localeCompare" ? "compare with < and >" : `use ${name.replace("Locale", "")}()`;
    replace(String.prototype, name, `${LOCALE}; ${plain}`, "String.prototype.");
  }
  replace(Number.prototype, "toLocaleString", `${LOCALE}; use toString()`, "Number.prototype.");
  replace(BigInt.prototype, "toLocaleString", `${LOCALE}; use toString()`, "BigInt.prototype.");
  replace(Array.prototype, "toLocaleString", `${LOCALE}; use join()`, "Array.prototype.");
}

// `Symbol()` makes a value that no other evaluation can make again; registered and well-known
// symbols are the same everywhere and stay.
function banSymbolConstructor() {
  const original = Symbol;
  function BannedSymbol() {
    throw new TypeError(
      'the Symbol constructor is not available in build files: use Symbol.for("name") or a string',
    );
  }
  for (const key of ownKeys(original)) {
    if (key === "length" || key === "prototype") continue;
    defineProperty(BannedSymbol, key, getOwnPropertyDescriptor(original, key));
  }
  defineProperty(BannedSymbol, "prototype", { value: original.prototype, writable: false });
  defineProperty(original.prototype, "constructor", { value: BannedSymbol, writable: false, configurable: false });
  defineProperty(globalThis, "Symbol", { value: BannedSymbol, writable: true, enumerable: false, configurable: true });
}

// Code made from strings has no file, no import rules and no place to report.
const banCodeFromStrings = (function () {
  const kinds = [
    function () {},
    async function () {},
    function* () {},
    async function* () {},
  ];
  for (const sample of kinds) {
    const prototype = getPrototypeOf(sample);
    const original = prototype.constructor;
    const name = original.name;
    const banned = { [name]: function () {
      throw new EvalError(`${name}() is not available in build files: code cannot be made from strings`);
    } }[name];
    defineProperty(banned, "prototype", { value: prototype, writable: false });
    defineProperty(prototype, "constructor", { value: banned, writable: false, configurable: false });
    if (name === "Function") {
      defineProperty(globalThis, name, { value: banned, writable: true, enumerable: false, configurable: true });
    }
  }
});

// A hook on stack traces would see the functions of the embedding modules.
function banStackHooks() {
  defineProperty(Error, "prepareStackTrace", {
    get() { return undefined; },
    set() {
      throw new TypeError("Error.prepareStackTrace is not available in build files: stack traces are normalised");
    },
    enumerable: false,
    configurable: false,
  });
}

// The engine's own loops over a list cannot be interrupted, so a list of four thousand million
// holes would outlive every limit: methods that walk a list refuse such lengths, and lengths that could be
// others when the engine asks for them. (What is left ends the process: see `limits.rs`.)
const MAX_LENGTH = 50_000_000;
const WALKS = [
  "concat", "copyWithin", "every", "fill", "filter", "find", "findIndex", "findLast",
  "findLastIndex", "flat", "flatMap", "forEach", "includes", "indexOf", "join", "lastIndexOf", "map",
  "reduce", "reduceRight", "reverse", "shift", "slice", "some", "sort", "splice", "toReversed",
  "toSorted", "toSpliced", "toString", "unshift", "with",
];

function checkLength(length) {
  if (length > MAX_LENGTH) throw new RangeError(`a list or text of ${length} elements is too long for a build file`);
}

// Of a list, or of what is taken for one.
function checkList(list) {
  if (isArray(list)) return checkLength(list.length);
  if (list === null || list === undefined) return;
  for (let holder = Object(list); holder !== null; holder = getPrototypeOf(holder)) {
    const property = getOwnPropertyDescriptor(holder, "length");
    if (property === undefined) continue;
    const isFixed = hasOwn(property, "value") && typeof property.value !== "function" &&
      (typeof property.value !== "object" || property.value === null);
    if (!isFixed) throw new TypeError("the length of this list is computed; copy it to an array before a build file walks it");
    return checkLength(property.value);
  }
}

function limitLengths() {
  const { apply } = Reflect;
  const limit = (holder, name, check) => {
    const original = holder[name];
    if (original === undefined) return;
    const limited = { [name](...args) {
      check(this, args[0]);
      return apply(original, this, args);
    } }[name];
    defineProperty(limited, "length", { value: original.length, configurable: true });
    defineProperty(holder, name, { value: limited, writable: true, enumerable: false, configurable: true });
  };
  for (const name of WALKS) limit(Array.prototype, name, checkList);
  limit(Array, "from", (_, list) => {
    // What can be iterated is not asked for its length.
    if (isArray(list) || list?.[Symbol.iterator] === undefined || typeof list === "string") checkList(list);
  });
  limit(String.prototype, "split", checkList);
  limit(JSON, "parse", (_, text) => {
    if (typeof text === "string") checkLength(text.length);
  });
  limit(JSON, "stringify", (_, value) => {
    if (isArray(value)) checkLength(value.length);
  });
}

const deepFreeze = (function (value) {
  if (typeof value === "object" && value !== null) {
    for (const key of ownKeys(value)) deepFreeze(value[key]);
    freeze(value);
  }
  return value;
});

// What the last match was, wherever that happened.
function banLastMatch() {
  const kept = new Set(["length", "name", "prototype"]);
  for (const name of getOwnPropertyNames(RegExp)) {
    if (!kept.has(name) && getOwnPropertyDescriptor(RegExp, name).configurable) delete RegExp[name];
  }
  replace(RegExp.prototype, "compile", "a pattern does not change; make another one", "RegExp.prototype.");
}

// The part that is the same for all evaluations.
export function restrict() {
  limitLengths();
  banMembers();
  banSymbolConstructor();
  banStackHooks();
  banLastMatch();
}

// The part of one evaluation. (Deleting is not done before: the engine's own start needs what is deleted.)
export const start = (function ({ console, executionContext }) {
  for (const name of getOwnPropertyNames(globalThis)) {
    if (!ALLOWED.has(name)) delete globalThis[name];
  }
  for (const key of Object.getOwnPropertySymbols(globalThis)) {
    if (key !== Symbol.toStringTag) delete globalThis[key];
  }
  const constant = (function (name, value) {
    defineProperty(globalThis, name, { value, writable: false, enumerable: false, configurable: false });
  });
  // Switching code from strings off puts a `Function` of its own there in QuickJS.
  banCodeFromStrings();
  // The embedded modules take some frames before those that a reader wants to see.
  const value = Math.max(Error.stackTraceLimit, 60);
  Error.stackTraceLimit = value;
  // In QuickJS it is an accessor, which freezing would not close.
  defineProperty(Error, "stackTraceLimit", { value, writable: true, enumerable: true, configurable: true });
  constant("console", freeze(console));
  constant("executionContext", deepFreeze(executionContext));
});
