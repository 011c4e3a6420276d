// Fetches packages from the npm registry into `sources/`: their TypeScript sources, and the distributions
// of those that the smoke test compares. Nothing is accepted but the bytes named here.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";

const SOURCES = ["package/package.json", "package/LICENSE", "package/src"];
const PACKAGES = {
  effect: {
    name: "effect@4.1.0",
    sha512: "lGx2MJJyrXA8RZb2UpQ/0Nkb5Utaimby7oD92+18noBxLPE85IFOvptdzau8dvcxAOwfwHo9iqapbKeFzqQM/Q==",
    wanted: [...SOURCES, "package/dist"],
  },
  zod: {
    name: "zod@4.6.7",
    sha512: "g8W2D2kU6a8untc053fX1uVBKzM7yqAxW/3zwk83+6RyF2+SKOuV+c0wBDhUwzV1PaGapmZH+rmcUzPf+3CGwg==",
    wanted: ["package"],
  },
  platform: {
    name: "@effect/platform@0.97.2",
    sha512: "fof9J+pId374/b1WAt0P1H8QmvulzpHTjS6SUHiG20U/sFjkBUS5vGMy1/XfdTAVKX1IY+Z87dFhi/RFDfgBPQ==",
    wanted: SOURCES,
  },
  cli: {
    name: "@effect/cli@0.77.2",
    sha512: "1I6rvAtsyATAFF5nBGeou2qKIkIr3WFEoHNd2+UH8inREblwCLKJb7o3EdbMcG5w3212ZanFVOA2/3KHL22NbQ==",
    wanted: SOURCES,
  },
  experimental: {
    name: "@effect/experimental@0.61.1",
    sha512: "+P+PgGQeE2fXmsm63YoyENNcQIc7OiCkY4/HLkEdTvq93syfGIpwDfQD8u3xODMHJhZ5ZtRZHH4+UedFO0tLiA==",
    wanted: SOURCES,
  },
};

// A step's environment is clean, HOME included. npm still has to know the registry that this
// machine uses: the system names the user's real home, where npm keeps its configuration.
const environment = { ...process.env };
const configuration = join(userInfo().homedir, ".npmrc");
if (existsSync(configuration)) environment.npm_config_userconfig = configuration;

for (const [directory, { name, sha512, wanted }] of Object.entries(PACKAGES)) {
  const download = mkdtempSync(join(tmpdir(), "fetch-"));
  environment.npm_config_cache = join(download, "cache");
  execFileSync("npm", ["pack", name, "--silent", "--pack-destination", download], {
    env: environment,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const archive = join(download, readdirSync(download).find((file) => file.endsWith(".tgz")));
  const found = createHash("sha512").update(readFileSync(archive)).digest("base64");
  if (found !== sha512) {
    console.error(`${name} from the registry is not the package that this build knows:`);
    console.error(`  expected sha512 ${sha512}\n  found    sha512 ${found}`);
    process.exit(1);
  }
  const into = join("sources", directory);
  mkdirSync(into, { recursive: true });
  const how = ["--no-same-owner", "-C", into, "--strip-components=1"];
  execFileSync("tar", ["-xzf", archive, ...how, ...wanted], { stdio: "inherit" });
  rmSync(download, { recursive: true });
}
