// zako:rules: every rule that ships.
export * from "./cc.rule.ts";
export * from "./files.rule.ts";
export * from "./npm.rule.ts";
export * from "./shell.rule.ts";
export * from "./typescript.rule.ts";
