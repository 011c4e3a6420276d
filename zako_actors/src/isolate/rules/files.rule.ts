// File groups, copies and archives.
import { attr, type File, rule } from "zako:rule";

/** Files under one name: what depends on the group reads all of them. */
export const fileGroup = rule({
  name: "file_group",
  attrs: {
    srcs: attr.sources(),
    deps: attr.deps({ help: "targets whose files belong to the group" }),
  },
  implementation(ctx) {
    return { files: [...ctx.attrs.srcs, ...ctx.attrs.deps.flatMap((dep) => dep.files)] };
  },
});

const COPY = 'while [ $# -gt 0 ]; do mkdir -p "$(dirname "$2")" && cp -RL "$1" "$2" || exit; shift 2; done';

/** Copies into a directory of this package; what is stripped from the front is `root`. */
export const copy = rule({
  name: "copy",
  attrs: {
    srcs: attr.sources({ required: true }),
    to: attr.path({ required: true, help: "the directory that receives the copies" }),
    root: attr.string({ help: "a directory from the workspace root; the package by default" }),
  },
  implementation(ctx) {
    const to = ctx.directory(ctx.attrs.to);
    const root = ctx.attrs.root ?? ctx.label.dir;
    const pairs = ctx.attrs.srcs.map((file) => {
      const below = within(file, root);
      if (below === undefined) throw ctx.fail(outside(file, root));
      return [file, `${to}/${below}`];
    });
    ctx.run({ cmd: ["sh", "-c", COPY, "copy", ...pairs], outs: [to] });
  },
});

const TAR = 'out=$PWD/$1; cd "$2" || exit; shift 3; tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=ustar -cf - "$@"';
const SCRIPTS = {
  ".tar": `${TAR} > "$out"`,
  ".gz": `${TAR} | gzip -n > "$out"`,
  ".tgz": `${TAR} | gzip -n > "$out"`,
  ".zip": 'out=$PWD/$1; cd "$2" || exit; shift 3; chmod -R u=rwX,go=rX "$@" && find "$@" -exec touch -h -d @315532800 {} + &&'
    + ' find "$@" -type f | LC_ALL=C sort | TZ=UTC zip -X -q "$out" -@',
};

/** A .tar, .tar.gz, .tgz or .zip whose bytes depend on names and contents only. */
export const archive = rule({
  name: "archive",
  attrs: {
    srcs: attr.sources({ required: true }),
    out: attr.path({ required: true, help: "its extension decides the format" }),
    root: attr.string({ help: "a directory from the workspace root; the package by default" }),
  },
  implementation(ctx) {
    const out = ctx.file(ctx.attrs.out);
    const script = SCRIPTS[out.extension as keyof typeof SCRIPTS];
    if (!script) throw ctx.fail(`${ctx.attrs.out}: an archive ends in .tar, .tar.gz, .tgz or .zip`);
    const root = ctx.attrs.root ?? ctx.label.dir;
    const names = ctx.attrs.srcs.map((file) => {
      const below = within(file, root);
      if (below === undefined) throw ctx.fail(outside(file, root));
      return below;
    });
    if (names.length === 0) ctx.fail("there is nothing to put into the archive");
    ctx.run({ cmd: ["sh", "-c", script, "archive", out, root || ".", "--", ...names.sort()], inputs: ctx.attrs.srcs, outs: [out] });
  },
});

function outside(file: File, root: string): string {
  return `${file} does not lie in \`root\`, which is ${root || "the workspace"}; root: "." takes paths from the workspace root`;
}

function within(file: File, root: string): string | undefined {
  if (root === "" || root === ".") return file.path;
  return file.path.startsWith(`${root}/`) ? file.path.slice(root.length + 1) : undefined;
}
