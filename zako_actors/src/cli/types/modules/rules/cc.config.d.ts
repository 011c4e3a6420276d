export const mode: Zako.Option<string>;
export const compiler: Zako.Option<string>;
