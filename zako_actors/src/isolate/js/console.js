// zako:console: the global console, written to the log of the evaluation.
const { log: emit } = globalThis.__zakoHost;

function show(value) {
  if (typeof value === "string") return value;
  if (typeof value === "object" && value !== null) {
    try {
      return value instanceof Error ? String(value) : JSON.stringify(value);
    } catch {
      return "[object]";
    }
  }
  return typeof value === "function" ? `[function ${value.name}]` : String(value);
}

const write = (level) => (...parts) => emit(level, parts.map(show).join(" "));

export const console = {
  debug: write("debug"),
  log: write("info"),
  info: write("info"),
  warn: write("warn"),
  error: write("error"),
  assert(condition, ...parts) {
    if (!condition) emit("error", ["assertion failed:", ...parts.map(show)].join(" "));
  },
};

export default console;
