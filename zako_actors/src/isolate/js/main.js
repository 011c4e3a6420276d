// Entry point of the embedded modules. The import order matters: `host.js` first.
import "ext:zako/host.js";
import * as harden from "zako:internal/harden";
import * as check from "zako:internal/check";
import * as semver from "zako:semver";
import * as consoleModule from "zako:console";
import * as core from "zako:core";
import * as rt from "zako:rt";
import * as global from "zako:global";
import * as targets from "zako:internal/targets";
import * as files from "zako:internal/files";
import * as attributes from "zako:internal/attributes";
import * as context from "zako:internal/context";
import * as rules from "zako:internal/rules";
import * as build from "zako:build";
import * as packageModule from "zako:package";
import { restrict, start } from "ext:zako/lockdown.js";

const modules = [
  harden, check, semver, consoleModule, core, rt, global, targets, files, attributes, context, rules, build,
  packageModule,
];

// Once for all evaluations, as part of the snapshot where there is one.
restrict();
// What every evaluation calls, or most do, has run once, and so is compiled.
globalThis.__zakoHost.reset();
Array.from(["true"], (word) => [word].map((cmd) => packageModule.target({ cmd: [cmd] })));

// Called once by the isolate, as the last step before user code; removes itself. Returns what the
// isolate reads and calls: the log, the target being described, and the way into rules. In parentheses, as is what it
// calls: see `lockdown.js`.
const host = globalThis.__zakoHost;
globalThis.__zakoStart = (function (context, executionContext) {
  delete globalThis.__zakoHost;
  delete globalThis.__zakoStart;
  host.context = context;
  start({ console: consoleModule.console, executionContext });
  return Object.assign(host, {
    invoke: rules.invoke,
    collect: rules.collect,
    freeze: () => harden.freezeSettled(modules),
  });
});
