// The C and C++ compilers of this machine.
import { toolchain } from "zako:toolchain";
import { compiler } from "./cc.config.ts";

export const cc = toolchain({
  name: "cc",
  config: { compiler },
  async select(ctx) {
    const wanted = ctx.config.compiler;
    const c = await (wanted ? ctx.which(wanted) : ctx.which("gcc", "clang", "cc"));
    if (!c) throw ctx.fail(wanted ? `there is no C compiler \`${wanted}\`` : "there is no C compiler", "install gcc or clang, or name one: --set cc_compiler=NAME");
    // That of gcc-12 is g++-12, and that of cc is c++.
    const name = c.path.slice(c.path.lastIndexOf("/") + 1);
    const own = name === "cc" ? "c++" : name.replace("clang", "clang++").replace("gcc", "g++");
    const usual = /clang/.test(c.path) ? "clang++" : "g++";
    const [cxx, ar] = await ctx.all([
      own === name ? ctx.which(usual, "c++") : ctx.which(own, usual, "c++"),
      ctx.which("ar", "llvm-ar"),
    ]);
    if (!ar) throw ctx.fail("there is no `ar`", "install binutils");
    // The driver is a small program; what really compiles stands behind it and belongs to the key.
    const names = await ctx.all(["cc1", "cc1plus", "as", "ld"].map((part) => ctx.output(c, `-print-prog-name=${part}`)));
    const parts = await ctx.all(names.map((name) => ctx.which(name.trim())));
    return { c, cxx, ar, parts: parts.filter((part) => part !== undefined) };
  },
});
