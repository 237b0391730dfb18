// The client's console: all that was set in the windows of older systems, set here, and run: server, port, name, role, folders,
// number of copies; start, watch, stop; restore; being a destination.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { accessible, go, launch, picture, plain, visit } from './look.mjs';
import { until, World } from './world.mjs';

let browser, page, world;
const text = async (selector) => plain(await page.innerText(selector));
const same = (one, other) => execFileSync('diff', ['-r', one, other]);

before(async () => {
  world = new World();
  for (let file = 0; file < 300; file += 1) world.write(`many/${file}.txt`, `file ${file}`);
  world.write('film.mkv', randomBytes(32 << 20));
  world.write('left.tmp', 'excluded');
  await world.daemon();
  browser = await launch();
  page = await visit(browser, await world.console());
});

after(async () => {
  await browser?.close();
  world?.end();
});

test('server, port, role, folder, excludes and copies are set, and it waits for whom it needs', async () => {
  await page.waitForSelector('[data-test=start]');
  await page.fill('[data-test=server]', '127.0.0.1');
  await page.fill('[data-test=port]', String(world.port));
  await page.click('[data-test=check]');
  await page.waitForSelector('.inline-good');
  await page.check('[data-test=role-source]');
  // The folder is picked, step by step.
  await page.click('[data-test=folder-pick]');
  await page.waitForSelector('[data-test=folder-path]');
  await page.fill('[data-test=folder-path]', world.dir);
  await page.keyboard.press('Enter');
  await page.locator('[data-test=folders] >> text=source').first().click();
  await page.waitForFunction(() => document.querySelector('[data-test=folder-path]').value.endsWith('/source'));
  await accessible(page, 'folder picker');
  await page.click('[data-test=folder-choose]');
  assert.ok((await text('[data-test=folders-picked]')).includes(world.source));
  await page.check('[data-test=recursive]');
  await page.check('[data-test=delete]');
  await page.fill('[data-test=excludes]', '*.tmp');
  await page.fill('[data-test=copies]', '2');
  await page.fill('[data-test=profile-name]', 'films');
  await page.click('[data-test=save-profile]');
  await page.waitForSelector('[data-test=profile]');
  await accessible(page, 'begin');
  await picture(page, 'begin-filled');
  await world.destination('attic');
  await page.click('[data-test=run-profile]');
  await page.waitForFunction(() => /1\D+2/.test(document.querySelector('[data-test=gathering]:not([hidden])')?.textContent ?? ''));
  await picture(page, 'gathering');
});

test('it runs to its end with two bars and the list of files', async () => {
  const seen = { whole: 0, file: 0, files: 0 };
  const look = async () => {
    const now = await page.evaluate(() => {
      const bar = (name) => Number(document.querySelector(`[data-test=${name}]`)?.getAttribute('aria-valuenow') ?? 0);
      return { whole: bar('bar-whole'), file: bar('bar-file'), files: document.querySelectorAll('[data-test=file-list] > *').length };
    });
    for (const key of Object.keys(seen)) seen[key] = Math.max(seen[key], now[key]);
    return page.$('[data-test=ended]');
  };
  await world.destination('cellar');
  await until('the end of the run', look);
  await until('both bars to be full', async () => { await look(); return seen.whole === 100 && seen.file === 100; });
  assert.ok(seen.files > 0);
  assert.match(await text('[data-test=ended]'), /301/);
  await accessible(page, 'live of a client');
  for (const keeper of ['store', 'attic', 'cellar']) {
    const kept = execFileSync('find', [world.path(keeper), '-path', `*/127.0.0.1/*${world.source}`, '-prune'], { encoding: 'utf8' }).trim();
    execFileSync('diff', ['-r', '-x', '*.tmp', world.source, kept]);
    assert.throws(() => execFileSync('ls', [`${kept}/left.tmp`], { stdio: 'ignore' }), 'it was excluded');
  }
});

test('the command line runs what was kept', () => {
  world.write('later.txt', 'later');
  assert.match(world.run('rbbackup', ['run', 'films', '--json']), /"exit_code"|"summary"/);
});

test('what was backed up comes back by browsing', async () => {
  await go(page, '/browse', '[data-test=entry]');
  await page.click('[data-test=entry-link]');
  await page.waitForFunction(() => document.querySelector('[data-test=entries]').textContent.includes('film.mkv'));
  await accessible(page, 'browse of a client');
  await page.click('[data-test=restore]');
  await page.check('[data-test=restore-there]');
  mkdirSync(world.path('back'));
  await page.fill('[data-test=restore-to]', world.path('back'));
  await accessible(page, 'restore');
  await page.click('[data-test=restore-begin]');
  await until('the restore', () => { try { execFileSync('diff', ['-r', '-x', '*.tmp', world.source, world.path('back', 'source')], { stdio: 'ignore' }); return true; } catch { return false; } });
});

test('this machine becomes a destination, and stops being one', async () => {
  await go(page, '/begin', '[data-test=start]');
  await page.check('[data-test=role-destination]');
  await page.fill('[data-test=destination-folder]', world.path('third'));
  await page.fill('[data-test=name]', 'third');
  await picture(page, 'destination');
  await page.click('[data-test=start]');
  await until('the third destination', () => world.run('rbbackup', ['-s', world.address, 'status']).includes('third'));
  await go(page, '/live', '[data-test=run]');
  await page.locator('[data-test=stop]').first().click();
  await page.click('[data-test=confirm]');
  await until('it to leave the list', () => !world.run('rbbackup', ['-s', world.address, 'status']).includes('third'));
  page.minded();
});
