// Fetches the RxJS package from the npm registry into `package/`: its TypeScript sources, and its
// own CommonJS distribution to compare with. Nothing is accepted but the bytes named here.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";

const PACKAGE = "rxjs@7.8.2";
const SHA512 =
  "dhKf903U/PQZY6boNNtAGdWbG85WAbjT/1xYoZIC7FAY0yWapOBQVsVrDl58W86//e1VpMNBtRV4MaXfdMySFA==";
const WANTED = ["package/package.json", "package/LICENSE.txt", "package/src", "package/dist/cjs"];

// A step's environment is clean, HOME included. npm still has to know the registry that this
// machine uses: the system names the user's real home, where npm keeps its configuration.
const environment = { ...process.env };
const configuration = join(userInfo().homedir, ".npmrc");
if (existsSync(configuration)) environment.npm_config_userconfig = configuration;

const download = mkdtempSync(join(tmpdir(), "rxjs-"));
environment.npm_config_cache = join(download, "cache");
execFileSync("npm", ["pack", PACKAGE, "--silent", "--pack-destination", download], {
  env: environment,
  stdio: ["ignore", "ignore", "inherit"],
});

const archive = join(download, readdirSync(download).find((name) => name.endsWith(".tgz")));
const found = createHash("sha512").update(readFileSync(archive)).digest("base64");
if (found !== SHA512) {
  console.error(`${PACKAGE} from the registry is not the package that this build knows:`);
  console.error(`  expected sha512 ${SHA512}\n  found    sha512 ${found}`);
  process.exit(1);
}

execFileSync("tar", ["-xzf", archive, "--no-same-owner", ...WANTED], { stdio: "inherit" });
rmSync(download, { recursive: true });
