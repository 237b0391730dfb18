// A browser that minds: every error of a page, every refusal by the policy, every dialog is a failure. Pictures of what it
// sees go to target/browser.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
export const pictures = resolve(process.env.RBBACKUP_PICTURES ?? join(fileURLToPath(new URL('.', import.meta.url)), '../../target/browser'));
const program = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);

/** Sizes of windows: a telephone's, a laptop's, a large screen's. */
export const widths = { narrow: [360, 740], laptop: [1280, 800], wide: [2560, 1300] };

export async function launch() {
  assert.ok(program, 'there is no Chromium: apt-get install chromium, or say where it is by CHROMIUM=');
  return chromium.launch({ executablePath: program, args: ['--no-sandbox'] });
}

/** A window at a console; `page.minded()` says whether all was well. */
export async function visit(browser, link, { locale = 'en-GB', scheme = 'light', size = 'laptop' } = {}) {
  const [width, height] = widths[size];
  const context = await browser.newContext({ viewport: { width, height }, locale, colorScheme: scheme, acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(`error: ${error.stack}`));
  page.on('dialog', (dialog) => wrong.push(`dialog: ${dialog.message()}`));
  // What the server refuses is shown by the page; the browser says it as well.
  page.on('console', (said) => said.type() === 'error' && !/status of \d+/.test(said.text()) && wrong.push(said.text()));
  page.on('request', (request) => new URL(request.url()).hostname !== '127.0.0.1' && !request.url().startsWith('blob:') && wrong.push(`asks ${request.url()}`));
  page.minded = () => assert.deepEqual(wrong, []);
  await page.goto(link);
  return page;
}

/** Where a page's hash leads. */
export async function go(page, hash, wanted) {
  await page.goto(new URL(`/#${hash}`, page.url()).href);
  await page.waitForSelector(wanted);
}

/** Keeps a picture. */
export async function picture(page, name) {
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: join(pictures, `${name}.png`) });
}

/** No finding of axe-core that is serious. */
export async function accessible(page, where) {
  await page.evaluate(`${axe}; 0`);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  assert.deepEqual(serious.map(({ id, nodes }) => [where, id, nodes[0].html]), []);
}

/** A text with its spaces made plain. */
export const plain = (text) => text.replace(/\s+/g, ' ').trim();
