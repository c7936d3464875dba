// Plain node:http. --stop graceful: the full handler. abrupt: none at all. linger: /health says 503 at once,
// but it goes on accepting for 3 s. --cert FILE --key FILE: over TLS; with
// --http2: HTTP/2 alone, by ALPN.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');
const https = require('node:https');
const app = require('./common');

const LINGER = 3_000;
let signalled = false;
let closing = false;

function respond(response, status, body) {
  response.writeHead(status, { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

const { cert, key } = app.options;
const secure = app.options.http2 ? http2.createSecureServer : https.createServer;
const create = cert === undefined
  ? http.createServer
  : (listener) => secure({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, listener);
const server = create((request, response) => {
  app.arrival(request);
  response.setHeader('x-demo-app', app.options.name);
  if (app.options.http2) { /* It has no such field. */ }
  else if (closing) response.setHeader('connection', 'close');
  // Said by the app, node adds no `Keep-Alive: timeout=` to it.
  else if (app.options.unannounced) response.setHeader('connection', 'keep-alive');
  switch (`${request.method} ${request.url.split('?')[0]}`) {
    case 'GET /health': return respond(response, signalled ? 503 : 200, signalled ? 'stopping\n' : 'ok\n');
    case 'GET /': return respond(response, 200, `hello from ${app.options.name}\n`);
    case 'POST /echo':
      response.writeHead(200);
      return request.pipe(response);
    case 'GET /slow':
      return setTimeout(() => {
        // What was begun before the signal and is answered after it says so too.
        if (closing && !app.options.http2) response.setHeader('connection', 'close');
        respond(response, 200, 'slow\n');
      }, app.slowness(request.url));
    case 'GET /sse':
      response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
      return app.streamEvents(response);
    default: return respond(response, 404, 'nothing here\n');
  }
});
server.keepAliveTimeout = Number(app.options['keep-alive']);
const closeSockets = app.echoSockets(server);
const sessions = new Set();
server.on('session', (session) => {
  sessions.add(session);
  session.on('close', () => sessions.delete(session));
  session.on('error', () => {});
  // Accepted while the listener was closing.
  if (closing) session.close();
});

function stop() {
  closing = true;
  server.close(() => app.exit(0));
  // GOAWAY; what is under way finishes.
  for (const session of sessions) session.close();
  if (!app.options.http2) {
    server.closeIdleConnections();
    // A response already begun can't say `Connection: close` any more: its connection is closed once idle.
    setInterval(() => server.closeIdleConnections(), 5).unref();
  }
  app.endStreams();
  closeSockets();
}

if (app.options.stop !== 'abrupt') {
  const told = () => {
    if (signalled) return;
    app.event('signalled');
    signalled = true;
    app.forceExit();
    if (app.options.stop === 'linger') setTimeout(stop, LINGER);
    else stop();
  };
  // PM2 stops with SIGINT, everybody else with SIGTERM.
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, told);
}
server.listen(Number(app.options.port), '127.0.0.1', () => app.listening(server));
