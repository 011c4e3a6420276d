// zako:package: what zako.ts, the root of a workspace, uses.
export { env, glob, target, test, transpile, workspace } from "zako:internal/targets";
