/** An option with its default, which may depend on the machine. */
export function config<const T extends string | number | boolean>(options: {
  name: string;
  help?: string;
  default: T | ((ctx: Zako.SystemContext) => T | Promise<T>);
  type?: "string" | "number" | "boolean";
  /** What it may be. */
  values?: readonly Zako.Widened<T>[];
}): Zako.Option<Zako.Widened<T>>;
