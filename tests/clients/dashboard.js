'use strict';
// Drives the dashboard in a real browser: node dashboard.js CHROMIUM ADMIN TOKEN [PICTURES]. Says `rolling` when the
// backends are to be restarted one after the other, how many looks it has compared, and `done` at its end.

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');

const packages = path.join(__dirname, '../apps/node_modules');
const { chromium } = require(path.join(packages, 'playwright-core'));
const picture = require('./dashboard_picture.js');
const axe = fs.readFileSync(path.join(packages, 'axe-core/axe.min.js'), 'utf8');

const [, , program, admin, token, pictures] = process.argv;
const PATIENCE = 30_000;
const WIDTHS = [[360, 740], [1280, 900], [2560, 1300]];
const THEMES = ['light', 'dark'];

/** A way to the admin address that can be cut. */
function startWire(target) {
  const [host, port] = target.split(':');
  const sockets = new Set();
  let isCut = false;
  const server = net.createServer((client) => {
    if (isCut) return client.destroy();
    const behind = net.connect(Number(port), host);
    for (const [socket, other] of [[client, behind], [behind, client]]) {
      sockets.add(socket);
      socket.pipe(other);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  const cut = (is) => {
    isCut = is;
    if (is) for (const socket of sockets) socket.destroy();
  };
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve({ address: `127.0.0.1:${server.address().port}`, cut, close: () => { cut(true); server.close(); } })));
}

const api = async (method, where, body, fields = {}) => {
  const answer = await fetch(`http://${admin}${where}`, { method, headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...fields }, body: body && JSON.stringify(body) });
  return answer.json();
};

/** Restarts of the pool's backends that are over. */
async function countRestarts() {
  const { restarts } = await api('GET', '/v1/restarts');
  return restarts.filter((restart) => restart.pool === 'app' && restart.outcome === 'restarted').length;
}

/** What the page says of each backend and of the pools. */
const readPage = () => {
  const text = (node, name) => node.querySelector(name).textContent;
  const number = (node, name) => Number(text(node, name).replaceAll(',', ''));
  const tile = (name) => text(document, `[data-tile="${name}"] .value`);
  return {
    sample: Number(document.documentElement.dataset.sample ?? 0),
    held: tile('held'),
    request: tile('request'),
    eligible: tile('eligible'),
    drains: [...document.querySelectorAll('#drain-list h3')].map((title) => title.textContent),
    backends: [...document.querySelectorAll('tr[data-backend]')].map((row) => ({
      id: Number(row.dataset.backend),
      name: text(row, '.name'),
      state: text(row, '.state'),
      in_flight: number(row, '.flight'),
      connections: number(row, '.connections'),
      requests: number(row, '.requests'),
    })),
  };
};

/** The same from what the API has answered. */
function readAnswer(pools, sample) {
  const all = pools.flatMap((pool) => pool.backends);
  const sum = (list, of) => list.reduce((total, item) => total + of(item), 0);
  return {
    sample,
    held: sum(pools, (pool) => pool.held).toLocaleString('en'),
    request: sum(all, (backend) => backend.in_flight_by_kind.request).toLocaleString('en'),
    eligible: `${sum(pools, (pool) => pool.eligible)} of ${all.length}`,
    drains: pools.flatMap((pool) => pool.backends.filter((backend) => backend.state === 'draining').map((backend) => `${pool.name}/${backend.name}`)),
    backends: all.map(({ id, name, state, in_flight, connections, requests }) => ({ id, name, state, in_flight, connections, requests })),
  };
}

async function withPage(browser, options, does) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.stack));
  page.on('console', (message) => message.text().includes('Content Security Policy') && faults.push(message.text()));
  await does(page, context);
  assert.deepEqual(faults, [], 'the page has faults');
  await context.close();
}

const isLive = (page) => page.waitForFunction(() => document.documentElement.dataset.connection === 'live' && document.documentElement.dataset.sample);

