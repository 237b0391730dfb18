#!/usr/bin/env python3
"""How long does it take until a lost catalog is whole again, and is the daemon there meanwhile?

    python3 bench/rebuild.py --rb target/release [--files 100000]

Makes a tree of small files, backs it up twice with other contents, so that the packs hold as many blobs as the copy has
files, removes the catalog, and prints: when the daemon listens; what commands take that are begun right then, to what they
take later; when the packs are known; and what the first run takes, which looks at each file of the copy, to the second.
Needs some 1 GB below --tmp.
"""

import argparse
import os
import random
import shutil
import subprocess
import sqlite3
import tempfile
import threading
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rb", default="target/release", help="folder of the programs")
    parser.add_argument("--files", type=int, default=100000)
    parser.add_argument("--tmp", default=None)
    args = parser.parse_args()
    rng = random.Random(7)
    top = tempfile.mkdtemp(prefix="rb-rebuild-", dir=args.tmp)
    source, store = os.path.join(top, "source"), os.path.join(top, "store")
    catalog = f"{store}/.rbbackup/catalog.sqlite"
    env = dict(os.environ, HOME=top, XDG_CONFIG_HOME=f"{top}/config", XDG_CACHE_HOME=f"{top}/cache")
    paths = [os.path.join(source, f"d{i // 100:04}", f"f{i % 100:02}") for i in range(args.files)]
    address = "127.0.0.1:18732"

    def write_all():
        for path in paths:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(rng.randbytes(1000))

    def start():
        """The daemon, and the seconds until it listens."""
        begin = time.monotonic()
        daemon = subprocess.Popen([f"{args.rb}/rbbackupd", store, "--listen", address], env=env, stderr=subprocess.PIPE)
        while b" serves " not in daemon.stderr.readline():
            pass
        # Read on, so that it never waits for a full pipe.
        threading.Thread(target=daemon.stderr.read, daemon=True).start()
        return daemon, time.monotonic() - begin

    def stop(daemon):
        daemon.terminate()
        daemon.wait()

    def client(*words):
        begin = time.monotonic()
        subprocess.run([f"{args.rb}/rbbackup", "-s", address, "-q", *words], env=env, check=True,
                       stdout=subprocess.DEVNULL)
        return time.monotonic() - begin

    def backup():
        return client("-rd", "--force-delete", source)

    def known():
        """Blobs that the catalog knows."""
        try:
            with sqlite3.connect(f"file:{catalog}?mode=ro", uri=True) as conn:
                return conn.execute("SELECT coalesce(sum(blobs), 0) FROM packs").fetchone()[0]
        except sqlite3.Error:
            return 0

    daemon = None
    try:
        write_all()
        daemon, _ = start()
        backup()
        write_all()
        backup()
        while os.listdir(f"{store}/.rbbackup/retired"):
            time.sleep(0.05)
        blobs, usual = known(), backup()
        asked = [("ls of a folder", ["ls", os.path.dirname(paths[0])]), ("snapshots", ["snapshots"]),
                 ("history of a file", ["history", paths[0]]),
                 ("restore of an old file", ["restore", "--at", "1", paths[0], "--to", f"{top}/to", "--overwrite", "always"])]
        later = {what: client(*words) for what, words in asked}
        stop(daemon)
        for name in (catalog, f"{catalog}-wal", f"{catalog}-shm"):
            if os.path.exists(name):
                os.remove(name)
        begin = time.monotonic()
        daemon, listens = start()
        print(f"{args.files} files, {blobs} blobs in packs; no catalog: the daemon listens after {listens:.3f} s")
        learnt = []

        def watch():
            while known() < blobs:
                time.sleep(0.02)
            learnt.append(time.monotonic() - begin)

        watcher = threading.Thread(target=watch)
        watcher.start()
        for what, words in asked:
            at = time.monotonic() - begin
            print(f"  at {at:.2f} s: {what} {client(*words):.3f} s, with a catalog {later[what]:.3f} s")
        watcher.join()
        print(f"packs known after {learnt[0]:.2f} s: {blobs / learnt[0]:.0f} blobs/s")
        first, second = backup(), backup()
        print(f"first run {first:.2f} s ({args.files / first:.0f} files/s), second {second:.2f} s; before the loss {usual:.2f} s")
    finally:
        if daemon:
            stop(daemon)
        shutil.rmtree(top)


if __name__ == "__main__":
    main()
