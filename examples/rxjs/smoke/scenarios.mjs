// Programs that use RxJS as people do. Each takes one build of it and returns what it observed, as
// plain data; time is virtual, so that two runs observe the same.

/** What an observable emits until it ends, the end included. */
const record = (source) =>
  new Promise((done) => {
    const events = [];
    source.subscribe({
      next: (value) => events.push(value),
      error: (error) => done([...events, `error: ${error.message ?? error}`]),
      complete: () => done([...events, "complete"]),
    });
  });

/** Runs a marble test in virtual time and returns the frames that it saw. */
const marbles = ({ testing }, make) => {
  const seen = [];
  const scheduler = new testing.TestScheduler((actual) => seen.push(actual));
  scheduler.run((tools) => tools.expectObservable(make(tools)).toBe(""));
  return seen[0].map(({ frame, notification }) => [
    frame,
    notification.kind,
    notification.value ?? notification.error ?? null,
  ]);
};

const creation = {
  "of, from, range": ({ rx }) =>
    record(rx.concat(rx.of(1, 2), rx.from([3, 4]), rx.range(5, 3), rx.from(new Set(["x"])))),
  "from of a promise and an async generator": ({ rx }) => {
    async function* letters() {
      yield "a";
      yield "b";
    }
    return record(rx.concat(rx.from(Promise.resolve("p")), rx.from(letters())));
  },
  "defer and iif choose late": ({ rx }) => {
    let ready = false;
    const source = rx.iif(() => ready, rx.of("ready"), rx.of("not ready"));
    const late = rx.defer(() => source);
    ready = true;
    return record(late);
  },
  "generate and bindCallback": ({ rx }) => {
    const add = rx.bindCallback((a, b, done) => done(a + b));
    const powers = rx.generate({ initialState: 1, condition: (x) => x < 40, iterate: (x) => x * 3 });
    return record(rx.concat(powers, add(20, 22)));
  },
  "forkJoin of a dictionary": ({ rx }) => record(rx.forkJoin({ a: rx.of(1, 2), b: rx.range(0, 4) })),
  "partition and race": ({ rx }) => {
    const [even, odd] = rx.partition(rx.range(0, 6), (n) => n % 2 === 0);
    return record(rx.concat(even, rx.of("|"), odd, rx.race(rx.NEVER, rx.of("won"))));
  },
};

const transforming = {
  "map and filter": ({ rx }) =>
    record(rx.range(0, 10).pipe(rx.filter((n) => n % 3 === 0), rx.map((n, i) => [i, n * n]))),
  "mergeMap with a limit": (build) =>
    marbles(build, ({ cold, hot }) =>
      hot("abc------|").pipe(build.rx.mergeMap((x) => cold("1-2|").pipe(build.rx.map((n) => x + n)), 2)),
    ),
  "switchMap drops the older": (build) =>
    marbles(build, ({ cold, hot }) =>
      hot("a--b----|").pipe(build.rx.switchMap((x) => cold("12345|").pipe(build.rx.map((n) => x + n)))),
    ),
  "concatMap and exhaustMap": (build) =>
    marbles(build, ({ cold, hot }) => {
      const inner = (x) => cold("x-y|").pipe(build.rx.map((n) => x + n));
      const source = hot("ab---c---|").pipe(build.rx.share());
      return build.rx.merge(
        source.pipe(build.rx.concatMap(inner)),
        source.pipe(build.rx.exhaustMap(inner), build.rx.map((x) => x.toUpperCase())),
      );
    }),
  "scan, reduce, pairwise": ({ rx }) =>
    record(
      rx.concat(
        rx.range(1, 5).pipe(rx.scan((sum, n) => sum + n, 0)),
        rx.range(1, 5).pipe(rx.reduce((product, n) => product * n)),
        rx.range(1, 4).pipe(rx.pairwise()),
      ),
    ),
  "groupBy and toArray": ({ rx }) =>
    record(
      rx.from(["apple", "avocado", "beet", "cherry", "banana"]).pipe(
        rx.groupBy((word) => word[0]),
        rx.mergeMap((group) => group.pipe(rx.toArray(), rx.map((words) => [group.key, words]))),
      ),
    ),
  "expand with take": ({ rx }) =>
    record(rx.of(1).pipe(rx.expand((n) => rx.of(n * 2)), rx.take(8))),
  "buffer and window by count": ({ rx }) =>
    record(
      rx.concat(
        rx.range(0, 7).pipe(rx.bufferCount(3, 2)),
        rx.range(0, 5).pipe(rx.windowCount(2), rx.mergeMap((window) => window.pipe(rx.toArray()))),
      ),
    ),
  "distinct, distinctUntilChanged, dematerialize": ({ rx }) =>
    record(
      rx.of(1, 1, 2, 1, 3, 3).pipe(
        rx.distinctUntilChanged(),
        rx.materialize(),
        rx.dematerialize(),
        rx.distinct(),
      ),
    ),
};

