'use strict';
// The picture of docs/dashboard.md: the page over a world that is made up, and moves, so that its lines have something to
// show.

const http = require('node:http');
const path = require('node:path');

/** Looks of the page before the picture is taken. */
const LOOKS = 30;
const BEGUN = Date.now();

const at = (seconds) => new Date(BEGUN + seconds * 1000).toISOString();
const wave = (seconds, period) => Math.sin((2 * Math.PI * seconds) / period);

/** A backend with this much in flight. */
function backend(id, state, [request, stream, upgrade], more = {}) {
  const passed = (Date.now() - BEGUN) / 1000;
  return { id, name: `app-${id}`, address: `10.0.0.${id}:3000`, weight: 1, incarnation: 1, state, since: at(-60 * id - 35), health: 'up', source: 'config', last_probe: '200 in 1 ms', drains: [], in_flight: request + stream + upgrade, in_flight_by_kind: { request, stream, upgrade }, connections: 5, requests: Math.round(1210 * id + 150 * passed), h2_streams: id === 1 ? 9 : 0, ...more };
}

function restart(id, began, outcome, requests) {
  const marks = outcome === 'open' ? { drained: at(began + 5), stopped: at(began + 5), started: null, ready: null } : { drained: at(began + 5), stopped: at(began + 5), started: at(began + 8), ready: at(began + 8.4) };
  return { id: `r${id}`, pool: 'shop', backend: `app-${id}`, roll: 'roll-7', cause: 'operator', reason: 'deploy 42', outcome, drain: 'drained', began: at(began), told: at(began), ...marks, deadline: null, requests: { lines: 17, served: 12, closed: 3, retried: 0, held: 2, moved: 0, cut: 0, lost: 0, ...requests }, capacity_percent: 67, latency: { before: null, during: null, after: null } };
}

/** What the API says at this moment. */
function world() {
  const passed = (Date.now() - BEGUN) / 1000;
  const busy = (middle, period) => Math.round(middle + 4 * wave(passed, period));
  const drain = { actor: 'operator', id: 'operator', reason: 'deploy 42', since: at(-40), deadline: at(66), until: 'restarted', expires: null };
  const oldest = { kind: 'request', method: 'POST', path: '/v1/orders/*/pay', route: 'orders', since: at(-45), age_ms: 45_000 + 1000 * passed };
  return {
    '/v1/access': { read: true, change: true, token: 'accepted' },
    '/v1/pools': [
      {
        name: 'shop', balance: 'least_requests', eligible: 2, held: passed % 20 < 12 ? 1 : 0,
        backends: [
          backend(1, 'ready', [busy(14, 19), 7, 40]),
          backend(2, 'draining', [Math.max(2, 12 - Math.floor(passed / 4)), 2, 12], { since: drain.since, drains: [drain], oldest }),
          backend(3, 'ready', [busy(12, 23), 6, 38]),
          backend(4, 'starting', [0, 0, 0], { connections: 0, last_probe: 'connection refused' }),
        ],
      },
      { name: 'images', balance: 'hash', eligible: 3, held: 0, backends: [5, 6, 7].map((id) => backend(id, 'ready', [busy(9, 11 + id), 0, 0])) },
    ],
    '/v1/splits': [{ route: 'orders', weights: { shop: 75, 'shop-next': 25 }, configured: { shop: 100, 'shop-next': 0 } }],
    '/v1/listeners': [{ address: '0.0.0.0:443', certificates: [{ names: ['shop.example.org'], file: '/etc/lameduck/shop.pem', issuer: 'R12', expires: at(71 * 86_400), days_left: 71 }] }],
    '/v1/upgrade': { pid: 101, version: '0.1.0', under_way: false },
    '/v1/lame-duck': { lame_duck: false },
    '/v1/restarts': { proxy: {}, restarts: [restart(1, -212, 'restarted', {}), restart(3, -112, 'restarted', { retried: 1 }), restart(4, -12, 'open', {})] },
  };
}

/** The page's files come from `admin`, what they show from the world. */
function serve(admin) {
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://any');
    if (pathname === '/v1/events') {
      // It stays open: the page is connected.
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(': begun\n\n');
    } else if (pathname.startsWith('/v1/')) {
      const said = world()[pathname];
      response.writeHead(said ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(said ?? {}));
    } else {
      const file = await fetch(`http://${admin}${pathname}`);
      const type = file.headers.get('content-type') ?? 'text/plain';
      response.writeHead(file.status, { 'content-type': type }).end(Buffer.from(await file.arrayBuffer()));
    }
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

/** Writes `dashboard.png` into the directory. */
exports.draw = async (browser, admin, directory) => {
  const server = await serve(admin);
  const context = await browser.newContext({ viewport: { width: 1200, height: 760 }, colorScheme: 'light' });
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction((looks) => document.documentElement.dataset.sample > looks, LOOKS, { timeout: 90_000 });
  await page.screenshot({ path: path.join(directory, 'dashboard.png') });
  await context.close();
  server.closeAllConnections();
  server.close();
};
