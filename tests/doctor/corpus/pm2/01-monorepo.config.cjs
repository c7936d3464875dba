// A shop's monorepo: one API in cluster mode, a worker, a bot.
// expect-anywhere: uncoordinated, pm2-cluster
require('path');
console.log('[ecosystem] loading for', process.env.NODE_ENV || 'development');
const common = { max_memory_restart: '512M', time: true, merge_logs: true };
module.exports = {
  apps: [
    { ...common, name: 'shop-api', cwd: './packages/api', script: 'dist/main.js', instances: 'max', exec_mode: 'cluster', env: { NODE_ENV: 'development' }, env_production: { NODE_ENV: 'production', PORT: 3000 } },
    { ...common, name: 'shop-worker', cwd: './packages/worker', script: 'dist/worker.js', instances: 2, exec_mode: 'fork' },
    { ...common, name: 'telegram-bot', script: 'bot/index.js', env: { TOKEN: process.env.TOKEN } },
  ],
  deploy: { production: { user: 'deploy', host: ['10.0.0.1'], ref: 'origin/main', repo: 'git@example.com:shop.git', path: '/srv/shop', 'post-deploy': 'npm ci && pm2 reload ecosystem.config.cjs --env production' } },
};
