// Express, stopped by http-terminator with a grace above the slowest request.
'use strict';
const express = require('express');
const { createHttpTerminator } = require('http-terminator');
const app = require('./common');

let signalled = false;
const web = express();
web.disable('x-powered-by');
web.use((request, response, next) => {
  app.arrival(request);
  response.set('x-demo-app', app.options.name);
  next();
});
web.get('/health', (_, response) => response.status(signalled ? 503 : 200).send(signalled ? 'stopping\n' : 'ok\n'));
web.get('/', (_, response) => response.type('text').send(`hello from ${app.options.name}\n`));
web.post('/echo', express.raw({ type: () => true, limit: '10mb' }), (request, response) => response.send(request.body));
web.get('/slow', (request, response) => setTimeout(() => response.send('slow\n'), app.slowness(request.url)));
web.get('/sse', (_, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  app.streamEvents(response);
});

const server = web.listen(Number(app.options.port), '127.0.0.1', () => app.listening(server));
const closeSockets = app.echoSockets(server);
const terminator = createHttpTerminator({ server, gracefulTerminationTimeout: 10_000 });
process.once('SIGTERM', async () => {
  app.event('signalled');
  signalled = true;
  app.forceExit();
  app.endStreams();
  closeSockets();
  await terminator.terminate();
  app.exit(0);
});
