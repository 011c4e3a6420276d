// Has Perfetto's own trace processor read a trace, as its page in a browser does, and answer a query:
// a JSON array on a line for each row.
//
//     node perfetto.mjs PAGE TRACE QUERY
//
// PAGE is the folder of the page's scripts, QUERY is SQL. The script of the trace processor is made for
// a worker of a browser, so it gets the little of one that it asks for. Requests and answers are those
// of Perfetto's `trace_processor.proto`; the numbers below are its.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import vm from "node:vm";

const [page, trace, query] = process.argv.slice(2);

const APPEND_TRACE = 1;
const FINALIZE_TRACE = 2;
const QUERY_STREAMING = 3;

/** The fields of a message as `[number, value]`: a bigint, or the bytes of what has a length. */
function* fields(bytes) {
  for (let at = { offset: 0 }; at.offset < bytes.length; ) {
    const tag = Number(varint(bytes, at));
    if ((tag & 7) !== 0 && (tag & 7) !== 2) throw new Error(`field ${tag >> 3} is of type ${tag & 7}`);
    const value = varint(bytes, at);
    yield [tag >> 3, tag & 7 ? bytes.subarray(at.offset, (at.offset += Number(value))) : value];
  }
}

function varint(bytes, at) {
  let value = 0n;
  for (let shift = 0n; ; shift += 7n) {
    const byte = bytes[at.offset++];
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return BigInt.asIntN(64, value);
  }
}

const text = (bytes) => new TextDecoder().decode(bytes);

function encoded(number) {
  const bytes = [];
  for (; number > 0x7f; number = Math.floor(number / 128)) bytes.push((number % 128) | 0x80);
  return Buffer.from([...bytes, number]);
}
const ofNumber = (field, value) => Buffer.concat([encoded(field << 3), encoded(value)]);
const ofBytes = (field, value) => Buffer.concat([encoded((field << 3) | 2), encoded(value.length), value]);

const port = {};
let requests = 0;

/** What is answered to a request: the bytes of field `wanted` of each answer, until one is the last. */
function ask(method, more, wanted, isLast) {
  return new Promise((resolve, reject) => {
    const answers = [];
    port.postMessage = (message) => {
      try {
        for (const [, answer] of fields(message)) {
          for (const [field, value] of fields(answer)) {
            if (field === 5) throw new Error(text(value));
            if (field === wanted) answers.push(value);
          }
        }
        if (isLast(answers)) resolve(answers);
      } catch (error) {
        reject(error);
      }
    };
    const request = Buffer.concat([ofNumber(1, requests++), ofNumber(2, method), ...more]);
    port.onmessage({ data: new Uint8Array(ofBytes(1, request)) });
  });
}

/** The rows of a query's answers. */
function rowsOf(answers) {
  const cells = [];
  let columns = 0;
  for (const [field, value] of answers.flatMap((answer) => [...fields(answer)])) {
    if (field === 1) columns++;
    if (field === 2 && value.length) throw new Error(text(value));
    if (field === 3) cells.push(...cellsOf(value));
  }
  return Array.from({ length: cells.length / columns || 0 }, (_, row) =>
    cells.slice(row * columns, (row + 1) * columns),
  );
}

/** The cells of a batch, which has their types in order, and the values of each type by themselves. */
function cellsOf(batch) {
  const part = Object.fromEntries(fields(batch));
  const at = { offset: 0 };
  const texts = text(part[5] ?? new Uint8Array()).split("\0");
  return Array.from(part[1] ?? [], (type) => {
    if (type === 1) return null;
    if (type === 2) return Number(varint(part[2], at));
    if (type === 4) return texts.shift();
    throw new Error(`a cell is of type ${type}`);
  });
}

const isLastBatch = (answers) =>
  [...fields(answers.at(-1) ?? [])].some(
    ([field, value]) =>
      (field === 2 && value.length) ||
      (field === 3 && [...fields(value)].some(([part, is]) => part === 6 && is)),
  );

Object.assign(globalThis, {
  self: globalThis,
  WorkerGlobalScope: Object,
  location: { href: "file:///", protocol: "file:", host: "" },
  XMLHttpRequest: class {
    open(_, name) {
      this.name = name;
    }
    send() {
      this.response = new Uint8Array(readFileSync(join(page, this.name))).buffer;
    }
  },
});
// What it tells of its progress.
console.warn = () => {};
// By this the script tells a page that has Node.js in it from a program.
process.type = "renderer";
vm.runInThisContext(readFileSync(join(page, "engine_bundle.js"), "utf8"));
await new Promise(setImmediate);
self.onmessage({ data: port });

const once = () => true;
await ask(APPEND_TRACE, [ofBytes(101, readFileSync(trace))], 201, once);
await ask(FINALIZE_TRACE, [], 0, once);
const answers = await ask(QUERY_STREAMING, [ofBytes(103, ofBytes(1, Buffer.from(query)))], 203, isLastBatch);
for (const row of rowsOf(answers)) console.log(JSON.stringify(row));
