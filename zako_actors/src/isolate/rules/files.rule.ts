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

// Names may begin like options. What lies in a directory is copied into one that is there already.
const COPY = 'while [ $# -gt 0 ]; do mkdir -p -- "${2%/*}" && cp -RLT -- "$1" "$2" || exit; shift 2; done';

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
    if (isTooMuch(pairs.flat())) throw ctx.fail(...TOO_MANY);
    ctx.run({ cmd: ["sh", "-c", COPY, "copy", ...pairs], outs: [to] });
  },
});

// What lies at and below the names, which begin with `./`, goes into a list: each of it once, in one order, whatever it is called.
const FIND = 'out=$PWD/$1; list=$TMPDIR/list; cd "./$2" && shift 2 && find "$@"';
const LIST = ' -print0 > "$list" && LC_ALL=C sort -zuo "$list" "$list" || exit; '
  + '[ -s "$list" ] || { echo "there is nothing to put into the archive" >&2; exit 1; }; ';
// The format of GNU has no limit on names, and nothing of who packs or when. (Of a pipe only the last command is known to have failed.)
const TAR = `${FIND} ! -name .${LIST}sed -z 's,^\\./,,' "$list" > "$list.2" && tar --null --no-unquote --verbatim-files-from --no-recursion`
  + " --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=gnu";
// Zip says that names are UTF-8 in the locale en_US.UTF-8 only, which few machines have; C.UTF-8 serves as well under that name.
// Where it does not, as an archive of one file tells, readers would see other names: those of ASCII only are archived then.
const UTF8 = `LC_ALL=C sed -zn '/[^\\x01-\\x7f]/{s,^\\./,,p;q}' "$list" > "$list.2" && export LOCPATH="$TMPDIR/locale" && `
  + 'mkdir "$LOCPATH" && ln -s /usr/lib/locale/C.utf8 "$LOCPATH/en_US.utf8" || exit; '
  + 'if [ -s "$list.2" ]; then (cd "$LOCPATH" && : > "\u00fc" && zip -X -q probe.zip "\u00fc") || exit; '
  + '[ "$(od -An -tx1 -j7 -N1 "$LOCPATH/probe.zip")" = " 08" ] || { '
  + 'printf "%s: the zip of this machine cannot say that this name is UTF-8; write a .tar archive, or install the locale C.UTF-8\\n" "$(tr -d "\\0" < "$list.2")" >&2; exit 1; }; fi; ';
const SCRIPTS = {
  ".tar": `${TAR} -cf - -T "$list.2" > "$out"`,
  ".gz": `${TAR} -I "gzip -n" -cf - -T "$list.2" > "$out"`,
  ".tgz": `${TAR} -I "gzip -n" -cf - -T "$list.2" > "$out"`,
  ".zip": `${FIND} ! -type l -exec chmod u=rwX,go=rX {} + && find "$@" -exec touch -h -d @315532800 {} +`
    + ` && find "$@" ! -type d${LIST}${UTF8}TZ=UTC xargs -0 -a "$list" zip -X -q -y -nw "$out"`,
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
      return `./${below}`;
    });
    if (names.length === 0) ctx.fail("there is nothing to put into the archive");
    if (isTooMuch(names)) throw ctx.fail(...TOO_MANY);
    ctx.run({ cmd: ["sh", "-c", script, "archive", out, root || ".", ...names.sort()], inputs: ctx.attrs.srcs, outs: [out] });
  },
});

// What Linux gives a command for its words, less some for its environment; each word takes a place of its own, too.
const ROOM_BYTES = 2_000_000;
const TOO_MANY = [
  "the names of its files are longer together than a command may be",
  "split the target into several; or name a directory that a step leaves, as which all it holds is one name",
] as const;

function isTooMuch(words: readonly (string | File)[]): boolean {
  return words.reduce((sum, word) => sum + (typeof word === "string" ? word : word.path).length + 9, 0) > ROOM_BYTES;
}

function outside(file: File, root: string): string {
  return `${file} does not lie in \`root\`, which is ${root || "the workspace"}; root: "." takes paths from the workspace root`;
}

// The path from `root`; empty for that directory itself, whose content is meant then.
function within(file: File, root: string): string | undefined {
  if (root === "" || root === ".") return file.path;
  const isBelow = file.path.startsWith(`${root}/`) || (file.isDirectory && file.path === root);
  return isBelow ? file.path.slice(root.length + 1) : undefined;
}
