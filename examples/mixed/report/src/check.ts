import { strict as assert } from "node:assert";

import { table } from "./table";
import { textstat } from "./tool";

const tool = process.argv[2] as string;
const [check, greek] = textstat(tool, ["texts/check.txt", "texts/greek.txt"]);

// The check value of CRC-32 is that of the nine digits.
assert.deepEqual(check, {
  file: "texts/check.txt",
  bytes: 9,
  lines: 0,
  words: 1,
  codePoints: 9,
  crc32: "cbf43926",
});
assert.equal(greek?.words, 5);
assert.equal(greek?.lines, 2);
assert.ok(greek.codePoints < greek.bytes, "Greek letters take two bytes each");

const rows = table([check, greek]).split("\n");
assert.match(rows[2] ?? "", /^\| texts\/greek\.txt \| 2 \| 5 \|/);
assert.throws(() => textstat(tool, ["texts/none.txt"]));
