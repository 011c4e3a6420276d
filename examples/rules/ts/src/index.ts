export interface Page {
  readonly title: string;
}

/** The pages by title. */
export function byTitle(pages: readonly Page[]): Page[] {
  return [...pages].sort((a, b) => (a.title < b.title ? -1 : 1));
}
