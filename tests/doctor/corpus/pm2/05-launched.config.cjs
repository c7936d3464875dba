// All as deploy/pm2 has it, for two apps.
const exec = (pool, app) => `exec --pool ${pool} --drain-timeout 30s -- node ${app}`;
const base = { script: '/usr/bin/lameduck', interpreter: 'none', exec_mode: 'fork', treekill: false, wait_ready: true, listen_timeout: 60000, kill_timeout: 45000 };
module.exports = { apps: [
  { ...base, name: 'api', args: exec('api', 'server.js'), instances: 4 },
  { ...base, name: 'api-admin', args: exec('api', 'admin.js') },
] };
