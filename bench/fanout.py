#!/usr/bin/env python3
"""One run to three machines, against three runs of rsync: time, and what the source uploads.

  bench/run.py --fetch DIR                        get two real trees
  bench/fanout.py OLD NEW [--runs 3] [--uplink 200]

rbbackup: one daemon with its own copy and three destinations, `--copies 3`: four copies, each flushed. rsync+sync: three
plain daemons, one run and one flush after the other: three copies. Everything is on one machine. Twice: over loopback as it
is, and with the source's uplink throttled to --uplink Mbit/s (by a proxy that both go through; what goes through it is
counted). Steps: first backup of OLD, then NEW over it. Each copy is compared with the source after each step.

As root in a test bed of its own, see run.py. Needs some 40 GB of disk while it runs.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import run as bench

RSYNC, OURS = "3 × rsync+sync", "rbbackup --copies 3"
MACHINES = 3
QUEUE_SECS = 0.05


class Uplink:
    """passes connections on to a port, no faster than so many bytes a second towards it, all together"""

    def __init__(self, rate):
        self.rate, self.sent, self.free_at, self.lock = rate, 0, time.monotonic(), threading.Lock()

    def to(self, port):
        """a port that leads to that one"""
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, args=(listener, port), daemon=True).start()
        return listener.getsockname()[1]

    def accept(self, listener, port):
        while True:
            source, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for ends in ((source, server, True), (server, source, False)):
                threading.Thread(target=self.copy, args=ends, daemon=True).start()

    def copy(self, origin, target, is_up):
        try:
            while data := origin.recv(32 << 10):
                if is_up:
                    self.wait_for(len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (origin, target):
                end.close()

    def wait_for(self, count):
        with self.lock:
            self.sent += count
            # A line has a queue: who is late by a moment has lost nothing.
            self.free_at = max(self.free_at, time.monotonic() - QUEUE_SECS) + count / self.rate
            wait = self.free_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)


class Contender:
    """Servers, and one command of the source."""

    def __init__(self, scratch, uplink):
        self.dir, self.uplink = Path(scratch) / type(self).__name__, uplink
        self.servers = []
        self.dir.mkdir()
        self.start()

    def way(self, port):
        return self.uplink.to(port) if self.uplink else port

    def stop(self):
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.wait(20)


class Rsync(Contender):
    name = RSYNC

    def start(self):
        self.tools = []
        for number in range(MACHINES):
            tool = bench.RsyncSync(self.dir / str(number))
            self.servers.append(tool.server)
            tool.port = self.way(tool.port)
            self.tools.append(tool)

    def env(self):
        return {}

    def command(self, source):
        each = (tool.backup(source) for tool in self.tools)
        script = " && ".join("sh -c '{}' {} {} {}".format(*argv[2:]) for argv in each)
        return ["sh", "-c", script]

    def is_right(self, source):
        # Its daemon rewrites symbolic links that lead out of its module: only that the files are there is looked at.
        copies = (tool.dir / "store" / source.name for tool in self.tools)
        compare = ["rsync", "-rnt", "--delete", "--itemize-changes"]
        said = (subprocess.run([*compare, f"{source}/", f"{copy}/"], capture_output=True, text=True) for copy in copies)
        return all(line.startswith("skipping") for answer in said for line in answer.stdout.splitlines())


class Ours(Contender):
    name = OURS

    def start(self):
        (self.dir / "home").mkdir()
        self.port = bench.free_port()
        self.direct = {**os.environ, **self.env()}
        self.spawn("daemon", [f"{bench.RbBackup.bin}/rbbackupd", self.dir / "store", "--listen", self.address()])
        for number in range(MACHINES):
            self.spawn(f"d{number}", [self.program(), "receive", self.dir / f"d{number}", "--name", f"d{number}"])
        end = time.monotonic() + 20
        while self.status().count("\ncopy ") < MACHINES:
            if time.monotonic() > end:
                raise RuntimeError(f"the destinations do not come, see {self.dir}/*.log: {self.status()}")
            time.sleep(0.1)
        self.port = self.way(self.port)

    def program(self):
        return f"{bench.RbBackup.bin}/rbbackup"

    def address(self):
        return f"127.0.0.1:{self.port}"

    def env(self):
        home = self.dir / "home"
        xdg = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "STATE", "DATA")}
        return {"HOME": str(home), "RBBACKUP_SERVER": self.address(), **xdg}

    def spawn(self, name, argv):
        log = open(self.dir / f"{name}.log", "ab")
        self.servers.append(subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, env=self.direct))

    def status(self):
        return subprocess.run([self.program(), "status"], env=self.direct, capture_output=True, text=True).stdout

    def command(self, source):
        # A name of its own: by its key it is another client than the destinations, and seen at another address, too.
        return [self.program(), "-rd", "--user", "source", "--copies", str(MACHINES), str(source)]

    def is_right(self, source):
        stores = [self.dir / "store", *(self.dir / f"d{number}" for number in range(MACHINES))]
        return all(bench.tree_equal(source, store / "127.0.0.1" / "source" / str(source)[1:]) for store in stores)


def timed(contender, source, step):
    """as bench.timed, over several servers"""

    def cpu():
        return sum(bench.cpu_seconds(server.pid) for server in contender.servers)

    before, wire, up = cpu(), bench.loopback_bytes(), contender.uplink.sent if contender.uplink else 0
    with open(contender.dir / "client.log", "ab") as log:
        begun = time.perf_counter()
        argv, env = contender.command(source), {**os.environ, **contender.env()}
        child = subprocess.Popen(argv, env=env, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    time.sleep(0.3)
    for server in contender.servers:
        bench.until_idle(server.pid)
    row = {
        "tool": contender.name,
        "step": step,
        "rc": child.returncode,
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime + cpu() - before,
        "wire": contender.uplink.sent - up if contender.uplink else bench.loopback_bytes() - wire,
        "rss": usage.ru_maxrss / 1024,
        "server_rss": max(bench.peak_mib(server.pid) for server in contender.servers),
        "equal": contender.is_right(source),
    }
    print(
        f"  {row['tool']:20} {step:22} rc={row['rc']} equal={row['equal']} wall={wall:7.2f}s cpu={row['cpu']:7.2f}s "
        f"wire={row['wire'] / 1e6:9.2f}MB rss={row['rss']:6.0f}/{row['server_rss']:.0f} MiB",
        flush=True,
    )
    return row


def one_run(number, uplink, args):
    """both contenders, first backup and next release, in one bed"""
    scratch = str(Path(tempfile.mkdtemp(prefix="rbbackup-bench-", dir=args.scratch)) / "bed")
    bed, contenders = (bench.Bed(scratch, args.bed_size) if bench.IS_ROOT else None), []
    where = f" at {args.uplink} Mbit/s" if uplink else ""
    try:
        source = Path(scratch) / "src" / "tree"
        source.parent.mkdir(parents=True)
        subprocess.run(["cp", "-a", str(args.old), str(source)], check=True)
        bench.warm_up(source)
        kinds = [Rsync, Ours] if number % 2 == 0 else [Ours, Rsync]
        for kind in kinds:
            contenders.append(kind(scratch, Uplink(args.uplink * 125_000) if uplink else None))
        for step in ("first", "next"):
            if step == "next":
                subprocess.run(["rsync", "-rlpc", "--delete", f"{args.new}/", f"{source}/"], check=True)
            for contender in contenders:
                bench.settle(source)
                yield timed(contender, source, step + where)
    finally:
        for contender in contenders:
            contender.stop()
        if bed:
            bed.close()
        shutil.rmtree(Path(scratch).parent, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a real tree")
    parser.add_argument("new", type=Path, help="the same tree, one release later")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--uplink", type=int, default=200, metavar="MBIT", help="0: only as fast as it goes")
    parser.add_argument("--only-uplink", action="store_true", help="leave the unthrottled runs out")
    parser.add_argument("--bin", type=Path, default=bench.RbBackup.bin, help="folder of rbbackup and rbbackupd")
    parser.add_argument("--scratch", help="folder to work in (default: TMPDIR)")
    parser.add_argument("--bed-size", default="60G")
    args = parser.parse_args()
    bench.RbBackup.bin = args.bin.resolve()
    args.old, args.new = args.old.resolve(), args.new.resolve()
    kinds = [False] * (not args.only_uplink) + [True] * (args.uplink > 0)
    rows = [row for number in range(args.runs) for uplink in kinds for row in one_run(number, uplink, args)]
    bench.table(rows, [RSYNC, OURS], RSYNC)
    bad = sorted({f"{row['tool']}: {row['step']}" for row in rows if row["rc"] or not row["equal"]})
    return f"failed or wrong: {', '.join(bad)}" if bad else None


if __name__ == "__main__":
    sys.exit(main())
