// A run that has just ended well stays for a moment with its bars full: who watches sees it arrive, and not only vanish.

const STAYS_MS = 2500;

/** What such a run looks like. */
function whole(run) {
  const total = run.bytes_total ?? run.bytes_done;
  return {
    ...run,
    over: true,
    note: null,
    gathering: null,
    eta_secs: null,
    bytes_done: total,
    bytes_total: total,
    percent: 100,
    file: run.file && { ...run.file, done: run.file.bytes },
    destinations: run.destinations.map((d) => ({ ...d, bytes_done: d.bytes_total ?? d.bytes_done, state: 'done' })),
  };
}

/** Gives a function from what goes on and what has ended to what is to be shown; `again` is called when that changes by itself. */
export function lingering(again) {
  let seen = new Map();
  const staying = new Map();
  return (runs, ended) => {
    const now = performance.now();
    const there = new Set(runs.map((run) => run.id));
    for (const [id, run] of seen) {
      if (there.has(id) || !ended.some((end) => end.id === id && end.exit_code === 0)) continue;
      staying.set(id, { run: whole(run), until: now + STAYS_MS });
      setTimeout(again, STAYS_MS + 50);
    }
    // While it is committed no file is under way: the last one is remembered.
    seen = new Map(runs.map((run) => [run.id, { ...run, file: run.file ?? seen.get(run.id)?.file ?? null }]));
    for (const [id, { until }] of staying) if (until <= now || there.has(id)) staying.delete(id);
    return [...runs, ...[...staying.values()].map((stay) => stay.run)];
  };
}
