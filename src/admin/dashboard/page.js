// The page: reads the API every second and after each event, shows the state, and reconnects after an interruption.

import { actions } from './actions.js';
import { Api, clock, count, length, mark, say } from './parts.js';
import { restarts } from './restarts.js';
import { Views } from './views.js';

/** Interval of reads, in milliseconds: numbers change without events. */
const LOOK = 1000;
/** Interval of reads while the page is hidden, in milliseconds. */
const LOOK_HIDDEN = 15_000;
/** Interval of reads of rarely changing data, in milliseconds. */
const LOOK_SLOWLY = 5000;
/** Time to wait for further events after an event, in milliseconds. */
const SETTLE = 50;
/** Pauses before reconnecting, in milliseconds; the last one is repeated. */
const WAITS = [500, 1000, 2000, 4000, 8000, 15_000];
/** Silence after which the connection counts as lost, in milliseconds: the server sends a comment every 15 s. */
const SILENCE = 40_000;

const id = (name) => document.getElementById(name);
const api = new Api();

const state = {
  pools: [],
  splits: null,
  listeners: null,
  restarts: null,
  /** Requests per second; `null`: not known yet. */
  rate: null,
  access: { read: true, change: false, token: 'missing', why: 'What is allowed is not known yet.' },
  now: () => api.now(),
};

const act = actions(api, (what) => {
  announce(what);
  soon();
  slowly();
});
act.refused = () => {
  announce(state.access.why);
  if (['missing', 'wrong'].includes(state.access.token)) unlock();
};
const views = new Views(state, act);

// ---- announcements for screen readers

let spoken = [];
let speaking = null;

/** Announces a text; if there are many at once, only their number. */
function announce(text) {
  spoken.push(text);
  speaking ??= setTimeout(() => {
    const rest = spoken.length - 3;
    const said = spoken.slice(0, 3).join('. ');
    say(id('spoken'), rest > 0 ? `${said}, and ${count(rest, 'more change')}` : said);
    [spoken, speaking] = [[], null];
  }, 300);
}

// ---- access rights

const WHY = {
  missing: 'Read only: changes need the admin token.',
  wrong: 'Read only: the token is no longer the one in [admin] token_file.',
  none_configured: 'Read only: no [admin] token_file is configured. Set one and restart lameduck, or use the admin socket.',
};

async function lookAtAccess() {
  const access = (await api.read('/v1/access')) ?? { read: true, change: false, token: 'none_configured' };
  state.access = { ...access, why: WHY[access.token] ?? '' };
  say(id('access'), access.change ? 'Changes are allowed.' : state.access.why);
  id('unlock').hidden = access.token === 'none_configured' || access.token === 'not_needed';
  say(id('unlock'), access.token === 'accepted' ? 'Forget the token' : 'Enter the token');
  notice(access.read ? '' : 'This address shows nothing without the admin token. Enter it to see the figures.');
}

async function unlock() {
  if (await act.unlock()) {
    await lookAtAccess().catch(() => {});
    wait.tries = 0;
    again();
  }
}

id('unlock').addEventListener('click', async () => {
  if (state.access.token !== 'accepted') return unlock();
  api.keep('');
  location.reload();
});

function notice(text) {
  id('notice').hidden = !text;
  say(id('notice'), text);
}

// ---- numbers

/** The pools at the last read, to compute the rate. */
let before = null;
let looking = false;
let wanted = false;
let timer = null;
let samples = 0;
let drawn = 0;

async function look() {
  if (looking) {
    wanted = true;
    return;
  }
  [looking, wanted] = [true, false];
  clearTimeout(timer);
  let pools = null;
  try {
    pools = await api.read('/v1/pools');
  } catch (error) {
    // The event stream shows whether there is a connection.
    if (error.status === 401) await lookAtAccess().catch(() => {});
  }
  looking = false;
  timer = setTimeout(look, document.hidden ? LOOK_HIDDEN : LOOK);
  if (wanted) soon();
  if (pools) show(pools);
}

