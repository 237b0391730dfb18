// Small drawings, 16 by 16, in the colour of the text beside them. They are decoration: words say the same.

import { s } from './dom.js';

const PATHS = {
  check: 'M3.5 8.5l3 3 6-7',
  clock: 'M8 2.2a5.8 5.8 0 1 0 0 11.6a5.8 5.8 0 1 0 0-11.6M8 5v3.2l2.2 1.6',
  warn: 'M8 2.5L14 13H2zM8 6.5v3M8 11.2v.1',
  cross: 'M8 2.2a5.8 5.8 0 1 0 0 11.6a5.8 5.8 0 1 0 0-11.6M5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4',
  question: 'M8 2.2a5.8 5.8 0 1 0 0 11.6a5.8 5.8 0 1 0 0-11.6M6.3 6.6c.1-2.2 3.5-2.1 3.4 0c0 1.3-1.7 1.3-1.7 2.6M8 11.2v.1',
  ring: 'M8 3a5 5 0 1 0 0 10a5 5 0 1 0 0-10',
  part: 'M8 2.2a5.8 5.8 0 1 0 0 11.6a5.8 5.8 0 1 0 0-11.6M8 5v3.4M8 10.9v.1',
  folder: 'M1.8 4.2c0-.6.4-1 1-1h3.4l1.4 1.6h5.6c.6 0 1 .4 1 1v6c0 .6-.4 1-1 1H2.8c-.6 0-1-.4-1-1z',
  file: 'M4 1.8h5l3 3v9.4H4zM9 1.8v3h3',
  link: 'M6.6 9.4a2.6 2.6 0 0 0 3.8.2l2-2a2.6 2.6 0 0 0-3.7-3.7l-.9.9M9.4 6.6a2.6 2.6 0 0 0-3.8-.2l-2 2a2.6 2.6 0 0 0 3.7 3.7l.9-.9',
  device: 'M3 3h10v10H3zM6 6h4v4H6z',
  download: 'M8 2.5v7.5M4.8 7L8 10.2L11.2 7M3 13.2h10',
  search: 'M7 2.8a4.2 4.2 0 1 0 0 8.4a4.2 4.2 0 1 0 0-8.4M10.2 10.2l3.3 3.3',
  close: 'M4 4l8 8M12 4l-8 8',
  right: 'M6 3.5L10.5 8L6 12.5',
  left: 'M10 3.5L5.5 8L10 12.5',
  up: 'M3.5 10L8 5.5l4.5 4.5',
  down: 'M3.5 6L8 10.5L12.5 6',
  sun: 'M8 5.2a2.8 2.8 0 1 0 0 5.6a2.8 2.8 0 1 0 0-5.6M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9',
  moon: 'M13 9.6A5.6 5.6 0 0 1 6.4 3a5.6 5.6 0 1 0 6.6 6.6z',
  half: 'M8 2.2a5.8 5.8 0 1 0 0 11.6a5.8 5.8 0 1 0 0-11.6M8 2.2v11.6M10.5 4v8M12.6 6v4',
  menu: 'M2.5 4.5h11M2.5 8h11M2.5 11.5h11',
  play: 'M5 3.2l7.5 4.8L5 12.8z',
  stop: 'M4 4h8v8H4z',
  pause: 'M5.2 3.5v9M10.8 3.5v9',
  plus: 'M8 3v10M3 8h10',
  copy: 'M5.5 5.5h7.7v7.7H5.5zM3 10.5V2.8h7.5',
  restore: 'M3 4v3.5h3.5M3.2 7.3A5.2 5.2 0 1 1 3.6 10',
  compare: 'M5 2.5v8.5M2.5 8.5L5 11l2.5-2.5M11 13.5V5M8.5 7.5L11 5l2.5 2.5',
  server: 'M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5v.1M5 11v.1',
  edit: 'M3 13l.6-2.8L11 2.8l2.2 2.2l-7.4 7.4z',
  trash: 'M3 4.5h10M6.5 4.5V2.8h3v1.7M4.5 4.5l.6 8.7h5.8l.6-8.7',
  person: 'M8 2.5a2.6 2.6 0 1 0 0 5.2a2.6 2.6 0 1 0 0-5.2M3 13.5c.4-5 9.6-5 10 0',
  home: 'M2.5 8L8 3l5.5 5M4 7v6h8V7',
  out: 'M9.5 3H3.5v10h6M7 8h6.5M11 5.5L13.5 8L11 10.5',
  save: 'M8 2.5v6M5.5 6L8 8.5L10.5 6M2.8 9.5v3.7h10.4V9.5',
};

/** A drawing by its name. */
export function icon(name, className = '') {
  return s('svg', { class: `icon ${className}`, viewBox: '0 0 16 16', 'aria-hidden': 'true', focusable: 'false' },
    s('path', { d: PATHS[name] ?? PATHS.ring }));
}
