// What both have to agree on. Every program returns what can be written as JSON.

/** Schemas that accept, refuse and transform. */
export function zod(z) {
  const user = z.object({
    name: z.string().min(2),
    mail: z.email(),
    age: z.coerce.number().int().positive().optional(),
    tags: z.array(z.enum(["a", "b"])).default([]),
  });
  const shape = z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("circle"), radius: z.number() }),
    z.object({ kind: z.literal("square"), side: z.number().transform((side) => side * side) }),
  ]);
  const inputs = [
    [user, { name: "Ada", mail: "ada@example.org", age: "36" }],
    [user, { name: "A", mail: "nowhere", tags: ["c"] }],
    [shape, { kind: "square", side: 3 }],
    [shape, { kind: "triangle" }],
    [z.map(z.string(), z.bigint()), new Map([["one", 1]])],
    [z.iso.datetime(), "2020-01-01T00:00:00Z"],
    [z.tuple([z.string(), z.number()]).rest(z.boolean()), ["x", 1, true, "no"]],
  ];
  return inputs.map(([schema, input]) => {
    const result = schema.safeParse(input);
    return result.success ? result.data : z.treeifyError(result.error);
  });
}

/** Effects that succeed, fail, are interrupted and run side by side. */
export async function effect({ Effect, Option, Chunk, Stream, Duration }) {
  const told = [];
  const say = (text) => Effect.sync(() => told.push(text));
  const divide = (a, b) => (b === 0 ? Effect.fail("division by zero") : Effect.succeed(a / b));
  const program = Effect.gen(function* () {
    const half = yield* divide(1, 2);
    const caught = yield* divide(1, 0).pipe(Effect.catch((error) => Effect.succeed(`caught ${error}`)));
    const all = yield* Effect.all([1, 2, 3].map((n) => Effect.succeed(n * n)), { concurrency: 2 });
    const streamed = yield* Stream.range(1, 10).pipe(
      Stream.filter((n) => n % 3 === 0),
      Stream.map((n) => n * 10),
      Stream.runCollect,
    );
    yield* Effect.acquireUseRelease(say("acquire"), () => say("use"), () => say("release"));
    const late = yield* Effect.never.pipe(Effect.timeoutOption(Duration.millis(1)));
    return { half, caught, all, streamed: Array.from(streamed), late: Option.isNone(late) };
  });
  return { result: await Effect.runPromise(program), told, chunk: Chunk.toReadonlyArray(Chunk.make(1, 2)) };
}
