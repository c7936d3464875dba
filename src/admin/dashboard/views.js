// The sections of the page, filled with data from the API. All data is inserted as text, never as markup.

import { Series, clock, count, draw, el, keyed, length, mark, say, spark } from './parts.js';

const id = (name) => document.getElementById(name);

/** Number of rows of a pool that are shown at a time. */
const PAGE = 25;

/** Number of log lines that are kept. */
const LINES = 100;

const KINDS = [
  ['request', 'Requests', (backend) => backend.in_flight_by_kind.request],
  ['upgrade', 'WebSockets, tunnels', (backend) => backend.in_flight_by_kind.upgrade],
  ['stream', 'Event streams', (backend) => backend.in_flight_by_kind.stream],
  ['h2', 'On HTTP/2 streams', (backend) => backend.h2_streams ?? 0],
];

const sum = (list, of) => list.reduce((total, item) => total + of(item), 0);

/** Returns a backend's state for the balancer: an ejected backend is ready, but gets no new requests. */
export const stateOf = (backend) => (backend.state === 'ready' && backend.ejected ? 'ejected' : backend.state);

/** Returns the time until an instant; '' once it has passed. */
const left = (time, now) => (time && Date.parse(time) > now ? length(Date.parse(time) - now + 999) : '');

/** Returns the time since an instant. */
const since = (time, now) => (time ? length(now - Date.parse(time)) : '');

/** Returns the reasons for a backend's state, one per line. */
function reasons(backend, now) {
  const lines = backend.drains.map((drain) => {
    const ends = [
      backend.state === 'draining' && left(drain.deadline, now) && `cuts in ${left(drain.deadline, now)}`,
      drain.until === 'restarted' && 'until restarted',
      drain.expires && left(drain.expires, now) && `expires in ${left(drain.expires, now)}`,
    ].filter(Boolean);
    const line = `drain by ${drain.actor}: ${drain.reason || 'no reason given'}${ends.length ? ` (${ends.join(', ')})` : ''}`;
    return drain.warning ? `${line}. Warning: ${drain.warning}` : line;
  });
  if (backend.ejected) lines.push(`ejected: ${backend.ejected.reason}${left(backend.ejected.until, now) && `, back in ${left(backend.ejected.until, now)}`}`);
  if (['starting', 'down'].includes(backend.state) && backend.last_probe) lines.push(`last health check: ${backend.last_probe}`);
  return lines;
}

/** Returns what a drain has been waiting for longest. */
function oldest(backend, now) {
  const { oldest: old } = backend;
  if (!old) return '';
  const route = old.route ? ` (route ${old.route})` : '';
  return `oldest ${old.kind}: ${old.method} ${old.path}${route}, for ${length(now - Date.parse(old.since))}`;
}

/** The views of the page. `act`: the actions; `state.access` has the access rights. */
export class Views {
  pages = new Map();
  series = new Map();

  constructor(state, act) {
    this.state = state;
    this.act = act;
    this.choices = ['find', 'of-pool', 'of-state'].map(id);
    for (const choice of this.choices) {
      choice.addEventListener('input', () => {
        this.pages.clear();
        this.pools();
      });
    }
    id('filter').addEventListener('submit', (event) => event.preventDefault());
  }

  /** Creates a button for an action that may not be allowed: then it is marked so, with the reason. */
  button(label, name, does, main = false) {
    const button = el('button', { type: 'button', class: main ? 'action main' : 'action', 'aria-label': name, onclick: () => (this.state.access.change ? does() : this.act.refused()) }, label);
    return button;
  }

  allow(button) {
    const { change, why } = this.state.access;
    mark(button, 'aria-disabled', change ? null : 'true');
    mark(button, 'aria-describedby', change ? null : 'access');
    mark(button, 'title', change ? null : why);
  }

