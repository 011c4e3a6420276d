export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  readonly prerelease: readonly string[];
}
export function parse(text: string): Version;
export function coerce(text: string): string | null;
export function compare(left: string | Version, right: string | Version): number;
export function satisfies(version: string | Version, range: string): boolean;
