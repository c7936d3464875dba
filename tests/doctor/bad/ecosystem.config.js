// expect-anywhere: pm2-cluster, same-port, uncoordinated
module.exports = { apps: [
  { name: 'api', script: 'server.js', instances: 2 * 2 },
  { name: 'web', script: 'server.js', exec_mode: 'fork', instances: 2 },
] };
