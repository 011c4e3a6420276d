export type Tool = Zako.Tool;
/** A choice of tools on this machine; rules find it in `ctx.toolchains`. */
export function toolchain<T, C extends Zako.OptionSet = {}>(options: {
  name: string;
  help?: string;
  config?: C;
  select(ctx: Zako.SystemContext<C>): T | Promise<T>;
}): Zako.Toolchain<T>;
