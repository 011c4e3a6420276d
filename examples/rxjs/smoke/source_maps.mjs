// Follows source maps from the compiled files back to the sources: the same words must stand at
// both ends.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { dirname, join, normalize } from "node:path";

/** Words that stand once in their source and survive compiling. */
const LANDMARKS = [
  ["internal/operators/map.ts", "project.call(thisArg, value, index++)"],
  ["internal/operators/mergeInternals.ts", "innerComplete = false"],
  ["internal/BehaviorSubject.ts", "hasError, thrownError, _value"],
  ["internal/util/EmptyError.ts", "no elements in sequence"],
  ["internal/scheduler/VirtualTimeScheduler.ts", "action.delay <= maxFrames"],
  ["internal/testing/TestScheduler.ts", "hotObservables.shift()"],
];

/** Checks every landmark in every output directory; returns how many there were. */
export function checkSourceMaps(outputs, sources) {
  let checked = 0;
  for (const output of outputs) {
    for (const [file, words] of LANDMARKS) {
      const source = join(sources, file);
      const compiled = join(output, file.replace(/\.ts$/, ".js"));
      const expected = find(readFileSync(source, "utf8"), words);
      const place = find(readFileSync(compiled, "utf8"), words);
      assert.ok(expected && place, `${file}: "${words}" stands in source and output`);

      const payload = JSON.parse(readFileSync(`${compiled}.map`, "utf8"));
      const entry = new SourceMap(payload).findEntry(place.line, place.column);
      assert.equal(entry.originalLine, expected.line, `${compiled}: line of "${words}"`);
      const named = normalize(join(dirname(compiled), payload.sources[0]));
      assert.equal(named, normalize(source), `${compiled}: the source that its map names`);
      checked += 1;
    }
  }
  return checked;
}

/** The line and column, from 0, at which words stand in a text. */
function find(text, words) {
  const line = text.split("\n").findIndex((candidate) => candidate.includes(words));
  return line < 0 ? undefined : { line, column: text.split("\n")[line].indexOf(words) };
}