function show(pools) {
  const time = performance.now();
  const total = pools.flatMap((pool) => pool.backends).reduce((sum, backend) => sum + backend.requests, 0);
  if (before && time - before.time > 800) {
    // A backend that has left takes its count along.
    state.rate = Math.max(0, (1000 * (total - before.total)) / (time - before.time));
    before = null;
  }
  before ??= { time, total };
  state.pools = pools;
  if (time - drawn > 0.9 * LOOK) {
    views.sample();
    drawn = time;
  }
  views.all();
  samples += 1;
  mark(document.documentElement, 'data-sample', samples);
}

let settling = null;
/** Reads in a moment: several events cause one read. */
function soon() {
  settling ??= setTimeout(() => {
    settling = null;
    look();
  }, SETTLE);
}

let slow = null;
/** Reads the rarely changing data. */
async function slowly() {
  clearTimeout(slow);
  slow = setTimeout(slowly, document.hidden ? LOOK_HIDDEN : LOOK_SLOWLY);
  const read = (path) => api.read(path).catch(() => undefined);
  const [splits, listeners, upgrade, lame, told] = await Promise.all(
    ['/v1/splits', '/v1/listeners', '/v1/upgrade', '/v1/lame-duck', '/v1/restarts?limit=8'].map(read),
  );
  if (splits !== undefined) state.splits = splits;
  if (listeners !== undefined) state.listeners = listeners;
  if (told !== undefined) state.restarts = told;
  views.splits();
  views.certificates();
  restarts(state);
  chip('readiness', lame?.lame_duck ? (lame.quiet === false ? 'Lame duck: new requests still come' : 'Lame duck: not ready, still serving') : '');
  const old = upgrade?.predecessor;
  const waits = old && `Upgraded: process ${old.pid} (${old.version}) finishes ${count(old.connections, 'connection')}`;
  chip('upgrade', upgrade?.under_way ? 'An upgrade is under way' : (waits ?? (upgrade?.last_failure && `Last upgrade failed: ${upgrade.last_failure}`) ?? ''));
  say(id('where'), `${upgrade?.version ? `${upgrade.version} · ` : ''}${location.host}`);
}

function chip(name, text) {
  id(name).hidden = !text;
  say(id(name), text ?? '');
}

// ---- events

const wait = { tries: 0, timer: null, cut: null, next: null };
let following = null;

function connected(is) {
  mark(document.documentElement, 'data-connection', is ? 'live' : 'cut');
  if (is) {
    [wait.tries, wait.cut] = [0, null];
    say(id('connection'), 'Live');
  }
}

/** Follows the events as long as possible; then waits, longer each time, and reconnects. */
async function again() {
  clearTimeout(wait.timer);
  following?.abort();
  const mine = (following = new AbortController());
  let watch = null;
  const heard = () => {
    clearTimeout(watch);
    watch = setTimeout(() => mine.abort(), SILENCE);
  };
  try {
    heard();
    await api.follow(
      () => {
        connected(true);
        // Changes made meanwhile cause no event.
        lookAtAccess().catch(() => {});
        look();
        slowly();
      },
      (event) => {
        heard();
        if (!event) return;
        if (event.kind !== 'lagged') views.event(event);
        if (event.kind === 'state') announce(`${event.pool}/${event.backend} is ${event.to}`);
        soon();
        if (event.kind !== 'state' && event.kind !== 'drain') slowly();
      },
      mine.signal,
    );
  } catch (error) {
    if (error.status === 401) await lookAtAccess().catch(() => {});
  }
  clearTimeout(watch);
  if (mine !== following) return;
  wait.cut ??= Date.now();
  connected(false);
  const pause = WAITS[Math.min(wait.tries, WAITS.length - 1)];
  wait.tries += 1;
  wait.next = Date.now() + pause;
  // Random, so that not all pages reconnect at the same time.
  wait.timer = setTimeout(again, pause * (0.8 + 0.4 * Math.random()));
  tick();
}

/** Updates what changes with time only. */
function tick() {
  if (wait.cut === null) return;
  const next = wait.next > Date.now() ? `again in ${length(wait.next - Date.now() + 999)}` : 'trying again';
  say(id('connection'), `Not connected since ${clock(wait.cut)}`);
  mark(id('connection'), 'title', next);
}

setInterval(tick, 1000);
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  look();
  if (wait.cut !== null) {
    wait.tries = 0;
    again();
  }
});
window.addEventListener('online', () => wait.cut !== null && again());

say(id('where'), location.host);
lookAtAccess().catch(() => {});
again();
