export const cc: Zako.Toolchain<{ c: Zako.Tool; cxx?: Zako.Tool; ar: Zako.Tool; parts: readonly Zako.Tool[] }>;
