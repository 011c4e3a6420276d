// zako:build: what BUILD.ts files use.
export { glob, target, test, transpile } from "zako:internal/targets";
