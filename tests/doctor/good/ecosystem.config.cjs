const drain = 30;
module.exports = {
  apps: [
    {
      name: 'api',
      script: 'lameduck',
      args: `exec --pool api --drain-timeout ${drain}s -- node server.js`,
      kill_timeout: (drain + 15) * 1000,
      treekill: false,
      wait_ready: true,
      listen_timeout: 30000,
    },
  ],
};
