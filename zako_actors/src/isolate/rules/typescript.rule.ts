// TypeScript libraries and bundles of them.
import { attr, type File, provider, rule } from "zako:rule";
import { NodeModules } from "./npm.rule.ts";

/** JavaScript of a library and of everything that it needs. */
export const JsInfo = provider<{ files: readonly File[] }>("JsInfo");

/** TypeScript to JavaScript with source maps and declarations, file by file, in process. */
export const tsLibrary = rule({
  name: "ts_library",
  attrs: {
    srcs: attr.sources({ required: true }),
    deps: attr.deps({ provides: [JsInfo] }),
    root: attr.path({ default: "src", help: "stripped from the path of each source" }),
    out: attr.path({ default: "dist" }),
    module: attr.oneOf(["esm", "commonjs"], { default: "esm" }),
    target: attr.string({ default: "es2022" }),
    sourceMaps: attr.boolean({ default: true }),
    declarations: attr.boolean({ help: "writes .d.ts; exports then need explicit types (isolatedDeclarations)" }),
    jsx: attr.oneOf(["automatic", "classic", "preserve"], { default: "automatic" }),
    jsxImportSource: attr.string(),
    decorators: attr.oneOf(["legacy", "legacyWithMetadata", "preserve"], { help: "legacy: those of experimentalDecorators" }),
  },
  implementation(ctx) {
    const { srcs, deps, root, out, ...options } = ctx.attrs;
    const base = [ctx.label.dir, root].filter((part) => part !== "" && part !== ".").join("/") || ".";
    const library = ctx.transpile({ srcs, root: base, out: ctx.directory(out), ...options });
    const files = unique([...library.outs, ...deps.flatMap((dep) => dep.get(JsInfo)!.files)]);
    return { files: library.outs, provides: [JsInfo({ files })] };
  },
});

// Options come as JSON; the packages are found from the working directory.
const FIND = "const o = JSON.parse(process.argv[1]); const find = (name) => { try { return require.resolve(name); } catch {"
  + " console.error(`${name} is not among the packages of \\`modules\\`: npm install --save-dev ${name}`); process.exit(1); } }; ";

const BUNDLERS = {
  esbuild: 'require(find("esbuild")).buildSync({ entryPoints: [o.entry], outfile: o.out,'
    + ' bundle: true, format: o.format, minify: o.minify, sourcemap: o.sourcemap, external: o.external, platform: o.platform, logLevel: "warning" });',
  rollup: 'require(find("rollup")).rollup({ input: o.entry, external: o.external })'
    + '.then((b) => b.write({ file: o.out, format: o.format, sourcemap: o.sourcemap, inlineDynamicImports: true }))'
    + ".catch((e) => { console.error(e.message); process.exit(1); });",
};

/** One file out of many, by a bundler from `node_modules`. */
export const bundle = rule({
  name: "bundle",
  attrs: {
    entry: attr.string({ required: true, help: 'a path of this package, such as "dist/main.js"' }),
    srcs: attr.sources({ help: "JavaScript that no dependency brings" }),
    deps: attr.deps({ provides: [JsInfo] }),
    modules: attr.deps({ required: true, provides: [NodeModules], help: "where the bundler and the packages are" }),
    bundler: attr.oneOf(["esbuild", "rollup"], { default: "esbuild" }),
    out: attr.path({ default: "bundle.js" }),
    format: attr.oneOf(["esm", "cjs", "iife"], { default: "esm" }),
    platform: attr.oneOf(["browser", "node", "neutral"], { default: "browser" }),
    minify: attr.boolean(),
    sourceMaps: attr.boolean({ default: true }),
    external: attr.strings(),
  },
  implementation(ctx) {
    const { srcs, deps, modules, bundler, format, platform, minify, sourceMaps, external } = ctx.attrs;
    const dir = modules[0].get(NodeModules)!.root;
    const out = ctx.file(ctx.attrs.out);
    const map = sourceMaps ? [ctx.file(`${ctx.attrs.out}.map`)] : [];
    const here = dir === "" ? "./" : `${dir.split("/").map(() => "..").join("/")}/`;
    const entry = ctx.label.dir === "" ? ctx.attrs.entry : `${ctx.label.dir}/${ctx.attrs.entry}`;
    if (bundler === "rollup" && minify) ctx.fail("rollup does not minify", 'write bundler: "esbuild"');
    const options = { entry: here + entry, out: here + out, format, platform, minify, sourcemap: sourceMaps, external };
    ctx.run({
      cmd: ["node", "-e", FIND + BUNDLERS[bundler as keyof typeof BUNDLERS], JSON.stringify(options)],
      inputs: [srcs, deps.flatMap((dep) => dep.get(JsInfo)!.files), modules],
      outs: [out, ...map],
      dir,
    });
  },
});

function unique(files: readonly File[]): File[] {
  return [...new Map(files.map((file) => [file.path, file])).values()];
}
