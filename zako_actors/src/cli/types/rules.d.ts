// Written by `zako types`. What rules, toolchains and options are made of.

declare namespace Zako {
  /** A path of the workspace and who writes it. As text it is its path from the workspace root. */
  interface File {
    readonly path: string;
    /** Its last segment. */
    readonly name: string;
    /** The name without its extension. */
    readonly stem: string;
    /** With the dot; empty when there is none. */
    readonly extension: string;
    /** The path without the name; `"."` at the root. */
    readonly directory: string;
    readonly isDirectory: boolean;
    /** A file of this directory. */
    at(path: string): File;
    toString(): string;
  }

  /** A program of this machine; its content is part of the key of every action that uses it. */
  interface Tool {
    readonly path: string;
    readonly digest: string;
    toString(): string;
  }

  /** A step that a rule described; as an input, all that it writes. */
  interface Action {
    readonly outs: readonly File[];
    /** The first of them. */
    readonly out: File;
  }

  /** A target among the attributes. */
  interface Dependency {
    readonly label: string;
    readonly files: readonly File[];
    /** What its rule passed on. */
    get<T>(provider: Provider<T>): T | undefined;
  }

  /** A kind of value that rules pass on to those who depend on them. */
  interface Provider<T> {
    (value: T): ProviderValue;
    readonly $provider: string;
    /** Only a type. */
    readonly value?: T;
  }

  interface ProviderValue {
    readonly $provider: string;
  }

  /** Files in a build file; labels mean what these targets write. */
  type Sources = Source | Label | readonly (Source | Label)[];
  type Labels = Label | readonly Label[];

  type Files = File | Action | Dependency | readonly Files[];
  type Word = string | number | File | Tool | Action | readonly Word[];

  interface AttributeOptions<T> {
    help?: string;
    default?: T;
  }

  /** The type of an attribute: `Written` in build files, `Read` by the implementation. */
  interface Attribute<Written, Read, Required extends boolean> {
    readonly type: string;
    /** Only types. */
    readonly written?: Written;
    readonly read?: Read;
    readonly needed?: Required;
  }

  /** An attribute that an implementation finds set when it is required or has a default. */
  interface Maker<Written, Read, More = {}> {
    (options: AttributeOptions<Written> & { required: true } & More): Attribute<Written, Read, true>;
    (options: AttributeOptions<Written> & { default: Written } & More): Attribute<Written, Read, false>;
    (options?: AttributeOptions<Written> & More): Attribute<Written, Read | undefined, false>;
  }

  /** An attribute that is empty when nothing is written. */
  interface EmptyMaker<Written, Read, More = {}> {
    (options: AttributeOptions<Written> & { required: true } & More): Attribute<Written, Read, true>;
    (options?: AttributeOptions<Written> & More): Attribute<Written, Read, false>;
  }

  interface Attributes {
    string: Maker<string, string>;
    strings: EmptyMaker<string | readonly string[], readonly string[]>;
    boolean: EmptyMaker<boolean, boolean>;
    number: Maker<number, number>;
    oneOf<const T extends string | number>(values: readonly T[], options: AttributeOptions<T> & ({ required: true } | { default: T })): Attribute<T, T, false>;
    oneOf<const T extends string | number>(values: readonly T[], options?: AttributeOptions<T>): Attribute<T, T | undefined, false>;
    /** A path below the package. */
    path: Maker<string, string>;
    /** Variables of the environment. */
    env: EmptyMaker<{ readonly [name: string]: string | OuterVariable }, { readonly [name: string]: string | OuterVariable }>;
    /** One file, or the one file of a target. */
    source: Maker<Source | Label, File>;
    /** Files; labels among them mean what these targets write. */
    sources: EmptyMaker<Sources, readonly File[]>;
    dep: Maker<Label, Dependency, { provides?: readonly Provider<any>[] }>;
    deps: EmptyMaker<Labels, readonly Dependency[], { provides?: readonly Provider<any>[] }>;
  }

  type AttributeSet = { readonly [name: string]: Attribute<any, any, boolean> };
  type WrittenBy<A extends AttributeSet> =
    & { [K in keyof A as A[K] extends Attribute<any, any, true> ? K : never]: A[K] extends Attribute<infer W, any, boolean> ? W : never }
    & { [K in keyof A as A[K] extends Attribute<any, any, true> ? never : K]?: A[K] extends Attribute<infer W, any, boolean> ? W : never };
  type ReadFrom<A extends AttributeSet> = { readonly [K in keyof A]: A[K] extends Attribute<any, infer R, boolean> ? R : never };

  /** An option of the build: `--set name=value`, or `[config]` of zako.toml. */
  interface Option<T> {
    readonly $config: string;
    /** Only a type. */
    readonly value?: T;
  }

