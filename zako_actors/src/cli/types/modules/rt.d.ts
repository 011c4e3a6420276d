/** For reports of mistakes: a build must not depend on it. */
export const engine: "v8" | "quickjs";
export function contextName(): "package" | "build" | "rule" | "toolchain" | "config";
