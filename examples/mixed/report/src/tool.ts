import { execFileSync } from "node:child_process";

/** What the C tool says about one file. */
export interface Stat {
  file: string;
  bytes: number;
  lines: number;
  words: number;
  codePoints: number;
  crc32: string;
}

/** Asks the tool about files. */
export function textstat(tool: string, files: readonly string[]): Stat[] {
  const output = execFileSync(tool, files, { encoding: "utf8" });
  return output
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Stat);
}
