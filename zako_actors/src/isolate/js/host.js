// What the embedding program tells the zako: modules. Evaluated before them; `main.js` takes the
// handle away again before any script of a user runs. There are no native functions: log lines
// are collected here and read by the isolate at the end.

const MAX_LINES = 10_000;
const MAX_CHARS = 100_000;

const lines = [];
const { Error } = globalThis;

globalThis.__zakoHost = {
  version: "@VERSION@",
  engine: "@ENGINE@",
  context: "",
  lines,
  current: "",
  // Definitions are made while modules are evaluated, and never again.
  isCalling: false,
  reset() {
    lines.length = 0;
    this.current = "";
    this.isCalling = false;
  },
  // Whether the engine notes where a mistake is made: what a script put there may be anything.
  notesPlaces() {
    try {
      return Error.stackTraceLimit > 0;
    } catch {
      return false;
    }
  },
  log(level, message) {
    if (lines.length >= MAX_LINES) return;
    lines[lines.length] = { level, message: message.length > MAX_CHARS ? message.slice(0, MAX_CHARS) : message };
  },
};
