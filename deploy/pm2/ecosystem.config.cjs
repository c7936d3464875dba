// Three instances of an app under PM2 and lameduck's launcher, which gives each a free port (PORT), registers it with
// the proxy as app/app-0, app/app-1, …, and drains it before it passes PM2's signal on. lameduck's configuration has
// the pool `app`, without backends. `pm2 start`, `restart`, `reload` and `stop` then lose no request.
'use strict';

module.exports = {
  apps: [{
    name: 'app',
    script: '/usr/bin/lameduck',
    args: 'exec --pool app --drain-timeout 30s -- /usr/bin/node /srv/app/app.mjs',
    interpreter: 'none',
    instances: 3,
    // Cluster mode shares one port among all workers: nothing could be drained alone.
    exec_mode: 'fork',
    // PM2 would walk down the tree and signal the app before the launcher.
    treekill: false,
    // Ready when the proxy has seen it healthy: the launcher says so.
    wait_ready: true,
    listen_timeout: 60_000,
    // For the drain and the app's own stop; the default of 1.6 s cuts both. PM2's signal is SIGINT: the app must
    // stop in order on that too, not on SIGTERM alone.
    kill_timeout: 75_000,
  }],
};
