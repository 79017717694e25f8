/**
 * The p-quantile of numbers in ascending order, between the two nearest of them in proportion: of n numbers, the one
 * at position p·(n − 1), counted from 0 (definition 7 of Hyndman and Fan, as Arquero's op.quantile, numpy and R have it).
 * NaN of no numbers.
 */
export function quantileSorted(ascending: ArrayLike<number>, p: number): number {
  const n = ascending.length;
  if (n === 0) return NaN;
  const at = p * (n - 1), low = Math.floor(at), rest = at - low;
  return rest === 0 ? ascending[low] : ascending[low] + rest * (ascending[low + 1] - ascending[low]);
}

export interface Spread { n: number; total: number; p50: number | null; p90: number | null; p99: number | null }

/** Count, sum and percentiles of some numbers; percentiles are null where there are none. */
export function spread(values: number[]): Spread {
  const ascending = Float64Array.from(values).sort();
  let total = 0;
  for (const x of ascending) total += x;
  const at = (p: number): number | null => (ascending.length === 0 ? null : quantileSorted(ascending, p));
  return { n: ascending.length, total, p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}
