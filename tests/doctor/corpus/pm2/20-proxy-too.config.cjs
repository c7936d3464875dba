// lameduck itself under PM2, with too little time for its own drain.
// expect-anywhere: kill-timeout
module.exports = { apps: [
  { name: 'lameduck', script: '/usr/bin/lameduck', args: 'run -c /etc/lameduck/lameduck.toml', interpreter: 'none', treekill: false },
  { name: 'api', script: '/usr/bin/lameduck', args: ['exec', '--pool', 'api', '--drain-timeout', '30s', '--', 'node', 'server.js'], interpreter: 'none', treekill: false, wait_ready: true, listen_timeout: 60000, kill_timeout: 60000 },
] };
