import rhea from 'rhea';

/** A JMS selector as the filter of a source (3.5.8). */
export function selectorFilter(selector: string): object {
  return rhea.filter.selector(selector);
}
