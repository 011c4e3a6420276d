// zako:semver: semantic versions, enough to compare them and to match npm-style ranges.

const VERSION = /^v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/;

export function parse(text) {
  const parts = VERSION.exec(String(text).trim());
  if (!parts) throw new TypeError(`${JSON.stringify(String(text))} is not a semantic version\nhelp: write major.minor.patch, such as 1.4.0`);
  const prerelease = parts[4] === undefined ? [] : parts[4].split(".");
  return { major: Number(parts[1]), minor: Number(parts[2]), patch: Number(parts[3]), prerelease };
}

// The first version in a text, missing parts being 0; null when there is none.
export function coerce(text) {
  const parts = /(\d+)(?:\.(\d+))?(?:\.(\d+))?/.exec(String(text));
  return parts && `${parts[1]}.${parts[2] ?? 0}.${parts[3] ?? 0}`;
}

function comparePrerelease(a, b) {
  if (a.length === 0 || b.length === 0) return (a.length === 0) - (b.length === 0);
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    if (a[i] === undefined) return -1;
    if (b[i] === undefined) return 1;
    if (a[i] === b[i]) continue;
    const numeric = [/^\d+$/.test(a[i]), /^\d+$/.test(b[i])];
    if (numeric[0] && numeric[1]) return Math.sign(Number(a[i]) - Number(b[i]));
    if (numeric[0] !== numeric[1]) return numeric[0] ? -1 : 1;
    return a[i] < b[i] ? -1 : 1;
  }
  return 0;
}

// -1, 0 or 1, as SemVer 2.0 orders them.
export function compare(left, right) {
  const a = typeof left === "string" ? parse(left) : left;
  const b = typeof right === "string" ? parse(right) : right;
  return Math.sign(a.major - b.major) || Math.sign(a.minor - b.minor) || Math.sign(a.patch - b.patch) ||
    comparePrerelease(a.prerelease, b.prerelease);
}

const PARTIAL = /^v?([0-9]+|[xX*])(?:\.([0-9]+|[xX*]))?(?:\.([0-9]+|[xX*]))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/;

// Bounds of one comparator: [inclusive lower, exclusive upper], either may be missing.
function bounds(comparator) {
  const parts = /^(\^|~|>=|<=|>|<|=)?\s*(.*)$/.exec(comparator);
  const operator = parts[1] ?? "";
  const text = parts[2] === "" ? "*" : parts[2];
  const partial = PARTIAL.exec(text);
  if (!partial) throw new TypeError(`${JSON.stringify(comparator)} is not a version range`);
  const [major, minor, patch] = [1, 2, 3].map((i) => partial[i] === undefined || /[xX*]/.test(partial[i]) ? undefined : Number(partial[i]));
  const prerelease = partial[4] === undefined ? [] : partial[4].split(".");
  const low = { major: major ?? 0, minor: minor ?? 0, patch: patch ?? 0, prerelease };
  const next = (level) => ({
    major: low.major + (level === 0 ? 1 : 0),
    minor: level === 0 ? 0 : low.minor + (level === 1 ? 1 : 0),
    patch: level === 2 ? low.patch + 1 : 0,
    prerelease: ["0"],
  });
  const given = major === undefined ? -1 : minor === undefined ? 0 : patch === undefined ? 1 : 2;
  const after = given < 0 ? undefined : given === 2 ? undefined : next(given);
  switch (operator) {
    case "^": {
      const level = low.major > 0 || minor === undefined ? 0 : low.minor > 0 || patch === undefined ? 1 : 2;
      return { low, high: given < 0 ? undefined : next(level) };
    }
    case "~": return { low, high: given < 0 ? undefined : next(Math.min(given, 1)) };
    case ">=": return { low };
    case ">": return after ? { low: { ...after, prerelease: [] } } : { above: low };
    case "<": return { high: low };
    case "<=": return after ? { high: after } : { atMost: low };
    default: return given === 2 ? { low, atMost: low } : { low, high: after };
  }
}

function inside(version, { low, above, high, atMost }) {
  return (!low || compare(version, low) >= 0) && (!above || compare(version, above) > 0) &&
    (!high || compare(version, high) < 0) && (!atMost || compare(version, atMost) <= 0);
}

function comparators(alternative) {
  const hyphen = /^\s*(\S+)\s+-\s+(\S+)\s*$/.exec(alternative);
  if (hyphen) return [`>=${hyphen[1]}`, `<=${hyphen[2]}`];
  const text = alternative.trim().replace(/(\^|~|>=|<=|>|<|=)\s+/g, "$1");
  return text === "" ? ["*"] : text.split(/\s+/);
}

// Whether a version lies in an npm-style range: ^1.2, ~1.2.3, 1.x, >=1 <3, 1 - 2, a || b.
export function satisfies(version, range) {
  const parsed = parse(version);
  return String(range).split("||").some((alternative) => {
    const all = comparators(alternative);
    if (!all.every((one) => inside(parsed, bounds(one)))) return false;
    if (parsed.prerelease.length === 0) return true;
    // A prerelease matches only a comparator that names a prerelease of the same version.
    return all.some((one) => {
      const { low, above, high, atMost } = bounds(one);
      return [low, above, high, atMost].some((bound) =>
        bound !== undefined && bound.prerelease.length > 0 && bound.prerelease[0] !== "0" &&
        bound.major === parsed.major && bound.minor === parsed.minor && bound.patch === parsed.patch);
    });
  });
}
