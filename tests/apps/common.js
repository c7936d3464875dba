// What all apps share: arguments, the journal, and the echoing WebSocket.
'use strict';
const fs = require('node:fs');
const { parseArgs } = require('node:util');
const { WebSocketServer } = require('ws');

const { values: options } = parseArgs({
  options: {
    name: { type: 'string', default: 'app' },
    port: { type: 'string', default: process.env.PORT ?? '0' },
    log: { type: 'string' },
    journals: { type: 'string' },
    stop: { type: 'string', default: 'graceful' },
    // Idle keep-alive connections are closed after so many ms; with `unannounced`, responses don't say so.
    'keep-alive': { type: 'string', default: '5000' },
    unannounced: { type: 'boolean', default: false },
    cert: { type: 'string' },
    key: { type: 'string' },
    http2: { type: 'boolean', default: false },
  },
});

// An app forces its exit when a stop takes longer.
const FORCED_EXIT = 30_000;

// Either a file, or a directory for a file of this process's own.
const log = options.log ?? (options.journals && `${options.journals}/${options.name}.${process.pid}.journal`);
const file = log ? fs.openSync(log, 'a') : undefined;

// One line per event, unbuffered. hrtime is CLOCK_MONOTONIC on Linux, so that lines of different processes
// can be put in order; as a string first, because it doesn't fit a double for ever.
function event(name, more = {}) {
  if (file === undefined) return;
  const fields = JSON.stringify({ event: name, ...more }).slice(1);
  fs.writeSync(file, `{"t":${process.hrtime.bigint()},${fields}\n`);
}

function arrival(request) {
  const id = request.headers['x-demo-id'];
  if (id !== undefined) event('arrival', { id, method: request.method, path: request.url.split('?')[0] });
}

// Says where it listens, on standard output, as the tests expect it.
function listening(server) {
  event('listening');
  const { address, port } = server.address();
  console.log(JSON.stringify({ address: `${address}:${port}` }));
}

function exit(code) {
  event('exit');
  process.exit(code);
}

function forceExit() {
  setTimeout(() => exit(1), FORCED_EXIT).unref();
}

function slowness(url) {
  return Math.min(Number(new URL(url, 'http://app').searchParams.get('ms') ?? 2000), 60_000);
}

// Ten events a second until the client leaves or the app stops; `open` holds what has to be ended then.
const streams = new Set();
function streamEvents(response) {
  let n = 0;
  const tick = () => response.write(`id: ${n}\ndata: tick ${n++}\n\n`);
  const timer = setInterval(tick, 100);
  streams.add(response);
  response.on('close', () => { clearInterval(timer); streams.delete(response); });
  tick();
}
function endStreams() {
  for (const response of streams) response.end();
}

function echoSockets(server) {
  const sockets = new WebSocketServer({ server, path: '/ws' });
  sockets.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    socket.on('error', () => {});
  });
  return () => { for (const socket of sockets.clients) socket.close(1001, 'the app stops'); };
}

module.exports = {
  options, event, arrival, listening, exit, forceExit, slowness, streamEvents, endStreams, echoSockets,
};
