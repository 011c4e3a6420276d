// A module hook for Node.js: the ES modules lie in a directory without a package.json that would
// call them so.
export async function load(url, context, next) {
  return next(url, url.includes("/dist/esm/") ? { ...context, format: "module" } : context);
}
