// The command-line tool around the library.
import { target } from "zako:build";

export default {
  main: target({
    cmd: ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-I../lib/include", "-c", "main.c", "-o", "main.o"],
    srcs: ["main.c"],
    deps: ["//lib:headers"],
    outs: ["main.o"],
  }),

  textstat: target({
    cmd: ["gcc", "main.o", "../lib/libtextstat.a", "-o", "textstat"],
    deps: [":main", "//lib"],
    outs: ["textstat"],
  }),
};
