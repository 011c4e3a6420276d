// C and C++ libraries, programs and tests.
import { attr, type File, provider, rule, type RuleContext, type Tool } from "zako:rule";
import { mode } from "./cc.config.ts";
import { cc } from "./cc.toolchain.ts";

/** What a library gives to those who use it. */
export const CcInfo = provider<{
  headers: readonly File[];
  includes: readonly string[];
  defines: readonly string[];
  libraries: readonly File[];
  linkopts: readonly string[];
  /** Whether there is C++ in the libraries: a program is linked as C++ then. */
  cxx?: boolean;
}>("CcInfo");

const ATTRS = {
  srcs: attr.sources({ help: ".c, .cc, .cpp, .cxx, .S" }),
  hdrs: attr.sources({ help: "headers; those that a source does not include do not cause its rebuild" }),
  deps: attr.deps({ provides: [CcInfo] }),
  includes: attr.strings({ help: "directories of this package that headers are looked for in" }),
  copts: attr.strings(),
  defines: attr.strings({ help: "NAME or NAME=VALUE, also for those who depend on it" }),
  linkopts: attr.strings(),
};

const MODES = { debug: ["-O0", "-g"], release: ["-O2", "-DNDEBUG"] };
const CXX = [".cc", ".cpp", ".cxx", ".C"];

const USES = { config: { mode }, toolchains: { cc } };

/** What the three rules have in common. */
type Context = RuleContext<typeof ATTRS, typeof USES.config, typeof USES.toolchains>;

/** Headers, and an archive of objects. */
export const ccLibrary = rule({
  name: "cc_library",
  attrs: ATTRS,
  ...USES,
  implementation(ctx) {
    const { info, objects } = compile(ctx);
    if (objects.length === 0) return { files: ctx.attrs.hdrs, provides: [CcInfo(info)] };
    const out = ctx.file(`build/lib${ctx.label.name}.a`);
    ctx.run({ cmd: [ctx.toolchains.cc.ar, "rcsD", out, objects], outs: [out] });
    return { files: [out], provides: [CcInfo({ ...info, libraries: [out, ...info.libraries] })] };
  },
});

/** A program. */
export const ccBinary = rule({
  name: "cc_binary",
  attrs: { ...ATTRS, out: attr.path({ help: "build/<name> by default" }) },
  ...USES,
  implementation(ctx) {
    return { files: [link(ctx, ctx.attrs.out)] };
  },
});

/** A program that `zako test` runs; status 0 means success. */
export const ccTest = rule({
  name: "cc_test",
  test: true,
  attrs: { ...ATTRS, args: attr.strings(), data: attr.sources() },
  ...USES,
  implementation(ctx) {
    ctx.test({ cmd: [link(ctx), ...ctx.attrs.args], inputs: ctx.attrs.data });
  },
});

function compile(ctx: Context) {
  const { srcs, hdrs, deps, includes, copts, defines, linkopts } = ctx.attrs;
  const tools = ctx.toolchains.cc;
  const needs = deps.map((dep) => dep.get(CcInfo)!);
  const info = {
    headers: unique([...hdrs, ...needs.flatMap((need) => need.headers)]),
    includes: [...new Set([...includes.map((dir) => below(ctx.label.dir, dir)), ...needs.flatMap((need) => need.includes)])],
    defines: [...new Set([...defines, ...needs.flatMap((need) => need.defines)])],
    // A library stands before those that it needs.
    libraries: unique(needs.flatMap((need) => need.libraries).reverse()).reverse(),
    linkopts: [...linkopts, ...needs.flatMap((need) => need.linkopts)],
    cxx: srcs.some(isCxx) || needs.some((need) => need.cxx),
  };
  const flags = [
    ...MODES[ctx.config.mode as keyof typeof MODES], ...copts,
    "-I.", ...info.includes.map((dir) => `-I${dir}`),
    ...info.defines.map((name) => `-D${name}`),
  ];
  const objects = srcs.map((src) => {
    const driver = driverOf(ctx, isCxx(src), src.path);
    const stem = `build/${ctx.label.name}.objects/${src.path}`;
    const object = ctx.file(`${stem}.o`);
    const depfile = ctx.file(`${stem}.d`);
    return ctx.run({
      cmd: [driver, ...flags, "-MD", "-MF", depfile, "-c", src, "-o", object],
      inputs: info.headers,
      outs: [object],
      depfile,
      tools: tools.parts,
      // What the compiler records as its directory, whichever it is.
      env: { PWD: "/proc/self/cwd" },
    });
  });
  return { info, objects };
}

function link(ctx: Context, to?: string): File {
  const { info, objects } = compile(ctx);
  const tools = ctx.toolchains.cc;
  const out = ctx.file(to ?? `build/${ctx.label.name}`);
  if (objects.length === 0) ctx.fail("a program needs sources", "write srcs: [\"main.c\"]");
  ctx.run({
    cmd: [driverOf(ctx, info.cxx, `a dependency of ${ctx.label}`), objects, info.libraries, ...info.linkopts, "-o", out],
    outs: [out],
    tools: tools.parts,
  });
  return out;
}

function isCxx(src: File): boolean {
  return CXX.includes(src.extension);
}

function driverOf(ctx: Context, cxx: boolean, what: string): Tool {
  const tools = ctx.toolchains.cc;
  return (cxx ? tools.cxx : tools.c) ?? ctx.fail(`${what} is C++, and there is no C++ compiler`, "install g++ or clang++");
}

function below(dir: string, path: string): string {
  const clean = path.replace(/^\.\/|\/+$/g, "");
  return [dir, clean].filter((part) => part !== "" && part !== ".").join("/") || ".";
}

function unique(files: readonly File[]): File[] {
  return [...new Map(files.map((file) => [file.path, file])).values()];
}
