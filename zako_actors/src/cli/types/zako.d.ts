// Written by `zako types`. What build files are made of; see `zako build --help` for how steps run.

declare namespace Zako {
  /** A target of this workspace: `//path:name`, or `:name` in the same directory. */
  type Label = "$LABELS";

  /** Files that match, found when the target is planned. Made by `glob()`. */
  interface Glob {
    readonly $glob: { readonly include: readonly string[]; readonly exclude: readonly string[] };
  }

  /** A variable of the environment that zako was started in. Made by `env()`. */
  interface OuterVariable {
    readonly $env: string;
    readonly default?: string;
  }

  /** Something that can be exported from a build file. */
  interface Target {
    readonly $zako: string;
  }

  interface ExecutionContext {
    /** What kind of file is evaluated: `"build"`, `"rule"`, … */
    readonly context: string;
    /** What `zako.toml` says. */
    readonly package: {
      readonly group: string;
      readonly artifact: string;
      readonly version: string;
      /** Its `[config]`. */
      readonly config: { readonly [name: string]: boolean | number | string };
    };
  }

  interface Console {
    log(...parts: unknown[]): void;
    debug(...parts: unknown[]): void;
    info(...parts: unknown[]): void;
    warn(...parts: unknown[]): void;
    error(...parts: unknown[]): void;
    assert(condition?: unknown, ...parts: unknown[]): void;
  }

  /** A file beside the build file, or `glob()`. */
  type Source = string | Glob;

  interface Common {
    /** What it reads. Nothing else lies in its directory; with `--sandbox strict` nothing else is visible to it. */
    srcs?: Source | readonly Source[];
    /** Targets that are built before; their outputs are inputs. */
    deps?: readonly Label[];
  }

  interface CommandOptions extends Common {
    /** The program, then its arguments. */
    cmd: readonly [string, ...string[]];
    /** What it leaves behind: `file`, `directory/`, or a pattern. */
    outs?: readonly string[];
    /** Variables beyond PATH, LANG, HOME and TMPDIR; part of the key. */
    env?: { readonly [name: string]: string | OuterVariable };
    /** Killed after this many seconds (`90`, `"90s"`, `"2m"`). */
    timeout?: number | string;
    /** Whether a strict sandbox lets it use the network. */
    network?: boolean;
    /**
     * Has a process that stays do it, by Bazel's worker protocol (JSON, one object a line): `cmd` starts the
     * process, and these are the arguments of this target's request (`@FILE`: one a line from FILE). `true`
     * takes them from `@FILE` at the end of `cmd`. One process serves all packages, so it stands in the
     * workspace root and all its paths are from there.
     */
    worker?: boolean | readonly string[];
    /**
     * How many requests that process takes at a time (Bazel's multiplex workers: `requestId` says which one is answered);
     * they see each other's files, so only where all outputs are named: targets with globs among their `outs` are asked
     * one at a time. `cancel: true`: it gives up a request that is sent again with `cancel`, so that one
     * whose `timeout` is up costs the others nothing.
     */
    multiplex?: number | { readonly requests: number; readonly cancel?: boolean };
    /** What it takes of the machine: `{ cpu: 2, memory: "1g", gpu: 1 }`. */
    uses?: { readonly cpu?: number; readonly memory?: number | string; readonly [resource: string]: number | string | undefined };
  }

  interface TestOptions extends CommandOptions {
    /** How often it is tried again when it fails. */
    retries?: number;
    /**
     * In how many parts it runs, side by side, each cached by itself as `name~1`, `name~2`, …: `{shard}` (from 1)
     * and `{shards}` in `cmd` are replaced, TEST_SHARD_INDEX (from 0) and TEST_TOTAL_SHARDS set.
     */
    shards?: number;
  }

  interface TranspileOptions extends Common {
    /** The directory for the results. */
    out: string;
    /** Stripped from the path of each source. */
    root?: string;
    /** Only inputs that match are transpiled. */
    include?: readonly string[];
    /** `.cts` is CommonJS and `.mts` an ES module whatever this is. */
    module?: "esm" | "commonjs";
    /** `"es2022"`, `"esnext"`, `"node20"`, … */
    target?: string;
    sourceMaps?: boolean;
    /** Writes .d.ts; exports then need explicit types (isolatedDeclarations). */
    declarations?: boolean;
    jsx?: "automatic" | "classic" | "preserve";
    jsxImportSource?: string;
    /**
     * `"legacy"`: those of TypeScript's `experimentalDecorators`. `"preserve"`: left in the output. Without it a file with
     * decorators is a mistake, unless the target is `"esnext"`: standard ones cannot be lowered.
     */
    decorators?: "legacy" | "legacyWithMetadata" | "preserve";
    useDefineForClassFields?: boolean;
    verbatimModuleSyntax?: boolean;
  }

  interface WorkspaceOptions {
    /** Which files are build files. */
    builds?: readonly string[];
    /** Variables of every step. */
    env?: { readonly [name: string]: string | OuterVariable };
    /** Targets of the root directory. */
    targets?: { readonly [name: string]: Target };
  }
}

/** What the engine says about this evaluation: the context and the package. */
declare const executionContext: Zako.ExecutionContext;

declare function queueMicrotask(callback: () => void): void;

declare const console: Zako.Console;
