// expect-anywhere: uncoordinated
module.exports = {
  apps: [{ name: 'frontend', script: 'node_modules/next/dist/bin/next', args: 'start -p 3000', cwd: '/var/www/site', watch: false, autorestart: true, max_memory_restart: '1G' }],
};
