// The time line of the last restarts: their duration, and their effects on requests.

import { clock, count, el, keyed, length, say } from './parts.js';

const id = (name) => document.getElementById(name);

/** Number of restarts shown, newest first. */
const SHOWN = 8;

/** The phases of a restart: beginning and end of each. A phase that was not observed belongs to the one before it. */
const PHASES = [
  ['drain', 'draining', 'began', 'drained'],
  ['down', 'away', 'drained', 'started'],
  ['start', 'starting', 'started', 'ready'],
];

const COSTS = ['served', 'closed', 'held', 'retried', 'moved', 'cut', 'lost'];

/** Returns the time between two instants, exact if it is short. */
const took = (ms) => (ms < 10_000 ? `${(ms / 1000).toLocaleString('en', { maximumFractionDigits: 1 })} s` : length(ms));

/** Returns the phases with their lengths in milliseconds. */
function phases(restart, now) {
  const at = (name) => (restart[name] ? Date.parse(restart[name]) : null);
  const end = restart.outcome === 'open' ? now : (at('ready') ?? at('started') ?? at('stopped') ?? at('drained') ?? at('began'));
  const found = [];
  let from = at('began');
  PHASES.forEach(([name, word, , until], index) => {
    const next = at(until) ?? (PHASES.slice(index + 1).some(([, , , later]) => at(later)) ? null : end);
    if (next === null || next < from) return;
    if (next > from) found.push({ name, word, ms: next - from });
    from = next;
  });
  return found;
}

/** Shows the restarts. */
export function restarts(state) {
  const list = [...(state.restarts?.restarts ?? [])].reverse().slice(0, SHOWN);
  id('restarts').hidden = list.length === 0;
  keyed(
    id('restart-list'),
    list,
    (restart) => restart.id,
    (restart) => el('li', {}, el('h3', {}, el('time', { datetime: restart.began }, clock(restart.began)), `${restart.pool}/${restart.backend}`), el('p', { class: 'phases', 'aria-hidden': 'true' }), el('p', { class: 'took' }), el('p', { class: 'quiet cost' }), el('p', { class: 'quiet cause' })),
    (row, restart) => {
      const { requests } = restart;
      row.classList.toggle('going', restart.outcome === 'open');
      row.classList.toggle('bad', requests.lost > 0 || restart.drain === 'died');
      const parts = phases(restart, state.now());
      keyed(row.querySelector('.phases'), parts, ({ name }) => name, ({ name }) => el('span', { class: `phase ${name}` }), (span, { ms }) => {
        span.style.flexGrow = String(Math.max(ms, 1));
      });
      const total = parts.reduce((sum, { ms }) => sum + ms, 0);
      const outcome = { open: 'under way', restarted: 'restarted', resumed: 'resumed', left: 'left' }[restart.outcome] ?? restart.outcome;
      say(row.querySelector('.took'), `${outcome}${total ? ` ${restart.outcome === 'open' ? 'for' : 'in'} ${took(total)}` : ''}${parts.length ? `: ${parts.map(({ word, ms }) => `${word} ${took(ms)}`).join(', ')}` : ''}`);
      const costs = COSTS.filter((cost) => requests[cost] > 0 || cost === 'lost').map((cost) => `${requests[cost].toLocaleString('en')} ${cost}`);
      say(row.querySelector('.cost'), `${costs.join(', ')}; ${restart.capacity_percent.toLocaleString('en', { maximumFractionDigits: 0 })} % of the pool left at the worst moment`);
      say(row.querySelector('.cause'), `${restart.reason}${restart.roll ? ` (roll ${restart.roll})` : ''}`);
    },
  );
  say(id('restarts-title'), list.length === SHOWN ? `The last ${count(SHOWN, 'restart')}` : 'Last restarts');
}
