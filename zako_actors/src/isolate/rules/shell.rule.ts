// Shell scripts as targets and tests.
import { attr, rule } from "zako:rule";

// $OUT, $OUTS and $SRCS for the script, which runs in the directory of its package.
const PROLOGUE = 'n=$1; shift; OUT=${1-}; OUTS=; while [ "$n" -gt 0 ]; do OUTS="$OUTS $1"; shift; n=$((n-1)); done; SRCS="$*"; ';

const COMMON = {
  script: attr.string({ required: true, help: "for sh; $SRCS, $OUTS and $OUT (the first of them) are paths" }),
  srcs: attr.sources(),
  deps: attr.deps({ help: "targets whose files are there too, but not in $SRCS" }),
  env: attr.env(),
};

/** Runs a shell script that writes `outs` (`file` or `directory/`). */
export const shell = rule({
  name: "shell",
  attrs: { ...COMMON, outs: attr.strings(), network: attr.boolean() },
  implementation(ctx) {
    const { script, srcs, deps, env, network } = ctx.attrs;
    const outs = ctx.attrs.outs.map((out) => (out.endsWith("/") ? ctx.directory(out) : ctx.file(out)));
    ctx.run({
      cmd: ["sh", "-e", "-c", PROLOGUE + script, "shell", outs.length, ...outs, ...srcs],
      inputs: deps,
      outs,
      env,
      network,
      dir: ctx.label.dir,
    });
  },
});

/** A shell script that `zako test` runs. */
export const shellTest = rule({
  name: "shell_test",
  test: true,
  attrs: { ...COMMON, retries: attr.number({ default: 0 }) },
  implementation(ctx) {
    const { script, srcs, deps, env, retries } = ctx.attrs;
    ctx.test({
      cmd: ["sh", "-e", "-c", PROLOGUE + script, "shell", 0, ...srcs],
      inputs: deps,
      env,
      retries,
      dir: ctx.label.dir,
    });
  },
});
