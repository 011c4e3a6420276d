export type File = Zako.File;
export type Tool = Zako.Tool;
export type Action = Zako.Action;
export type Dependency = Zako.Dependency;
export type RuleContext<A extends Zako.AttributeSet = any, C extends Zako.OptionSet = any, T extends Zako.ToolchainSet = any> = Zako.RuleContext<A, C, T>;
/** Types of attributes. */
export const attr: Zako.Attributes;
/** A value that a rule passes on; each file may define several, by name. */
export function provider<T>(name: string): Zako.Provider<T>;
/** A new kind of target. Call the result in a build file. */
export function rule<A extends Zako.AttributeSet = {}, C extends Zako.OptionSet = {}, T extends Zako.ToolchainSet = {}>(
  options: Zako.RuleOptions<A, C, T>,
): (attributes: Zako.WrittenBy<A>) => Zako.Target;
