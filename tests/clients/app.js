// What the clients ask: bodies, trailers, events, an echoing WebSocket, and a page that tries all of them in a browser.
// Prints its address, then what the page has found.
'use strict';
const http = require('node:http');
const { WebSocketServer } = require('../apps/node_modules/ws');

// Each promise is given up after a while, so that the page always says something.
const PAGE = `<!doctype html><title>lameduck</title><script>
const within = (promise) => Promise.race([promise, new Promise((_, no) => setTimeout(() => no('too late'), 15000))]).catch(String);
const post = async (path, body) => (await fetch(path, { method: 'POST', body })).text();
const socket = () => new Promise((done, no) => {
  const ws = new WebSocket(location.origin.replace('http', 'ws') + '/ws');
  const got = [];
  ws.onopen = () => ws.send('x'.repeat(70000));
  ws.onmessage = (message) => { got.push(message.data.length); ws.close(1000); };
  ws.onclose = (close) => done([...got, close.code, close.wasClean]);
});
const events = () => new Promise((done) => {
  const source = new EventSource('/events?count=3');
  const got = [];
  source.onmessage = (event) => got.push(event.data);
  source.onerror = () => { source.close(); done(got); };
});
(async () => {
  const found = {
    echo: (await within(post('/echo', 'y'.repeat(200000)))).length,
    socket: await within(socket()),
    events: await within(events()),
    many: (await within(Promise.all([...Array(50).keys()].map((n) => post('/echo', String(n)))))).join(),
  };
  const protocols = performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol);
  found.protocols = [...new Set(protocols)];
  await post('/found', JSON.stringify(found));
})();
</script>`;

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://a');
  switch (`${request.method} ${url.pathname}`) {
    case 'GET /health':
    case 'GET /':
      return response.end('hello\n');
    case 'GET /page':
      response.setHeader('content-type', 'text/html');
      return response.end(PAGE);
    case 'POST /echo':
      return request.pipe(response);
    case 'POST /found': {
      const parts = [];
      request.on('data', (part) => parts.push(part));
      return request.on('end', () => { console.log(Buffer.concat(parts).toString()); response.end(); });
    }
    case 'GET /trailers':
      response.writeHead(200, { trailer: 'x-sum' });
      response.write('body\n');
      response.addTrailers({ 'x-sum': 'of-it' });
      return response.end();
    // Without a count: until somebody ends it.
    case 'GET /events': {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      let count = Number(url.searchParams.get('count') ?? Infinity);
      const tick = () => { response.write(`data: tick\n\n`); if (--count === 0) { clearInterval(timer); response.end(); } };
      const timer = setInterval(tick, 50);
      return response.on('close', () => clearInterval(timer));
    }
    default:
      response.statusCode = 404;
      return response.end();
  }
});
new WebSocketServer({ server, path: '/ws' }).on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on('error', () => {});
});
server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`));
