// As grpc_long.py, with @grpc/grpc-js: a call of each kind that lasts until somebody else ends it.
'use strict';
const grpc = require('@grpc/grpc-js');

const bytes = { requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: (b) => b, responseDeserialize: (b) => b };
const method = (name, requestStream, responseStream) => ({ path: `/demo.Echo/${name}`, requestStream, responseStream, ...bytes });
const Echo = grpc.makeGenericClientConstructor({
  wait: method('Wait', false, false),
  collect: method('Collect', true, false),
  ticks: method('Ticks', false, true),
  both: method('Both', true, true),
}, 'Echo');
const client = new Echo(process.argv[2], grpc.credentials.createInsecure(), { 'grpc.enable_retries': 0 });
const one = Buffer.alloc(100, 'x');
const ends = {};
const open = new Set();
const said = (kind, count, error) => {
  const code = error ? error.code : 0;
  const name = Object.keys(grpc.status).find((key) => grpc.status[key] === code);
  ends[kind] = { code: name, details: error ? error.details : '', messages: count };
};
const answered = (kind, call) => new Promise((resolve) => {
  call((error) => { said(kind, error ? 0 : 1, error); resolve(); });
});
const streamed = (kind, stream) => new Promise((resolve) => {
  let count = 0;
  stream.on('data', () => {
    count += 1;
    open.add(kind);
    if (count === 1 && open.size === 2) console.log('open');
  });
  stream.on('error', (error) => { said(kind, count, error); resolve(); });
  stream.on('end', () => { if (!ends[kind]) said(kind, count); resolve(); });
});
const both = client.both();
both.write(one);
Promise.all([
  answered('unary', (done) => client.wait(one, done)),
  answered('client', (done) => client.collect(done).write(one)),
  streamed('server', client.ticks(one)),
  streamed('both', both),
]).then(() => new Promise((resolve) => setImmediate(resolve))).then(() => {
  client.close();
  console.log(JSON.stringify(ends));
});
