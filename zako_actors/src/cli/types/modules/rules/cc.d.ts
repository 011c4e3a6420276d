interface Cc {
  /** .c, .cc, .cpp, .cxx, .S */
  srcs?: Zako.Sources;
  hdrs?: Zako.Sources;
  deps?: Zako.Labels;
  /** Directories of this package that headers are looked for in. */
  includes?: string | readonly string[];
  copts?: string | readonly string[];
  defines?: string | readonly string[];
  linkopts?: string | readonly string[];
}
export const CcInfo: Zako.Provider<{
  headers: readonly Zako.File[];
  includes: readonly string[];
  defines: readonly string[];
  libraries: readonly Zako.File[];
  linkopts: readonly string[];
  /** Whether there is C++ in the libraries: a program is linked as C++ then. */
  cxx?: boolean;
}>;
export function ccLibrary(attributes: Cc): Zako.Target;
export function ccBinary(attributes: Cc & { out?: string }): Zako.Target;
export function ccTest(attributes: Cc & { args?: string | readonly string[]; data?: Zako.Sources }): Zako.Target;
