// Writes `packages/`: so many TypeScript packages, each of which depends on up to three earlier ones.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";

const COUNT = Number(process.argv[2] ?? 50);
if (!Number.isInteger(COUNT) || COUNT < 1) {
  console.error("usage: node generate.mjs [PACKAGES]; a number from 1 on");
  process.exit(2);
}
const name = (number) => `p${String(number).padStart(2, "0")}`;

const direct = [];
const all = [];
const sums = [];
for (let number = 0; number < COUNT; number += 1) {
  // Any fixed spread does; it is the same in every run.
  const deps = [...new Set([number - 1, Math.floor(number / 2), Math.floor((number * 7) / 11)])]
    .filter((dep) => dep >= 0 && dep < number && (dep + number) % 3 !== 0);
  direct.push(deps);
  all.push([...new Set(deps.flatMap((dep) => [dep, ...all[dep]]))].sort((a, b) => a - b));
  sums.push(number + deps.reduce((sum, dep) => sum + sums[dep], 0));

  const dir = `packages/${name(number)}`;
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(`${dir}/src`, { recursive: true });
  const imports = deps.map((dep) => `import { total as ${name(dep)} } from "../../${name(dep)}/dist/index.js";\n`);
  writeFileSync(
    `${dir}/src/index.ts`,
    `${imports.join("")}import { own } from "./own.ts";

/** What this package and everything below it add up to. */
export const total: number = [own.value${deps.map((dep) => `, ${name(dep)}`).join("")}].reduce((sum, part) => sum + part, 0);
`,
  );
  writeFileSync(
    `${dir}/src/own.ts`,
    `export interface Own {\n  value: number;\n}\n\nexport const own: Own = { value: ${number} };\n`,
  );
  writeFileSync(
    `${dir}/src/check.ts`,
    `import { total } from "./index.ts";

if (total !== ${sums[number]}) {
  console.error(\`${name(number)}: \${total} instead of ${sums[number]}\`);
  process.exit(1);
}
`,
  );
  const labels = (numbers) => numbers.map((dep) => `"//packages/${name(dep)}:js"`).join(", ");
  writeFileSync(
    `${dir}/BUILD.ts`,
    `import { glob, test, transpile } from "zako:build";

export default {
  js: transpile({ srcs: glob("src/**/*.ts"), root: "src", out: "dist", module: "commonjs", sourceMaps: false }),

  check: test({ cmd: ["node", "dist/check.js"], deps: [":js"${all[number].length > 0 ? `, ${labels(all[number])}` : ""}] }),
};
`,
  );
}
console.log(`${COUNT} packages, ${direct.flat().length} dependencies`);
