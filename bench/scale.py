#!/usr/bin/env python3
"""How cost grows with the number of files: time, memory and bytes on the wire, as a table and as a picture.

  bench/scale.py [--counts 10000,100000,1000000,5000000] [--svg bench/scale.svg]

For each count a tree of so many files (100 to a folder, --bytes each; 0: empty), a first backup, no change, and one file in
a thousand changed. As root in a bed of its own (see run.py), else in a folder. A million files take some 10 GB and five
minutes, five million 45 GB and half an hour.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import run as bench

STEPS = ("first", "no change", "1 in 1000")


def make(top, count, size):
    data = b"x" * size
    for folder in range(math.ceil(count / 100)):
        path = f"{top}/{folder // 1000:04}/{folder % 1000:03}"
        os.makedirs(path)
        for file in range(min(100, count - folder * 100)):
            with open(f"{path}/f{file:02}", "wb") as out:
                out.write(data and f"{folder} {file} ".encode() + data)


def change(top, count):
    for number in range(0, count, 1000):
        folder, file = divmod(number, 100)
        Path(f"{top}/{folder // 1000:04}/{folder % 1000:03}/f{file:02}").write_text(f"changed {number}")


def one(scratch, count, size):
    source = Path(scratch) / "src" / "tree"
    source.mkdir(parents=True)
    print(f"making {count} files", flush=True)
    make(source, count, size)
    tool = bench.RbBackup(scratch)
    try:
        for step in STEPS:
            if step == "1 in 1000":
                change(source, count)
            subprocess.run(["sync"], check=True)
            time.sleep(2.5)  # nothing is too young to be believed
            row = bench.run([tool], tool, tool.backup(source), step)
            row["count"] = count
            yield row
    finally:
        tool.stop()


def svg(rows, path):
    """time and memory against files, both axes logarithmic"""
    width, height, left, top = 460, 300, 60, 30
    counts = sorted({row["count"] for row in rows})
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width + 40}" height="{height + 90}" '
             'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>']
    colours = {"first": "#b5482a", "no change": "#2a6fb5", "1 in 1000": "#3a8a4f", "client": "#2a6fb5", "daemon": "#b5482a"}

    def panel(x0, title, series):
        values = [value for points in series.values() for _, value in points if value > 0]
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        first, last = math.floor(math.log10(counts[0])), math.ceil(math.log10(counts[-1]))

        def at(count, value):
            x = x0 + left + (math.log10(count) - first) / max(1, last - first) * (width - left - 20)
            return x, top + height - (math.log10(value) - low) / max(1, high - low) * height

        lines.append(f'<text x="{x0 + left}" y="18" font-weight="bold">{title}</text>')
        for power in range(low, high + 1):
            x, y = at(10**first, 10**power)
            lines.append(f'<path d="M{x} {y}H{x0 + width - 20}" stroke="#ddd"/>'
                         f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{10**power:g}</text>')
        for power in range(first, last + 1):
            x, y = at(10**power, 10**low)
            lines.append(f'<path d="M{x} {y}V{top}" stroke="#ddd"/>'
                         f'<text x="{x}" y="{y + 16}" text-anchor="middle">10^{power}</text>')
        for number, (name, points) in enumerate(series.items()):
            spots = [at(count, value) for count, value in points if value > 0]
            way = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
            lines.append(f'<path d="M{way}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
            lines.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}"/>' for x, y in spots)
            lines.append(f'<text x="{x0 + left + number * 110}" y="{top + height + 40}" fill="{colours[name]}">{name}</text>')

    of = lambda step, what: [(row["count"], row[what]) for row in rows if row["step"] == step]
    panel(0, "seconds, by files", {step: of(step, "wall") for step in STEPS})
    panel(width + 20, "peak MiB of a first backup, by files", {"client": of("first", "rss"), "daemon": of("first", "server_rss")})
    Path(path).write_text("\n".join([*lines, "</svg>\n"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="10000,100000,1000000")
    parser.add_argument("--bytes", type=int, default=0, help="of each file")
    parser.add_argument("--svg", default=None)
    parser.add_argument("--bin", type=Path, default=bench.RbBackup.bin, help="folder of rbbackup and rbbackupd")
    parser.add_argument("--scratch", help="folder to work in (default: TMPDIR)")
    parser.add_argument("--bed-size", default="48G")
    args = parser.parse_args()
    bench.RbBackup.bin = args.bin.resolve()
    rows = []
    for count in map(int, args.counts.split(",")):
        if bench.IS_ROOT:
            scratch = Path(tempfile.mkdtemp(prefix="rbbackup-scale-", dir=args.scratch or tempfile.gettempdir()))
            bed = bench.Bed(scratch / "bed", args.bed_size, mkfs=("-i", "4096"))
            try:
                (scratch / "bed" / "work").mkdir()
                rows += one(scratch / "bed" / "work", count, args.bytes)
            finally:
                bed.close()
        else:
            with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
                rows += one(scratch, count, args.bytes)
    print("| files | step | wall | CPU | wire | peak client / daemon |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row['count']:,} | {row['step']} | {row['wall']:.2f} s | {row['cpu']:.2f} s | {row['wire'] / 1e6:.2f} MB "
              f"| {row['rss']:.0f} / {row['server_rss']:.0f} MiB |")
    if args.svg:
        svg(rows, args.svg)
    return None if all(row["rc"] == 0 for row in rows) else "failed"


if __name__ == "__main__":
    sys.exit(main())
