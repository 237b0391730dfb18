// What is chosen on the page as the command that does the same: to learn it, to put it into a script.

/** A word as a shell takes it. */
function quoted(word) {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** The command of a profile that is not saved. */
export function commandOf(profile) {
  const words = ['rbbackup'];
  if (profile.role === 'destination') {
    words.push('receive', profile.folder || 'DIR');
    if (profile.server) words.push('-s', profile.server);
    if (profile.called) words.push('--name', profile.called);
  } else {
    const flags = `${profile.recursive ? 'r' : ''}${profile.delete ? 'd' : ''}`;
    if (flags) words.push(`-${flags}`);
    if (profile.server) words.push('-s', profile.server);
    if (profile.user) words.push('--user', profile.user);
    if (profile.copies) words.push('--copies', String(profile.copies));
    for (const pattern of profile.excludes) words.push('--exclude', pattern);
    words.push(...(profile.folders.length ? profile.folders : ['PATH']));
  }
  return words.map(quoted).join(' ');
}
