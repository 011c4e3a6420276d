// zako:global: the JSON value that the build engine passes to an evaluation.

// The same frozen value as the global `executionContext`.
export function getExecutionContext() {
  return globalThis.executionContext;
}
