// zako:build: what BUILD.ts files use.
export { env, glob, target, test, transpile } from "zako:internal/targets";
