// zlib 1.2.13 from Debian's source package: a step per source file, a library, two programs, three tests.
import { target, test } from "zako:build";

const FLAGS = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-DHAVE_UNISTD_H", "-DHAVE_HIDDEN", "-Izlib"];
const SOURCES = [
  "adler32", "compress", "crc32", "deflate", "gzclose", "gzlib", "gzread", "gzwrite",
  "infback", "inffast", "inflate", "inftrees", "trees", "uncompr", "zutil",
];

const compile = (name, source = `zlib/${name}.c`) =>
  target({ cmd: ["gcc", ...FLAGS, "-c", source, "-o", `${name}.o`], deps: [":fetch"], outs: [`${name}.o`] });
const link = (name) =>
  target({
    cmd: ["gcc", `${name}.o`, "libz.a", "-o", name],
    deps: [`:${name}.o`, ":libz"],
    outs: [name],
  });

export default {
  // The one step that needs the network; its script names the hash of what it accepts.
  fetch: target({ cmd: ["sh", "fetch.sh"], srcs: ["fetch.sh"], outs: ["zlib/"], network: true, timeout: 300 }),

  ...Object.fromEntries(SOURCES.map((name) => [name, compile(name)])),

  // Without -D, ar would write times and users into the archive, and an equal library would look new.
  libz: target({
    cmd: ["ar", "rcsD", "libz.a", ...SOURCES.map((name) => `${name}.o`)],
    deps: SOURCES.map((name) => `:${name}`),
    outs: ["libz.a"],
  }),

  "example.o": compile("example", "zlib/test/example.c"),
  "minigzip.o": compile("minigzip", "zlib/test/minigzip.c"),
  example: link("example"),
  minigzip: link("minigzip"),

  // zlib's own test, and a text that goes there and back, beside the gzip of the system.
  check: test({ cmd: ["./example", "check.gz"], deps: [":example"] }),
  there_and_back: test({
    cmd: ["sh", "-c", "./minigzip < fetch.sh > t.gz && ./minigzip -d < t.gz | cmp - fetch.sh"],
    srcs: ["fetch.sh"],
    deps: [":minigzip"],
  }),
  gzip_reads_it: test({
    cmd: ["sh", "-c", "./minigzip < fetch.sh | gzip -dc | cmp - fetch.sh"],
    srcs: ["fetch.sh"],
    deps: [":minigzip"],
  }),
};
