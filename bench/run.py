#!/usr/bin/env python3
"""rbbackup and its peers side by side, on the same work, in one run.

  bench/run.py --fetch DIR             get two real trees: consecutive releases of the Linux sources (Debian 12), 1.3 GB each
  bench/run.py OLD NEW                 compare on the two trees OLD and NEW
  bench/run.py OLD NEW --work tree,big,many --runs 3 --json out.json

--fetch does by itself what these do by hand:
  apt-get download linux-source-6.1=6.1.176-1 linux-source-6.1=6.1.190-1
  dpkg -x FILE.deb d; mkdir OLD; tar -xf d/usr/src/linux-source-6.1.tar.xz --strip-components=1 -C OLD

Tools: rbbackup, rsync (daemon), rsync+sync, restic (REST, served by rclone), borg, cp+sync. What is not installed is left out, and said.
Every figure of a tool is taken in the same run as every other tool's, interleaved within each step, another tool first
each run: the drift of a noisy machine hits all alike. The ratios are what counts.

  wall   seconds of the client's command; for rbbackup and everything named +sync the flush is in it
  cpu    user + system seconds, client and server together
  wire   bytes over the loopback interface
  rss    peak resident MiB, client / server (a client's is never below this program's own, about 18)
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
HERE = Path(__file__).resolve().parent
IS_ROOT = os.geteuid() == 0


# ---- measuring ------------------------------------------------------------------------------------------------------


def loopback_bytes():
    return int(Path("/sys/class/net/lo/statistics/rx_bytes").read_text())


def family(pid):
    """a process and all that descend from it"""
    found, todo = [], [pid]
    while todo:
        process = todo.pop()
        found.append(process)
        for task in Path(f"/proc/{process}/task").glob("*"):
            try:
                todo += [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                pass
    return found


def cpu_seconds(pid):
    """of a process, its reaped children and its living descendants"""
    total = 0
    for process in family(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
        if process == pid:
            total += int(fields[13]) + int(fields[14])
    return total / TICK


def peak_mib(pid):
    peak = 0
    for process in family(pid):
        try:
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
        except OSError:
            continue
        peak = max(peak, int(found.group(1)) if found else 0)
    return peak / 1024


def until_idle(pid, secs=60):
    """a server may go on working after its client has left: wait until it uses no processor for a second"""
    last, quiet, end = cpu_seconds(pid), 0, time.monotonic() + secs
    while quiet < 4 and time.monotonic() < end:
        time.sleep(0.25)
        now = cpu_seconds(pid)
        quiet, last = (quiet + 1 if now - last < 0.02 else 0), now


def settle(source):
    """nothing of the step before is still being written when the next is timed, and the source is in memory for all"""
    subprocess.run(["sync"], check=True)
    time.sleep(0.5)
    subprocess.run(["sh", "-c", 'tar cf - -C "$0" . | cat >/dev/null', str(source)], check=True)


def timed(tool, argv, step):
    server = tool.server.pid if tool.server else None
    server_before, wire_before = cpu_seconds(server) if server else 0, loopback_bytes()
    with open(tool.dir / "client.log", "ab") as log:
        begun = time.perf_counter()
        child = subprocess.Popen(argv, env={**os.environ, **tool.env()}, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    time.sleep(0.3)  # a server that forks reaps its child, and its times with it
    if server:
        until_idle(server)
    row = {
        "tool": tool.name,
        "step": step,
        "rc": child.returncode,
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime + (cpu_seconds(server) - server_before if server else 0),
        "wire": loopback_bytes() - wire_before,
        "rss": usage.ru_maxrss / 1024,
        "server_rss": peak_mib(server) if server else 0,
    }
    print(
        f"  {tool.name:11} {step:9} rc={row['rc']} wall={wall:8.2f}s cpu={row['cpu']:8.2f}s "
        f"wire={row['wire'] / 1e6:9.2f}MB rss={row['rss']:6.0f}/{row['server_rss']:.0f} MiB",
        flush=True,
    )
    return row


def run(tools, tool, argv, step):
    """with the other tools' servers stopped"""
    others = [other.server for other in tools if other is not tool and other.server]
    for server in others:
        server.send_signal(signal.SIGSTOP)
    try:
        return timed(tool, argv, step)
    finally:
        for server in others:
            server.send_signal(signal.SIGCONT)


# ---- the tools ------------------------------------------------------------------------------------------------------


