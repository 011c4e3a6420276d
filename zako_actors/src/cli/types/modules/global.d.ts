/** The same frozen value as the global `executionContext`. */
export function getExecutionContext(): Zako.ExecutionContext;
