// zako:internal/check: argument checks of the build language. Not importable by scripts.
//
// Every error is a TypeError whose message says what was expected; after a newline and `help: `
// comes the advice, which the isolate shows separately.

const { getPrototypeOf, keys } = Object;
const isArray = Array.isArray;

export function fail(message, help) {
  throw new TypeError(help ? `${message}\nhelp: ${help}` : message);
}

export function describe(value) {
  if (value === null) return "null";
  if (isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  switch (typeof value) {
    case "undefined": return "undefined";
    case "string": return JSON.stringify(value.length > 40 ? value.slice(0, 40) + "..." : value);
    case "number":
    case "boolean": return String(value);
    case "object": return isPromise(value) ? "a promise" : "an object";
    default: return `a ${typeof value}`;
  }
}

function isPromise(value) {
  return typeof value.then === "function";
}

// Optimal string alignment distance; small inputs only.
function distance(a, b) {
  let twoAgo = [];
  let last = [];
  for (let j = 0; j <= b.length; j++) last.push(j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, twoAgo[j - 2] + 1);
      }
      row.push(cost);
    }
    twoAgo = last;
    last = row;
  }
  return last[b.length];
}

export function nearest(name, candidates) {
  let best;
  let limit = Math.max(1, Math.floor(name.length / 3));
  for (const candidate of candidates) {
    const found = distance(name.toLowerCase(), candidate.toLowerCase());
    if (found <= limit) {
      limit = found - 1;
      best = candidate;
    }
  }
  return best;
}

export function plainObject(where, value, example) {
  const ok = typeof value === "object" && value !== null && !isArray(value) &&
    (getPrototypeOf(value) === Object.prototype || getPrototypeOf(value) === null);
  if (!ok) fail(`${where}: expected an object, got ${describe(value)}`, example && `write ${example}`);
  return value;
}

export function knownKeys(where, value, allowed) {
  for (const key of keys(value)) {
    if (allowed.includes(key)) continue;
    const near = nearest(key, allowed);
    fail(
      `${where}: unknown key \`${key}\``,
      near ? `did you mean \`${near}\`?` : allowed.length === 0 ? "there are none" : `the keys are ${allowed.join(", ")}`,
    );
  }
}

export function string(where, value) {
  if (typeof value !== "string") fail(`${where}: expected a string, got ${describe(value)}`);
  if (value === "") fail(`${where}: the string is empty`);
  if (value.includes("\0")) fail(`${where}: a string must not contain NUL`);
  return value;
}

export function boolean(where, value) {
  if (typeof value !== "boolean") fail(`${where}: expected true or false, got ${describe(value)}`);
  return value;
}

export function oneOf(where, value, allowed) {
  if (allowed.includes(value)) return value;
  const near = typeof value === "string" ? nearest(value, allowed) : undefined;
  const list = allowed.map((one) => JSON.stringify(one)).join(", ");
  fail(
    `${where}: expected one of ${list}, got ${describe(value)}`,
    near && `did you mean ${JSON.stringify(near)}?`,
  );
}

export function integer(where, value, min, max) {
  if (!Number.isInteger(value) || value < min || value > max) {
    fail(`${where}: expected a whole number from ${min} to ${max}, got ${describe(value)}`);
  }
  return value;
}

// One value or a list of values; the result is always a new list.
export function list(where, value, each) {
  if (value === undefined) return [];
  if (!isArray(value)) return [each(where, value)];
  const out = [];
  for (let i = 0; i < value.length; i++) out.push(each(`${where}[${i}]`, value[i]));
  return out;
}

const SECONDS = { ms: 0.001, s: 1, m: 60, h: 3600 };

export function seconds(where, value) {
  let result = value;
  if (typeof value === "string") {
    const parts = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(value);
    if (!parts) fail(`${where}: cannot read the duration ${describe(value)}`, 'write "500ms", "30s", "5m", "2h" or a number of seconds');
    result = Number(parts[1]) * SECONDS[parts[2]];
  } else if (typeof value !== "number") {
    fail(`${where}: expected a duration, got ${describe(value)}`, 'write "30s" or a number of seconds');
  }
  if (!(result > 0) || result > 604800) fail(`${where}: a duration must be more than zero and at most a week`);
  return result;
}

// A path below the package: relative, no `..`, `/` as separator.
export function path(where, value) {
  string(where, value);
  if (value.includes("\\")) fail(`${where}: ${describe(value)} has a backslash`, "paths are separated by /");
  if (value.startsWith("/")) fail(`${where}: ${describe(value)} is absolute`, "paths are relative to the package");
  if (value.includes("..") && value.split("/").includes("..")) {
    fail(`${where}: ${describe(value)} leaves the package`, "depend on a target of the other package instead: deps: [\"//path:target\"]");
  }
  return value.startsWith("./") ? value.replace(/^(\.\/)+/, "") || "." : value;
}

const SEGMENT = /^[A-Za-z0-9_.+@~-]+$/;

// Labels: `:t`, `//a/b`, `//a/b:t`, `@pkg//a:t`.
export function label(where, value) {
  string(where, value);
  const parts = /^(?:@([^/]*)\/\/|\/\/)?([^:]*)(?::(.*))?$/.exec(value);
  const absolute = value.startsWith("@") || value.startsWith("//");
  const help = 'write ":target" for this package, "//path/to:target" for another, "@package//path:target" for another workspace package';
  if (!parts || (!absolute && (parts[2] !== "" || parts[3] === undefined))) {
    fail(`${where}: ${describe(value)} is not a label`, help);
  }
  const segments = parts[2] === "" ? [] : parts[2].split("/");
  for (const segment of segments) {
    if (segment === "." || segment === "..") fail(`${where}: ${describe(value)} contains \`${segment}\``, "labels name packages from the workspace root: //path/to:target");
    if (!SEGMENT.test(segment)) fail(`${where}: ${describe(value)} is not a label`, help);
  }
  if (parts[3] !== undefined && (parts[3] === "." || parts[3] === ".." || !SEGMENT.test(parts[3]))) {
    fail(`${where}: ${describe(value)} has no valid target name after the colon`, help);
  }
  return value;
}
