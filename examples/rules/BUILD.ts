import { archive, shellTest } from "zako:rules";

export default {
  release: archive({ srcs: ["//site", "//c:main", "//ts:lib"], out: "release.tar.gz" }),
  check: shellTest({
    script: 'tar -tzf release.tar.gz | grep -q site/out/actors.md && ! tar -tzf release.tar.gz | grep -q plans',
    deps: [":release"],
  }),
};
