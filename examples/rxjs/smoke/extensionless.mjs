// Module hooks for Node.js: RxJS's sources import "./internal/x" as bundlers read it, without the
// ".js" that Node.js wants; and its ES modules lie in a directory without a package.json.
export async function resolve(specifier, context, next) {
  const isBare = specifier.startsWith(".") && !/\.(m?js|cjs)$/.test(specifier);
  return next(isBare ? `${specifier}.js` : specifier, context);
}

export async function load(url, context, next) {
  return next(url, url.includes("/dist/esm/") ? { ...context, format: "module" } : context);
}