const combining = {
  "combineLatest of arrays and dictionaries": ({ rx }) => {
    const a = new rx.BehaviorSubject(1);
    const b = new rx.Subject();
    const seen = [];
    rx.combineLatest({ a, b }).subscribe((both) => seen.push(both));
    rx.combineLatest([a, b], (x, y) => x * y).subscribe((product) => seen.push(product));
    b.next(10);
    a.next(2);
    b.next(20);
    return seen;
  },
  "zip, withLatestFrom, startWith, endWith": (build) =>
    marbles(build, ({ hot }) => {
      const { rx } = build;
      const left = hot("-a-b-c-|");
      const right = hot("--1-2--3|");
      return rx.merge(
        rx.zip(left, right).pipe(rx.map(([x, y]) => x + y)),
        left.pipe(rx.withLatestFrom(right), rx.map(([x, y]) => `${x}<${y}`), rx.startWith("go"), rx.endWith("end")),
      );
    }),
  "concatAll, mergeAll, switchAll, combineLatestAll": (build) =>
    marbles(build, ({ cold }) => {
      const { rx } = build;
      const sources = () => rx.of(cold("a-b|"), cold("c-d|"));
      return rx.concat(
        sources().pipe(rx.concatAll()),
        sources().pipe(rx.mergeAll(1)),
        sources().pipe(rx.switchAll()),
        sources().pipe(rx.combineLatestAll((x, y) => x + y)),
      );
    }),
};

const time = {
  "debounceTime in virtual time": (build) =>
    marbles(build, ({ hot }) => hot("a-bc---d----|").pipe(build.rx.debounceTime(3))),
  "throttleTime, auditTime, sampleTime": (build) =>
    marbles(build, ({ hot }) => {
      const { rx } = build;
      const source = hot("abcdefghij|").pipe(rx.share());
      return rx.merge(
        source.pipe(rx.throttleTime(4, undefined, { leading: true, trailing: true })),
        source.pipe(rx.auditTime(3), rx.map((x) => x.toUpperCase())),
        source.pipe(rx.sampleTime(5), rx.map((x) => `(${x})`)),
      );
    }),
  "delay, timer, interval, takeUntil": (build) =>
    marbles(build, ({ hot }) => {
      const { rx } = build;
      const stop = hot("----------x");
      return rx.merge(rx.interval(3), rx.timer(1, 4).pipe(rx.delay(2), rx.map((n) => -n))).pipe(rx.takeUntil(stop));
    }),
  "timeout with a fallback": (build) =>
    marbles(build, ({ cold, hot }) =>
      hot("a-b----------c|").pipe(build.rx.timeout({ each: 5, with: () => cold("z|") })),
    ),
  "the virtual time scheduler by hand": ({ rx }) => {
    const scheduler = new rx.VirtualTimeScheduler();
    const seen = [];
    rx.of("late").pipe(rx.delay(50, scheduler)).subscribe((x) => seen.push([scheduler.frame, x]));
    rx.of("soon").pipe(rx.delay(10, scheduler)).subscribe((x) => seen.push([scheduler.frame, x]));
    scheduler.schedule(function again(n) {
      seen.push([scheduler.frame, n]);
      if (n > 0) this.schedule(n - 1, 20);
    }, 5, 2);
    scheduler.flush();
    return seen;
  },
  "schedulers keep their order": async ({ rx }) => {
    const seen = [];
    rx.asyncScheduler.schedule(() => seen.push("async"));
    rx.asapScheduler.schedule(() => seen.push("asap"));
    rx.queueScheduler.schedule(() => {
      rx.queueScheduler.schedule(() => seen.push("queued inside"));
      seen.push("queue");
    });
    await rx.lastValueFrom(rx.timer(5));
    return seen;
  },
};

