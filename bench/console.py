#!/usr/bin/env python3
"""What the daemon's console costs, and how fast it browses.

  sudo bench/console.py TREE [--runs 9] [--files 1000000] [--bin target/release]

Two questions, both against real programs on a file system in memory:
  1. A first backup of TREE with the console open on Live (an event stream that is read) and without: CPU seconds of client and daemon
     together, in pairs, another first each time. Bar: less than 1.03.
  2. A folder of 1 000 names in a snapshot of a million files, asked for by the API: milliseconds, the first time and the median of 20.
     Bar: below 100 ms.
"""

import argparse
import http.client
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


class Daemon:
    def __init__(self, bin_dir, dir_):
        self.dir, self.bin = dir_, bin_dir
        self.env = {**os.environ, "HOME": str(dir_ / "home"), "RBBACKUP_LOG": ""}
        (dir_ / "home").mkdir(parents=True, exist_ok=True)
        self.store = dir_ / "store"
        args = [bin_dir / "rbbackupd", self.store, "--listen", "127.0.0.1:0", "--console", "127.0.0.1:0"]
        self.child = subprocess.Popen(args, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.child.stderr:
            if " serves " in line:
                self.address = line.split(" on ")[1].split(",")[0]
                break
        threading.Thread(target=self.child.stderr.read, daemon=True).start()

    def cpu(self):
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def push(self, source):
        """Backs up; CPU seconds of both sides, until the daemon is idle."""
        before, mine = self.cpu(), os.times()
        subprocess.run([self.bin / "rbbackup", "-s", self.address, "-rd", source], env=self.env, check=True)
        after = os.times()
        last = None
        while last != (last := self.cpu()):
            time.sleep(0.5)
        return after.children_user + after.children_system - mine.children_user - mine.children_system + last - before

    def sign_in(self):
        link = subprocess.run([self.bin / "rbbackupd", "console", self.store], env=self.env, check=True, capture_output=True, text=True)
        url = urllib.parse.urlparse(link.stdout.strip())
        self.console = url.netloc
        web = http.client.HTTPConnection(url.netloc)
        web.request("GET", f"{url.path}?{url.query}")
        self.cookie = web.getresponse().getheader("set-cookie").split(";")[0]

    def watch(self):
        """Opens Live and reads it, on a thread, until what is returned is closed."""
        web = http.client.HTTPConnection(self.console)
        web.request("GET", "/api/v1/live", headers={"Cookie": self.cookie})
        answer = web.getresponse()

        def read():
            try:
                while answer.read1(65536):
                    pass
            except (OSError, AttributeError, ValueError):
                pass

        threading.Thread(target=read, daemon=True).start()
        return web

    def stop(self):
        self.child.terminate()
        self.child.wait()


def overhead(args, scratch):
    watched, alone = [], []
    for run in range(args.runs):
        for is_watched in [run % 2 == 0, run % 2 != 0]:
            shutil.rmtree(scratch / "o", ignore_errors=True)
            daemon = Daemon(args.bin, scratch / "o")
            daemon.sign_in()
            web = daemon.watch() if is_watched else None
            (watched if is_watched else alone).append(daemon.push(args.tree))
            if web:
                web.close()
            daemon.stop()
    pairs = [w / a for w, a in zip(watched, alone)]
    print(f"first backup: {statistics.median(alone):.2f} s of CPU, with Live open {statistics.median(watched):.2f} s; "
          f"median of {args.runs} pairs {statistics.median(pairs):.3f} (bar 1.03)")


def folder(args, scratch):
    source = scratch / "many"
    for number in range(args.files // 1000):
        path = source / f"{number:04}"
        path.mkdir(parents=True)
        for name in range(1000):
            os.close(os.open(path / f"{name:04}", os.O_CREAT | os.O_WRONLY))
    daemon = Daemon(args.bin, scratch / "f")
    daemon.push(source)
    daemon.sign_in()
    user = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()

    def ask(number):
        web = http.client.HTTPConnection(daemon.console)
        begun = time.monotonic()
        web.request("GET", f"/api/v1/copies/127.0.0.1/{user}/entries?path={source}/{number:04}", headers={"Cookie": daemon.cookie})
        body = web.getresponse().read()
        assert body.count(b'"type":"entry"') == 1000, body[:200]
        return (time.monotonic() - begun) * 1000

    count = args.files // 1000
    first = ask(count // 2)
    more = [ask(number * count // 20) for number in range(20)]
    print(f"a folder of 1000 names among {args.files}: {first:.0f} ms the first time, {statistics.median(more):.0f} ms (bar 100), at most {max(more):.0f}")
    daemon.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--bin", type=lambda path: Path(path).resolve(), default="target/release")
    args = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="rbbackup-console-"))
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12g,nr_inodes=4m", "none", scratch]).returncode == 0
    if not mounted:
        print("not in memory: times of disks are in it", file=sys.stderr)
    try:
        overhead(args, scratch)
        folder(args, scratch)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", scratch], check=False)
        shutil.rmtree(scratch, ignore_errors=True)


main()
