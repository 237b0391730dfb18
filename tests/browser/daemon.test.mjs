// The daemon's console: every copy in a line, a backup watched to its end, the past browsed and brought back, people, settings.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { accessible, go, launch, picture, plain, visit } from './look.mjs';
import { freePort, until, user, World } from './world.mjs';

let browser, page, world;
const copy = () => `/browse/127.0.0.1/${user}`;
const entries = () => page.$$eval('[data-test=entry]', (rows) => rows.map((row) => row.textContent));
const text = async (selector) => plain(await page.innerText(selector));

async function saved(click) {
  const [download] = await Promise.all([page.waitForEvent('download'), click()]);
  assert.equal(await download.failure(), null);
  return { name: download.suggestedFilename(), path: await download.path() };
}

before(async () => {
  world = new World();
  world.write('notes.txt', 'the first note');
  world.write('<script>alert(1)', 'harmless <script>alert(2)</script>');
  world.write('<img src=x onerror=alert(3)>.txt', 'harmless');
  world.write('folder/deep.bin', Buffer.alloc(300_000, 7));
  symlinkSync('notes.txt', world.path('source', 'link'));
  await world.daemon();
  world.push('-rd');
  world.write('notes.txt', 'the second note, which is longer');
  world.write('folder/new.txt', 'new');
  world.push('-rd');
  browser = await launch();
  page = await visit(browser, world.link());
});

after(async () => {
  await browser?.close();
  world?.end();
});

test('every copy stands in a line', async () => {
  await page.waitForSelector('[data-test=copy]');
  const line = await text('[data-test=copy]');
  assert.ok(line.includes(user) && line.includes('127.0.0.1') && line.includes('never verified'), line);
  await page.click('[data-test=details]');
  await page.waitForSelector(`text="${world.source}"`);
  await accessible(page, 'overview');
});

test('a backup is watched to its end, file by file, and waits for whom it needs', async () => {
  await go(page, '/live', 'main');
  // Kept back by a destination that is not there yet.
  for (let file = 0; file < 400; file += 1) world.write(`many/${file}.txt`, `file ${file}`);
  world.write('film.mkv', randomBytes(48 << 20));
  const pushing = world.start('rbbackup', ['-s', world.address, '-v', '-rd', '--copies', '1', world.source], 'a', '');
  await page.waitForSelector('[data-test=gathering]:not([hidden])');
  assert.match(await text('[data-test=gathering]'), /0.*1/);
  const seen = { whole: 0, file: 0, files: 0, destination: 0 };
  const look = async () => {
    const bars = await page.evaluate(() => {
      const value = (name) => {
        const bar = document.querySelector(`[data-test=${name}]`);
        return Number(bar?.getAttribute('aria-valuenow') ?? 0) / 100;
      };
      return { whole: value('bar-whole'), file: value('bar-file'), destination: document.querySelectorAll('[data-test=bar-destination]').length, files: document.querySelectorAll('[data-test=file-list] > *').length };
    });
    for (const key of Object.keys(seen)) seen[key] = Math.max(seen[key], bars[key]);
    return page.$('[data-test=ended] >> text="snapshot 3"');
  };
  const attic = await world.destination('attic');
  await until('the end of the run', look);
  assert.match(await text('[data-test=ended]'), /406 files/);
  await until('both bars to be full', async () => { await look(); return seen.whole === 1 && seen.file === 1; });
  assert.ok(seen.files > 0 && seen.destination > 0, JSON.stringify(seen));
  const child = await pushing;
  await until('the source to end', () => child.exitCode !== null);
  assert.equal(child.exitCode, 0, child.said);
  await accessible(page, 'live');
  // It leaves the list when it is killed.
  await go(page, '/destinations', '[data-test=destination-row]');
  assert.match(await text('[data-test=destination-row]'), /attic/);
  await accessible(page, 'destinations');
  attic.kill('SIGKILL');
  await page.waitForFunction(() => !document.querySelector('[data-test=destination-row]'));
});

test('one goes back in time, and what is saved is what was backed up', async () => {
  await go(page, copy(), '[data-test=entry]');
  await page.click('[data-test=entry-link]');
  await page.waitForFunction(() => document.body.textContent.includes('notes.txt'));
  const file = async (name) => {
    await page.locator('[data-test=entry-link]').filter({ hasText: new RegExp(`^${name}$`) }).click();
    await page.waitForSelector('[data-test=panel]:not([hidden])');
    await page.waitForSelector('[data-test=version]');
  };
  await file('notes.txt');
  await page.waitForSelector('[data-test=preview-text]');
  assert.match(await text('[data-test=preview-text]'), /second note/);
  await accessible(page, 'browse');
  const now = await saved(() => page.click('[data-test=download]'));
  assert.equal(readFileSync(now.path, 'utf8'), 'the second note, which is longer');
  assert.equal(now.name, 'notes.txt');
  await page.keyboard.press('Escape');
  // By keyboard, to the first snapshot.
  await page.focus('[data-test=slider]');
  await page.keyboard.press('Home');
  await page.waitForFunction(() => !document.querySelector('[data-test=entries]').textContent.includes('many'));
  await file('notes.txt');
  const then = await saved(() => page.click('[data-test=download]'));
  assert.equal(readFileSync(then.path, 'utf8'), 'the first note');
  await page.keyboard.press('Escape');
  const tar = await saved(() => page.click('[data-test=download-tar]'));
  const listed = execFileSync('tar', ['-tf', tar.path], { encoding: 'utf8' });
  assert.ok(listed.includes('source/folder/deep.bin') && !listed.includes('new.txt'), listed);
  assert.equal(execFileSync('tar', ['-xOf', tar.path, 'source/folder/deep.bin']).equals(Buffer.alloc(300_000, 7)), true);
});