const errors = {
  "retry with a count": ({ rx }) => {
    let tries = 0;
    const flaky = rx.defer(() => (++tries < 3 ? rx.throwError(() => new Error(`try ${tries}`)) : rx.of(tries)));
    return record(flaky.pipe(rx.retry(5)));
  },
  "retry with a delay": (build) =>
    marbles(build, ({ cold }) => cold("a-#").pipe(build.rx.retry({ count: 2, delay: 4 }))),
  "repeat and repeatWhen": (build) =>
    marbles(build, ({ cold }) => cold("a|").pipe(build.rx.repeat({ count: 3, delay: 2 }))),
  "catchError, finalize, throwIfEmpty": async ({ rx }) => {
    const seen = [];
    const broken = rx.throwError(() => new RangeError("broken"));
    const caught = broken.pipe(
      rx.catchError((error, again) => rx.of(error instanceof RangeError, typeof again.subscribe)),
      rx.finalize(() => seen.push("finalized")),
    );
    seen.push(await record(caught), await record(rx.EMPTY.pipe(rx.throwIfEmpty())));
    return seen;
  },
  "errors have their classes": async ({ rx }) => {
    const kinds = [];
    await rx.firstValueFrom(rx.EMPTY).catch((error) => kinds.push([error.name, error instanceof rx.EmptyError]));
    rx.range(0, 2).pipe(rx.single()).subscribe({
      error: (error) => kinds.push([error.name, error.message, error instanceof rx.SequenceError]),
    });
    rx.range(0, 2).pipe(rx.elementAt(9)).subscribe({
      error: (error) => kinds.push([error.name, error instanceof rx.ArgumentOutOfRangeError]),
    });
    const closed = new rx.Subject();
    closed.unsubscribe();
    try {
      closed.next(1);
    } catch (error) {
      kinds.push([error.name, error instanceof rx.ObjectUnsubscribedError, error instanceof Error]);
    }
    return kinds;
  },
  "errors of a teardown are gathered": ({ rx }) => {
    const subscription = new rx.Subscription(() => {
      throw new Error("first");
    });
    subscription.add(() => {
      throw new Error("second");
    });
    try {
      subscription.unsubscribe();
    } catch (error) {
      return [error.name, error.errors.map((each) => each.message), subscription.closed];
    }
    return "nothing was thrown";
  },
};

const sharing = {
  "kinds of Subject": ({ rx }) => {
    const seen = [];
    const kinds = {
      plain: new rx.Subject(),
      behavior: new rx.BehaviorSubject(0),
      replay: new rx.ReplaySubject(2),
      async: new rx.AsyncSubject(),
    };
    for (const [name, subject] of Object.entries(kinds)) {
      subject.next(1);
      subject.next(2);
      subject.next(3);
      subject.subscribe({
        next: (value) => seen.push([name, value]),
        complete: () => seen.push([name, "complete"]),
      });
      subject.next(4);
      subject.complete();
    }
    seen.push(kinds.behavior.value, kinds.plain.observed, kinds.replay instanceof rx.Observable);
    return seen;
  },
  "share and shareReplay subscribe once": async ({ rx }) => {
    let subscriptions = 0;
    const source = new rx.Observable((subscriber) => {
      subscriptions += 1;
      Promise.resolve().then(() => {
        subscriber.next(subscriptions);
        subscriber.complete();
      });
    });
    const shared = source.pipe(rx.share());
    const both = await Promise.all([record(shared), record(shared)]);
    const replayed = source.pipe(rx.shareReplay(1));
    return [both, await record(replayed), await record(replayed), subscriptions];
  },
  "connectable and refCount": ({ rx }) => {
    const seen = [];
    const source = rx.connectable(rx.of(1, 2), { connector: () => new rx.Subject(), resetOnDisconnect: false });
    source.subscribe((value) => seen.push(["a", value]));
    source.subscribe((value) => seen.push(["b", value]));
    seen.push("connect");
    source.connect();
    return seen;
  },
};

const endings = {
  "firstValueFrom and lastValueFrom": async ({ rx }) => [
    await rx.firstValueFrom(rx.range(5, 3)),
    await rx.lastValueFrom(rx.range(5, 3)),
    await rx.lastValueFrom(rx.EMPTY, { defaultValue: "none" }),
  ],
  "unsubscribing stops the producer": ({ rx }) => {
    const seen = [];
    const source = new rx.Observable((subscriber) => {
      for (let n = 0; !subscriber.closed && n < 100; n += 1) {
        seen.push(n);
        subscriber.next(n);
      }
      return () => seen.push("teardown");
    });
    source.pipe(rx.takeWhile((n) => n < 3, true)).subscribe();
    return seen;
  },
  "a class of one's own extends Observable": ({ rx }) => {
    class Doubled extends rx.Observable {
      constructor(inner) {
        super((subscriber) => inner.subscribe({ ...subscriber, next: (n) => subscriber.next(2 * n) }));
      }
    }
    const operator = rx.pipe(rx.skip(1), rx.tap({ next: () => {} }), rx.map((n) => n + 1));
    return record(operator(new Doubled(rx.of(1, 2, 3))).pipe(rx.timeout(1000), rx.take(2)));
  },
  "a test scheduler asserts": ({ testing }) => {
    const verdicts = [];
    const scheduler = new testing.TestScheduler((actual, expected) =>
      verdicts.push(JSON.stringify(actual) === JSON.stringify(expected)),
    );
    scheduler.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold("-a-b-|");
      expectObservable(source, "--^--!").toBe("---a-");
      expectObservable(source).toBe("-a-b-|");
      expectObservable(source).toBe("-a---|");
      expectSubscriptions(source.subscriptions).toBe(["^----!", "^----!", "--^--!"]);
    });
    return verdicts;
  },
};

export const scenarios = {
  ...creation,
  ...transforming,
  ...combining,
  ...time,
  ...errors,
  ...sharing,
  ...endings,
};
