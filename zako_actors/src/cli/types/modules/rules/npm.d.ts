export const NodeModules: Zako.Provider<{ modules: unknown; root: string }>;
/** `npm ci` as a step; `node_modules` is its output. */
export function npmInstall(attributes: {
  manifest?: Zako.Source | Zako.Label;
  lock?: Zako.Source | Zako.Label;
  npmrc?: Zako.Source | Zako.Label;
  omit?: string | readonly string[];
  scripts?: boolean;
  env?: { readonly [name: string]: string | Zako.OuterVariable };
}): Zako.Target;
/** Packages that are installed already. */
export function nodeModules(attributes: { srcs: Zako.Source | readonly Zako.Source[] }): Zako.Target;
