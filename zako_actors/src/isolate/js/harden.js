// zako:internal/harden: everything that outlives a call, frozen.
//
// Functions of rules are called again and again in one isolate. What one call could leave for the
// next has to be reachable from something that stays: a global, a module of ours, or a binding of
// the user's modules, which name theirs by `settle` (only those that keep nothing anywhere else:
// see `transpile/lasting.rs`). All of it is frozen before the first call.
const { defineProperty, freeze, getOwnPropertyDescriptor, getPrototypeOf, hasOwn, isExtensible, isFrozen } = Object;
const { apply, ownKeys } = Reflect;
const has = WeakSet.prototype.has;
const add = WeakSet.prototype.add;
const push = Array.prototype.push;
const pop = Array.prototype.pop;

const done = new WeakSet();
let waiting = [];

export function settle(...values) {
  apply(push, waiting, values);
}

// Called whenever modules were evaluated: nothing is left that a function could change for good. What is
// built in cannot be frozen in the snapshot: V8 adds to it when it starts from one.
export function freezeSettled(modules) {
  const values = waiting;
  waiting = [];
  if (!apply(has, done, [globalThis])) {
    allowOwnNames();
    harden([globalThis, ...hidden(), ...modules]);
  }
  harden(values);
}

// Freezes each of `values` and whatever can be reached from it.
export function harden(values) {
  const stack = [...values];
  while (stack.length > 0) {
    const value = apply(pop, stack, []);
    if ((typeof value !== "object" && typeof value !== "function") || value === null) continue;
    if (apply(has, done, [value])) continue;
    apply(add, done, [value]);
    const isNamespace = !isExtensible(value) && !isFrozen(value);
    if (!isNamespace) freeze(value);
    apply(push, stack, [getPrototypeOf(value)]);
    for (const key of ownKeys(value)) {
      const property = getOwnPropertyDescriptor(value, key);
      apply(push, stack, [property.value, property.get, property.set]);
    }
  }
}

// A frozen prototype's property could not be given to what inherits from it by `=`, as in
// `error.name = "Mine"`: as accessors they can be.
function allowOwn(holder) {
  for (const name of ownKeys(holder)) {
    const property = getOwnPropertyDescriptor(holder, name);
    if (!hasOwn(property, "value") || !property.configurable) continue;
    const { value, enumerable } = property;
    defineProperty(holder, name, {
      get() {
        return value;
      },
      set(own) {
        if (this === holder) throw new TypeError(`${String(name)} is frozen`);
        defineProperty(this, name, { value: own, writable: true, enumerable: true, configurable: true });
      },
      enumerable,
      configurable: true,
    });
  }
}

// What no global leads to.
function hidden() {
  const samples = [
    () => [][Symbol.iterator](),
    () => new Map()[Symbol.iterator](),
    () => new Set()[Symbol.iterator](),
    () => ""[Symbol.iterator](),
    () => "".matchAll(/x/g),
    () => Iterator.from({ next() {} }),
    () => [].values().map((x) => x),
    () => (function* () {})(),
    () => (async function* () {})(),
    () => async function () {},
    () => async () => {},
    () => function* () {},
    () => async function* () {},
    () => (function () { return arguments; })(),
    () => new Error("sample"),
    () => Promise.resolve(),
    () => Promise.withResolvers(),
  ];
  const found = [];
  for (const sample of samples) {
    try {
      apply(push, found, [sample()]);
    } catch {
      // This engine does not have it.
    }
  }
  return found;
}

function allowOwnNames() {
  allowOwn(Object.prototype);
  for (const error of [Error, AggregateError, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError]) {
    allowOwn(error.prototype);
  }
  if (typeof SuppressedError === "function") allowOwn(SuppressedError.prototype);
}
