// Entry point of the embedded modules. The import order matters: `host.js` first.
import "ext:zako/host.js";
import "zako:internal/check";
import "zako:semver";
import "zako:console";
import "zako:core";
import "zako:rt";
import "zako:global";
import "zako:internal/targets";
import { collect, invoke } from "zako:internal/rules";
import "zako:build";
import "zako:package";
import { console } from "zako:console";
import { lockdown } from "ext:zako/lockdown.js";

// Called once by the isolate, as the last step before user code; removes itself. Returns what the
// isolate reads and calls: the log, the target being described, and the way into rules.
const host = globalThis.__zakoHost;
globalThis.__zakoStart = (context, executionContext) => {
  delete globalThis.__zakoHost;
  delete globalThis.__zakoStart;
  host.context = context;
  // The embedded modules take some frames before those that a reader wants to see.
  Error.stackTraceLimit = Math.max(Error.stackTraceLimit, 60);
  lockdown({ console, executionContext });
  return Object.assign(host, { invoke, collect });
};
