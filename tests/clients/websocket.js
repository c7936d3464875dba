// npm's ws: says "open" once its message is back, and at the end how it was closed.
'use strict';
const { WebSocket } = require('../apps/node_modules/ws');

const socket = new WebSocket(process.argv[2], { rejectUnauthorized: false });
const message = 'z'.repeat(100_000);
socket.on('open', () => socket.send(message));
socket.on('message', (data) => console.log(data.toString() === message ? 'open' : 'another message'));
socket.on('close', (code) => console.log(`closed ${code}`));
socket.on('error', (error) => console.log(`error ${error}`));
