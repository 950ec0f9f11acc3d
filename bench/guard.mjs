import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** How much worse a ratio may be before it is a finding. Where other work goes on, single rounds scatter by more: run it again before you believe it. */
const TOLERANCE = 1.15;
const BASES = ['nginx', 'http-proxy'];

const fileIn = (folder) => join(folder, 'ratios.json');
const major = () => process.versions.node.split('.')[0];

function read(folder) {
  return existsSync(fileIn(folder)) ? JSON.parse(readFileSync(fileIn(folder), 'utf8')) : {};
}

/** CPU of the sidecar by that of each base, for every scenario that has both. */
export function ratiosOf({ scenarios }) {
  const cost = (rows, name) => rows.find((row) => row.name === name)?.figures.cpu;
  const measured = Object.entries(scenarios).filter(([, { kind }]) => ['requests', 'handshakes'].includes(kind));
  return Object.fromEntries(
    measured.map(([name, { rows }]) => {
      const ratios = BASES.filter((base) => cost(rows, base) !== undefined).map((base) => [
        base,
        Number((cost(rows, 'sidecar') / cost(rows, base)).toFixed(3)),
      ]);
      return [name, Object.fromEntries(ratios)];
    }),
  );
}

/** Writes down what later runs are compared with, under this major of Node: they differ much in what they cost. */
export function recordRatios(result, folder) {
  const all = { ...read(folder), [major()]: { at: result.at, ratios: ratiosOf(result) } };
  writeFileSync(fileIn(folder), `${JSON.stringify(all, null, 2)}\n`);
}

/**
 * @param committed ratios by scenario and base
 * @param measured the same, of this run
 * @returns {object[]} { scenario, base, before, now, worse }; nginx is the base where both have it
 */
export function compare(committed, measured) {
  return Object.entries(measured).flatMap(([scenario, ratios]) => {
    const base = BASES.find((name) => ratios[name] !== undefined && committed[scenario]?.[name] !== undefined);
    if (base === undefined) return [];
    const [before, now] = [committed[scenario][base], ratios[base]];
    return [{ scenario, base, before, now, worse: now > before * TOLERANCE }];
  });
}

/** @returns 0 when nothing is more than 15 % worse than what was committed, else 1 */
export function guard(result, folder, out) {
  const committed = read(folder)[major()];
  const compared = committed === undefined ? [] : compare(committed.ratios, ratiosOf(result));
  if (compared.length === 0) {
    out.error(
      `nothing to compare with: bench/results/ratios.json has no ratios of Node ${major()} for these scenarios`,
    );
    return 1;
  }
  for (const { scenario, base, before, now, worse } of compared) {
    out.log(`${worse ? 'WORSE' : 'good '} ${scenario}: ${now.toFixed(2)} × ${base}, committed ${before.toFixed(2)}`);
  }
  return compared.some(({ worse }) => worse) ? 1 : 0;
}
