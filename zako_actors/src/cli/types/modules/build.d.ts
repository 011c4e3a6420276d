/** A step that runs a command. */
export function target(options: Zako.CommandOptions): Zako.Target;
/** A command that `zako test` runs; its result is cached. */
export function test(options: Zako.TestOptions): Zako.Target;
/** TypeScript to JavaScript, in process. */
export function transpile(options: Zako.TranspileOptions): Zako.Target;
/**
 * Files that match: `glob("src/**", { exclude: ["**\/*.test.ts"] })`. A symbolic link to a file is that file. One to a directory is not
 * entered, with a warning unless it is excluded: `zako affected` and `zako watch` know files by where they are. A name that is not
 * UTF-8 is an error unless it is excluded.
 */
export function glob(...patterns: (string | readonly string[] | { exclude: readonly string[] })[]): Zako.Glob;
/** The value that a variable has when the step runs; part of the step's key. */
export function env(name: string, fallback?: string): Zako.OuterVariable;
