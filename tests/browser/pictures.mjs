// Makes the README's pictures anew, from real programs: node tests/browser/pictures.mjs

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { go, launch, visit, widths } from './look.mjs';
import { until, user, World } from './world.mjs';

const to = join(fileURLToPath(new URL('.', import.meta.url)), '../../docs/pictures');
const machines = { laptop: 900, desktop: 1400, studio: 300, web: 120, accounts: 60 };
widths.readme = [1280, 720];

const world = new World();
let browser;
try {
  mkdirSync(to, { recursive: true });
  await world.daemon();
  await world.destination('attic');
  for (const [node, count] of Object.entries(machines)) {
    const token = world.run('rbbackupd', ['invite', user, '--node', node, '--store', world.store], 'daemon');
    world.run('rbbackup', ['join', world.address, token], node);
    const folder = world.path(node, 'home');
    for (const part of ['documents', 'photographs/2026', 'projects']) mkdirSync(join(folder, part), { recursive: true });
    for (let file = 0; file < count; file += 1) writeFileSync(join(folder, 'photographs/2026', `IMG_${1000 + file}.jpg`), Buffer.alloc(20_000 + (file % 7) * 9000, `${node}${file}`));
    for (const name of ['letter.odt', 'invoices.ods', 'notes.md']) writeFileSync(join(folder, 'documents', name), `${name} of ${node}\n`.repeat(200));
    world.run('rbbackup', ['-s', world.address, '-rd', folder], node);
    writeFileSync(join(folder, 'documents/notes.md'), '# Notes\n\n- call the bank\n- the summer house\n');
    world.run('rbbackup', ['-s', world.address, '-rd', folder], node);
  }
  browser = await launch();
  const open = (link, look = {}) => visit(browser, link, { size: 'readme', ...look });
  const keep = (page, name) => page.screenshot({ path: join(to, `${name}.png`) });

  const overview = await open(world.link());
  await overview.waitForSelector('[data-test=copy]');
  await keep(overview, 'overview');

  const browse = await open(world.link(), { scheme: 'dark' });
  await go(browse, `/browse/laptop/${user}?path=${world.path('laptop', 'home', 'documents')}`, '[data-test=entry]');
  await browse.locator('[data-test=entry-link]').filter({ hasText: /^notes\.md$/ }).click();
  await browse.waitForSelector('[data-test=preview-text]');
  await keep(browse, 'browse');

  const live = await open(world.link());
  await go(live, '/live', 'main');
  writeFileSync(world.path('desktop', 'home', 'film of the summer.mkv'), Buffer.alloc(900 << 20, 'moving pictures'.repeat(999)));
  for (let file = 0; file < 4000; file += 1) writeFileSync(world.path('desktop', 'home', 'projects', `scan-${file}.tif`), Buffer.alloc(30_000, `scan ${file}`));
  const pushing = world.start('rbbackup', ['-s', world.address, '-rd', '--copies', '1', '--progress=always', world.path('desktop', 'home')], 'desktop', '');
  await until('bars', () => live.evaluate(() => Number(document.querySelector('[data-test=bar-file]')?.getAttribute('aria-valuenow') ?? 0) > 30 && Number(document.querySelector('[data-test=bar-whole]')?.getAttribute('aria-valuenow') ?? 0) > 5));
  await keep(live, 'live');
  await pushing;
} finally {
  await browser?.close();
  world.end();
}
