// The program that renders pages: any awk will do.
import { toolchain } from "zako:toolchain";

export const renderer = toolchain({
  name: "renderer",
  async select(ctx) {
    const awk = await ctx.which("mawk", "gawk", "busybox-awk", "awk");
    if (!awk) throw ctx.fail("there is no awk", "install mawk or gawk");
    return { awk };
  },
});
