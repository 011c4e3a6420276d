export const JsInfo: Zako.Provider<{ files: readonly Zako.File[] }>;
export function tsLibrary(attributes: {
  srcs: Zako.Sources;
  deps?: Zako.Labels;
  root?: string;
  out?: string;
  module?: "esm" | "commonjs";
  target?: string;
  sourceMaps?: boolean;
  /** Writes .d.ts; exports then need explicit types (isolatedDeclarations). */
  declarations?: boolean;
  jsx?: "automatic" | "classic" | "preserve";
  jsxImportSource?: string;
  /** As in `transpile()`. */
  decorators?: "legacy" | "legacyWithMetadata" | "preserve";
}): Zako.Target;
export function bundle(attributes: {
  /** A path of this package, such as "dist/main.js". */
  entry: string;
  srcs?: Zako.Sources;
  deps?: Zako.Labels;
  /** Where the bundler and the packages are: npmInstall() or nodeModules(). */
  modules: Zako.Labels;
  bundler?: "esbuild" | "rollup";
  out?: string;
  format?: "esm" | "cjs" | "iife";
  platform?: "browser" | "node" | "neutral";
  minify?: boolean;
  sourceMaps?: boolean;
  external?: string | readonly string[];
}): Zako.Target;
