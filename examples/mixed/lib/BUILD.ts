// The C library: one step per source file, so that an edit compiles one file.
import { target } from "zako:build";

const compile = (name) =>
  target({
    cmd: ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-c", `${name}.c`, "-o", `${name}.o`],
    srcs: [`${name}.c`, "textstat.h"],
    outs: [`${name}.o`],
  });

export default {
  count: compile("count"),
  crc32: compile("crc32"),

  // Without -D, ar would write the time and the user into the archive, and an equal library would
  // look new to everything that links it.
  lib: target({
    cmd: ["ar", "rcsD", "libtextstat.a", "count.o", "crc32.o"],
    deps: [":count", ":crc32"],
    outs: ["libtextstat.a"],
  }),

  // What other packages include.
  headers: target({
    cmd: ["cp", "textstat.h", "include/textstat.h"],
    srcs: ["textstat.h"],
    outs: ["include/textstat.h"],
  }),
};
