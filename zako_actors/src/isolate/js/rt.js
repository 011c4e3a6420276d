// zako:rt: which engine runs this file, and as what.
const host = globalThis.__zakoHost;

// "v8" or "quickjs". Builds must not depend on it; it is for bug reports.
export const engine = host.engine;

// "package", "build", "rule", "toolchain" or "config".
export function contextName() {
  return host.context;
}
