export * from "./cc";
export * from "./files";
export * from "./npm";
export * from "./shell";
export * from "./typescript";
