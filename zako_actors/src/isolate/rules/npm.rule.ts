// Packages of the npm registry.
import { attr, provider, rule } from "zako:rule";

/** Where `node_modules` lies: the directory, and the directory around it from the workspace root. */
export const NodeModules = provider<{ modules: unknown; root: string }>("NodeModules");

/** `npm ci` as a step: `node_modules` is its output, cached by package.json and the lock file. */
export const npmInstall = rule({
  name: "npm_install",
  attrs: {
    manifest: attr.source({ default: "package.json" }),
    lock: attr.source({ default: "package-lock.json" }),
    npmrc: attr.source({ help: "an .npmrc that says where the registry is" }),
    omit: attr.strings({ help: "kinds of dependencies to leave out: dev, optional, peer" }),
    scripts: attr.boolean({ help: "run install scripts; off, because they may do anything" }),
    env: attr.env(),
  },
  implementation(ctx) {
    const { manifest, lock, npmrc, omit, scripts, env } = ctx.attrs;
    const modules = ctx.directory("node_modules");
    ctx.run({
      cmd: [
        "npm", "ci", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error",
        scripts ? [] : "--ignore-scripts",
        omit.map((kind) => `--omit=${kind}`),
      ],
      inputs: [manifest, lock, npmrc ?? []],
      outs: [modules],
      env,
      network: true,
      dir: ctx.label.dir,
    });
    return { files: [modules], provides: [NodeModules({ modules, root: ctx.label.dir })] };
  },
});

/** Packages that are installed already: files of `node_modules` beside the build file. */
export const nodeModules = rule({
  name: "node_modules",
  attrs: { srcs: attr.sources({ required: true, help: 'such as glob("node_modules/esbuild/**")' }) },
  implementation(ctx) {
    return { files: ctx.attrs.srcs, provides: [NodeModules({ modules: ctx.attrs.srcs, root: ctx.label.dir })] };
  },
});
