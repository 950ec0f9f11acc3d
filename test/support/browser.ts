import { existsSync } from 'node:fs';
import { chromium, type Browser, type Page } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Path of an installed browser; null where there is none. None is ever downloaded. */
export const CHROMIUM: string | null = PLACES.find((path) => existsSync(path)) ?? null;

/** Chromium refuses its sandbox to root. */
const isRoot = process.getuid?.() === 0;

export function launch(): Promise<Browser> {
  if (CHROMIUM === null) throw new Error(`no browser at ${PLACES.join(', ')}`);
  return chromium.launch({ executablePath: CHROMIUM, args: isRoot ? ['--no-sandbox'] : [] });
}

export interface Visit {
  readonly page: Page;
  /** Everything the browser complained about: errors, blocked resources, dialogs. */
  readonly complaints: string[];
  /** URLs asked for. */
  readonly asked: string[];
}

/** Opens a page in a context of its own. */
export async function visit(
  browser: Browser,
  url: string,
  options: { readonly width?: number; readonly dark?: boolean } = {},
): Promise<Visit> {
  const { width = 1280, dark = false } = options;
  const viewport = { width, height: 900 };
  const context = await browser.newContext({ viewport, colorScheme: dark ? 'dark' : 'light', locale: 'en-GB' });
  const page = await context.newPage();
  const complaints: string[] = [];
  const asked: string[] = [];
  page.on('console', (message) => complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('dialog', (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => asked.push(request.url()));
  await page.goto(url);
  return { page, complaints, asked };
}
