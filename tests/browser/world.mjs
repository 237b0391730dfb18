// A world of real programs for one test file: a daemon with its console, clients with folders of their own, destinations.
// All of it is gone at the end.

import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const bin = resolve(process.env.RBBACKUP_BIN ?? join(fileURLToPath(new URL('.', import.meta.url)), '../../target/debug'));

/** The login name: the user of copies that are made here. */
export const user = userInfo().username;

/** A port that is free now. */
export function freePort() {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** Waits until `look` gives something; what is waited for is named when it does not come. */
export async function until(what, look, patience = 90_000) {
  for (const end = Date.now() + patience; Date.now() < end; ) {
    const found = await look();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`${what} did not come`);
}

export class World {
  constructor() {
    this.dir = mkdtempSync(join(tmpdir(), 'rbbackup-browser-'));
    this.store = join(this.dir, 'store');
    this.source = join(this.dir, 'source');
    this.children = [];
    mkdirSync(this.source);
  }

  path(...parts) {
    return join(this.dir, ...parts);
  }

  /** Writes a file below the source. */
  write(name, content) {
    const path = join(this.source, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, content);
  }

  env(home) {
    const dir = this.path(`home-${home}`);
    mkdirSync(dir, { recursive: true });
    const { XDG_CONFIG_HOME: _, XDG_CACHE_HOME: __, DISPLAY: ___, WAYLAND_DISPLAY: ____, ...rest } = process.env;
    return { ...rest, HOME: dir, RBBACKUP_LOG: '' };
  }

  /** A program to its end; what it printed. */
  run(program, args, home = 'a') {
    return execFileSync(join(bin, program), args, { env: this.env(home), encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  }

  /** A program beside us; ready once `sign` stands in what it says. */
  async start(program, args, home, sign) {
    const child = spawn(join(bin, program), args, { env: this.env(home), stdio: ['ignore', 'pipe', 'pipe'] });
    child.said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (child.said += data));
    this.children.push(child);
    await until(`'${sign}' of ${program}`, () => {
      if (child.exitCode !== null) throw new Error(`${program} ended: ${child.said}`);
      return child.said.includes(sign);
    });
    return child;
  }

  /** The daemon, with a console. */
  async daemon(...options) {
    this.port = await freePort();
    this.address = `127.0.0.1:${this.port}`;
    return this.start('rbbackupd', [this.store, '--listen', this.address, '--console', '127.0.0.1:0', ...options], 'daemon', ' serves ');
  }

  /** A link to the daemon's console. */
  link(...options) {
    return this.run('rbbackupd', ['console', this.store, ...options], 'daemon');
  }

  /** A client's console; its link is in what it said. */
  async console(home = 'a') {
    const child = await this.start('rbbackup', ['-s', this.address, 'console', '--no-browser'], home, '/open?token=');
    return child.said.split('\n').find((line) => line.includes('/open?token=')).trim();
  }

  /** Somebody who keeps what the daemon passes on. */
  destination(name) {
    return this.start('rbbackup', ['-s', this.address, '--json', 'receive', this.path(name), '--name', name, '--no-confine'], 'a', '"connection"');
  }

  /** A backup from the command line. */
  push(...args) {
    return this.run('rbbackup', ['-s', this.address, ...args, this.source]);
  }

  end() {
    this.children.forEach((child) => child.kill('SIGKILL'));
    rmSync(this.dir, { recursive: true, force: true });
  }
}
