// How C and C++ are compiled: --set cc_mode=release, or [config] of zako.toml.
import { config } from "zako:config";

export const mode = config({
  name: "cc_mode",
  default: "debug",
  values: ["debug", "release"],
  help: "debug keeps symbols and assertions; release optimises",
});

export const compiler = config({
  name: "cc_compiler",
  default: "",
  help: "the C compiler by name or path; the first of gcc, clang and cc by default",
});
