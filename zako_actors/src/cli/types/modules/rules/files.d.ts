/** Files under one name. */
export function fileGroup(attributes: { srcs?: Zako.Sources; deps?: Zako.Labels }): Zako.Target;
/** Copies into a directory of the package. */
export function copy(attributes: { srcs: Zako.Sources; to: string; root?: string }): Zako.Target;
/** A .tar, .tar.gz, .tgz or .zip whose bytes depend on names and contents only. */
export function archive(attributes: { srcs: Zako.Sources; out: string; root?: string }): Zako.Target;