  /** Adds one sample to every graph. */
  sample() {
    const { pools } = this.state;
    const kept = new Set();
    const add = (key, value) => {
      kept.add(key);
      if (!this.series.has(key)) this.series.set(key, new Series());
      this.series.get(key).add(value);
    };
    const all = pools.flatMap((pool) => pool.backends);
    for (const [kind, , of] of KINDS) add(`all ${kind}`, sum(all, of));
    add('all held', sum(pools, (pool) => pool.held));
    for (const pool of pools) {
      for (const backend of pool.backends) add(`backend ${backend.id}`, backend.in_flight);
    }
    for (const key of this.series.keys()) if (!kept.has(key)) this.series.delete(key);
  }

  all() {
    this.tiles();
    this.drains();
    this.pools();
  }

  tiles() {
    const { pools, rate } = this.state;
    const all = pools.flatMap((pool) => pool.backends);
    const eligible = sum(pools, (pool) => pool.eligible);
    const tiles = [
      { key: 'eligible', label: 'Backends that take requests', value: `${eligible} of ${all.length}`, bad: eligible < all.length },
      { key: 'rate', label: 'Requests a second', value: rate === null ? '–' : rate.toLocaleString('en', { maximumFractionDigits: rate < 10 ? 1 : 0 }) },
      ...KINDS.map(([kind, label, of]) => ({ key: kind, label: `${label} in flight`, value: sum(all, of), series: `all ${kind}` })),
      { key: 'held', label: 'Requests held', value: sum(pools, (pool) => pool.held), series: 'all held', bad: pools.some((pool) => pool.held > 0) },
    ];
    keyed(
      id('tiles'),
      tiles,
      (tile) => tile.key,
      (tile) => el('div', { class: 'tile', 'data-tile': tile.key }, el('dt', {}, tile.label), el('dd', {}, el('span', { class: 'value' }), tile.series ? spark() : null)),
      (row, tile) => {
        row.classList.toggle('bad', Boolean(tile.bad));
        say(row.querySelector('.value'), typeof tile.value === 'number' ? tile.value.toLocaleString('en') : tile.value);
        const svg = row.querySelector('svg');
        if (svg && this.series.has(tile.series)) draw(svg, this.series.get(tile.series));
      },
    );
  }

  drains() {
    const now = this.state.now();
    const live = this.state.pools.flatMap((pool) => pool.backends.filter((backend) => backend.state === 'draining').map((backend) => ({ pool: pool.name, backend })));
    id('drains').hidden = live.length === 0;
    keyed(
      id('drain-list'),
      live,
      ({ backend }) => backend.id,
      ({ pool, backend }) => el('li', {}, el('h3', {}, `${pool}/${backend.name}`), el('p', { class: 'left' }), el('progress', { max: 1, value: 0, 'aria-label': `Time to the deadline of ${pool}/${backend.name}` }), el('p', { class: 'deadline' }), el('p', { class: 'oldest' }), el('p', { class: 'quiet why' })),
      (row, { backend }) => {
        const kinds = backend.in_flight_by_kind;
        const parts = [[kinds.request, 'request'], [kinds.upgrade, 'upgraded connection'], [kinds.stream, 'event stream']].filter(([number]) => number > 0);
        say(row.querySelector('.left'), backend.in_flight ? `${parts.map(([number, noun]) => count(number, noun)).join(', ')} left` : `nothing in flight; ${count(backend.connections, 'connection')} closing`);
        const ends = backend.drains.filter((drain) => drain.deadline).map((drain) => [Date.parse(drain.deadline), Date.parse(drain.since)]);
        const [deadline, began] = ends.sort(([one], [other]) => one - other)[0] ?? [];
        const bar = row.querySelector('progress');
        bar.hidden = deadline === undefined;
        if (deadline !== undefined) bar.value = Math.min(1, Math.max(0, (now - began) / (deadline - began || 1)));
        say(row.querySelector('.deadline'), deadline === undefined ? 'no deadline' : deadline > now ? `cut in ${length(deadline - now + 999)}` : 'the deadline has passed');
        say(row.querySelector('.oldest'), oldest(backend, now));
        say(row.querySelector('.why'), backend.drains.map((drain) => `by ${drain.actor}: ${drain.reason || 'no reason given'}`).join('; '));
      },
    );
  }