test('what changed between two snapshots is told', async () => {
  await go(page, copy(), '[data-test=entry]');
  await page.click('[data-test=entry-link]');
  await page.click('[data-test=changes]');
  await page.waitForSelector('[data-test=difference]');
  await accessible(page, 'changes');
  await picture(page, 'changes');
});

test('a script as a file name is a name, and its content is text', async () => {
  await go(page, copy(), '[data-test=entry]');
  await page.click('[data-test=entry-link]');
  await page.locator('[data-test=entry-link]', { hasText: '<script>' }).click();
  await page.waitForSelector('[data-test=preview-text]');
  assert.match(await text('[data-test=preview-text]'), /harmless/);
  page.minded();
});

test('somebody is invited in the browser, and joins', async () => {
  await go(page, '/people', '[data-test=user]');
  await page.click('[data-test=invite]');
  await page.fill('[data-test=invite-user]', user);
  await page.fill('[data-test=invite-node]', 'attic');
  await accessible(page, 'invite');
  await page.click('[data-test=invite-make]');
  await page.waitForSelector('[data-test=token]');
  const token = await page.inputValue('[data-test=token]');
  world.run('rbbackup', ['join', world.address, token], 'b');
  world.run('rbbackup', ['-s', world.address, '-r', world.path('source', 'folder')], 'b');
  await page.click('[data-test=token-done]');
  await go(page, '/overview', '[data-test=copy]');
  await page.waitForFunction(() => document.querySelectorAll('[data-test=copy]').length === 2);
});

test('every run is told, with why it failed', async () => {
  // A folder that is empty all of a sudden: the delete guard refuses.
  for (let file = 0; file < 12; file += 1) world.write(`../gone/${file}`, 'x');
  const push = () => world.run('rbbackup', ['-s', world.address, '-rd', world.path('gone')]);
  push();
  rmSync(world.path('gone'), { recursive: true });
  mkdirSync(world.path('gone'));
  assert.throws(push);
  await go(page, '/activity', '[data-test=run-row]');
  await until('four runs', async () => (await page.$$('[data-test=run-row]')).length >= 4);
  assert.match(await text('[data-test=runs-table]'), /delete guard/, 'how one failed');
  await accessible(page, 'activity');
});

test('port, retention and quota are set, and hold', async () => {
  await go(page, '/settings', '[data-test="setting-listen"]');
  const port = await freePort();
  await page.fill('[data-test="setting-listen"] input', `127.0.0.1:${port}`);
  await page.fill('[data-test="setting-retention.daily"] input', '90');
  await accessible(page, 'settings');
  await page.click('[data-test=save]');
  await page.waitForSelector('[data-test=notice-good]');
  assert.equal(await page.getAttribute('[data-test="setting-retention.daily"]', 'data-from'), 'console');
  assert.match(await text('[data-test="setting-retention.daily"]'), /30/, 'what was before is shown');
  await picture(page, 'settings-changed');
  assert.throws(() => world.run('rbbackup', ['-s', world.address, '--retry-for', '0', 'status']), 'nobody is at the old port');
  await page.fill('[data-test="setting-listen"] input', world.address);
  await page.click('[data-test=save]');
  await until('the old port', () => { try { return world.run('rbbackup', ['-s', world.address, 'status']); } catch { return null; } });
  await page.fill('[data-test="setting-listen"] input', 'nowhere at all');
  await page.click('[data-test=save]');
  await page.waitForSelector('[data-test=notice-bad]');
  // It stays until it is put away.
  await page.click('[data-test=notice-bad] button');
  assert.equal(await page.$('[data-test=notice-bad]'), null);
});

test('a reader is offered nothing that he may not do', async () => {
  const reader = await visit(browser, world.link('--read-only'));
  await go(reader, '/people', '[data-test=user]');
  assert.equal(await reader.$('[data-test=invite]'), null);
  await go(reader, '/settings', '[data-test="setting-listen"]');
  assert.equal(await reader.isVisible('[data-test=save]'), false);
  assert.equal(await reader.$('[data-test="setting-retention.daily"] input:enabled'), null);
  reader.minded();
  await reader.context().close();
});

test('who is not signed in, or comes with a used link, is told what to do', async () => {
  const link = world.link();
  const first = await visit(browser, link);
  await first.waitForSelector('[data-test=copy]');
  const second = await visit(browser, link);
  await second.waitForSelector('[data-test=sign-in-page]');
  assert.ok(await second.isVisible('[data-test=link-used]'));
  await accessible(second, 'sign in');
  await picture(second, 'sign-in');
  await first.click('[data-test=sign-out]');
  await first.waitForSelector('[data-test=sign-in-page]');
  first.minded();
  second.minded();
  page.minded();
  await first.context().close();
  await second.context().close();
});
