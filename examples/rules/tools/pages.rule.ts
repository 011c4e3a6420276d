// Pages out of texts, in the order that one of the steps finds out.
import { attr, type File, provider, rule } from "zako:rule";
import { title } from "./pages.config.ts";
import { renderer } from "./pages.toolchain.ts";

/** Pages that can be linked to. */
export const Pages = provider<{ pages: readonly File[] }>("Pages");

const RENDER = 'NR == 1 { print "# " $0 " (" title ")"; next } { print }';

export const pages = rule({
  name: "pages",
  attrs: {
    srcs: attr.sources({ required: true, help: "texts whose first line is a title" }),
    deps: attr.deps({ provides: [Pages] }),
  },
  config: { title },
  toolchains: { renderer },
  async implementation(ctx) {
    const { srcs, deps } = ctx.attrs;
    // Which texts are ready is written in them, so it is known only when the build runs.
    const order = ctx.file("order");
    ctx.run({ cmd: ["sh", "-c", 'out=$1; shift; grep -L "^draft$" "$@" | sort > "$out"', "order", order, srcs], outs: [order] });
    const ready = (await ctx.read(order)).split("\n");
    const files = srcs.filter((src) => ready.includes(src.path)).map((src) => {
      const out = ctx.file(`out/${src.stem}.md`);
      const { awk } = ctx.toolchains.renderer;
      return ctx.run({
        cmd: ["sh", "-c", '"$1" -v title="$2" "$3" "$4" > "$5"', "render", awk, ctx.config.title, RENDER, src, out],
        outs: [out],
      }).out;
    });
    return { files, provides: [Pages({ pages: [...files, ...deps.flatMap((dep) => dep.get(Pages)!.pages)] })] };
  },
});