class Tool:
    name, needs, server = "?", (), None

    def __init__(self, scratch):
        self.dir = Path(scratch) / self.name
        self.dir.mkdir(parents=True)
        self.port = free_port()
        self.start()

    def start(self):
        pass

    def env(self):
        return {}

    def restored(self, source, out):
        """where a restore to `out` puts the tree"""
        return out

    def serve(self, argv):
        log = open(self.dir / "server.log", "ab")
        self.server = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **self.env()})
        end = time.monotonic() + 15
        while time.monotonic() < end:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 0.2).close()
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.name}: nothing listens on {self.port}, see {self.dir}/server.log")

    def stop(self):
        if self.server:
            self.server.terminate()
            try:
                self.server.wait(10)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
            self.server = None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RbBackup(Tool):
    """through rbbackupd on loopback"""

    name, bin = "rbbackup", HERE.parent / "target/release"

    def env(self):
        home = self.dir / "home"
        xdg = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "STATE", "DATA")}
        return {"HOME": str(home), "RBBACKUP_SERVER": f"127.0.0.1:{self.port}", **xdg}

    def start(self):
        (self.dir / "home").mkdir()
        self.serve([f"{self.bin}/rbbackupd", str(self.dir / "store"), "--listen", f"127.0.0.1:{self.port}"])

    def backup(self, source):
        return [f"{self.bin}/rbbackup", "-rd", str(source)]

    def restore(self, source, out):
        return [f"{self.bin}/rbbackup", "restore", str(source), "--to", str(out)]

    def restored(self, source, out):
        return Path(out) / Path(source).name


class RbBackupBefore(RbBackup):
    """another build of the same, to see what a change costs: --before DIR --tools rbbackup,before --reference before"""

    name, bin = "before", None


class Rsync(Tool):
    """its plain daemon: no encryption, no hash of what has not changed, nothing flushed"""

    name, needs = "rsync", ("rsync",)

    def start(self):
        (self.dir / "store").mkdir()
        owner = "uid = root\ngid = root\n" if IS_ROOT else ""
        (self.dir / "conf").write_text(f"use chroot = no\n{owner}[b]\npath = {self.dir}/store\nread only = no\n")
        argv = ["rsync", "--daemon", "--no-detach", f"--config={self.dir}/conf", f"--port={self.port}"]
        self.serve([*argv, "--address=127.0.0.1"])

    def url(self):
        return f"rsync://127.0.0.1:{self.port}/b/"

    def backup(self, source):
        return ["rsync", "-a", "--delete", str(source), self.url()]

    def restore(self, source, out):
        return ["rsync", "-a", f"{self.url()}{Path(source).name}/", str(out)]


class RsyncSync(Rsync):
    """as durable as a batch commit: one flush of the store's file system at the end"""

    name = "rsync+sync"

    def backup(self, source):
        return ["sh", "-c", 'rsync -a --delete "$0" "$1" && sync -f "$2"', str(source), self.url(), f"{self.dir}/store"]


class Restic(Tool):
    """over the network through its REST protocol, as its documentation advises for a LAN"""

    name, needs = "restic", ("restic", "rclone")

    def env(self):
        url = f"rest:http://127.0.0.1:{self.port}/"
        return {"RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": str(self.dir / "cache"), "RESTIC_REPOSITORY": url}

    def start(self):
        self.serve(["rclone", "serve", "restic", "--addr", f"127.0.0.1:{self.port}", str(self.dir / "repo")])
        subprocess.run(["restic", "init", "-q"], env={**os.environ, **self.env()}, check=True)

    def backup(self, source):
        return ["restic", "backup", "-q", str(source)]

    def restore(self, source, out):
        return ["restic", "restore", "-q", "latest", "--target", str(out)]

    def restored(self, source, out):
        return Path(f"{out}{source}")


class Borg(Tool):
    """to a local repository, without encryption: its fastest way"""

    name, needs = "borg", ("borg",)

    def env(self):
        quiet = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
        return {"BORG_BASE_DIR": str(self.dir / "base"), **quiet}

    def start(self):
        init = ["borg", "init", "-e", "none", str(self.dir / "repo")]
        subprocess.run(init, env={**os.environ, **self.env()}, check=True, capture_output=True)
        self.count = 0

    def backup(self, source):
        self.count += 1
        return ["borg", "create", f"{self.dir}/repo::a{self.count}", str(source)]

    def restore(self, source, out):
        return ["sh", "-c", 'cd "$0" && borg extract "$1"', str(out), f"{self.dir}/repo::a{self.count}"]

    def restored(self, source, out):
        return Path(f"{out}{source}")


