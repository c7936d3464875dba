// Fastify, stopped by close-with-grace.
'use strict';
const Fastify = require('fastify');
const closeWithGrace = require('close-with-grace');
const app = require('./common');

let signalled = false;
// While it closes, what still comes over open connections is served, with `Connection: close`.
const web = Fastify({ return503OnClosing: false, forceCloseConnections: 'idle' });
web.addContentTypeParser('*', { parseAs: 'buffer' }, (_, body, done) => done(null, body));
web.removeContentTypeParser('text/plain');
web.addHook('onRequest', async (request, reply) => {
  app.arrival(request.raw);
  reply.header('x-demo-app', app.options.name);
});
web.get('/health', async (_, reply) => reply.code(signalled ? 503 : 200).send(signalled ? 'stopping\n' : 'ok\n'));
web.get('/', async () => `hello from ${app.options.name}\n`);
web.post('/echo', async (request, reply) => reply.send(request.body));
web.get('/slow', async (request) => {
  await new Promise((resolve) => setTimeout(resolve, app.slowness(request.raw.url)));
  return 'slow\n';
});
web.get('/sse', (request, reply) => {
  reply.hijack();
  reply.raw.writeHead(200, {
    'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-demo-app': app.options.name,
  });
  app.streamEvents(reply.raw);
});
const closeSockets = app.echoSockets(web.server);

closeWithGrace({ delay: 10_000 }, async () => {
  app.event('signalled');
  signalled = true;
  app.endStreams();
  closeSockets();
  await web.close();
  app.event('exit');
});
web.listen({ port: Number(app.options.port), host: '127.0.0.1' }).then(() => app.listening(web.server));
