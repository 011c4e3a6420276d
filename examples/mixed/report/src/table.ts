import type { Stat } from "./tool";

enum Align {
  Left = "---",
  Right = "---:",
}

interface Column {
  title: string;
  align: Align;
  cell: (stat: Stat) => string;
}

const COLUMNS: readonly Column[] = [
  { title: "file", align: Align.Left, cell: ({ file }) => file },
  { title: "lines", align: Align.Right, cell: ({ lines }) => String(lines) },
  { title: "words", align: Align.Right, cell: ({ words }) => String(words) },
  { title: "characters", align: Align.Right, cell: ({ codePoints }) => String(codePoints) },
  { title: "CRC-32", align: Align.Left, cell: ({ crc32 }) => `\`${crc32}\`` },
];

/** A Markdown table, the longest text first. */
export function table(stats: readonly Stat[]): string {
  const sorted = [...stats].sort((a, b) => b.words - a.words || (a.file < b.file ? -1 : 1));
  const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const lines = [
    row(COLUMNS.map(({ title }) => title)),
    row(COLUMNS.map(({ align }) => align)),
    ...sorted.map((stat) => row(COLUMNS.map(({ cell }) => cell(stat)))),
  ];
  return `${lines.join("\n")}\n`;
}