/** Without a token nothing is sent that changes anything, and the page says why; with a wrong one neither. */
async function refusesWithoutToken(browser) {
  await withPage(browser, {}, async (page) => {
    const changes = [];
    page.on('request', (request) => request.method() !== 'GET' && changes.push(request.url()));
    await page.goto(`http://${admin}/`);
    await isLive(page);
    const drain = page.getByRole('button', { name: 'Drain app/app-1' });
    await page.waitForFunction(() => document.querySelector('#access').textContent.includes('token'));
    await drain.waitFor();
    assert.equal(await drain.getAttribute('aria-disabled'), 'true');
    assert.equal(await page.locator(`#${await drain.getAttribute('aria-describedby')}`).textContent(), 'Read only: changes need the admin token.');
    for (const name of ['Drain app/app-1', 'Pause pool app']) {
      await page.getByRole('button', { name }).click({ force: true });
      await page.getByRole('dialog', { name: 'Enter the admin token' }).waitFor();
      await page.keyboard.press('Escape');
    }
    await page.getByRole('button', { name: 'Enter the token' }).click();
    await page.keyboard.type('wrong');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').filter({ hasText: 'not the token' }).waitFor();
    await page.keyboard.press('Escape');
    assert.deepEqual(changes, []);
    // The page's own origin makes no difference to the API.
    const answers = await page.evaluate(async () => {
      const statuses = [];
      for (const [method, where] of [['POST', '/v1/pools/app/backends/app-1/drain'], ['POST', '/v1/pools/app/pause'], ['DELETE', '/v1/pools/app/pause'], ['PUT', '/v1/routes/shop/split']]) {
        statuses.push((await fetch(where, { method, body: method === 'DELETE' ? undefined : '{}', headers: { 'content-type': 'application/json' } })).status);
      }
      return statuses;
    });
    assert.deepEqual(answers, [401, 401, 401, 401]);
  });
}

/** Another site's page changes nothing, and reads nothing. */
async function refusesOtherSites(browser) {
  const target = `http://${admin}/v1/pools/app/backends/app-1/drain`;
  const evil = http.createServer((_, answer) => {
    answer.setHeader('content-type', 'text/html');
    answer.end(`<form method="post" enctype="text/plain" action="${target}"><input name='{"reason":"' value='evil"}'></form>`);
  });
  await new Promise((resolve) => evil.listen(0, 'localhost', resolve));
  await withPage(browser, {}, async (page) => {
    await page.goto(`http://localhost:${evil.address().port}/`);
    const read = await page.evaluate((url) => fetch(url).then((answer) => answer.text(), () => 'refused'), `http://${admin}/v1/pools`);
    assert.equal(read, 'refused');
    const answered = page.waitForResponse(target);
    await page.evaluate(() => document.forms[0].submit());
    const answer = await answered;
    assert.equal(answer.status(), 403);
    assert.match(await answer.text(), /foreign-origin/);
  });
  evil.close();
  const [pool] = await api('GET', '/v1/pools');
  assert.ok(pool.backends.every((backend) => backend.drains.length === 0));
}