  /** A choice of tools. */
  interface Toolchain<T> {
    readonly $toolchain: string;
    /** Only a type. */
    readonly value?: T;
  }

  type OptionSet = { readonly [name: string]: Option<any> | string };
  type OptionValues<C extends OptionSet> = { readonly [K in keyof C]: C[K] extends Option<infer T> ? T : unknown };
  type ToolchainSet = { readonly [name: string]: Toolchain<any> };
  type ToolchainValues<T extends ToolchainSet> = { readonly [K in keyof T]: T[K] extends Toolchain<infer V> ? V : never };

  interface RunOptions {
    /** The program, then its arguments. Files among them are inputs, tools part of the key. */
    cmd: readonly [Word, ...Word[]];
    /** What it reads beside the files in `cmd`. */
    inputs?: Files;
    /** What it writes: files made by `ctx.file()`, or paths below the package (`dir/` for a directory). */
    outs?: readonly (File | string)[];
    env?: { readonly [name: string]: string | OuterVariable };
    /** Tools beside those in `cmd`. */
    tools?: readonly Tool[];
    /** Where it writes which inputs it read, as `cc -MD -MF` does: the rest does not cause a rebuild. */
    depfile?: File | string;
    /** The directory that it runs in, from the workspace root, which is the default. */
    dir?: string;
    network?: boolean;
    uses?: CommandOptions["uses"];
    timeout?: number | string;
    /**
     * Has a process that stays do it, by Bazel's worker protocol (JSON, one object a line): `cmd` starts the process,
     * and these are the arguments of this step's request.
     */
    worker?: readonly Word[];
    /** How many requests that process takes at a time. */
    multiplex?: CommandOptions["multiplex"];
  }

  interface RuleContext<A extends AttributeSet = any, C extends OptionSet = any, T extends ToolchainSet = any> {
    readonly label: { readonly dir: string; readonly name: string; readonly text: string; toString(): string };
    readonly attrs: ReadFrom<A>;
    readonly config: OptionValues<C>;
    readonly toolchains: ToolchainValues<T>;
    /** Names a file that an action of this target writes. */
    file(path: string): File;
    /** Names a directory that an action of this target writes. */
    directory(path: string): File;
    /** Describes a step that runs a program. It can be used at once: nothing runs yet. */
    run(options: RunOptions): Action;
    /** The step that makes the target a test. */
    test(options: Omit<RunOptions, "outs"> & { retries?: number }): Action;
    /** TypeScript to JavaScript, in process; `root` is a path from the workspace root. */
    transpile(options: {
      srcs: Files;
      out: File;
      root?: string;
      declarations?: boolean;
    } & Pick<TranspileOptions, "module" | "target" | "sourceMaps" | "jsx" | "jsxImportSource" | "decorators" | "useDefineForClassFields" | "verbatimModuleSyntax">): Action;
    /** A small file with this text. */
    write(path: string | File, text: string): File;
    /** The text of a file, also of one that has to be built first: what follows is known only then. */
    read(file: File | Action): Promise<string>;
    /** Waits for all. */
    all<const P extends readonly unknown[]>(promises: P): Promise<{ -readonly [K in keyof P]: Awaited<P[K]> }>;
    /** Ends with a mistake that is told at the target. */
    fail(message: string, help?: string): never;
  }

  interface RuleOptions<A extends AttributeSet, C extends OptionSet, T extends ToolchainSet> {
    /** What `zako query` calls its targets. */
    name: string;
    help?: string;
    attrs?: A;
    config?: C;
    toolchains?: T;
    /** Whether its targets are tests: they have to call `ctx.test()`. */
    test?: boolean;
    /** Describes the actions of one target. */
    implementation(ctx: RuleContext<A, C, T>): RuleResult | void | Promise<RuleResult | void>;
  }

  interface RuleResult {
    /** What dependants read; by default what the last action writes. */
    files?: Files;
    provides?: readonly ProviderValue[];
  }

  interface SystemContext<C extends OptionSet = {}> {
    readonly platform: { readonly os: string; readonly arch: string };
    readonly config: OptionValues<C>;
    /** A variable of the environment that zako was started in. */
    env(name: string): Promise<string | undefined>;
    /** The first of these programs that is on PATH. */
    which(...names: string[]): Promise<Tool | undefined>;
    /** What a program prints; asked again when the program changes. */
    output(tool: Tool, ...args: (string | number)[]): Promise<string>;
    all<const P extends readonly unknown[]>(promises: P): Promise<{ -readonly [K in keyof P]: Awaited<P[K]> }>;
    fail(message: string, help?: string): never;
  }

  type Widened<T> = T extends string ? string : T extends number ? number : T extends boolean ? boolean : never;
}
