/** An option with its default, which may depend on the machine. */
export function config<const T extends string | number | boolean>(options: {
  name: string;
  help?: string;
  default: T | ((ctx: Zako.SystemContext) => T | Promise<T>);
  type?: "string" | "number" | "boolean";
  /** What it may be. */
  values?: readonly Zako.Widened<T>[];
}): Zako.Option<Zako.Widened<T>>;
/** An option that is a target: `//path/to:name`. */
export function config(options: {
  name: string;
  help?: string;
  default: Zako.Label | ((ctx: Zako.SystemContext) => Zako.Label | Promise<Zako.Label>);
  type: "label";
  /** What it may be. */
  values?: readonly Zako.Label[];
}): Zako.Option<Zako.Label>;
