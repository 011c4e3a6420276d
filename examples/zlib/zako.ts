// The package root: which files are build files.
import { workspace } from "zako:package";

export default workspace({ builds: ["BUILD.ts"] });
