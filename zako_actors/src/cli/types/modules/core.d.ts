export { coerce, compare, parse, satisfies } from "./semver";
export const version: string;
interface Log {
  (...parts: unknown[]): void;
  debug(...parts: unknown[]): void;
  info(...parts: unknown[]): void;
  warn(...parts: unknown[]): void;
  error(...parts: unknown[]): void;
}
export const log: Log;
