import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { table } from "./table";
import { textstat } from "./tool";

const [tool, directory, output] = process.argv.slice(2) as [string, string, string];
const files = readdirSync(directory).sort().map((name) => join(directory, name));
writeFileSync(output, `# Texts\n\n${table(textstat(tool, files))}`);
