import { glob } from "zako:build";
import { tsLibrary } from "zako:rules/typescript";

export default {
  lib: tsLibrary({ srcs: glob("src/**"), declarations: true }),
};
