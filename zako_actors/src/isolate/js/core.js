// zako:core: what every kind of file but scripts may use.
const { log: emit, version: hostVersion } = globalThis.__zakoHost;

export { coerce, compare, parse, satisfies } from "zako:semver";

export const version = hostVersion;

const write = (level) => (...parts) => {
  emit(level, parts.map((part) => typeof part === "string" ? part : show(part)).join(" "));
};

function show(value) {
  if (typeof value === "object" && value !== null) {
    try {
      return value instanceof Error ? String(value) : JSON.stringify(value);
    } catch {
      return "[object]";
    }
  }
  return String(value);
}

export const log = Object.freeze(Object.assign(write("info"), {
  debug: write("debug"),
  info: write("info"),
  warn: write("warn"),
  error: write("error"),
}));
