#!/usr/bin/env python3
"""rbbackup and rsync -z over a slow line, side by side: what counts is bytes.

  bench/slow.py OLD NEW [--rate 20] [--delay 50] [--runs 1] [--compress WHEN]

Both go through a proxy that lets --rate Mbit/s pass each way and holds everything for --delay ms each way; what passes
is counted, both ways together. Steps: first backup of OLD, no change, then NEW over it, and what rsync would still
change in the store after each: nothing. OLD and NEW as for run.py.
"""

import argparse
import collections
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import run as bench

PIECE = 16 << 10


class SlowLine:
    """passes connections on to a port, slowly"""

    def __init__(self, port, rate, delay):
        self.port, self.rate, self.delay, self.passed = port, rate, delay, 0
        self.lock, self.free_at = threading.Lock(), {True: 0.0, False: 0.0}
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def address(self):
        return self.listener.getsockname()[1]

    def accept(self):
        while True:
            source, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.port))
            for end in (source, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for origin, target, is_up in ((source, server, True), (server, source, False)):
                # What is on its way: one round trip's worth of bytes and a queue.
                way, ready = collections.deque(), threading.Semaphore(0)
                room = threading.Semaphore(2 + int(self.rate * (self.delay + 0.05) / PIECE))
                threading.Thread(target=self.take, args=(origin, way, ready, room, is_up), daemon=True).start()
                threading.Thread(target=self.give, args=(target, way, ready, room), daemon=True).start()

    def take(self, origin, way, ready, room, is_up):
        while True:
            room.acquire()
            try:
                data = origin.recv(PIECE)
            except OSError:
                data = b""
            with self.lock:
                self.passed += len(data)
                self.free_at[is_up] = max(self.free_at[is_up], time.monotonic()) + len(data) / self.rate
                due = self.free_at[is_up]
            way.append((due + self.delay, data))
            ready.release()
            if not data:
                return
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)

    def give(self, target, way, ready, room):
        while True:
            ready.acquire()
            due, data = way.popleft()
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            room.release()
            try:
                if data:
                    target.sendall(data)
                    continue
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            return


class RsyncZ(bench.RsyncSync):
    name = "rsync -z"

    def backup(self, source):
        script = 'rsync -a -z --zc=zstd --delete "$0" "$1" && sync -f "$2"'
        return ["sh", "-c", script, str(source), self.url(), f"{self.dir}/store"]

    def copy(self, source):
        return self.dir / "store" / source.name


class RbBackup(bench.RbBackup):
    compress = "auto"

    def backup(self, source):
        return [*super().backup(source), "--compress", self.compress]

    def copy(self, source):
        found = self.dir / "store" / "127.0.0.1"
        return next(found.iterdir()) / str(source).lstrip("/")


def one_run(args):
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        source = Path(scratch) / "src" / "tree"
        source.parent.mkdir()
        subprocess.run(["cp", "-a", str(args.old), str(source)], check=True)
        tools = [tool(scratch) for tool in (RsyncZ, RbBackup)]
        lines = {}
        for tool in tools:
            lines[tool.name] = SlowLine(tool.port, args.rate * 1e6 / 8, args.delay / 1e3)
            tool.port = lines[tool.name].address()
        try:
            for step in ("first", "no change", "update"):
                if step == "update":
                    subprocess.run(["rsync", "-rlpc", "--delete", f"{args.new}/", f"{source}/"], check=True)
                for tool in tools:
                    time.sleep(2.5)  # nothing is too young to be believed
                    before = lines[tool.name].passed
                    row = bench.run(tools, tool, tool.backup(source), step)
                    row["wire"] = lines[tool.name].passed - before
                    left = ["rsync", "-rnc", "--delete", "--itemize-changes", f"{source}/", f"{tool.copy(source)}/"]
                    said = subprocess.run(left, capture_output=True, text=True).stdout.splitlines()
                    row["equal"] = all(line.startswith("skipping") for line in said)
                    print(f"    {row['wire'] / 1e6:.2f} MB over the line, equal: {row['equal']}", flush=True)
                    yield row
        finally:
            for tool in tools:
                tool.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rate", type=float, default=20, help="Mbit/s each way")
    parser.add_argument("--delay", type=float, default=50, help="ms each way")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--compress", default="auto")
    parser.add_argument("--bin", type=Path, default=bench.RbBackup.bin, help="folder of rbbackup and rbbackupd")
    parser.add_argument("--scratch", help="folder to work in (default: TMPDIR)")
    args = parser.parse_args()
    bench.RbBackup.bin, RbBackup.compress = args.bin.resolve(), args.compress
    args.old, args.new = args.old.resolve(), args.new.resolve()
    rows = [row for _ in range(args.runs) for row in one_run(args)]
    for step in ("first", "no change", "update"):
        def median(name, what):
            return sorted(r[what] for r in rows if r["tool"] == name and r["step"] == step)[args.runs // 2]
        ours, theirs = (lambda what: median("rbbackup", what)), (lambda what: median("rsync -z", what))
        print(
            f"{step:10} bytes {ours('wire') / 1e6:8.2f} MB to {theirs('wire') / 1e6:8.2f} MB: {ours('wire') / theirs('wire'):.3f}"
            f"   wall {ours('wall'):6.1f} s to {theirs('wall'):6.1f} s: {ours('wall') / theirs('wall'):.2f}"
        )
    return None if all(row["equal"] and row["rc"] == 0 for row in rows) else "failed or wrong"


if __name__ == "__main__":
    sys.exit(main())
