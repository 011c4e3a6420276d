export const console: Zako.Console;
export default console;