class CpSync(Tool):
    """no tool at all: a local copy and a flush, the floor of what any copy of the tree costs"""

    name = "cp+sync"

    def start(self):
        self.count = 0

    def backup(self, source):
        self.count += 1
        store = self.dir / f"store{self.count}"
        store.mkdir()
        return ["sh", "-c", 'cp -a "$0" "$1/" && sync -f "$1"', str(source), str(store)]

    def restore(self, source, out):
        return ["cp", "-a", f"{self.dir}/store{self.count}/{Path(source).name}/.", str(out)]


TOOLS = {tool.name: tool for tool in (RbBackup, RbBackupBefore, RsyncSync, Rsync, Restic, Borg, CpSync)}


def missing(tool):
    if issubclass(tool, RbBackup):
        return [str(tool.bin / name) for name in ("rbbackup", "rbbackupd") if not os.access(tool.bin / name, os.X_OK)]
    return [need for need in tool.needs if not shutil.which(need)]


# ---- the work -------------------------------------------------------------------------------------------------------


def warm_up(source):
    """one copy that nobody times: the page cache has its size before the first tool starts"""
    subprocess.run(["cp", "-a", str(source), f"{source}-warm-up"], check=True)


def tree_equal(a, b):
    """content by diff; mode, owner, times and links by what rsync would still change"""
    if subprocess.run(["diff", "-r", "--no-dereference", "-q", str(a), str(b)], capture_output=True).returncode:
        return False
    left = ["rsync", "-naH", "--omit-dir-times", "--delete", "--itemize-changes", f"{a}/", f"{b}/"]
    answer = subprocess.run(left, capture_output=True, text=True)
    return answer.returncode == 0 and not answer.stdout.strip()


def work_start(tools, scratch, args):
    """the beginning of tree: first backup, no change three times"""
    source = real_tree(scratch, args)
    for step in ("first", "no change", "no change", "no change"):
        yield from each_tool(tools, source, step)


def real_tree(scratch, args):
    source = Path(scratch) / "src" / "tree"
    source.parent.mkdir(parents=True)
    subprocess.run(["cp", "-a", str(args.old), str(source)], check=True)
    warm_up(source)
    return source


def each_tool(tools, source, step):
    for tool in tools:
        settle(source)
        yield run(tools, tool, tool.backup(source), step)


def work_tree(tools, scratch, args):
    """a real tree: first backup, no change, the next release, a directory renamed, restore"""
    source = real_tree(scratch, args)

    def each(step):
        yield from each_tool(tools, source, step)

    yield from each("first")
    yield from each("no change")
    subprocess.run(["rsync", "-rlpc", "--delete", f"{args.new}/", f"{source}/"], check=True)
    yield from each("update")
    folders = [folder for folder in source.iterdir() if folder.is_dir() and not folder.is_symlink()]
    largest = max(folders, key=lambda folder: sum(1 for _ in folder.rglob("*")))
    largest.rename(largest.with_name(largest.name + "-moved"))
    yield from each("rename")
    for tool in tools:
        out = tool.dir / "out"
        out.mkdir()
        subprocess.run(["sync"], check=True)
        if IS_ROOT:
            Path("/proc/sys/vm/drop_caches").write_text("3")  # every store is read from disk
        settle(source)
        row = run(tools, tool, tool.restore(source, out), "restore")
        row["equal"] = tree_equal(source, tool.restored(source, out))
        if not row["equal"]:
            print(f"  {tool.name}: THE RESTORED TREE DIFFERS")
        yield row


def work_big(tools, scratch, args):
    """one big real file: a tar of OLD, replaced by the tar of NEW; then one byte inserted at its head"""
    source = Path(scratch) / "src" / "big"
    source.mkdir(parents=True)
    big = source / "tree.tar"

    def tar(tree):
        fixed = ["--sort=name", "--owner=0", "--group=0", "--mtime=2026-01-01"]
        subprocess.run(["tar", *fixed, "-C", str(tree), "-cf", str(big), "."], check=True)

    def each(step):
        yield from each_tool(tools, source, step)

    tar(args.old)
    warm_up(source)
    yield from each("big first")
    yield from each("big same")
    tar(args.new)
    yield from each("big next")
    subprocess.run(["sh", "-c", '(printf x; cat "$0") > "$0.n" && mv "$0.n" "$0"', str(big)], check=True)
    yield from each("big +1 B")


