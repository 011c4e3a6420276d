export { env, glob, target, test, transpile } from "./build";
/** What `zako.ts` exports. */
export function workspace(options?: Zako.WorkspaceOptions): { readonly $zako: "workspace" };
