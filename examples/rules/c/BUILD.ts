import { ccBinary, ccLibrary, ccTest } from "zako:rules/cc";

export default {
  fib: ccLibrary({ srcs: ["fib.c"], hdrs: ["fib.h"] }),
  main: ccBinary({ srcs: ["main.c"], deps: [":fib"] }),
  check: ccTest({ srcs: ["check.c"], deps: [":fib"] }),
};