def work_many(tools, scratch, args):
    """many tiny files: first backup and no change"""
    source = Path(scratch) / "src" / "many"
    for i in range(args.files):
        folder = source / f"{i // 50_000:03}" / f"{i // 500:05}"
        if i % 500 == 0:
            folder.mkdir(parents=True)
        (folder / f"f{i:07}.txt").write_bytes(b"%d\n" % (i * 2654435761 % 2**32) * (1 + i % 7))
    warm_up(source)
    for step in ("many first", "many same"):
        yield from each_tool(tools, source, step)


WORK = {"tree": work_tree, "start": work_start, "big": work_big, "many": work_many}


# ---- the test bed ---------------------------------------------------------------------------------------------------


class Bed:
    """A bed that repeats (root only): a fresh ext4 on a loop device, and a memory cgroup that keeps the page cache at a
    fixed size. Without it, timings on a virtual machine measure two other things: the host handing out memory that the
    guest touches for the first time, and ext4 stepping over inodes freed in the last minutes. Nothing is deleted inside
    a bed; it is thrown away whole."""

    def __init__(self, scratch, size, memory=4 << 30, mkfs=()):
        self.image, self.dir, self.loop, self.group = Path(f"{scratch}.img"), Path(scratch), None, None
        self.dir.mkdir(parents=True, exist_ok=True)
        self.limit_memory(memory)
        subprocess.run(["truncate", "-s", size, str(self.image)], check=True)
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        subprocess.run(["mkfs.ext4", "-q", "-E", lazy, *mkfs, str(self.image)], check=True)
        attach = ["losetup", "--direct-io=on", "-f", "--show", str(self.image)]
        self.loop = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
        subprocess.run(["mount", "-o", "noatime", self.loop, str(self.dir)], check=True)

    def limit_memory(self, memory):
        v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
        self.home = v1 if v1.is_dir() else v2
        try:
            if not v1.is_dir():
                (v2 / "cgroup.subtree_control").write_text("+memory")
            group = self.home / "rbbackup-bench"
            group.mkdir(exist_ok=True)
            (group / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")).write_text(str(memory))
            (group / "cgroup.procs").write_text(str(os.getpid()))
            self.group = group
        except OSError as error:
            print(f"no memory cgroup ({error}): the page cache has no fixed size")

    def close(self):
        if self.group:
            (self.home / "cgroup.procs").write_text(str(os.getpid()))
        for _ in range(20):
            if subprocess.run(["umount", str(self.dir)], capture_output=True).returncode == 0:
                break
            time.sleep(0.5)
        subprocess.run(["losetup", "-d", self.loop], check=False)
        self.image.unlink()
        if self.group:
            try:
                self.group.rmdir()
            except OSError:
                pass


# ---- one command ----------------------------------------------------------------------------------------------------


def fetch(folder, versions):
    folder.mkdir(parents=True, exist_ok=True)
    for version in versions.split(","):
        tree = folder / version
        if tree.is_dir():
            continue
        subprocess.run(["apt-get", "download", f"linux-source-6.1={version}"], cwd=folder, check=True)
        package = next(folder.glob(f"linux-source-6.1_{version}_*.deb"))
        with tempfile.TemporaryDirectory(dir=folder) as unpacked:
            subprocess.run(["dpkg", "-x", str(package), unpacked], check=True)
            part = Path(unpacked) / "tree"
            part.mkdir()
            archive = f"{unpacked}/usr/src/linux-source-6.1.tar.xz"
            subprocess.run(["tar", "-xf", archive, "--strip-components=1", "-C", str(part)], check=True)
            part.rename(tree)
        package.unlink()
    print("bench/run.py " + " ".join(str(folder / version) for version in versions.split(",")))


def table(rows, names, reference):
    """medians as Markdown: seconds, and how many times the reference's"""

    def median(tool, step, key):
        values = [row[key] for row in rows if row["tool"] == tool and row["step"] == step]
        return statistics.median(values) if values else None

    print(f"\n| step | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
    for step in dict.fromkeys(row["step"] for row in rows):
        base, cells = median(reference, step, "wall"), []
        for name in names:
            wall = median(name, step, "wall")
            if wall is None:
                cells.append("")
                continue
            ratio = f" **×{wall / base:.2f}**" if base and name != reference else ""
            cpu = f"{median(name, step, 'cpu'):.2f} s of CPU"
            cells.append(f"{wall:.2f} s{ratio}, {cpu}, {median(name, step, 'wire') / 1e6:.1f} MB")
        print(f"| {step} | {' | '.join(cells)} |")
    print(f"\n**×** is the wall time in multiples of {reference}; MB went over the wire.\n\n| peak MiB | client | server |")
    print("| --- | --- | --- |")
    for name in names:
        mine = [row for row in rows if row["tool"] == name]
        if mine:
            print(f"| {name} | {max(row['rss'] for row in mine):.0f} | {max(row['server_rss'] for row in mine):.0f} |")


def one_run(work, number, names, args):
    names = names[number % len(names) :] + names[: number % len(names)]  # another tool goes first each run
    bed, tools = (Bed(args.scratch, args.bed_size) if args.bed else None), []
    try:
        for name in names:
            tools.append(TOOLS[name](args.scratch))
        return [dict(row, work=work, run=number) for row in WORK[work](tools, args.scratch, args)]
    finally:
        for tool in tools:
            tool.stop()
        if bed:
            bed.close()
        else:
            shutil.rmtree(args.scratch, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", nargs="?", type=Path, help="a real tree")
    parser.add_argument("new", nargs="?", type=Path, help="the same tree, one release later")
    parser.add_argument("--fetch", type=Path, metavar="DIR", help="get two such trees into DIR, and stop")
    parser.add_argument("--versions", default="6.1.176-1,6.1.190-1", help="of the package linux-source-6.1, for --fetch")
    default_tools = ",".join(name for name in TOOLS if name != RbBackupBefore.name)
    parser.add_argument("--tools", default=default_tools, help=f"of {','.join(TOOLS)} (default: {default_tools})")
    parser.add_argument("--reference", default="rsync+sync", help="the tool that is 1.00 (default: rsync+sync)")
    parser.add_argument("--work", default="tree", help=f"of {','.join(WORK)} (default: tree)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--files", type=int, default=200_000, help="for --work many")
    parser.add_argument("--bin", type=Path, default=RbBackup.bin, help="folder of rbbackup and rbbackupd")
    parser.add_argument("--before", type=Path, metavar="DIR", help="folder of another build, for the tool 'before'")
    parser.add_argument("--scratch", help="folder to work in; is made and removed (default: a new one in TMPDIR)")
    parser.add_argument("--no-bed", dest="bed", action="store_false", help="no loop device, no cgroup: noisier")
    parser.add_argument("--bed-size", default="60G", help="of its sparse image (default: 60G)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every single figure")
    args = parser.parse_args()
    unknown = [w for w in args.work.split(",") if w not in WORK] + [t for t in args.tools.split(",") if t not in TOOLS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    if RbBackupBefore.name in args.tools.split(",") and not args.before:
        parser.error("the tool 'before' needs --before DIR")
    if not args.fetch and args.work != "many" and not (args.old and args.new):
        parser.error("two trees are needed; --fetch DIR gets them")
    return args


def main():
    # A run that is told to stop takes its bed and its servers down, as one that is interrupted does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args = arguments()
    if args.fetch:
        return fetch(args.fetch.resolve(), args.versions)
    RbBackup.bin = args.bin.resolve()
    RbBackupBefore.bin = args.before.resolve() if args.before else None
    args.old, args.new = (tree.resolve() if tree else None for tree in (args.old, args.new))
    if args.bed and not IS_ROOT:
        print("not root: no test bed of its own, timings are noisier")
        args.bed = False
    names = []
    for name in args.tools.split(","):
        lacks = missing(TOOLS[name])
        print(f"{name} is left out: {', '.join(lacks)} is missing") if lacks else names.append(name)
    if not names:
        return "nothing to compare"
    rows, scratch = [], args.scratch
    for work in args.work.split(","):
        for number in range(args.runs):
            print(f"== {work}, run {number + 1}", flush=True)
            # A path of its own, so that removing it afterwards can hit nothing else.
            args.scratch = str(Path(tempfile.mkdtemp(prefix="rbbackup-bench-", dir=scratch)) / "bed")
            try:
                rows += one_run(work, number, names, args)
            finally:
                shutil.rmtree(Path(args.scratch).parent, ignore_errors=True)
    table(rows, names, args.reference)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    bad = sorted({f"{row['tool']}: {row['step']}" for row in rows if row["rc"] or not row.get("equal", True)})
    return f"failed or wrong: {', '.join(bad)}" if bad else None


if __name__ == "__main__":
    sys.exit(main())
