interface Common {
  /** For `sh`, in the directory of the package; $SRCS, $OUTS and $OUT are paths. */
  script: string;
  srcs?: Zako.Sources;
  deps?: Zako.Labels;
  env?: { readonly [name: string]: string | Zako.OuterVariable };
}
export function shell(attributes: Common & { outs?: string | readonly string[]; network?: boolean }): Zako.Target;
export function shellTest(attributes: Common & { retries?: number }): Zako.Target;
