// Brings the table of settings in README.md up to date. Run it after a build: node scripts/settings-table.mjs
import { readFileSync, writeFileSync } from 'node:fs';
import { withSettingsTable } from '../dist/config/describe.js';

const readme = new URL('../README.md', import.meta.url);
writeFileSync(readme, withSettingsTable(readFileSync(readme, 'utf8')));
