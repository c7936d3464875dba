// As grpc_load.py, with @grpc/grpc-js: calls of all four kinds, until standard input ends. With `unsent` as the third
// argument, calls that have never left this process may go to the next connection: Node's HTTP/2 library refuses what it
// has queued when GOAWAY comes, and with 'grpc.enable_retries' 0, grpc-js calls that a failure.
'use strict';
const grpc = require('@grpc/grpc-js');

const [address, width, unsent] = [process.argv[2], Number(process.argv[3]), process.argv[4] === 'unsent'];
const bytes = { requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: (b) => b, responseDeserialize: (b) => b };
const method = (name, requestStream, responseStream) => ({ path: `/demo.Echo/${name}`, requestStream, responseStream, ...bytes });
const Echo = grpc.makeGenericClientConstructor({
  unary: method('Unary', false, false),
  collect: method('Collect', true, false),
  repeat: method('Repeat', false, true),
  both: method('Both', true, true),
}, 'Echo');
const client = new Echo(address, grpc.credentials.createInsecure(), unsent ? {} : { 'grpc.enable_retries': 0 });
const one = Buffer.alloc(100, 'x');
const many = [0, 1, 2, 3, 4].map((n) => Buffer.alloc(50, n));
const deadline = () => ({ deadline: Date.now() + 20000 });
const all = Buffer.concat(many);
const answered = (call) => new Promise((resolve, reject) => call((error, value) => (error ? reject(error) : resolve(value))));
const streamed = (stream) => new Promise((resolve, reject) => {
  const seen = [];
  stream.on('data', (data) => seen.push(data));
  stream.on('error', reject);
  stream.on('end', () => resolve(Buffer.concat(seen)));
});
const write = (stream) => { many.forEach((part) => stream.write(part)); stream.end(); };
const kinds = {
  unary: async () => (await answered((done) => client.unary(one, deadline(), done))).equals(one),
  client: async () => (await answered((done) => write(client.collect(deadline(), done)))).equals(all),
  server: async () => (await streamed(client.repeat(one, deadline()))).equals(Buffer.concat(Array(5).fill(one))),
  both: async () => { const stream = client.both(deadline()); write(stream); return (await streamed(stream)).equals(all); },
};
let stop = false;
const calls = {};
const failed = [];
async function run(kind) {
  while (!stop) {
    let why = 'wrong';
    try { if (await kinds[kind]()) why = ''; } catch (error) { why = String(error.message); }
    calls[kind] = (calls[kind] || 0) + 1;
    if (why) failed.push(`${kind}: ${why}`);
  }
}
process.stdin.resume();
process.stdin.on('end', () => { stop = true; });
Promise.all(Object.keys(kinds).flatMap((kind) => Array.from({ length: width }, () => run(kind)))).then(() => {
  client.close();
  console.log(JSON.stringify({ calls, failed }));
});
