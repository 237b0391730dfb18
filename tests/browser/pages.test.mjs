// Every page, light and dark, narrow and wide, in both languages: nothing sticks out sideways, nothing serious for axe-core, and
// a picture of each in target/browser, for people to look at.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessible, go, launch, picture, visit, widths } from './look.mjs';
import { user, World } from './world.mjs';

let browser, world;
const looks = [
  { scheme: 'light', locale: 'en-GB' },
  { scheme: 'dark', locale: 'es-ES' },
];

before(async () => {
  world = new World();
  for (let file = 0; file < 60; file += 1) world.write(`photographs/2026/picture ${file} of the summer.jpg`, `p${file}`);
  world.write('a name that is so long that it does not fit into any window of a telephone, whatever one does about it, and on and on.txt', 'x');
  world.write('right-to-left \u202e and a bell \u0007.txt', 'x');
  await world.daemon();
  await world.destination('attic');
  world.push('-rd');
  world.write('new.txt', 'new');
  world.push('-rd');
  browser = await launch();
});

after(async () => {
  await browser?.close();
  world?.end();
});

const daemonPages = () => [
  ['overview', '/overview', '[data-test=copy]'],
  ['live', '/live', '[data-test=ended], [data-test=empty]'],
  ['browse', `/browse/127.0.0.1/${user}?path=${encodeURI(world.source)}`, '[data-test=entry]'],
  ['destinations', '/destinations', '[data-test=destination-row]'],
  ['activity', '/activity', '[data-test=run-row]'],
  ['people', '/people', '[data-test=user]'],
  ['settings', '/settings', '[data-test="setting-listen"]'],
];
const clientPages = () => [
  ['begin', '/begin', '[data-test=start]'],
  ['client-live', '/live', 'main'],
  ['client-browse', `/browse?path=${encodeURI(world.source)}`, 'main'],
  ['client-activity', '/activity', '[data-test=run-row]'],
];

for (const [name, link, pages] of [['the daemon', () => world.link(), daemonPages], ['the client', () => world.console('a'), clientPages]]) {
  for (const { scheme, locale } of looks) {
    for (const size of Object.keys(widths)) {
      test(`${name}: ${scheme}, ${locale}, ${size}`, async () => {
        const page = await visit(browser, await link(), { scheme, locale, size });
        for (const [what, hash, wanted] of pages()) {
          await go(page, hash, wanted);
          await picture(page, `${what}-${scheme}-${size}`);
          await accessible(page, `${what} ${scheme} ${size}`);
          const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          assert.ok(over <= 0, `${what} sticks out by ${over} px at ${size}`);
        }
        assert.equal(await page.getAttribute('html', 'lang'), locale.slice(0, 2));
        page.minded();
        await page.context().close();
      });
    }
  }
}
