// Times that only the host's environment tells: nothing can be said about them.
module.exports = { apps: [{
  name: 'api', script: 'lameduck', interpreter: 'none', exec_mode: 'fork', treekill: false, wait_ready: true,
  listen_timeout: Number(process.env.NOBODY_SETS_LISTEN), kill_timeout: parseInt(process.env.NOBODY_SETS_KILL, 10),
  args: 'exec --pool api --drain-timeout 30s -- node server.js',
}] };
