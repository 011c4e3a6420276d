import { glob } from "zako:build";
import { pages } from "../tools/pages.rule.ts";

export default {
  site: pages({ srcs: glob("pages/*.txt") }),
};
