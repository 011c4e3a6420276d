// Runs the same programs on what zako compiled and on the packages' own distributions, and writes what they said.
import { deepStrictEqual } from "node:assert";
import { writeFileSync } from "node:fs";
import { effect, zod } from "./programs.mjs";

const load = async (directory, names) => {
  const modules = names.map((name) => import(new URL(`../${directory}/${name}.js`, import.meta.url)));
  return Object.fromEntries((await Promise.all(modules)).map((module, index) => [names[index], module]));
};
const EFFECT = ["Effect", "Option", "Chunk", "Stream", "Duration"];
const lines = [];
const compare = async (name, program, ours, theirs) => {
  const [found, expected] = [await program(ours), await program(theirs)];
  deepStrictEqual(found, expected, name);
  lines.push(`${name}: ${JSON.stringify(found)}`);
};

await compare("zod", zod, (await load("dist/zod", ["index"])).index.z, (await load("sources/zod", ["index"])).index.z);
await compare("effect", effect, await load("dist/effect", EFFECT), await load("sources/effect/dist", EFFECT));
lines.push(`ok: ${lines.length} programs agree`);
writeFileSync(process.argv[2], `${lines.join("\n")}\n`);