  pools() {
    const { pools } = this.state;
    const [find, ofPool, ofState] = this.choices.map((choice) => choice.value);
    const options = [el('option', { value: '' }, 'all'), ...pools.map((pool) => el('option', { value: pool.name }, pool.name))];
    if (this.choices[1].options.length !== options.length) {
      this.choices[1].replaceChildren(...options);
      this.choices[1].value = ofPool;
    }
    const text = find.trim().toLowerCase();
    const fits = (backend) => (!ofState || stateOf(backend) === ofState) && (!text || `${backend.name} ${backend.address} ${backend.zone ?? ''}`.toLowerCase().includes(text));
    const shown = pools
      .filter((pool) => !ofPool || pool.name === ofPool)
      .map((pool) => ({ pool, backends: pool.backends.filter(fits) }))
      .filter(({ backends }) => backends.length > 0 || !(text || ofState));
    keyed(id('pool-list'), shown, ({ pool }) => pool.name, ({ pool }) => this.makePool(pool), (card, item) => this.updatePool(card, item));
    mark(id('pool-list'), 'data-empty', shown.length ? null : pools.length ? 'No backend fits.' : 'There are no pools.');
  }

  makePool({ name }) {
    const columns = ['Backend', 'State', 'In flight', 'Conns', 'Requests', 'Weight', ''];
    const pool = () => this.state.pools.find((one) => one.name === name);
    const card = el(
      'article',
      { class: 'pool', 'data-pool': name, 'aria-label': `Pool ${name}` },
      el('div', { class: 'bar' }, el('h3', {}, name), el('p', { class: 'meta' }), el('div', { class: 'buttons' }, this.button('Pause', `Pause pool ${name}`, () => (pool()?.pause ? this.act.unpause(pool()) : this.act.pause(pool()))))),
      el('ul', { class: 'notes' }),
      el(
        'div',
        { class: 'scroll' },
        el(
          'table',
          { role: 'table', 'aria-label': `Backends of ${name}` },
          el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, ...columns.map((column) => el('th', { scope: 'col', role: 'columnheader' }, column || el('span', { class: 'unseen' }, 'Actions'))))),
          el('tbody', { role: 'rowgroup' }),
        ),
      ),
      el('nav', { class: 'pages', 'aria-label': `Pages of ${name}` }, this.turn(name, 'Previous', -1), el('span', { class: 'at' }), this.turn(name, 'Next', 1)),
    );
    return card;
  }

  turn(pool, label, by) {
    return el('button', { type: 'button', class: label.toLowerCase(), onclick: () => { this.pages.set(pool, (this.pages.get(pool) ?? 0) + by); this.pools(); } }, label);
  }

  updatePool(card, { pool, backends }) {
    const now = this.state.now();
    const ready = `${pool.eligible} of ${count(pool.backends.length, 'backend')} eligible`;
    say(card.querySelector('.meta'), `${ready} · ${pool.held} held · ${pool.balance}`);
    card.classList.toggle('bad', pool.eligible === 0);
    const pause = card.querySelector('.action');
    say(pause, pool.pause ? 'End the pause' : 'Pause');
    mark(pause, 'aria-label', pool.pause ? `End the pause of pool ${pool.name}` : `Pause pool ${pool.name}`);
    this.allow(pause);
    const notes = [];
    if (pool.pause) {
      const what = pool.pause.mode === 'page' ? `is answered with a page (${pool.pause.status})` : 'waits';
      notes.push(`Paused since ${clock(pool.pause.since)}: what comes ${what}, ${pool.pause.until ? `for ${left(pool.pause.until, now) || '0 s'} more` : 'until it is ended'}. ${pool.pause.reason}`);
    }
    for (const source of pool.discovery ?? []) if (source.state !== 'ok') notes.push(`${source.source}: ${source.state}. ${source.failure ?? source.doubt ?? ''}`);
    if (pool.supervisor) notes.push(`${pool.supervisor.type} is ${pool.supervisor.state === 'away' ? `not heard: ${pool.supervisor.why ?? ''}` : 'listened to'}`);
    if (pool.unsaved) notes.push(`Drains and registrations are not saved: ${pool.unsaved}`);
    keyed(card.querySelector('.notes'), notes.map((note, index) => ({ note, index })), ({ index }) => index, () => el('li'), (row, { note }) => say(row, note));
    const pages = Math.max(1, Math.ceil(backends.length / PAGE));
    const page = Math.min(Math.max(0, this.pages.get(pool.name) ?? 0), pages - 1);
    this.pages.set(pool.name, page);
    const shown = backends.slice(page * PAGE, (page + 1) * PAGE);
    keyed(card.querySelector('tbody'), shown, (backend) => backend.id, (backend) => this.makeRow(pool.name, backend), (row, backend) => this.updateRow(row, backend, now));
    const nav = card.querySelector('.pages');
    nav.hidden = pages === 1;
    say(nav.querySelector('.at'), `${page * PAGE + 1}–${page * PAGE + shown.length} of ${backends.length}`);
    // Not `disabled`: a button that has the focus would lose it.
    mark(nav.querySelector('.previous'), 'aria-disabled', page === 0 ? 'true' : null);
    mark(nav.querySelector('.next'), 'aria-disabled', page === pages - 1 ? 'true' : null);
  }

  makeRow(pool, { id: number, name }) {
    const now = () => this.state.pools.find((one) => one.name === pool)?.backends.find((one) => one.id === number);
    const cell = (label, ...content) => el('td', { role: 'cell', 'data-label': label }, ...content);
    const row = el(
      'tr',
      { role: 'row', 'data-backend': number },
      el('th', { scope: 'row', role: 'rowheader' }, el('span', { class: 'name' }), el('span', { class: 'address' })),
      cell('State', el('span', { class: 'state' }), el('span', { class: 'for' }), el('ul', { class: 'why' })),
      cell('In flight', el('span', { class: 'flight' }), spark(), el('span', { class: 'kinds' })),
      cell('Connections', el('span', { class: 'connections' })),
      cell('Requests', el('span', { class: 'requests' })),
      cell('Weight', el('span', { class: 'weight' })),
      cell('', this.button('Drain', `Drain ${pool}/${name}`, () => now() && (now().drains.length ? this.act.resume(pool, now()) : this.act.drain(pool, now())))),
    );
    return row;
  }

  updateRow(row, backend, now) {
    const find = (name) => row.querySelector(`.${name}`);
    const state = stateOf(backend);
    say(find('name'), backend.name);
    const place = [backend.zone && `zone ${backend.zone}`, backend.backup && 'backup', backend.source !== 'config' && backend.source].filter(Boolean);
    say(find('address'), `${backend.address}${place.length ? ` (${place.join(', ')})` : ''}`);
    say(find('state'), state);
    mark(find('state'), 'data-state', state);
    say(find('for'), backend.since ? `for ${since(state === 'ejected' ? backend.ejected.since : backend.since, now)}` : '');
    const why = reasons(backend, now);
    keyed(row.querySelector('ul'), why.map((line, index) => ({ line, index })), ({ index }) => index, () => el('li'), (item, { line }) => say(item, line));
    say(find('flight'), backend.in_flight.toLocaleString('en'));
    const kinds = backend.in_flight_by_kind;
    const lasting = [kinds.upgrade && count(kinds.upgrade, 'tunnel'), kinds.stream && count(kinds.stream, 'event stream'), backend.h2_streams && `${backend.h2_streams} on HTTP/2`, backend.sessions && count(backend.sessions, 'session')];
    say(find('kinds'), lasting.filter(Boolean).join(', '));
    const series = this.series.get(`backend ${backend.id}`);
    if (series) draw(row.querySelector('svg'), series);
    say(find('connections'), backend.connections.toLocaleString('en'));
    say(find('requests'), backend.requests.toLocaleString('en'));
    say(find('weight'), backend.weight);
    const button = find('action');
    const name = button.getAttribute('aria-label').replace(/^\S+ /, '');
    const label = backend.drains.length ? 'Resume' : 'Drain';
    say(button, label);
    mark(button, 'aria-label', `${label} ${name}`);
    this.allow(button);
  }

  splits() {
    const list = this.state.splits ?? [];
    id('splits').hidden = list.length === 0;
    const now = this.state.now();
    keyed(
      id('split-list'),
      list,
      (split) => split.route,
      ({ route }) => el('li', {}, el('div', { class: 'bar' }, el('h3', {}, route), this.button('Set', `Set the split of ${route}`, () => this.act.split(this.state.splits.find((one) => one.route === route)))), el('dl', { class: 'weights' }), el('p', { class: 'quiet plan' })),
      (row, split) => {
        this.allow(row.querySelector('button'));
        const total = sum(Object.values(split.weights), (weight) => weight) || 1;
        keyed(
          row.querySelector('.weights'),
          Object.entries(split.weights),
          ([pool]) => pool,
          ([pool]) => el('div', {}, el('dt', {}, pool), el('dd'), el('dd', { class: 'bar-of' }, el('progress', { max: 1, value: 0, 'aria-label': `Share of ${pool}` }))),
          (line, [pool, weight]) => {
            line.querySelector('progress').value = weight / total;
            const changed = split.configured[pool] === weight ? '' : ` (configured: ${split.configured[pool]})`;
            say(line.querySelector('dd'), `${((100 * weight) / total).toLocaleString('en', { maximumFractionDigits: 1 })} %${changed}`);
          },
        );
        const { plan } = split;
        const ends = plan?.ends && left(plan.ends, now) ? `, done in ${left(plan.ends, now)}` : '';
        say(row.querySelector('.plan'), plan ? `Plan: ${plan.pool} to ${plan.to} %, ${plan.state.replace('_', ' ')}, step ${plan.step} of ${plan.steps}${ends}${plan.reason ? `. ${plan.reason}` : ''}` : '');
      },
    );
  }

  certificates() {
    const served = (this.state.listeners ?? []).flatMap((listener) => [
      ...(listener.certificates ?? []).map((one) => ({ ...one, listener: listener.address, acme: (listener.acme ?? []).find((order) => order.file === one.file) })),
      // Ordered, but not issued yet.
      ...(listener.acme ?? []).filter((order) => !(listener.certificates ?? []).some((one) => one.file === order.file)).map((order) => ({ names: order.names, file: order.file, listener: listener.address, acme: order })),
    ]);
    id('certificates').hidden = served.length === 0;
    keyed(
      id('certificate-list'),
      served,
      (one) => `${one.listener} ${one.file}`,
      () => el('li', {}, el('h3'), el('p', { class: 'expiry' }), el('p', { class: 'quiet source' }), el('p', { class: 'quiet acme' })),
      (row, one) => {
        say(row.querySelector('h3'), one.names.join(', ') || one.file);
        say(row.querySelector('.expiry'), one.expires ? `${count(one.days_left, 'day')} left, until ${one.expires.slice(0, 10)}` : 'not there yet');
        row.classList.toggle('bad', one.days_left < 14 || (one.acme?.failures ?? 0) > 0);
        say(row.querySelector('.source'), `${one.listener} · ${one.issuer ? `${one.issuer} · ` : ''}${one.file}`);
        const { acme } = one;
        say(row.querySelector('.acme'), acme ? `ACME: ${acme.state}${acme.next_order ? `, next order ${acme.next_order.slice(0, 10)}` : ''}${acme.last_error ? `. ${acme.last_error}` : ''}` : '');
      },
    );
  }

  event(event) {
    const list = id('event-list');
    const whom = [event.pool, event.backend].filter(Boolean).join('/');
    const change = event.from && event.to ? `${event.from} → ${event.to}` : (event.to ?? '');
    const what = [event.kind, whom, change].filter(Boolean).join(' ');
    list.prepend(el('li', {}, el('time', { datetime: event.time }, clock(event.time)), el('span', { class: 'what' }, what), el('span', { class: 'quiet' }, event.reason ?? '')));
    while (list.childElementCount > LINES) list.lastElementChild.remove();
    id('no-events').hidden = true;
  }
}