/** By keyboard alone: the token, a drain, its end. The focus stays where it is while the figures change. */
async function changesWithToken(browser) {
  await withPage(browser, { reducedMotion: 'reduce' }, async (page) => {
    await page.goto(`http://${admin}/`);
    await isLive(page);
    await page.getByRole('button', { name: 'Enter the token' }).waitFor();
    await page.getByRole('button', { name: 'Enter the token' }).focus();
    await page.keyboard.press('Enter');
    await page.keyboard.type(token);
    await page.keyboard.press('Enter');
    await page.getByText('Changes are allowed.').waitFor();
    assert.equal(await page.evaluate(() => JSON.stringify([localStorage.length, document.cookie])), '[0,""]');
    const row = page.locator('tr', { has: page.locator('.name', { hasText: /^app-1$/ }) });
    await row.getByRole('button').focus();
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog', { name: 'Drain app/app-1?' });
    await dialog.waitFor();
    await page.keyboard.type('20s');
    await page.keyboard.press('Enter');
    await row.locator('.state', { hasText: /drain/ }).waitFor();
    assert.equal((await api('GET', '/v1/pools/app/backends/app-1')).drains[0].actor, 'operator');
    const sample = await page.evaluate(() => Number(document.documentElement.dataset.sample));
    await page.waitForFunction((sample) => Number(document.documentElement.dataset.sample) > sample + 2, sample);
    const focused = await page.evaluate(() => document.activeElement.getAttribute('aria-label'));
    assert.equal(focused, 'Resume app/app-1', 'the focus was lost');
    await page.keyboard.press('Enter');
    await page.getByRole('dialog', { name: 'Resume app/app-1?' }).waitFor();
    await page.getByRole('button', { name: 'Resume', exact: true }).click();
    await row.locator('.state', { hasText: 'ready' }).waitFor();
    await page.getByRole('button', { name: 'Pause pool app' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Pause' }).click();
    await page.getByText(/Paused since .*: what comes waits/).waitFor();
    await page.getByRole('button', { name: 'End the pause of pool app' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'End the pause' }).click();
    await page.getByText(/Paused since/).waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Set the split of shop' }).click();
    await page.getByLabel('Weight of next').fill('30');
    await page.getByRole('dialog').getByRole('button', { name: 'Set' }).click();
    await page.locator('#split-list', { hasText: 'configured: 5' }).waitFor();
    assert.deepEqual((await api('GET', '/v1/routes/shop/split')).weights, { app: 95, next: 30 });
  });
}

/** Every look's figures are the API's, through a rolling restart and a cut of the connection. */
async function showsWhatTheApiSays(browser) {
  const wire = await startWire(admin);
  let compared = 0;
  let drains = 0;
  await withPage(browser, {}, async (page) => {
    // What the page has read last, to be compared with what it shows of it.
    await page.addInitScript(() => {
      const ask = window.fetch;
      window.fetch = async (...given) => {
        const answer = await ask(...given);
        if (given[0] === '/v1/pools' && answer.ok) window.lastPools = await answer.clone().json();
        return answer;
      };
    });
    await page.goto(`http://${wire.address}/`);
    await isLive(page);
    const restarted = await countRestarts();
    console.log('rolling');
    let seen = 0;
    for (;;) {
      const { shown, pools } = await page.evaluate(`new Promise((resolve) => {
        const read = ${readPage};
        const sample = document.documentElement.dataset.sample;
        const look = new MutationObserver(() => {
          if (document.documentElement.dataset.sample === sample) return;
          look.disconnect();
          resolve({ shown: read(), pools: window.lastPools });
        });
        look.observe(document.documentElement, { attributes: true });
      })`);
      assert.deepEqual(shown, readAnswer(pools, shown.sample));
      assert.ok(shown.sample > seen);
      seen = shown.sample;
      compared += 1;
      drains += shown.drains.length;
      if ((await countRestarts()) - restarted >= 2) break;
    }
    assert.ok(drains > 0, 'no drain was seen');
    await page.locator('#restart-list li', { hasText: 'restarted' }).nth(1).waitFor();
    await page.locator('#event-list li', { hasText: 'draining' }).first().waitFor();
    wire.cut(true);
    await page.locator('#connection', { hasText: 'Not connected since' }).waitFor();
    const before = await page.evaluate(() => Number(document.documentElement.dataset.sample));
    wire.cut(false);
    await isLive(page);
    await page.waitForFunction((before) => Number(document.documentElement.dataset.sample) > before, before);
    await page.locator('#connection', { hasText: 'Live' }).waitFor();
  });
  wire.close();
  return compared;
}

/** A world of everything there is, with names that are markup. */
function hostileWorld(token) {
  const evil = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>';
  const at = (seconds) => new Date(Date.now() + seconds * 1000).toISOString();
  const backend = (id, state, more = {}) => ({ id, name: `${evil}${id}`, address: `10.0.0.1:${id}`, weight: 1, incarnation: 1, state, since: at(-90), health: 'up', source: 'api', last_probe: evil, drains: [], in_flight: 3, in_flight_by_kind: { request: 1, stream: 1, upgrade: 1 }, connections: 4, requests: 1234, ...more });
  const drain = { actor: 'operator', id: 'x', reason: evil, since: at(-10), deadline: at(60), until: 'restarted', expires: null, warning: evil };
  const states = ['ready', 'down', 'starting', 'drained'];
  const requests = { lines: 9, served: 3, closed: 1, retried: 1, held: 2, moved: 0, cut: 0, lost: 1 };
  return {
    '/v1/access': token,
    '/v1/pools': [
      { name: evil, balance: 'least_requests', eligible: 0, held: 3, pause: { mode: 'hold', since: at(-9), until: at(99), reason: evil }, backends: [backend(1, 'draining', { drains: [drain], oldest: { kind: 'request', method: evil, path: evil, route: evil, since: at(-40), age_ms: 40000 }, h2_streams: 2 }), backend(2, 'ready', { ejected: { reason: evil, cause: 'latency', since: at(-5), until: at(20), times: 1 } })] },
      { name: 'many', balance: 'random', eligible: 100, held: 0, backends: Array.from({ length: 150 }, (_, index) => backend(10 + index, index < 100 ? 'ready' : states[index % 4])) },
    ],
    '/v1/splits': [{ route: evil, weights: { [evil]: 1, b: 3 }, configured: { [evil]: 2, b: 2 }, plan: { route: evil, pool: evil, state: 'running', from: 0, to: 50, step: 1, steps: 2, began: at(-5), ends: at(50), reason: evil, abort_on: [], min_requests: 1, before: {}, records: [] } }],
    '/v1/listeners': [{ address: '0.0.0.0:443', certificates: [{ names: [evil], file: evil, issuer: evil, expires: at(86400), days_left: 1 }], acme: [{ names: [evil], file: evil, directory: 'd', state: 'failing', next_order: at(9), last_error: evil, failures: 2 }] }],
    '/v1/upgrade': { pid: 1, version: evil, under_way: false, last_failure: evil },
    '/v1/lame-duck': { lame_duck: true },
    '/v1/restarts': { proxy: {}, restarts: [{ id: 'r1', pool: evil, backend: evil, roll: evil, cause: 'api', reason: evil, outcome: 'restarted', drain: 'drained', began: at(-60), told: at(-60), drained: at(-55), stopped: at(-54), started: at(-53), ready: at(-52), deadline: null, requests, capacity_percent: 50, latency: { before: null, during: null, after: null } }] },
  };
}

async function serveWorld(page, world) {
  await page.route('**/v1/**', (route) => {
    const { pathname } = new URL(route.request().url());
    if (pathname === '/v1/events') {
      const event = { kind: 'state', time: new Date().toISOString(), pool: '<b>p</b>', backend: '<img src=x onerror="window.ran=1">', from: 'ready', to: 'draining', reason: '<script>window.ran=1</script>' };
      return route.fulfill({ contentType: 'text/event-stream', body: `event: state\ndata: ${JSON.stringify(event)}\n\n` });
    }
    return pathname in world ? route.fulfill({ json: world[pathname] }) : route.fulfill({ status: 404, json: {} });
  });
}

/** Names that are markup are text; a hundred backends and more are found by page, name and state. */
async function showsHostileNames(browser) {
  await withPage(browser, {}, async (page) => {
    await serveWorld(page, hostileWorld({ read: true, change: true, token: 'accepted' }));
    await page.goto(`http://${admin}/`);
    await page.waitForFunction(() => document.documentElement.dataset.sample > 1 && document.querySelector('#event-list li') && !document.querySelector('#restarts').hidden);
    await page.getByRole('button', { name: /^Resume <img/ }).first().click();
    await page.getByRole('dialog').waitFor();
    const found = await page.evaluate(() => ({ ran: window.ran, images: document.images.length, scripts: document.scripts.length, bold: document.querySelectorAll('b').length }));
    assert.deepEqual(found, { ran: undefined, images: 1, scripts: 1, bold: 0 });
    await page.keyboard.press('Escape');
    const rows = page.locator('[data-pool="many"] tr[data-backend]');
    assert.equal(await rows.count(), 25);
    await page.locator('[data-pool="many"]').getByRole('button', { name: 'Next' }).click();
    await page.getByText('26–50 of 150').waitFor();
    await page.getByLabel('State').selectOption('down');
    await page.waitForFunction(() => [...document.querySelectorAll('tr[data-backend] .state')].every((state) => state.textContent === 'down'));
    assert.equal(await rows.count(), 13);
    await page.getByLabel('State').selectOption('');
    await page.getByLabel('Find').fill('10.0.0.1:42');
    await page.waitForFunction(() => document.querySelectorAll('tr[data-backend]').length === 1);
  });
}

/** axe finds nothing serious, in both themes and at all widths, with the dialog and without a connection; no width scrolls. */
async function isAccessible(browser) {
  for (const [width, height] of WIDTHS) {
    for (const colorScheme of THEMES) {
      console.log(`axe at ${width} pixels, ${colorScheme}`);
      const options = { viewport: { width, height }, colorScheme, bypassCSP: true, reducedMotion: 'reduce' };
      await withPage(browser, options, async (page) => {
        const access = colorScheme === 'dark' ? { read: true, change: true, token: 'accepted' } : { read: true, change: false, token: 'missing' };
        await serveWorld(page, hostileWorld(access));
        await page.goto(`http://${admin}/`);
        await page.waitForFunction(() => document.documentElement.dataset.sample && !document.querySelector('#restarts').hidden && document.documentElement.dataset.connection === 'cut');
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${wide} pixels at a width of ${width}`);
        if (pictures) await page.screenshot({ path: path.join(pictures, `${width}-${colorScheme}.png`) });
        await page.evaluate(axe);
        const look = () => page.evaluate(async () => {
          const found = await window.axe.run(document, { resultTypes: ['violations'] });
          return found.violations.filter(({ impact }) => ['serious', 'critical'].includes(impact)).map(({ id, nodes }) => `${id}: ${nodes[0].html}: ${nodes[0].failureSummary}`);
        });
        assert.deepEqual(await look(), [], `${width} ${colorScheme}`);
        if (access.change && width === 1280) {
          await page.getByRole('button', { name: /^Resume <img/ }).first().click();
          assert.deepEqual(await look(), [], `the dialog, ${width} ${colorScheme}`);
        }
      });
    }
  }
}

(async () => {
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  const executablePath = execFileSync('sh', ['-c', 'command -v "$1"', 'sh', program], { encoding: 'utf8' }).trim();
  const browser = await chromium.launch({ executablePath, args });
  try {
    await refusesWithoutToken(browser);
    await refusesOtherSites(browser);
    await changesWithToken(browser);
    console.log(`compared ${await showsWhatTheApiSays(browser)}`);
    await showsHostileNames(browser);
    await isAccessible(browser);
    if (pictures) await picture.draw(browser, admin, pictures);
    console.log('done');
  } finally {
    await browser.close();
  }
})().catch((error) => {
  console.log(`failed: ${error.stack}`);
  process.exitCode = 1;
});
