#!/usr/bin/env python3
"""Does a backup get slower with the number of snapshots, and does packing slow it?

    python3 bench/history.py --rb target/release [--snapshots 200] [--files 20000]

Makes a tree of small files, backs it up again and again with 0.5 % changed, and prints two ratios of times of one run:
the median of the last ten runs to that of runs 2 to 11, and the median of runs beside a daemon that has a lot to pack to
that of runs without. Needs some 2 GB below --tmp.
"""

import argparse
import glob
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rb", default="target/release", help="folder of the programs")
    parser.add_argument("--snapshots", type=int, default=200)
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--pairs", type=int, default=9, help="of small runs, with and without packing beside them")
    parser.add_argument("--tmp", default=None)
    args = parser.parse_args()
    rng = random.Random(7)
    top = tempfile.mkdtemp(prefix="rb-history-", dir=args.tmp)
    source, store = os.path.join(top, "source"), os.path.join(top, "store")
    env = dict(os.environ, HOME=top, XDG_CONFIG_HOME=f"{top}/config", XDG_CACHE_HOME=f"{top}/cache")
    paths = [os.path.join(source, f"d{i // 100:04}", f"f{i % 100:02}") for i in range(args.files)]

    def write(path, size):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(rng.randbytes(size))

    for path in paths:
        write(path, 4000)
    address = "127.0.0.1:18731"
    daemon = subprocess.Popen([f"{args.rb}/rbbackupd", store, "--listen", address, "-q"], env=env)

    def backup():
        begin = time.monotonic()
        subprocess.run([f"{args.rb}/rbbackup", "-rd", "-q", "-s", address, source], env=env, check=True)
        return time.monotonic() - begin

    def packed():
        while os.listdir(f"{store}/.rbbackup/retired"):
            time.sleep(0.05)

    def packing():
        # Pack files have this name until they are whole.
        deadline = time.monotonic() + 20
        while not glob.glob(f"{store}/.rbbackup/vault/*/.tmp-*") and time.monotonic() < deadline:
            time.sleep(0.002)

    def housekept():
        # What a run does after its receipt is not packing: staging goes last.
        while os.listdir(f"{store}/.rbbackup/staging"):
            time.sleep(0.01)

    try:
        time.sleep(0.5)
        backup()
        times = []
        for _ in range(args.snapshots - 1):
            for path in rng.sample(paths, max(1, args.files // 200)):
                write(path, 4000)
            packed()
            times.append(backup())
        few, many = statistics.median(times[:10]), statistics.median(times[-10:])
        print(f"run after 2 to 11 snapshots {few:.3f} s, after {args.snapshots}: {many:.3f} s, ratio {many / few:.2f}")
        quiet, busy = [], []
        large = [os.path.join(source, f"large{i}") for i in range(4)]
        for _ in range(args.pairs):
            for times, wait in ((quiet, True), (busy, False)):
                # Large files come, are old enough to be believed, and go: they are retired, and nothing of them is left to
                # be read. Then a small run begins in the middle of packing them, or after it.
                for path in large:
                    write(path, 60_000_000)
                backup()
                backup()
                for path in large:
                    os.remove(path)
                backup()
                housekept()
                for path in rng.sample(paths, max(1, args.files // 200)):
                    write(path, 4000)
                packed() if wait else packing()
                times.append(backup())
                packed()
        ratio = statistics.median(busy) / statistics.median(quiet)
        print(f"beside packing {statistics.median(busy):.3f} s, without {statistics.median(quiet):.3f} s, ratio {ratio:.2f}")
    finally:
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(top)


if __name__ == "__main__":
    main()
