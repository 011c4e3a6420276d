// Written by `zako types`. What the language has and scripts do not.

declare namespace Zako {
  /** There is none: `Why` says why. */
  interface Unavailable<Why extends string> {
    readonly "is not available": Why;
  }
}

interface Math {
  /** @deprecated A build must give the same result every time. */
  random(): Zako.Unavailable<"a build must give the same result every time">;
}

interface DateConstructor {
  /** @deprecated The time differs from one run to the next. */
  new (...given: any[]): Zako.Unavailable<"the time differs from one run to the next">;
  /** @deprecated The time differs from one run to the next. */
  (): Zako.Unavailable<"the time differs from one run to the next">;
  /** @deprecated The time differs from one run to the next. */
  now(): Zako.Unavailable<"the time differs from one run to the next">;
}

interface PromiseConstructor {
  /** @deprecated Its result depends on timing; use `Promise.all`, or await one after another. */
  race(promises: Iterable<unknown>): Zako.Unavailable<"its result depends on timing">;
}

interface SymbolConstructor {
  /** @deprecated Use `Symbol.for("name")` or a string. */
  (description?: string | number): Zako.Unavailable<"no other evaluation can make it again">;
}

interface String {
  /** @deprecated Its result depends on the machine's locale; compare with `<` and `>`. */
  localeCompare(that: string): Zako.Unavailable<"its result depends on the machine's locale">;
  /** @deprecated Its result depends on the machine's locale; use `toLowerCase()`. */
  toLocaleLowerCase(): Zako.Unavailable<"its result depends on the machine's locale">;
  /** @deprecated Its result depends on the machine's locale; use `toUpperCase()`. */
  toLocaleUpperCase(): Zako.Unavailable<"its result depends on the machine's locale">;
}

interface Number {
  /** @deprecated Its result depends on the machine's locale; use `toString()`. */
  toLocaleString(): Zako.Unavailable<"its result depends on the machine's locale">;
}
